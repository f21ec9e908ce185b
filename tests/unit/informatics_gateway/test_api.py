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
from informatics_gateway.story_words import story_text
from profiles.order import MessageKey, Order, OrderControl
from task_manager.attention import configured_lanes
from task_manager.dispatch.leases import replacement_uid
from task_manager.outbox import JobKind, event_lane
from task_manager.outcome import Accepted
from task_manager.store import jobs
from tests.asgi import AsgiClient
from tests.instances import STUDY, ct
from tests.service import PERFORMER, SCANNER, TestBed, make_service
from tests.unit.task_manager.steps import LOCK, complete, workitem

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
    assert client.post("/api/jobs/no%2Fsuch/retry").status_code == 404
    assert bed.service.next_due(event_lane("log")) == bed.clock()


def test_ready_while_the_store_answers(bed: TestBed, client: AsgiClient) -> None:
    assert client.get("/health/ready").status_code == 200
    with bed.database.write() as connection:
        connection.execute(text("ALTER TABLE study RENAME TO away"))
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "the store does not answer"})
    assert client.get("/health/live").status_code == 200


def _claimed(bed: TestBed) -> str:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    return _claim(bed, workitem(bed).uid)


def _claim(bed: TestBed, uid: str) -> str:
    claimed = bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(claimed, Accepted), claimed
    return uid


def _lose(bed: TestBed, uid: str) -> str:
    bed.clock.pass_(3600)
    bed.service.sweeps.run_due()
    return replacement_uid(uid)


def _given_up(bed: TestBed) -> str:
    uid = _claimed(bed)
    for _ in range(2):
        uid = _claim(bed, _lose(bed, uid))
    _lose(bed, uid)
    return uid


def test_status_of_a_workitem_tells_who_has_it_until_when(bed: TestBed, client: AsgiClient) -> None:
    uid = _claimed(bed)
    found = client.get(f"/api/workitems/{uid}").json()
    assert (found["state"], found["claimed_by"], found["tries"]) == ("IN PROGRESS", "PERF1", 1)
    assert found["claimed_at"] == found["heard_at"] == "2026-03-01T12:00:31.000+00:00"
    assert found["lease_until"] == "2026-03-01T12:15:31.000+00:00"
    assert (found["rule"], found["app"]) == ("every-ct", "lung-ct")
    assert not {"P1", "Doe"} & {str(value) for value in found.values()}
    successor = _lose(bed, uid)
    found = client.get(f"/api/workitems/{uid}").json()
    assert (found["state"], found["replaced_by"], found["lease_until"]) == ("CANCELED", successor, None)
    found = client.get(f"/api/workitems/{successor}").json()
    assert (found["state"], found["replaces"], found["tries"]) == ("SCHEDULED", [uid], 2)


@pytest.mark.parametrize("uid", ["1.2.3.404", "no-uid", "1" * 100])
def test_status_of_an_unknown_workitem(client: AsgiClient, uid: str) -> None:
    assert client.get(f"/api/workitems/{uid}").status_code == 404
    assert client.post(f"/api/workitems/{uid}/retry").status_code == 404
    assert client.post(f"/api/workitems/{uid}/dismiss").status_code == 404


def test_work_given_up_is_shown_and_tried_again_by_a_person(bed: TestBed, client: AsgiClient) -> None:
    uid = _given_up(bed)
    [shown] = client.get("/api/attention").json()["workitems"]
    assert (shown["uid"], shown["tries"], shown["app"]) == (uid, 3, "lung-ct")
    assert shown["why"] == "given up after 3 tries"
    assert shown["since"] == "2026-03-01T15:00:31.000+00:00"
    metrics = client.get("/metrics").text
    assert "airway_workitems_attention 1.0" in metrics
    assert "airway_leases_lost_total 3.0" in metrics
    story = bed.service.story(STUDY)
    assert story is not None
    told = story_text(story)
    assert "! waits for a person: given up after 3 tries" in told
    assert f"POST {shown['retry']} or {shown['dismiss']}" in told
    answer = client.post(shown["retry"])
    assert answer.json() == {"retried": uid, "replaced_by": replacement_uid(uid)}
    assert client.get("/api/attention").json()["workitems"] == []
    found = client.get(f"/api/workitems/{replacement_uid(uid)}").json()
    assert (found["state"], found["tries"], found["attention"]) == ("SCHEDULED", 1, "")
    assert client.post(shown["retry"]).status_code == 404


def test_work_given_up_may_be_left_at_that(bed: TestBed, client: AsgiClient) -> None:
    uid = _given_up(bed)
    assert client.post(f"/api/workitems/{uid}/dismiss").json() == {"dismissed": uid}
    assert client.get("/api/attention").json()["workitems"] == []
    assert client.get(f"/api/workitems/{replacement_uid(uid)}").status_code == 404
    assert "airway_workitems_attention 0.0" in client.get("/metrics").text
    assert client.post(f"/api/workitems/{uid}/dismiss").status_code == 404


def test_what_still_goes_on_is_not_tried_again_beside_itself(bed: TestBed, client: AsgiClient) -> None:
    uid = _claimed(bed)
    with bed.database.write() as connection:
        connection.execute(text("UPDATE workitem SET attention = 'performer cannot be reached'"))
    assert client.post(f"/api/workitems/{uid}/retry").status_code == 409
    assert client.post(f"/api/workitems/{uid}/dismiss").status_code == 200


def test_explain_tells_who_has_the_work_and_what_came_before(bed: TestBed) -> None:
    uid = _claimed(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert "held by PERF1, last heard 2026-03-01 12:00:31.000Z, taken back 2026-03-01 12:15:31.000Z" in (
        story_text(story)
    )
    successor = _lose(bed, uid)
    story = bed.service.story(STUDY)
    assert story is not None
    told = story_text(story)
    assert f"replaced by {successor}" in told
    assert f"try 2\n    replaces {uid}" in told
    assert "reason: performer was not heard for 15 min" in told


def test_jobs_of_a_removed_destination_are_shown_with_why(bed: TestBed, client: AsgiClient) -> None:
    uid = _claimed(bed)
    with bed.database.write() as connection:
        for name in ("pacs", "gone"):
            jobs.plan_job(
                connection,
                key=f"deliver:{uid}:{name}",
                lane=f"deliver/{name}",
                kind=JobKind.DELIVER,
                now=bed.clock(),
                workitem_uid=uid,
            )
    found = client.get("/api/attention").json()
    assert found["lanes"] == [
        {
            "lane": "deliver/gone",
            "waiting": 1,
            "held": 0,
            "since": "2026-03-01T12:00:31.000+00:00",
            "why": "no destination named gone is in the configuration",
        }
    ]
    story = bed.service.story(STUDY)
    assert story is not None
    told = story_text(story, configured_lanes(["pacs", "emr"], ["log"], []))
    assert told.count("! nobody works on this") == 1
    assert "! nobody works on this: no destination named gone is in the configuration" in told


def test_held_jobs_are_shown_with_the_way_to_release_them(bed: TestBed, client: AsgiClient) -> None:
    key = MessageKey(sending_application="RIS", sending_facility="H", control_id="M1")
    bed.service.intake.receive_order([ORDER], key=key, raw=b"MSH|", actor=SCANNER)
    job = bed.service.claim_job(event_lane("log"), worker="w", lease=timedelta(minutes=1))
    assert job is not None
    bed.service.hold(job, "too large")
    [shown] = client.get("/api/attention").json()["jobs"]
    assert (shown["lane"], shown["why"], shown["attempts"]) == ("events/log", "too large", 1)
    assert client.post(shown["retry"]).status_code == 200
    assert client.get("/api/attention").json()["jobs"] == []
