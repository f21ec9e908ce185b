# SPDX-License-Identifier: Apache-2.0
"""A UPS-RS server that is not ours: its channel is where it likes and sends what it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from informatics_gateway.http_server import HttpServer


@dataclass
class Foreign:
    """What it does, and what was asked of it.

    Attributes
    ----------
    channel
        Path of the channel; none for a server without.
    announced
        Headers of the answer to Subscribe; ``{port}`` is replaced.
    visits
        What each connection is sent before it is closed; the last one stays open.
    standing
        What a search finds.
    filters
        Whether it supports filtered subscriptions.
    """

    channel: str = ""
    announced: Mapping[str, str] = field(default_factory=dict)
    visits: Sequence[Sequence[str | bytes]] = ((),)
    standing: Sequence[Mapping[str, Any]] = ()
    filters: bool = True
    port: int = 0
    subscribed: list[str] = field(default_factory=list)
    opened: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    redirects: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/rs"


@contextmanager
def serving(foreign: Foreign) -> Iterator[Foreign]:
    """Serve it on a free port."""
    app = FastAPI()

    @app.post("/rs/workitems/{uid}/subscribers/{ae}")
    async def subscribe(uid: str, ae: str, request: Request) -> Response:
        foreign.subscribed.append(f"{uid} {ae} {request.url.query}".strip())
        if uid.endswith(".5.1") and not foreign.filters:
            return Response(status_code=403)
        told = {name: value.replace("{port}", str(foreign.port)) for name, value in foreign.announced.items()}
        return Response(status_code=201, headers=told)

    @app.get("/rs/workitems")
    async def search() -> Response:
        if not foreign.standing:
            return Response(status_code=204)
        return Response(json.dumps(list(foreign.standing)), media_type="application/dicom+json")

    @app.get("/{path:path}")
    async def elsewhere(path: str) -> Response:
        target = foreign.redirects.get(f"/{path}", "")
        return Response(status_code=302 if target else 404, headers={"Location": target} if target else {})

    async def listen(websocket: WebSocket) -> None:
        foreign.opened.append((websocket.url.path, dict(websocket.headers)))
        visit = min(len(foreign.opened), len(foreign.visits)) - 1
        await websocket.accept()
        for message in foreign.visits[visit]:
            if isinstance(message, bytes):
                await websocket.send_bytes(message)
            else:
                await websocket.send_text(message)
        if visit == len(foreign.visits) - 1:
            with_end = asyncio.create_task(websocket.receive())
            try:
                await with_end
            except WebSocketDisconnect:
                return
        else:
            await websocket.close(1011)

    if foreign.channel:
        app.add_api_websocket_route(foreign.channel, listen)
    server = HttpServer(app, "127.0.0.1", 0, drain_s=1)
    foreign.port = server.port
    server.start()
    try:
        yield foreign
    finally:
        server.stop()
