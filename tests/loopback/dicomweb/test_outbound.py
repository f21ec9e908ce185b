# SPDX-License-Identifier: Apache-2.0
"""Calling the worklists of push performers and asking archives, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import orjson
import pytest
from fastapi import FastAPI, Request, Response, WebSocket

from conformance.peers.process import free_port
from informatics_gateway.dicomweb.push_client import PushClient, reported_workitem
from informatics_gateway.dicomweb.query_client import DicomWebArchive
from profiles.dicom_json import DicomJson, element
from task_manager.errors import ConfigurationError, FinalDeliveryError, RetryableDeliveryError
from tests.loopback.dicomweb.conftest import serving

Y = "2.25.77"


class Told:
    """What a server was asked."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.bodies: list[Any] = []


@contextmanager
def answering(
    status: int, content: Any = None, headers: dict[str, str] | None = None, *, reports: tuple[str, ...] = ()
) -> Iterator[tuple[str, Told]]:
    """A server that answers all requests alike, and sends `reports` to each watcher."""
    app, told = FastAPI(), Told()

    @app.websocket("/rs/subscribers/{name}")
    async def channel(socket: WebSocket, name: str) -> None:
        await socket.accept()
        told.requests.append(f"WS {name}")
        for report in reports:
            await socket.send_text(report)
        await socket.receive()

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def answer(request: Request, path: str) -> Response:
        told.requests.append(
            f"{request.method} /{path}" + (f"?{request.url.query}" if request.url.query else "")
        )
        told.bodies.append(await request.body())
        body = b"" if content is None else orjson.dumps(content)
        return Response(body, status, headers=headers, media_type="application/dicom+json")

    with serving(app) as url:
        yield f"{url}/rs", told


@contextmanager
def performer(url: str) -> Iterator[PushClient]:
    client = PushClient(url, receiving_ae="AIR WAY", timeout_s=5)
    try:
        yield client
    finally:
        client.close()


WORKITEM: DicomJson = element("ProcedureStepState", "SCHEDULED")


@pytest.mark.parametrize("status", [pytest.param(201, id="created"), pytest.param(409, id="there-already")])
def test_a_workitem_is_created_under_its_uid(status: int) -> None:
    with answering(status) as (url, told), performer(url) as client:
        client.create(Y, WORKITEM)

    assert told.requests == [f"POST /rs/workitems?{Y}"]
    assert orjson.loads(told.bodies[0]) == [WORKITEM]


@pytest.mark.parametrize(
    ("status", "content", "found"),
    [
        pytest.param(200, [WORKITEM], WORKITEM, id="array-of-one"),
        pytest.param(200, WORKITEM, WORKITEM, id="bare-object"),
        pytest.param(404, None, None, id="unknown"),
        pytest.param(410, None, None, id="deleted"),
    ],
)
def test_a_workitem_is_retrieved(status: int, content: Any, found: DicomJson | None) -> None:
    with answering(status, content) as (url, _), performer(url) as client:
        assert client.retrieve(Y) == found


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(200, [], id="nothing"),
        pytest.param(200, [WORKITEM, WORKITEM], id="two"),
        pytest.param(200, "text", id="no-object"),
        pytest.param(503, None, id="503"),
        pytest.param(429, None, id="429"),
    ],
)
def test_what_is_no_answer_is_asked_again(status: int, content: Any) -> None:
    with (
        answering(status, content, {"Retry-After": "7"}) as (url, _),
        performer(url) as client,
        pytest.raises(RetryableDeliveryError) as raised,
    ):
        client.retrieve(Y)
    assert status == 200 or raised.value.retry_after is not None


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client: client.create(Y, WORKITEM), id="create"),
        pytest.param(lambda client: client.retrieve(Y), id="retrieve"),
        pytest.param(lambda client: client.watch(Y), id="subscribe"),
    ],
)
def test_a_refusal_is_final(ask: Callable[[PushClient], object]) -> None:
    with (
        answering(400) as (url, _),
        performer(url) as client,
        pytest.raises(FinalDeliveryError, match="HTTP 400"),
    ):
        ask(client)


@pytest.mark.parametrize("status", [202, 404, 409, 400])
def test_a_cancel_request_is_asked_once_whatever_the_answer(status: int) -> None:
    details = element("ReasonForCancellation", "not needed")
    with answering(status) as (url, told), performer(url) as client:
        client.request_cancel(Y, details)

    assert told.requests == [f"POST /rs/workitems/{Y}/cancelrequest"]
    assert orjson.loads(told.bodies[0]) == [details]


@pytest.mark.parametrize("status", [200, 400, 405, 409])
def test_a_change_is_asked_once_whatever_the_answer(status: int) -> None:
    changes = element("ScheduledProcedureStepPriority", "HIGH")
    with answering(status) as (url, told), performer(url) as client:
        client.update(Y, changes)

    assert told.requests == [f"POST /rs/workitems/{Y}"]
    assert orjson.loads(told.bodies[0]) == [changes]


def test_nobody_there_is_asked_again() -> None:
    with (
        performer(f"http://127.0.0.1:{free_port()}/rs") as client,
        pytest.raises(RetryableDeliveryError, match="ConnectError"),
    ):
        client.retrieve(Y)


def test_subscribing_with_a_lock_and_hearing_of_events() -> None:
    heard: Queue[str] = Queue()
    report = orjson.dumps({"00001000": {"vr": "UI", "Value": [Y]}}).decode()
    with answering(200, reports=("no JSON", "[]", report)) as (url, told), performer(url) as client:
        client.listen(heard.put)
        assert heard.get(timeout=10) == Y
        client.watch(Y)
        client.release(Y)

    assert told.requests == [
        "WS AIR WAY",
        f"POST /rs/workitems/{Y}/subscribers/AIR WAY?deletionlock=true",
        f"DELETE /rs/workitems/{Y}/subscribers/AIR WAY",
    ]


def test_listening_ends_when_asked_to_though_nobody_is_there() -> None:
    client = PushClient(f"http://127.0.0.1:{free_port()}/rs", receiving_ae="AIRWAY", timeout_s=5)
    client.listen(lambda uid: None)
    began = time.monotonic()

    client.close()

    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("message", "uid"),
    [
        pytest.param('{"00001000":{"vr":"UI","Value":["1.2.3"]}}', "1.2.3", id="affected"),
        pytest.param('[{"00001001":{"vr":"UI","Value":["1.2.3"]}}]', "1.2.3", id="requested-in-an-array"),
        pytest.param('{"00080018":{"vr":"UI","Value":["1.2.3"]}}', "1.2.3", id="sop-instance"),
        pytest.param('{"00001000":{"vr":"UI","Value":["x"]}}', "", id="no-uid"),
        pytest.param('{"00001000":7}', "", id="no-element"),
        pytest.param("[1]", "", id="no-object"),
        pytest.param(b"\xff", "", id="no-text"),
    ],
)
def test_which_workitem_a_report_is_about(message: str | bytes, uid: str) -> None:
    assert reported_workitem(message) == uid


def test_an_address_that_is_not_safe_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        PushClient("ftp://far.test", receiving_ae="AIRWAY")


def found_instance(uid: str, availability: str = "") -> DicomJson:
    return {**element("SOPInstanceUID", uid), **element("InstanceAvailability", availability)}


@pytest.mark.parametrize(
    ("status", "content", "uids"),
    [
        pytest.param(
            200,
            [found_instance("1.2.1"), found_instance("1.2.2", "ONLINE"), found_instance("1.2.3", "OFFLINE")],
            {"1.2.1", "1.2.2"},
            id="what-can-be-retrieved",
        ),
        pytest.param(200, [found_instance("x"), {}], set(), id="no-uids"),
        pytest.param(204, None, set(), id="204"),
        pytest.param(404, None, set(), id="unknown-study"),
    ],
)
def test_an_archive_tells_what_it_has(status: int, content: Any, uids: set[str]) -> None:
    with answering(status, content) as (url, told):
        archive = DicomWebArchive("vna", url, timeout_s=5)
        assert archive.available_instances("1.2") == uids
        archive.close()

    assert told.requests == ["GET /rs/studies/1.2/instances?includefield=00080056&limit=1000&offset=0"]


def test_an_archive_that_repeats_its_page_is_not_asked_for_ever() -> None:
    page = [found_instance(f"1.2.{number}") for number in range(1000)]
    with answering(200, page) as (url, told):
        archive = DicomWebArchive("vna", url, timeout_s=5)
        assert len(archive.available_instances("1.2")) == 1000
        archive.close()

    assert len(told.requests) == 2


def test_a_study_that_has_no_uid_is_not_asked_for() -> None:
    archive = DicomWebArchive("vna", f"http://127.0.0.1:{free_port()}")

    assert archive.available_instances("../x") == frozenset()
    archive.close()


def test_an_archive_that_fails_is_asked_later() -> None:
    with answering(500) as (url, _):
        archive = DicomWebArchive("vna", url, timeout_s=5)
        with pytest.raises(RetryableDeliveryError):
            archive.available_instances("1.2")
        archive.close()
