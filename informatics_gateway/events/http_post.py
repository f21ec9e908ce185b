# SPDX-License-Identifier: Apache-2.0
"""One POST to an address of the configuration, with bounds that no server can stretch.

Names are resolved here and the connection goes to an address that was looked at, so that a name cannot lead
where the site does not want it. Redirects are not followed, proxies of the environment not used. The whole
exchange has one time limit, kept also against a server that sends a byte now and then.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from profiles.faults import Fault
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError

_MOST_BODY_BYTES = 64 * 1024
_HOLDING_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/96", "::/96")))
"""NAT64 (RFC 6052, 8215) and addresses that are compatible with IPv4 (RFC 4291 2.5.5.1)."""
_METADATA = ipaddress.IPv6Address("fd00:ec2::254")
"""Where a cloud tells its machines their secrets beside 169.254.169.254."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(StrEnum):
    """Which addresses may be connected to: of the internet, also of the house, also of this machine."""

    PUBLIC = "public"
    PRIVATE = "private"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to post.

    Attributes
    ----------
    url
        ``https://…`` or ``http://…`` without user or fragment.
    tls
        Of an https URL.
    timeout_s
        Seconds for the whole exchange.
    """

    url: str
    tls: ssl.SSLContext | None
    reach: Reach = Reach.PRIVATE
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PostAnswer:
    """The status of an answer, and the pause it asks for as sent; nothing else of it is kept."""

    status: int
    retry_after: str


def url_faults(url: str) -> tuple[Fault, ...]:
    """All that is wrong with an address to post to."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        return (Fault("url", "is not a URL"),)
    faults = []
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        faults.append(Fault("url", "must be an http or https URL with a host"))
    if parts.username is not None or parts.password is not None or parts.fragment:
        faults.append(Fault("url", "must have no user and no fragment"))
    if not url.isascii() or any(character <= " " for character in url):
        faults.append(Fault("url", "must have no spaces and no letters beyond ASCII"))
    return tuple(faults)


def may_be_reached(address: str, reach: Reach) -> bool:
    """Whether an IP address may be connected to; those of no machine never."""
    ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return reach is Reach.ANY
    if ip.is_multicast or ip.is_unspecified or ip.is_link_local or (ip.is_reserved and not ip.is_global):
        return False
    if ip == _METADATA:
        return False
    return ip.is_global or reach is not Reach.PUBLIC


def post(target: Target, body: bytes, headers: Mapping[str, str]) -> PostAnswer:
    """Post `body`; the answer, whatever its status.

    Raises
    ------
    RetryableDeliveryError
        If there is no connection, or no answer in time.
    FinalDeliveryError
        If the name leads only where `target` may not go.
    """
    parts = urlsplit(target.url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    deadline = time.monotonic() + target.timeout_s
    try:
        with _connected(target, host, port, deadline) as plain, _ended_at(plain, deadline):
            tls = target.tls if secure else None
            wrapped = tls.wrap_socket(plain, server_hostname=host) if tls is not None else plain
            with wrapped:
                return _exchange(wrapped, host, port, path, parts.netloc, body, headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RetryableDeliveryError(f"no answer ({type(error).__name__})", unreachable=True) from error


class _WholeLines(io.BufferedReader):
    """Lines that end: the standard library takes a head that breaks off for a whole one."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and (size is None or size < 0 or len(line) < size):
            raise ConnectionError("the answer breaks off")
        return line


class _WholeAnswer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = _WholeLines(self.fp.detach())


def _exchange(
    connected: socket.socket,
    host: str,
    port: int,
    path: str,
    netloc: str,
    body: bytes,
    headers: Mapping[str, str],
) -> PostAnswer:
    connection = http.client.HTTPConnection(host, port)
    connection.sock = connected
    connection.response_class = _WholeAnswer
    given = {"Host": netloc, "Connection": "close", "Accept-Encoding": "identity", **headers}
    connection.request("POST", path, body=body, headers=given)
    answer = connection.getresponse()
    with suppress(OSError, http.client.HTTPException, ValueError):
        answer.read(_MOST_BODY_BYTES)  # a server is let finish; what it says beside its status is not used
    return PostAnswer(status=answer.status, retry_after=answer.getheader("Retry-After") or "")


@contextmanager
def _connected(target: Target, host: str, port: int, deadline: float) -> Iterator[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [one for one in found if may_be_reached(str(one[4][0]), target.reach)]
    if not allowed:
        raise FinalDeliveryError(f"the address leads where it may not go (reach: {target.reach.value})")
    failure: OSError | None = None
    for family, kind, protocol, _, address in allowed:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        one = socket.socket(family, kind, protocol)
        with one:
            one.settimeout(left)
            try:
                one.connect(address)
            except OSError as error:
                failure = error
                continue
            yield one
            return
    raise failure or TimeoutError("the time is over")


@contextmanager
def _ended_at(connected: socket.socket, deadline: float) -> Iterator[None]:
    """Shut `connected` down at the deadline: each wait on it has a limit of its own, all together none."""

    def shut_down() -> None:
        with suppress(OSError):
            # not the method of a TLS socket, which may be in use by the other thread
            watched.shutdown(socket.SHUT_RDWR)

    watched = socket.socket(fileno=socket.dup(connected.fileno()))
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        watched.close()


def _plain(ip: IpAddress) -> IpAddress:
    """The IPv4 address inside an IPv6 one that stands for it."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and int(ip) > 1 and any(ip in network for network in _HOLDING_IPV4):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip
