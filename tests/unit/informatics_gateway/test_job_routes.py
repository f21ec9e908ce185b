# SPDX-License-Identifier: Apache-2.0
"""REST over jobs and destinations, and their metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI

from informatics_gateway import api
from task_manager.delivery.breaker import BreakerPolicy
from task_manager.delivery.policy import DeliveryPolicy
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from tests.asgi import AsgiClient
from tests.instances import STUDY
from tests.service import TestBed, make_service
from tests.unit.task_manager.destinations import Destination
from tests.unit.task_manager.steps import run_to_completed

LEASE = timedelta(minutes=1)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    policy = DeliveryPolicy(name="emr", breaker=BreakerPolicy(failures=1))
    made = make_service(tmp_path, deliveries=[policy])
    run_to_completed(made)
    for name, failure in (
        ("pacs", FinalDeliveryError("C000")),
        ("emr", RetryableDeliveryError("no answer", unreachable=True)),
    ):
        job = made.service.deliveries.claim(name, worker="w", lease=LEASE)
        assert job is not None
        made.service.deliveries.perform(job, name, Destination([failure]))
    yield made
    made.database.close()


@pytest.fixture
def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    app.include_router(api.router(bed.service, lambda: True))
    return AsgiClient(app)


def test_dead_letters_are_listed_with_what_may_be_done(client: AsgiClient) -> None:
    answer = client.get("/api/jobs").json()
    [job] = answer["jobs"]
    assert (job["lane"], job["state"], job["why"], job["study"]) == ("deliver/pacs", "HELD", "C000", STUDY)
    assert "next" not in answer
    assert client.post(job["retry"]).status_code == 200
    assert client.get("/api/jobs").json()["jobs"] == []


def test_pages_and_states(client: AsgiClient) -> None:
    first = client.get("/api/jobs?state=WAITING&state=HELD&limit=1&lane=pacs").json()
    assert [job["lane"] for job in first["jobs"]] == ["deliver/pacs"]
    assert client.get("/api/jobs?state=WAITING&lane=emr").json()["jobs"][0]["why"] == "no answer"
    assert client.get("/api/jobs?state=LOST").status_code == 422
    assert client.get("/api/jobs?limit=100000").status_code == 422


def test_a_job_is_dropped_with_a_reason(client: AsgiClient) -> None:
    [job] = client.get("/api/jobs").json()["jobs"]
    assert client.post(job["drop"]).status_code == 422
    assert client.post(job["drop"], json={"reason": ""}).status_code == 422
    assert client.post(job["drop"], json={"reason": "sent by hand"}).status_code == 200
    assert client.post(job["drop"], json={"reason": "again"}).status_code == 409
    assert client.post("/api/jobs/none/drop", json={"reason": "x"}).status_code == 404
    [dropped] = client.get("/api/jobs?state=DROPPED").json()["jobs"]
    assert [(one["decision"], one["reason"]) for one in dropped["decisions"]] == [("drop", "sent by hand")]
    [delivery] = [
        one
        for one in client.get(f"/api/studies/{STUDY}").json()["workitems"][0]["deliveries"]
        if one["key"] == job["key"]
    ]
    assert delivery["state"] == "DROPPED"
    assert delivery["decisions"][0]["reason"] == "sent by hand"


def test_how_destinations_fare(client: AsgiClient) -> None:
    told = {one["name"]: one for one in client.get("/api/destinations").json()["destinations"]}
    assert (told["pacs"]["circuit"], told["pacs"]["jobs"]["HELD"]) == ("closed", 1)
    assert (told["emr"]["circuit"], told["emr"]["failures"], told["emr"]["reason"]) == (
        "open",
        1,
        "no answer",
    )
    metrics = client.get("/metrics").content.decode()
    assert 'airway_destination_circuit{destination="emr"} 2.0' in metrics
    assert 'airway_destination_circuit{destination="pacs"} 0.0' in metrics
    assert 'airway_destination_failures{destination="emr"} 1.0' in metrics
