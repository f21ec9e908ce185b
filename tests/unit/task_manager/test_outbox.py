# SPDX-License-Identifier: Apache-2.0
"""Jobs from being planned to being done, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from profiles.sole.events import EventType
from task_manager.outbox import JobKind, JobState, delivery_lane, event_lane
from task_manager.outcome import Accepted
from task_manager.store.jobs import claim_job, next_due, plan_job
from tests.instances import STUDY
from tests.service import TestBed, make_service
from tests.unit.task_manager.destinations import PERSON, Destination
from tests.unit.task_manager.steps import (
    ORDER,
    order,
    run_to_completed,
    workitem,
)


def test_completion_plans_each_delivery_once_and_tells_everything(bed: TestBed) -> None:
    order(bed)
    uid = run_to_completed(bed)
    assert [(job.lane, job.state) for job in workitem(bed).deliveries] == [
        (delivery_lane("pacs"), JobState.WAITING),
        (delivery_lane("emr"), JobState.WAITING),
    ]
    assert [output.sop_instance_uid for output in workitem(bed).outputs] == [f"{STUDY}.8.1", f"{STUDY}.9.1"]
    job = bed.service.claim_job(delivery_lane("pacs"), worker="w", lease=timedelta(minutes=1))
    assert job is not None
    assert bed.service.claim_job(delivery_lane("pacs"), worker="w", lease=timedelta(minutes=1)) is None
    shipment = bed.service.deliveries.shipment(job, "pacs")
    assert [path.name for path in shipment.paths] == [f"{STUDY}.8.1.dcm", f"{STUDY}.9.1.dcm"]
    assert shipment.order == ORDER
    assert bed.service.deliveries.perform(job, "pacs", Destination())
    story = bed.service.story(STUDY)
    assert story is not None
    assert [event.type for event in story.events] == [
        EventType.ORDER_RECEIVED,
        EventType.STUDY_COMPLETE,
        EventType.PROCESSING_STARTED,
        EventType.PROCESSING_COMPLETED,
        EventType.RESULTS_STORED,
        EventType.EXPORTED,
    ]
    assert story.events[-1].instances == tuple(
        (i.sop_class_uid, i.sop_instance_uid) for i in shipment.instances
    )
    assert {event.workitem_uid for event in story.events[2:]} == {uid}


def test_a_failing_delivery_backs_off_and_a_hopeless_one_waits_for_a_person(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("emr")
    waits = []
    for _ in range(4):
        job = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
        assert job is not None
        waits.append((bed.service.try_later(job, "refused") - bed.clock()).total_seconds())
        assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
        bed.clock.pass_(waits[-1])
    assert waits == [1, 2, 4, 8]
    job = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert job is not None
    bed.service.hold(job, "will never work")
    bed.clock.pass_(10_000)
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
    assert isinstance(bed.service.dead_letters.retry(job.key, actor=PERSON), Accepted)
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None


def test_a_claimed_job_is_freed_by_a_restart_or_by_time(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("pacs")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None
    bed.service.release_claims("another")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
    bed.service.release_claims("w")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None
    bed.clock.pass_(61)
    assert bed.service.claim_job(lane, worker="other", lease=timedelta(minutes=1)) is not None


def test_events_are_told_in_order_even_if_the_first_must_wait(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = event_lane("log")
    first = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert first is not None
    bed.service.try_later(first, "down")
    assert bed.service.claim_tellings(lane, worker="w", lease=timedelta(minutes=1)) == []
    bed.clock.pass_(1)
    claimed = bed.service.claim_tellings(lane, worker="w", lease=timedelta(minutes=1))
    in_order = [
        EventType.STUDY_COMPLETE,
        EventType.PROCESSING_STARTED,
        EventType.PROCESSING_COMPLETED,
        EventType.RESULTS_STORED,
    ]
    assert [telling.event.type for telling in claimed if telling.event] == in_order
    jobs = [telling.job for telling in claimed]
    bed.service.told(jobs[:1], untried=jobs[2:])  # the second failed
    bed.service.try_later(jobs[1], "down")
    assert bed.service.claim_tellings(lane, worker="w", lease=timedelta(minutes=1)) == []
    bed.clock.pass_(1)
    again = bed.service.claim_tellings(lane, worker="w", lease=timedelta(minutes=1))
    assert [telling.event.type for telling in again if telling.event] == in_order[1:]
    bed.service.told([telling.job for telling in again])
    assert bed.service.next_due(lane) is None


def test_claiming_looks_at_no_job_that_is_done(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    with bed.database.write() as connection:
        for lane in (delivery_lane("pacs"), event_lane("log")):
            for number in range(3000):
                kind = JobKind.DELIVER
                plan_job(connection, key=f"{lane}:{number}", lane=lane, kind=kind, now=bed.clock())
            connection.execute(text("UPDATE job SET state = 'DONE' WHERE lane = :lane"), {"lane": lane})
            plan_job(connection, key=lane, lane=lane, kind=JobKind.DELIVER, now=bed.clock())
    for lane in (delivery_lane("pacs"), event_lane("log")):
        with bed.database.write() as connection:
            looked = 0

            def count() -> None:
                nonlocal looked
                looked += 1

            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(count, 1000)  # called for each 1000 steps of SQLite's machine
            assert next_due(connection, lane) == bed.clock()
            later = bed.clock() + timedelta(minutes=1)
            job = claim_job(connection, lane, worker="w", now=bed.clock(), until=later)
            raw.set_progress_handler(None, 0)
        assert job is not None
        assert job.key == lane
        assert looked < 2
    bed.database.close()


def test_a_worker_that_took_too_long_does_not_undo_what_another_did(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("pacs")
    slow = bed.service.claim_job(lane, worker="slow", lease=timedelta(minutes=1))
    bed.clock.pass_(61)
    quick = bed.service.claim_job(lane, worker="quick", lease=timedelta(minutes=1))
    assert slow is not None
    assert quick is not None
    assert bed.service.deliveries.perform(quick, "pacs", Destination())
    bed.service.try_later(slow, "broken off")
    assert [job.state for job in workitem(bed).deliveries if job.lane == lane] == [JobState.DONE]
