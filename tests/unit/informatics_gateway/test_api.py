# SPDX-License-Identifier: Apache-2.0
"""Airway's own REST over a real store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from informatics_gateway import api
from profiles.order import MessageKey, Order, OrderControl
from task_manager.outbox import event_lane
from task_manager.outcome import Accepted
from tests.asgi import AsgiClient
from tests.service import SCANNER, TestBed, make_service

ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="2026/17",
    filler_order_number="",
    accession_number="A1",
    patient_id="P1",
)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    app.include_router(api.router(bed.service, lambda: True))
    return AsgiClient(app)


def test_a_held_job_is_tried_again_whatever_its_key_holds(bed: TestBed, client: AsgiClient) -> None:
    key = MessageKey(sending_application="RIS", sending_facility="H", control_id="M1")
    accepted = bed.service.intake.receive_order([ORDER], key=key, raw=b"MSH|", actor=SCANNER)
    assert isinstance(accepted, Accepted)
    job = bed.service.claim_job(event_lane("log"), worker="w", lease=timedelta(minutes=1))
    assert job is not None
    assert "2026/17" in job.key
    bed.service.hold(job, "too large")
    assert client.post(f"/api/jobs/{quote(job.key, safe='')}/retry").status_code == 200
    assert client.post(f"/api/jobs/{quote(job.key, safe='')}/retry").status_code == 404
    assert bed.service.next_due(event_lane("log")) == bed.clock()


def test_ready_while_the_store_answers(bed: TestBed, client: AsgiClient) -> None:
    assert client.get("/health/ready").status_code == 200
    with bed.database.write() as connection:
        connection.execute(text("ALTER TABLE study RENAME TO away"))
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "the store does not answer"})
    assert client.get("/health/live").status_code == 200
