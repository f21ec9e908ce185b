# SPDX-License-Identifier: Apache-2.0
"""Media types, methods, limits and hostile input at the UPS-RS door: PS3.18 8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from informatics_gateway.dicomweb import ups_rs
from informatics_gateway.dicomweb.ups_exchange import MAX_BODY_BYTES, MAX_QUERY_CHARACTERS
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import SearchPage, WorkitemQuery
from task_manager.workitem.commands import Command, Create
from task_manager.workitem.memory import MemoryWorklist
from tests.asgi import AsgiClient
from tests.contract.workitems import NOW, minimal
from tests.contract.worklist import fill
from tests.unit.informatics_gateway.dicomweb.ups_web import (
    BASE,
    HEADERS,
    JSON_TYPE,
    UID,
    Web,
    paths,
)


@pytest.fixture
def web() -> Web:
    return Web()


# Media types (8.7)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/dicom+json", JSON_TYPE),
        ("application/json", "application/json"),
        ("*/*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        ("text/html, application/json;q=0.5", "application/json"),
        ("application/json;q=0.5, application/dicom+json", JSON_TYPE),
        ('multipart/related; type="application/dicom", application/json', "application/json"),
        ("", JSON_TYPE),
    ],
)
def test_accepted_media_types(web: Web, accept: str, media_type: str) -> None:
    web.create()
    for path in (f"/workitems/{UID}", "/workitems"):
        answer = web.ask("GET", path, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


@pytest.mark.parametrize(
    "accept", ["text/html", "application/dicom", "image/png", "application/json;q=0", "garbage"]
)
def test_unacceptable_media_types(web: Web, accept: str) -> None:
    web.create()
    for path in (f"/workitems/{UID}", "/workitems"):
        answer = web.ask("GET", path, headers={"Accept": accept})
        assert (answer.status_code, paths(answer)) == (406, ["Accept"])


def test_accept_as_parameter(web: Web) -> None:
    web.create()
    answer = web.ask("GET", f"/workitems/{UID}?accept=application/json", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/dicom",
        "application/xml",
        "application/dicom+json; charset=latin-1",
        'multipart/related; type="application/dicom"; boundary=b',
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/workitems"),
        ("POST", f"/workitems/{UID}"),
        ("PUT", f"/workitems/{UID}/state"),
        ("POST", f"/workitems/{UID}/cancelrequest"),
    ],
)
def test_other_content_types(web: Web, content_type: str, method: str, path: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = web.ask(method, path, content=b"[{}]", headers=headers)
    assert (answer.status_code, paths(answer)) == (415, ["Content-Type"])
    assert JSON_TYPE in answer.headers["accept-post"]


@pytest.mark.parametrize("content_type", ["application/json", 'Application/DICOM+JSON; charset="UTF-8"'])
def test_accepted_content_types(web: Web, content_type: str) -> None:
    answer = web.ask("POST", f"/workitems?{UID}", [minimal()], headers={"Content-Type": content_type})
    assert answer.status_code == 201


# Methods, limits, bodies


@pytest.mark.parametrize(
    ("path", "methods", "allow"),
    [
        ("", "GET POST PUT DELETE", "OPTIONS"),
        ("/", "GET POST PUT DELETE", "OPTIONS"),
        ("/workitems", "PUT DELETE PATCH HEAD", "GET, POST, OPTIONS"),
        (f"/workitems/{UID}", "DELETE PATCH", "GET, POST, PUT, OPTIONS"),
        (f"/workitems/{UID}/state", "GET POST DELETE", "PUT, OPTIONS"),
        (f"/workitems/{UID}/state/AE", "GET POST DELETE", "PUT, OPTIONS"),
        (f"/workitems/{UID}/cancelrequest", "GET PUT DELETE", "POST, OPTIONS"),
        (f"/workitems/{UID}/cancelrequest/AE", "GET PUT DELETE", "POST, OPTIONS"),
        (f"/workitems/{UID}/subscribers/AE", "GET PUT PATCH", "POST, DELETE, OPTIONS"),
        (f"/workitems/{UID}/subscribers/AE/suspend", "GET PUT DELETE", "POST, OPTIONS"),
    ],
)
def test_other_methods(web: Web, path: str, methods: str, allow: str) -> None:
    for method in methods.split():
        answer = web.ask(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow)


def test_a_large_body(web: Web) -> None:
    body = b"[" + b" " * MAX_BODY_BYTES + b"]"
    answer = web.ask("POST", "/workitems", content=body, headers=HEADERS)
    assert answer.status_code == 413


def test_a_long_query(web: Web) -> None:
    assert web.ask("GET", "/workitems?x=" + "y" * MAX_QUERY_CHARACTERS).status_code == 414


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"[null]",
        b"[[]]",
        b"[{},{}]",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'[{"00100020": {"vr": "LO", "Value": [NaN]}}]',
        b'[{"00100020": {"vr": "LO", "Value": ["\\ud800"]}}]',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/workitems"), ("POST", f"/workitems/{UID}"), ("PUT", f"/workitems/{UID}/state")],
)
def test_bodies_that_are_no_data_set(web: Web, method: str, path: str, body: bytes) -> None:
    web.create()
    answer = web.ask(method, path, content=body, headers=HEADERS)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_nested_beyond_reason(web: Web) -> None:
    item: dict[str, Any] = {}
    for _ in range(120):
        item = {"00404018": {"vr": "SQ", "Value": [item]}}
    answer = web.ask("POST", "/workitems", [{**minimal(), **item}])
    assert answer.status_code == 400
    assert any("nested deeper" in fault["message"] for fault in answer.json()["faults"])


class BrokenWorklist(MemoryWorklist):
    """A worklist whose store is gone, or which is wrong itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda: NOW)
        self.error = error

    def search(self, query: WorkitemQuery) -> SearchPage:
        raise self.error

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        failed: Future[Accepted | Refused] = Future()
        failed.set_exception(self.error)
        return failed


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreError("disk full"), 503, RefusalCode.OUT_OF_RESOURCES),
        (RuntimeError("a secret of the store"), 500, RefusalCode.PROCESSING_FAILURE),
    ],
)
def test_our_own_failures_leak_nothing(error: Exception, status: int, code: RefusalCode) -> None:
    app = FastAPI()
    app.include_router(ups_rs.router(BrokenWorklist(error)))
    answers = [
        AsgiClient(app).get("/dicom-web/workitems"),
        AsgiClient(app).post("/dicom-web/workitems", content=json.dumps([minimal()]), headers=HEADERS),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (status, code.value)
        assert "secret" not in answer.text


def test_a_strange_host_is_answered(web: Web) -> None:
    answer = web.ask("POST", f"/workitems?{UID}", [minimal()], headers={**HEADERS, "Host": "[::"})
    assert answer.status_code == 201
    assert answer.headers["location"].endswith(f"/dicom-web/workitems/{UID}")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
TAGS = st.sampled_from([*minimal(), "00404021", "0020000D", "00091001", "7FE00010", "00001000", "x", ""])
ELEMENTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TAGS, inner, max_size=3)
        | st.fixed_dictionaries({"vr": st.sampled_from(["LO", "SQ", "UI", "PN", "OB", "XX"]), "Value": inner})
    ),
    max_leaves=12,
)
FUZZED = Web()
FUZZED.create()
fill(FUZZED.worklist)


@settings(max_examples=150, deadline=None)
@given(
    overlay=st.dictionaries(TAGS, ELEMENTS, max_size=5),
    door=st.sampled_from(
        [
            ("POST", "/workitems"),
            ("POST", f"/workitems/{UID}"),
            ("PUT", f"/workitems/{UID}/state"),
            ("POST", f"/workitems/{UID}/cancelrequest"),
        ]
    ),
    whole=st.booleans(),
)
def test_no_json_is_answered_5xx(overlay: Mapping[str, Any], door: tuple[str, str], whole: bool) -> None:
    answer = FUZZED.ask(*door, [{**(minimal() if whole else {}), **overlay}])
    assert answer.status_code < 500
    made = answer.headers.get("location", f"{BASE}/workitems/{UID}").removeprefix(BASE)
    assert FUZZED.ask("GET", made).status_code == 200


QUERIES = st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60) | st.lists(
    st.tuples(
        st.sampled_from(
            [
                "PatientID",
                "00404005",
                "0040A370.00080050",
                "PatientName",
                "limit",
                "00080018",
                "a.b",
                "00741004",
                "",
            ]
        ),
        st.text(alphabet="*?^=-.+,\\0129AZaz ", max_size=12),
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@settings(max_examples=150, deadline=None)
@given(query=QUERIES)
def test_no_query_is_answered_5xx(query: str) -> None:
    answer = FUZZED.ask("GET", "/workitems", params=httpx.QueryParams(query))
    assert answer.status_code in (200, 204, 400)
