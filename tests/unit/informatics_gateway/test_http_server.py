# SPDX-License-Identifier: Apache-2.0
"""What the HTTP door does for all rooms behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.responses import PlainTextResponse
from starlette.routing import Match

from informatics_gateway import api
from informatics_gateway.dicomweb import qido_rs, wado_rs
from informatics_gateway.http_server import HttpServer, answer_store_failures
from tests.asgi import AsgiClient
from tests.service import make_service


@pytest.mark.parametrize(
    "path",
    ["/dicom-web/studies", "/dicom-web/studies/1.2", "/dicom-web/studies/1.2/metadata", "/api/studies/1.2"],
)
def test_a_store_that_fails_is_503_and_a_time_to_come_back(tmp_path: Path, path: str) -> None:
    bed = make_service(tmp_path)
    app = FastAPI()
    answer_store_failures(app)
    for routes in (
        qido_rs.router(bed.service.archive),
        wado_rs.router(bed.service.archive),
        api.router(bed.service, lambda: True),
    ):
        app.include_router(routes)
    with bed.database.write() as connection:
        for table in ("study", "instance"):
            connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
    answer = AsgiClient(app).get(path)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "SELECT" not in answer.text
    bed.database.close()


class _OneDoor:
    """Answers one path, and says so."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        here = scope["type"] == "http" and scope["path"] == "/here"
        return (Match.FULL if here else Match.NONE), {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("the door")(scope, receive, send)


def test_a_door_gets_its_requests_before_the_application() -> None:
    app = FastAPI()

    @app.get("/{path}")
    def answer(path: str) -> str:
        return f"the application, {path}"

    server = HttpServer(app, "127.0.0.1", 0, doors=[_OneDoor()])
    server.start()
    try:
        assert httpx.get(f"{server.url}/here").text == "the door"
        assert httpx.get(f"{server.url}/there").json() == "the application, there"
    finally:
        server.stop()
