# SPDX-License-Identifier: Apache-2.0
"""The FHIR door: create, conditional create, update, read back, and every refusal as OperationOutcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from fhir.resources.R4B import get_fhir_model_class

from informatics_gateway.request_doors import request_routers
from informatics_gateway.request_settings import FhirDoorSettings
from profiles.request import RequestKind
from task_manager.actor import Actor
from task_manager.outcome import Accepted
from task_manager.store.orders import OrderStatus
from tests.asgi import AsgiClient
from tests.fhir_requests import service_request, task
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service
from tests.unit.task_manager.steps import complete, order

FHIR = {"content-type": "application/fhir+json"}
NUL = {"if-none-exist": "identifier=s|1%00"}
DEEP = b'{"resourceType": "Task", "a": ' + b"[" * 500 + b"]" * 500 + b"}"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    for routes in request_routers(bed.service, FhirDoorSettings(), public_url="", clock=bed.clock):
        app.include_router(routes)
    return AsgiClient(app)


def post(client: AsgiClient, resource: object, **headers: str) -> httpx.Response:
    kind = resource.get("resourceType", "ServiceRequest") if isinstance(resource, dict) else "ServiceRequest"
    return client.post(f"/fhir/{kind}", content=orjson.dumps(resource), headers={**FHIR, **headers})


def put(client: AsgiClient, resource: dict[str, Any], **headers: str) -> httpx.Response:
    address = f"/fhir/{resource['resourceType']}/{resource['id']}"
    return client.request("PUT", address, content=orjson.dumps(resource), headers={**FHIR, **headers})


def issues(answer: httpx.Response) -> list[tuple[str, str]]:
    found = answer.json()
    assert answer.headers["content-type"] == "application/fhir+json"
    get_fhir_model_class("OperationOutcome").model_validate(found)
    return [(one["code"], *one.get("expression", [""])) for one in found["issue"]]


def states(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.state for one in story.workitems]


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)


def test_a_service_request_is_an_order_and_is_read_back(bed: TestBed, client: AsgiClient) -> None:
    answer = post(client, service_request())
    assert answer.status_code == 201
    name = answer.json()["id"]
    assert answer.headers["location"] == f"http://airway.test/fhir/ServiceRequest/{name}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    read = client.get(f"/fhir/ServiceRequest/{name}")
    assert read.status_code == 200
    assert read.json() == answer.json()
    get_fhir_model_class("ServiceRequest").model_validate(read.json())
    two_images(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert (story.order.order_number, story.order.priority) == ("PL9", "HIGH")


def test_a_revoked_one_cancels_what_waits(bed: TestBed, client: AsgiClient) -> None:
    name = post(client, service_request()).json()["id"]
    two_images(bed)
    assert states(bed) == ["SCHEDULED"]
    answer = put(client, service_request(status="revoked", id=name))
    assert answer.status_code == 200
    assert answer.json()["meta"]["versionId"] == "2"
    assert states(bed) == ["CANCELED"]


def test_one_may_end_the_order_that_came_by_hl7(bed: TestBed, client: AsgiClient) -> None:
    order(bed)
    two_images(bed)
    placer = service_request()["identifier"][1] | {"value": "PL1"}
    assert post(client, service_request(identifier=[placer], status="revoked")).status_code == 201
    assert states(bed) == ["CANCELED"]


def test_one_that_ends_an_order_nobody_knows_is_refused(client: AsgiClient) -> None:
    answer = post(client, service_request(status="revoked"))
    assert answer.status_code == 422
    assert issues(answer) == [("not-found", "")]


def test_conditional_create(bed: TestBed, client: AsgiClient) -> None:
    unless = {"If-None-Exist": "identifier=urn:site:placer|PL9"}
    first = post(client, service_request(), **unless)
    again = post(client, service_request(priority="routine"), **unless)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    kept = bed.service.requests.request(RequestKind.SERVICE_REQUEST, first.json()["id"])
    assert kept is not None
    assert kept.version == 1


def test_a_conditional_create_never_changes_what_is_there(bed: TestBed, client: AsgiClient) -> None:
    unless = {"If-None-Exist": "identifier=urn:site:task|T1"}
    name = post(client, task(), **unless).json()["id"]
    put(client, task(id=name, identifier=[{"value": "T2"}]))
    again = post(client, task(description="other"), **unless)
    assert (again.status_code, again.json()["identifier"]) == (200, [{"value": "T2"}])
    actor = Actor(door="person")
    assert isinstance(bed.service.requests.cancel_request(RequestKind.TASK, name, actor=actor), Accepted)
    found = post(client, task(description="other"), **{"If-None-Exist": "identifier=|T2"})
    assert (found.status_code, found.json()["id"]) == (200, name)
    kept = bed.service.requests.request(RequestKind.TASK, name)
    assert kept is not None
    assert kept.status is OrderStatus.REVOKED


def test_several_that_bear_the_identifier(client: AsgiClient) -> None:
    for _ in range(2):
        post(client, service_request())
    answer = post(client, service_request(), **{"If-None-Exist": "identifier=urn:site:placer|PL9"})
    assert answer.status_code == 412


def test_a_task_by_accession_number(bed: TestBed, client: AsgiClient) -> None:
    answer = post(client, task())
    assert answer.status_code == 201
    two_images(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert [one.kind for one in story.requests] == [RequestKind.TASK]


def test_a_task_that_fulfils_an_order_that_is_here(bed: TestBed, client: AsgiClient) -> None:
    name = post(client, service_request()).json()["id"]
    answer = post(client, task(focus={"reference": f"ServiceRequest/{name}"}, input=None))
    assert answer.status_code == 201
    asked = bed.service.requests.order_of(RequestKind.TASK, answer.json()["id"])
    assert asked is not None
    assert (asked.accession_number, asked.patient_id, asked.placer_order_number) == ("A1", "P1", "")


@pytest.mark.parametrize(("patient", "status"), [("P1", 201), ("P2", 422)], ids=["the same", "another"])
def test_a_task_is_for_the_patient_of_its_order(client: AsgiClient, patient: str, status: int) -> None:
    name = post(client, service_request()).json()["id"]
    focus = {"reference": f"ServiceRequest/{name}"}
    answer = post(client, task(focus=focus, input=None, **{"for": {"identifier": {"value": patient}}}))
    assert answer.status_code == status
    assert status == 201 or issues(answer) == [("business-rule", "Task.for")]


def test_a_canceled_task_stops_its_work(bed: TestBed, client: AsgiClient) -> None:
    name = post(client, task()).json()["id"]
    two_images(bed)
    assert put(client, task(status="cancelled", id=name)).status_code == 200
    assert states(bed) == ["CANCELED"]


@pytest.mark.parametrize(
    ("resource", "status", "expected"),
    [
        (service_request(colour=1), 400, [("structure", "ServiceRequest.colour")]),
        (service_request(intent="plan"), 422, [("business-rule", "ServiceRequest.intent")]),
        (task(focus={"reference": "ServiceRequest/x"}, input=None), 422, [("not-found", "Task.focus")]),
        (
            task(input=[*task()["input"], {"type": {"text": "app"}, "valueString": "brain"}]),
            422,
            [("business-rule", "Task.app")],
        ),
        ([], 400, [("structure", "")]),
        (
            task(identifier=[{"system": "s", "value": "x" * 2000}]),
            400,
            [("too-long", "Task.identifier[0]")],
        ),
    ],
    ids=["structure", "business", "no such order", "no rule for the app", "no resource", "long identifier"],
)
def test_refusals(client: AsgiClient, resource: object, status: int, expected: list[tuple[str, str]]) -> None:
    answer = post(client, resource)
    assert (answer.status_code, issues(answer)) == (status, expected)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/fhir/ServiceRequest", {"content": b"{", "headers": FHIR}, 400),
        ("POST", "/fhir/ServiceRequest", {"content": b"<x/>", "headers": {"content-type": "text/xml"}}, 415),
        ("POST", "/fhir/ServiceRequest", {"content": b"[" * 1_100_000, "headers": FHIR}, 413),
        ("POST", "/fhir/Task", {"content": DEEP, "headers": FHIR}, 400),
        ("POST", "/fhir/Task", {"content": b"{}", "headers": FHIR | NUL}, 412),
        ("POST", "/fhir/Patient", {"content": b"{}", "headers": FHIR}, 404),
        ("GET", "/fhir/ServiceRequest/none", {}, 404),
        ("GET", "/fhir/ServiceRequest/no%20id", {}, 404),
        ("GET", "/fhir/metadata?_format=xml", {}, 406),
        ("GET", "/fhir/metadata", {"headers": {"accept": "application/fhir+xml"}}, 406),
        ("DELETE", "/fhir/Task/1", {}, 405),
        ("GET", "/fhir/ServiceRequest/1/_history/1", {}, 404),
        ("PUT", "/fhir/Task/1", {"content": b'{"id": "2"}', "headers": FHIR}, 400),
        ("PUT", "/fhir/Task/1", {"content": b'{"id": "1"}', "headers": FHIR}, 405),
    ],
    ids=[
        *(
            "no JSON",
            "XML",
            "too long",
            "too deep",
            "NUL",
            "another type",
            "unknown id",
            "no id",
            "format",
            "accept",
        ),
        *("delete", "history", "other id", "unknown update"),
    ],
)
def test_requests_that_cannot_be_answered(
    client: AsgiClient, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    assert issues(answer)


def test_a_client_that_goes_away_within_the_body(bed: TestBed) -> None:
    app = FastAPI()
    for routes in request_routers(bed.service, FhirDoorSettings(), public_url="", clock=bed.clock):
        app.include_router(routes)
    told = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return told.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/fhir/Task",
        "query_string": b"",
        "headers": [(b"content-type", b"application/fhir+json")],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400


def test_if_match(client: AsgiClient) -> None:
    name = post(client, task()).json()["id"]
    older = put(client, task(description="x", id=name), **{"If-Match": 'W/"7"'})
    assert older.status_code == 412
    assert put(client, task(description="x", id=name), **{"If-Match": 'W/"1"'}).status_code == 200
    assert put(client, task(id=name), **{"If-Match": "junk"}).status_code == 400


@pytest.mark.parametrize("wanted", ["minimal", "OperationOutcome", "representation"])
def test_prefer(client: AsgiClient, wanted: str) -> None:
    answer = post(client, task(), Prefer=f"return={wanted}")
    assert answer.status_code == 201
    kind = answer.json()["resourceType"] if answer.content else "minimal"
    assert kind == {"representation": "Task"}.get(wanted, wanted)


@pytest.mark.parametrize("wanted", ["json", "application/fhir+json", "application/fhir%2Bjson"])
def test_the_capability_statement_tells_what_is_done(client: AsgiClient, wanted: str) -> None:
    told = client.get(f"/fhir/metadata?_format={wanted}").json()
    get_fhir_model_class("CapabilityStatement").model_validate(told)
    assert told["fhirVersion"] == "4.0.1"
    (rest,) = told["rest"]
    assert [one["type"] for one in rest["resource"]] == ["ServiceRequest", "Task"]
    assert {one["code"] for one in rest["resource"][0]["interaction"]} == {"create", "read", "update"}


def test_the_store_away_is_told_in_fhir(bed: TestBed, client: AsgiClient) -> None:
    bed.database.close()
    with bed.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE request_token")
        connection.exec_driver_sql("DROP TABLE request")
        connection.commit()
    answer = post(client, service_request())
    assert answer.status_code == 503
    assert issues(answer) == [("transient", "")]
