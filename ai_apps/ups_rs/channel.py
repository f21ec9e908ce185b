# SPDX-License-Identifier: Apache-2.0
"""One WebSocket connection to a server's event channel, and where servers have theirs.

PS3.18 leaves the address open: 2019a prints ``…/ws/subscribers/AE``, 2026a ``…/subscribers/AE``, and servers
announce theirs when subscribed to. Only the host of the service is ever connected to, whatever is announced.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from urllib.parse import quote

import httpx
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from ai_apps.ups_rs.connection import Connection, failure
from ai_apps.ups_rs.errors import NoEventChannelError, UnreachableError

_MESSAGE_LIMIT = 4 * 1024 * 1024
_QUEUE = 1024
_PING_S = 20.0
_CLOSE_S = 2.0

# A handshake that is refused is told by its exception; the library's own lines hold whole requests.
_QUIET = logging.getLogger(f"{__name__}.websocket")
_QUIET.setLevel(logging.CRITICAL)


class Channel:
    """An open connection."""

    def __init__(self, url: str, socket_: ClientConnection) -> None:
        self.url = url
        self._socket = socket_

    def receive(self, timeout_s: float) -> str | bytes | None:
        """The next message, or None if none came in time.

        Raises
        ------
        UnreachableError
            If the connection is lost or closed, or the peer sends too much at once.
        """
        try:
            return self._socket.recv(timeout=timeout_s)
        except TimeoutError:
            return None
        except ConnectionClosed as error:
            raise UnreachableError("the event channel was closed") from error

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError, WebSocketException):
            self._socket.close()


def channel_urls(base_url: str, receiving_ae: str, *, given: str = "", guess: bool = True) -> tuple[str, ...]:
    """Where the channel of an AE may be, most likely first.

    Parameters
    ----------
    base_url
        DICOMweb base of the service.
    given
        Address that somebody told, absolute or relative to the base.
    guess
        Whether to add the places where servers are known to have it.
    """
    base = httpx.URL(base_url)
    found = [_at_service(base, given)] if given else []
    if guess:
        path = base.path.rstrip("/")
        parent = path.rpartition("/")[0]
        last = f"subscribers/{quote(receiving_ae.strip(' '), safe='')}"
        places = [f"{path}/ws/{last}", f"{path}/{last}", f"{parent}/ws/{last}", f"/ws/{last}", f"/{last}"]
        found += [_at_service(base, place) for place in places]
    return tuple(dict.fromkeys(found))


def _at_service(base: httpx.URL, address: str) -> str:
    """`address` as a WebSocket URL at the host of `base`, at least as well protected."""
    try:
        url = base.join(address)
    except httpx.InvalidURL:
        url = base
    secure = base.scheme == "https"
    if url.host != base.host or url.scheme not in ("http", "https", "ws", "wss"):
        url = url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
    if secure and url.scheme in ("http", "ws"):
        url = url.copy_with(scheme="https", port=base.port)
    secure = url.scheme in ("https", "wss")
    return str(url.copy_with(scheme="wss" if secure else "ws", fragment=None))


def open_channel(connection: Connection, urls: tuple[str, ...]) -> Channel:
    """A channel at the first of `urls` that opens one.

    Raises
    ------
    UnreachableError
        If the server does not answer, or later may work.
    NoEventChannelError
        If every address is refused.
    """
    status = 404
    for url in urls:
        try:
            return _opened(connection, url)
        except NoEventChannelError as error:
            status = error.status
    raise NoEventChannelError(status, told="the server opens no event channel at any known address")


def _opened(connection: Connection, url: str) -> Channel:
    target = httpx.URL(url)
    secure = target.scheme == "wss"
    web = target.copy_with(scheme="https" if secure else "http")
    port = target.port or (443 if secure else 80)
    headers = connection.authorization(web)
    try:
        # With a socket of our own no redirect leads anywhere else.
        plain = socket.create_connection((target.host, port), timeout=connection.timeout_s)
        plain.settimeout(None)
        with contextlib.ExitStack() as undo:
            undo.callback(plain.close)
            opened = connect(
                url,
                sock=plain,
                ssl=connection.tls if secure else None,
                server_hostname=target.host if secure else None,
                origin=Origin(f"{web.scheme}://{web.netloc.decode('ascii')}"),
                compression=None,
                additional_headers=headers,
                user_agent_header=connection.name or None,
                proxy=None,
                open_timeout=connection.timeout_s,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=_CLOSE_S,
                max_size=_MESSAGE_LIMIT,
                max_queue=_QUEUE,
                logger=_QUIET,
            ).__enter__()  # used beyond this block; Channel.close ends it
            undo.pop_all()
    except InvalidStatus as error:
        raise _refused(target.host, error) from error
    except (OSError, InvalidMessage) as error:  # before ValueError: a certificate not trusted is both
        raise UnreachableError(f"{target.host}: {type(error).__name__}") from error
    except (InvalidHandshake, InvalidURI, ValueError) as error:  # no upgrade, or a redirect
        raise NoEventChannelError(400, told="no WebSocket there") from error
    except WebSocketException as error:
        raise UnreachableError(f"{target.host}: {type(error).__name__}") from error
    return Channel(url, opened)


def _refused(host: str, error: InvalidStatus) -> UnreachableError | NoEventChannelError:
    status = error.response.status_code
    if 200 <= status < 400 or status == 501:
        return NoEventChannelError(status)
    found = failure(host, status, httpx.Headers(), b"")
    return found if isinstance(found, UnreachableError) else NoEventChannelError(status)
