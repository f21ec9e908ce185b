# SPDX-License-Identifier: Apache-2.0
"""OPTIONS of the resources of studies (PS3.18 8.9), and pages of other origins."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb.studies_options import router
from informatics_gateway.http_server import let_pages_ask
from tests.asgi import AsgiClient

WADL = "application/vnd.sun.wadl+xml"


def client(*origins: str) -> AsgiClient:
    app = FastAPI()
    app.include_router(router())
    let_pages_ask(app, origins)
    return AsgiClient(app)


@pytest.mark.parametrize(
    ("path", "accept", "status", "allow"),
    [
        ("/studies", "*/*", 200, "POST, GET, OPTIONS"),
        ("/studies/1.2.3", "application/json", 200, "POST, GET, OPTIONS"),
        ("/instances", WADL, 200, "GET, OPTIONS"),
        ("/studies/1.2/series/3/instances/4/bulkdata/00880200/1/7FE00010", WADL, 200, "GET, OPTIONS"),
        ("/studies", "text/html", 406, None),
    ],
)
def test_options(path: str, accept: str, status: int, allow: str | None) -> None:
    answer = client().request("OPTIONS", f"/dicom-web{path}", headers={"accept": accept})
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    if status == 200:
        again = {"accept": accept, "if-none-match": answer.headers["etag"]}
        assert client().request("OPTIONS", f"/dicom-web{path}", headers=again).status_code == 304


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [((), None), (("https://viewer.example",), "https://viewer.example"), (("https://other",), None)],
)
def test_other_origins(origins: tuple[str, ...], allowed: str | None) -> None:
    headers = {"origin": "https://viewer.example", "access-control-request-method": "GET"}
    answer = client(*origins).request("OPTIONS", "/dicom-web/studies", headers=headers)
    assert answer.headers.get("access-control-allow-origin") == allowed
