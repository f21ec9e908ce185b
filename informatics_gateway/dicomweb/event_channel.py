# SPDX-License-Identifier: Apache-2.0
"""The event channel of UPS-RS: a WebSocket for each watcher (PS3.18 8.10 and 11.13, RFC 6455).

Canonical address: ``/subscribers/{aetitle}`` under the service; ``/ws/subscribers/{aetitle}`` and both with a
slash at the end are served as well. One text message holds one event report as a DICOM JSON object. What a
watcher sends is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from urllib.parse import quote, urlsplit

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from informatics_gateway.websocket_watchers import TRY_AGAIN_LATER, Connection, WebSocketChannel
from profiles.ups.states import UPS_PUSH_SOP_CLASS_UID
from profiles.ups.values import is_ae_title
from task_manager.errors import StoreError, facts_of
from task_manager.notices import Notice

_LOG = logging.getLogger(__name__)

MOST_INCOMING_BYTES = 64 * 1024
"""A longer message ends the connection; give it to the server as its own limit as well."""

_TOO_LARGE = 1009
_CLOSE_S = 1.0
_LAST_MESSAGE_ID = 65535
_PATHS = ("/subscribers/{aetitle}", "/ws/subscribers/{aetitle}")
_MESSAGE = (
    '{"00000002":{"vr":"UI","Value":["' + UPS_PUSH_SOP_CLASS_UID + '"]},'
    '"00000110":{"vr":"US","Value":[%d]},'
    '"00001000":{"vr":"UI","Value":["%s"]},'
    '"00001002":{"vr":"US","Value":[%d]}'
)


def channel_url(base_url: str, receiving_ae: str) -> str:
    """Address of the channel of an AE, of the service at `base_url`: Content-Location of Subscribe."""
    scheme, _, rest = base_url.rstrip("/").partition("://")
    secure = scheme.lower() in ("https", "wss")
    return f"{'wss' if secure else 'ws'}://{rest}/subscribers/{quote(receiving_ae.strip(' '), safe='')}"


def event_message(notice: Notice, message_id: int) -> str:
    """One event report as DICOM JSON text: the addressing of N-EVENT-REPORT, then the event information."""
    head = _MESSAGE % (message_id, notice.workitem_uid, notice.event_type)
    information = notice.content[1:]
    return f"{head}{information}" if information.strip() == "}" else f"{head},{information}"


def router(
    channel: WebSocketChannel, *, prefix: str = "/dicom-web", allowed_origins: Collection[str] = ()
) -> APIRouter:
    """The channel under `prefix`.

    Parameters
    ----------
    allowed_origins
        Web origins (``https://host:port``) whose pages may open it, besides those of the server itself; who
        sends no Origin is no page.
    """
    routes = APIRouter(prefix=prefix)
    origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    async def listen(websocket: WebSocket, aetitle: str) -> None:
        receiving_ae = aetitle.strip(" ")
        if not is_ae_title(receiving_ae):
            await _refuse(websocket, 400, "the path must end with an AE title: 1 to 16 characters")
            return
        if not _may_open(websocket, origins):
            await _refuse(websocket, 403, "pages of this origin may not open the channel")
            return
        connection = channel.open(receiving_ae)
        if connection is None:
            await _refuse(websocket, 503, "no more watchers can be served now; try again later")
            return
        try:
            # Before the watcher is let in: what is told from then on to another connection of this AE, which
            # may be dead, is owed to this one as well.
            connection.position = await run_in_threadpool(channel.position_of, receiving_ae)
            await websocket.accept()
            await _serve(websocket, connection, channel)
        except StoreError as error:
            _LOG.warning("store failed", extra={"action": "event_channel.store_failed", **facts_of(error)})
            await _refuse(websocket, 503, "the store does not answer; try again later")
        except WebSocketDisconnect:
            return
        finally:
            channel.leave(connection)
            _LOG.info("watcher left", extra={"action": "event_channel.closed", "ae": receiving_ae})

    for path in _PATHS:
        routes.add_api_websocket_route(path, listen)
        routes.add_api_websocket_route(path + "/", listen)
    return routes


async def _refuse(websocket: WebSocket, status: int, text: str) -> None:
    await websocket.send_denial_response(PlainTextResponse(text, status_code=status))


def _may_open(websocket: WebSocket, origins: Collection[str]) -> bool:
    origin = websocket.headers.get("origin")
    if origin is None or origin.lower() in origins:
        return True
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(host) and host.lower() == websocket.headers.get("host", "").lower()


async def _serve(websocket: WebSocket, connection: Connection, channel: WebSocketChannel) -> None:
    """Send until the watcher leaves, or is given up; then close."""
    sending = asyncio.create_task(_send(websocket, connection, channel))
    listening = asyncio.create_task(_ignore(websocket))
    giving_up = asyncio.create_task(connection.given_up.wait())
    tasks = (sending, listening, giving_up)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | StoreError):
            raise outcome
    if isinstance(ended[1], WebSocketDisconnect):
        return
    code = ended[1] if isinstance(ended[1], int) else connection.close_code
    if connection.given_up.is_set() and code == TRY_AGAIN_LATER:
        extra = {"action": "event_channel.given_up", "ae": connection.receiving_ae}
        _LOG.warning("a watcher does not keep up", extra=extra)
    with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        await asyncio.wait_for(websocket.close(code), _CLOSE_S)


async def _send(websocket: WebSocket, connection: Connection, channel: WebSocketChannel) -> None:
    """What was missed while the watcher was away, then each report as it comes; each once, in order."""
    message_id = 0

    async def tell(notice: Notice) -> None:
        nonlocal message_id
        message_id = message_id % _LAST_MESSAGE_ID + 1
        await websocket.send_text(event_message(notice, message_id))

    try:
        position = connection.position or 0
        while True:
            connection.look_up_again()
            missed = await run_in_threadpool(channel.pending, connection.receiving_ae, position)
            for owed in missed:
                await tell(owed)
                connection.was_sent(owed)
                position = owed.number
            if not missed and not connection.look_up_again():
                break
    except StoreError as error:
        _LOG.warning("store failed", extra={"action": "event_channel.store_failed", **facts_of(error)})
        return
    connection.live = True
    while True:
        while (notice := connection.next_notice()) is not None:
            await tell(notice)
            connection.was_sent(notice)
        farewell = connection.farewell
        if farewell is not None:
            if connection.receiving_ae in farewell.receiving_aes:
                await tell(farewell)
            return
        await connection.ready.wait()
        connection.ready.clear()


async def _ignore(websocket: WebSocket) -> int:
    """Read and drop what the watcher sends; returns the code to close with when it is too much.

    Raises
    ------
    WebSocketDisconnect
        When the watcher leaves.
    """
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        content = message.get("text") or message.get("bytes") or ""
        if len(content) > MOST_INCOMING_BYTES:
            return _TOO_LARGE
