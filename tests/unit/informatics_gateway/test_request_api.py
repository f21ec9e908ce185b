# SPDX-License-Identifier: Apache-2.0
"""Requests of persons over `/api/requests`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from informatics_gateway import request_api
from tests.asgi import AsgiClient
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service
from tests.unit.task_manager.steps import complete, run_to_completed


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    app.include_router(request_api.router(bed.service))
    return AsgiClient(app)


def state(client: AsgiClient, key: str = "R1") -> str:
    told = client.get(f"/api/requests/{key}").json()
    assert told["next"]
    found: str = told["state"]
    return found


def test_a_request_from_its_begin_to_its_end(bed: TestBed, client: AsgiClient) -> None:
    answer = client.post("/api/requests", json={"accession_number": "A1", "key": "R1", "priority": "HIGH"})
    assert answer.status_code == 202
    assert answer.headers["location"] == "/api/requests/R1"
    assert answer.json()["state"] == "WAITING FOR STUDY"
    bed.receive(ct(1))
    assert state(client) == "RECEIVING"
    bed.receive(ct(2))
    complete(bed)
    assert state(client) == "SCHEDULED"
    told = client.get("/api/requests/R1").json()
    assert told["studies"] == [STUDY]
    assert [one["app"] for one in told["workitems"]] == ["lung-ct"]


def test_what_is_done_already_is_told(bed: TestBed, client: AsgiClient) -> None:
    run_to_completed(bed)
    answer = client.post("/api/requests", json={"study_instance_uid": STUDY, "key": "R1"})
    assert answer.status_code == 202
    bed.service.scheduler.complete_due_studies()
    assert state(client) == "COMPLETED"
    assert len(client.get("/api/requests/R1").json()["workitems"]) == 1


def test_a_study_that_no_rule_wants(bed: TestBed, client: AsgiClient) -> None:
    bed.receive(ct(1))
    complete(bed)
    client.post("/api/requests", json={"study_instance_uid": STUDY, "key": "R1"})
    bed.service.scheduler.complete_due_studies()
    assert state(client) == "NO RULE"


def test_the_same_key_is_the_same_request(client: AsgiClient) -> None:
    asked = {"accession_number": "A1"}
    headers = {"Idempotency-Key": "R1"}
    assert client.post("/api/requests", json=asked, headers=headers).status_code == 202
    assert client.post("/api/requests", json=asked, headers=headers).status_code == 200
    other = client.post("/api/requests", json={"accession_number": "A2"}, headers=headers)
    assert other.status_code == 409


def test_a_cancel(bed: TestBed, client: AsgiClient) -> None:
    client.post("/api/requests", json={"accession_number": "A1", "key": "R1"})
    bed.receive(ct(1))
    bed.receive(ct(2))
    complete(bed)
    answer = client.post("/api/requests/R1/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "CANCELED")
    assert [one["state"] for one in answer.json()["workitems"]] == ["CANCELED"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 422),
        ({"accession_number": "A1", "study_instance_uid": "1.2"}, 422),
        ({"study_instance_uid": "no uid"}, 422),
        ({"accession_number": "A*"}, 422),
        ({"accession_number": "A" * 17}, 422),
        ({"accession_number": "A1", "colour": "red"}, 422),
        ({"accession_number": "A1", "priority": "SOON"}, 422),
        ({"accession_number": "A1", "key": "a/b"}, 422),
        ({"accession_number": "A1", "reason": "a\u0000"}, 422),
        ({"accession_number": "A1", "app": "brain"}, 400),
    ],
    ids=[
        *("nothing", "both", "no UID", "wildcard", "too long", "unknown", "priority", "key", "NUL", "app"),
    ],
)
def test_refusals(client: AsgiClient, asked: dict[str, Any], status: int) -> None:
    answer = client.post("/api/requests", json=asked)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_an_unknown_request(client: AsgiClient) -> None:
    assert client.get("/api/requests/none").status_code == 404
    assert client.post("/api/requests/none/cancel").status_code == 404
    assert client.get("/api/requests/%00").status_code == 404
    assert client.post("/api/requests/%00/cancel").status_code == 404
