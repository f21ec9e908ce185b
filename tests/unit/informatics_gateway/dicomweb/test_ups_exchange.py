# SPDX-License-Identifier: Apache-2.0
"""One exchange at the UPS-RS door: bodies in XML and in pieces, addresses, and routes found in every way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from email import message_from_bytes
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI, Response
from starlette.types import Message

from informatics_gateway.dicomweb import native_xml, ups_rs
from informatics_gateway.dicomweb.ups_exchange import MAX_BODY_BYTES
from profiles.dicom_json import DicomJson, element
from profiles.ups.dataset import entry
from task_manager.workitem.memory import MemoryWorklist
from tests.asgi import AsgiClient
from tests.contract.workitems import NOW, minimal, performed
from tests.contract.worklist import fill
from tests.unit.informatics_gateway.dicomweb.ups_web import (
    BASE,
    LOCK,
    UID,
    C,
    P,
    S,
    Web,
    X,
    paths,
    state_payload,
)

XML_TYPE = 'multipart/related; type="application/dicom+xml"'


@pytest.fixture
def web() -> Web:
    return Web()


def document(data_set: DicomJson) -> bytes:
    return native_xml.write(data_set, lambda tag: entry(tag).keyword)


def multipart(*documents: bytes, content_type: str = "application/dicom+xml") -> bytes:
    head = f"--b\r\nContent-Type: {content_type}\r\n\r\n".encode()
    return b"".join(head + one + b"\r\n" for one in documents) + b"--b--\r\n"


def parts(content_type: str, body: bytes) -> list[bytes]:
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    found = []
    for part in message.walk():
        if not part.is_multipart():
            assert part.get_content_type() == "application/dicom+xml"
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.append(content)
    return found


# XML (PS3.18 11.1.3)


@pytest.mark.parametrize(
    ("content_type", "framed"),
    [
        (f"{XML_TYPE}; boundary=b", True),
        ("multipart/related; boundary=b; type=application/dicom+xml; charset=UTF-8", True),
        ("multipart/related; boundary=b", True),
        ("application/dicom+xml", False),
    ],
)
def test_a_life_in_xml(web: Web, content_type: str, framed: bool) -> None:
    def send(method: str, path: str, data_set: DicomJson) -> int:
        body = document(data_set)
        headers = {"Content-Type": content_type}
        answer = web.ask(method, path, content=multipart(body) if framed else body, headers=headers)
        return answer.status_code

    assert send("POST", f"/workitems?{UID}", minimal(PatientName="Doe^Jane")) == 201
    assert send("PUT", f"/workitems/{UID}/state", state_payload(P)[0]) == 200
    assert send("POST", f"/workitems/{UID}/cancelrequest", element("ReasonForCancellation", "Twice")) == 202
    assert send("POST", f"/workitems/{UID}?{LOCK}", performed()) == 200
    assert send("PUT", f"/workitems/{UID}/state", state_payload(C)[0]) == 200
    assert web.state() == C


def test_answers_in_xml(web: Web) -> None:
    fill(web.worklist)
    web.create()
    retrieved = web.ask("GET", f"/workitems/{UID}", headers={"Accept": XML_TYPE})
    found = web.ask("GET", "/workitems?includefield=all", headers={"Accept": XML_TYPE})
    assert [retrieved.status_code, found.status_code] == [200, 200]
    (one,) = parts(retrieved.headers["content-type"], retrieved.content)
    assert native_xml.read(one) == web.ask("GET", f"/workitems/{UID}").json()[0]
    assert retrieved.headers["content-location"] == f"{BASE}/workitems/{UID}"
    many = parts(found.headers["content-type"], found.content)
    in_json = web.ask("GET", "/workitems?includefield=all").json()
    assert [native_xml.read(text) for text in many] == in_json


def test_text_that_looks_like_a_boundary_ends_no_part(web: Web) -> None:
    label = "--airway-part-0--"
    web.ask("POST", f"/workitems?{UID}", [minimal(ProcedureStepLabel=label)])
    answer = web.ask("GET", f"/workitems/{UID}", headers={"Accept": XML_TYPE})
    (one,) = parts(answer.headers["content-type"], answer.content)
    assert label in ElementTree.fromstring(one).itertext()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"--b--\r\n", id="no-part"),
        pytest.param(multipart(b"<NativeDicomModel/>")[:-6], id="unclosed"),
        pytest.param(multipart(b"<NativeDicomModel/>", b"<NativeDicomModel/>"), id="two-parts"),
        pytest.param(multipart(b"<!DOCTYPE x><NativeDicomModel/>"), id="document-type"),
        pytest.param(multipart(b"{}"), id="json"),
        pytest.param(b"no frame at all", id="no-frame"),
    ],
)
def test_bodies_that_are_no_xml(web: Web, body: bytes) -> None:
    answer = web.ask("POST", "/workitems", content=body, headers={"Content-Type": f"{XML_TYPE}; boundary=b"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 71, '; boundary="ü"'])
def test_boundaries_that_are_none(web: Web, boundary: str) -> None:
    headers = [(b"content-type", (XML_TYPE + boundary).encode("latin-1"))]
    assert web.ask("POST", "/workitems", content=b"x", headers=headers).status_code == 400


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_compressed_bodies(web: Web, encoding: str) -> None:
    headers = {"Content-Type": "application/dicom+json", "Content-Encoding": encoding}
    answer = web.ask("POST", "/workitems", content=b"x", headers=headers)
    assert (answer.status_code, paths(answer)) == (415, ["Content-Type"])


# The messages of the connection


def serve(
    messages: Sequence[Message], *, headers: Sequence[tuple[bytes, bytes]] = (), **scope: Any
) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer to a create that comes as `messages`."""
    router = ups_rs.router(MemoryWorklist(lambda: NOW))
    coming = iter(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    request = {
        "type": "http",
        "method": "POST",
        "path": "/dicom-web/workitems",
        "query_string": b"",
        "scheme": "http",
        "server": ("10.0.0.1", 8080),
        "client": None,
        "headers": [(b"content-type", b"application/dicom+json"), *headers],
        **scope,
    }
    asyncio.run(router.handle(request, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def chunk(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}
FULL = b" " * MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        pytest.param([chunk(b"[{", more=True), chunk(b"}]", more=False)], 400, id="pieces-of-no-workitem"),
        pytest.param([GONE], 400, id="gone-before-the-body"),
        pytest.param([chunk(b"[{", more=True), GONE], 400, id="gone-within-the-body"),
        pytest.param([chunk(FULL, more=True), chunk(b"  ", more=False)], 413, id="too-large-in-pieces"),
        pytest.param([chunk(FULL + b" ", more=True)], 413, id="too-large-at-once"),
    ],
)
def test_bodies_in_pieces(messages: Sequence[Message], status: int) -> None:
    assert serve(messages)[0] == status


def test_a_body_announced_too_large_is_not_read() -> None:
    announced = [(b"content-length", b"99999999999")]
    assert serve([chunk(b"[", more=True)], headers=announced)[0] == 413


@pytest.mark.parametrize(
    ("headers", "scope", "expected"),
    [
        ([(b"host", b"pacs.example:8042")], {}, "http://pacs.example:8042/dicom-web"),
        ([(b"host", b"[::1]:8080")], {"scheme": "https"}, "https://[::1]:8080/dicom-web"),
        ([], {}, "http://10.0.0.1:8080/dicom-web"),
        ([(b"host", b"x y")], {}, "/dicom-web"),
        ([(b"host", b'a"><script>')], {}, "/dicom-web"),
        (
            [(b"host", b"h")],
            {"root_path": "/airway", "path": "/airway/dicom-web/workitems"},
            "http://h/airway/dicom-web",
        ),
    ],
)
def test_addresses(headers: Sequence[tuple[bytes, bytes]], scope: dict[str, Any], expected: str) -> None:
    body = document(minimal())
    kind = [(b"content-type", b"application/dicom+xml")]
    status, answered = serve([chunk(body, more=False)], headers=[*kind, *headers], **scope)
    assert status == 201
    assert answered[b"location"].decode().startswith(f"{expected}/workitems/2.25.")


# Routes


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dicom-web/workitems/", 204),
        ("/dicom-web/workitems//", 404),
        ("/dicom-web/workitemsx", 404),
        ("/dicom-webx/workitems", 404),
        ("/dicom-web//workitems", 404),
        (f"/dicom-web/workitems/{UID}/other", 404),
        (f"/dicom-web/workitems/{UID}/state/AE/more", 404),
        (f"/dicom-web/workitems/{UID}/subscribers", 404),
        (f"/dicom-web/workitems/{UID}/subscribers/AE/suspend/more/and/more", 404),
        ("/dicom-web/workitems", 204),
        ("/elsewhere", 200),
    ],
)
def test_only_its_own_resources(path: str, status: int) -> None:
    app = FastAPI(redirect_slashes=False)
    app.include_router(ups_rs.router(MemoryWorklist(lambda: NOW)))

    @app.get("/elsewhere")
    def elsewhere() -> Response:
        return Response(b"here")

    assert AsgiClient(app).get(path).status_code == status


def test_the_routes_answer_by_themselves_as_well() -> None:
    worklist = MemoryWorklist(lambda: NOW)
    app = FastAPI()
    app.router.routes.extend(ups_rs.router(worklist).routes)
    client = AsgiClient(app)
    headers = {"Content-Type": "application/dicom+xml"}
    created = client.post(f"/dicom-web/workitems?{UID}", content=document(minimal()), headers=headers)
    assert created.status_code == 201
    assert client.get(f"/dicom-web/workitems/{UID}").status_code == 200
    assert client.request("PATCH", "/dicom-web/workitems").headers["allow"] == "GET, POST, OPTIONS"
    assert [client.request("OPTIONS", f"/dicom-web{path}").status_code for path in ("", "/")] == [200, 200]


@pytest.mark.parametrize(
    ("state", "requests"),
    [
        (S, [("GET", "", 200), ("POST", "", 200), ("PUT", "/state", 200), ("POST", "/cancelrequest", 202)]),
        (P, [("GET", "", 200), ("POST", "", 400), ("PUT", "/state", 409), ("POST", "/cancelrequest", 202)]),
        (C, [("GET", "", 200), ("POST", "", 400), ("PUT", "/state", 409), ("POST", "/cancelrequest", 409)]),
        (X, [("GET", "", 200), ("POST", "", 400), ("PUT", "/state", 409), ("POST", "/cancelrequest", 202)]),
    ],
)
def test_every_method_in_every_state(state: str, requests: Sequence[tuple[str, str, int]]) -> None:
    for method, path, status in requests:
        web = Web()
        web.create(state)
        payload: Any = None if path != "/state" else state_payload(P)
        if (method, path) == ("POST", ""):
            payload = [element("WorklistLabel", "other")]
        assert web.ask(method, f"/workitems/{UID}{path}", payload).status_code == status, (method, path)
