# SPDX-License-Identifier: Apache-2.0
"""The HTTP door: uvicorn on a socket bound before anything is announced, in a thread of its own.

Event loop and parser are those in C; WebSockets share the port.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Match

from informatics_gateway.dicomweb.event_channel import MOST_INCOMING_BYTES
from task_manager.errors import NoRoomError, StoreError, facts_of

_LOG = logging.getLogger(__name__)

_BACKLOG = 512
_START_S = 30.0


def answer_store_failures(app: FastAPI) -> None:
    """503 for every request that fails because database or disk do, 507 where there is no room."""

    @app.exception_handler(StoreError)
    def unavailable(request: Request, error: StoreError) -> Response:
        del request
        _LOG.error(
            "store failed", extra={"action": "http.store_failed", "reason": str(error), **facts_of(error)}
        )
        full = isinstance(error, NoRoomError)
        text = "there is no room; try again later" if full else "the store does not answer; try again later"
        return Response(
            text, status_code=507 if full else 503, media_type="text/plain", headers={"Retry-After": "10"}
        )


def let_pages_ask(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer pages of other origins, such as a web viewer's (CORS); nobody's if `origins` is empty."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Warning", "Location", "Content-Location", "ETag"],
        )


async def _answer(doors: tuple[Door, ...], app: FastAPI, scope: Any, receive: Any, send: Any) -> None:
    for door in doors:
        if door.matches(scope)[0] is Match.FULL:
            await door.handle(scope, receive, send)
            return
    await app(scope, receive, send)


class Door(Protocol):
    """Routes that answer each of their requests themselves, whatever goes wrong."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Whether a request is for this door (``Match.FULL``)."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer it."""


class HttpServer:
    """Serves one ASGI application until stopped.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes any free one, `port` then tells which.
    doors
        Get their requests at once: the layers of the application around them would take longer than they do.
    """

    def __init__(
        self, app: FastAPI, host: str, port: int, *, doors: Sequence[Door] = (), drain_s: int = 15
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._socket.listen(_BACKLOG)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            partial(_answer, tuple(doors), app) if doors else app,
            interface="asgi3",
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=MOST_INCOMING_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain_s,
            timeout_keep_alive=30,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Base URL, such as ``http://127.0.0.1:8080``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Start serving; returns when requests are answered.

        Raises
        ------
        RuntimeError
            If the server does not come up.
        """
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_S / 0.02)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.02)
        raise RuntimeError("the HTTP door did not open")

    def stop(self) -> None:
        """Answer what is under way, then stop."""
        self._server.should_exit = True
        self._thread.join(30)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
