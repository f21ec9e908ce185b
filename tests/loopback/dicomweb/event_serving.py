# SPDX-License-Identifier: Apache-2.0
"""The event channel on a real server, and watchers with an independent WebSocket client."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from informatics_gateway.dicomweb import event_channel
from informatics_gateway.watchers import WatcherHub
from informatics_gateway.websocket_watchers import WebSocketChannel
from profiles.dicom_json import DicomJson
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.store.journal import going_down
from tests.watching import PATIENCE_S, Office, state_told, until


@dataclass
class Serving:
    """A server with the event channel of an office."""

    hub: WatcherHub
    channel: WebSocketChannel
    server: uvicorn.Server
    thread: threading.Thread
    host: str

    def url(self, receiving_ae: str = "WATCHER", path: str = "/dicom-web/subscribers/{}") -> str:
        return f"ws://{self.host}{path.format(receiving_ae)}"

    def stop_server(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@contextmanager
def serving(office: Office, *, allowed_origins: Collection[str] = (), **options: Any) -> Iterator[Serving]:
    """Serve the event channel of `office` until the block ends; `options` are those of the channel."""
    channel = WebSocketChannel(office.journal, **options)
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    app = FastAPI()
    app.include_router(event_channel.router(channel, allowed_origins=allowed_origins))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(512)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=2 * event_channel.MOST_INCOMING_BYTES,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: server.started, "the server did not start")
        hub.start()
        office.wakers.append(hub.wake)
        found = Serving(hub, channel, server, thread, f"127.0.0.1:{listening.getsockname()[1]}")
        try:
            yield found
        finally:
            office.wakers.remove(hub.wake)
            hub.stop()
            found.stop_server()


class Watcher:
    """One connection; what it is told, briefly and whole."""

    def __init__(self, url: str, **options: Any) -> None:
        self.messages: list[DicomJson] = []
        self._opening = connect(url, **options)
        self._closing = ExitStack()

    def __enter__(self) -> Watcher:
        self.connection: ClientConnection = self._closing.enter_context(self._opening)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def hear(self, count: int) -> list[tuple[str, int, str]]:
        """The next `count` reports: (workitem, event type, state told)."""
        heard = []
        for _ in range(count):
            text = self.connection.recv(timeout=PATIENCE_S)
            assert isinstance(text, str)
            message = orjson.loads(text)
            self.messages.append(message)
            heard.append(brief(message))
        return heard

    def hear_to_the_end(self) -> list[tuple[str, int, str]]:
        """All reports until the server closes."""
        heard = []
        while True:
            try:
                heard += self.hear(1)
            except ConnectionClosed:
                return heard

    def hears_nothing(self, seconds: float = 0.3) -> bool:
        try:
            self.connection.recv(timeout=seconds)
        except TimeoutError:
            return True
        return False


def brief(message: DicomJson) -> tuple[str, int, str]:
    """(workitem, event type, state told) of one message."""
    uid = message["00001000"]["Value"][0]
    event_type = message["00001002"]["Value"][0]
    return "all" if uid == GLOBAL_SUBSCRIPTION_UID else uid, event_type, state_told(message)


class Crowd:
    """Many watchers in one thread; tells when each was told."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self._heard: list[float] = []
        self._connected = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Crowd:
        self._thread.start()
        until(lambda: self._connected == len(self._urls), "not all watchers are connected")
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(PATIENCE_S)

    def times(self) -> list[float]:
        """When each was told, once all have been; empties the list for the next report."""
        until(lambda: len(self._heard) >= len(self._urls), "not all watchers were told")
        found, self._heard = self._heard, []
        return found

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks = [self._loop.create_task(self._watch(url)) for url in self._urls]
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _watch(self, url: str) -> None:
        async with connect_async(url, open_timeout=PATIENCE_S) as connection:
            self._connected += 1
            async for _ in connection:
                self._heard.append(time.monotonic())
