# SPDX-License-Identifier: Apache-2.0
"""Events of our own, and runs that failed: told where somebody wants it, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from profiles.codes import EQUIPMENT_FAILURE
from profiles.sole.events import OWN_EVENTS, EventType, Outcome
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.outbox import Job, JobState
from task_manager.outcome import Accepted
from task_manager.ports import Receipt, Shipment, Turn, at_once
from task_manager.store import jobs, superseding
from tests.contract.workitems import progress
from tests.instances import STUDY, ct
from tests.service import PERFORMER, START, TestBed, make_service
from tests.unit.task_manager.destinations import Destination
from tests.unit.task_manager.steps import LOCK, complete, run_to_completed, workitem

LEASE = timedelta(minutes=10)


@dataclass
class FailureTeller(Destination):
    """One that is told of failed runs too."""

    failed: list[str] = field(default_factory=list)

    def deliver_failure(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        assert shipment.instances == ()
        self.failed.append(shipment.workitem_uid)
        return Receipt(summary="told of the failure", sent_at=START)


@pytest.fixture
def told_bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path, told=OWN_EVENTS, failures=("pacs",))
    yield made
    made.database.close()


@pytest.fixture
def quiet_bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


def own(bed: TestBed, kinds: Collection[EventType] = OWN_EVENTS) -> list[EventType]:
    with bed.database.read() as connection:
        events = jobs.events_about(connection, study_instance_uid=STUDY, accession_number="")
    return [event.type for event in events if event.type in kinds]


def one_image_only(bed: TestBed) -> None:
    """The rule asks for two."""
    assert isinstance(bed.receive(ct(1)), Accepted)
    complete(bed)


def begun(bed: TestBed) -> str:
    for number in (1, 2):
        assert isinstance(bed.receive(ct(number)), Accepted)
    complete(bed)
    uid = workitem(bed).uid
    changed = bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(changed, Accepted)
    return uid


def canceled(bed: TestBed, uid: str) -> None:
    worklist = bed.service.worklist
    details = progress(ProcedureStepDiscontinuationReasonCodeSequence=EQUIPMENT_FAILURE.to_json())
    assert isinstance(worklist.update_workitem(uid, details, transaction_uid=LOCK, actor=PERFORMER), Accepted)
    assert isinstance(worklist.change_state(uid, "CANCELED", transaction_uid=LOCK, actor=PERFORMER), Accepted)


def claimed(bed: TestBed, destination: str = "pacs") -> Job | None:
    return bed.service.deliveries.claim(destination, worker="here", lease=LEASE)


def state_of(bed: TestBed, key: str) -> JobState:
    with bed.database.read() as connection:
        uid = key.split(":")[1]
        (found,) = (job for job in jobs.jobs_of_workitem(connection, uid) if job.key == key)
    return found.state


def test_a_study_that_no_rule_wants(told_bed: TestBed) -> None:
    one_image_only(told_bed)
    assert own(told_bed) == [EventType.STUDY_NOT_RUN]


def test_a_study_that_a_rule_wants_is_none_that_is_not_run(told_bed: TestBed) -> None:
    run_to_completed(told_bed)
    assert own(told_bed) == [EventType.WORKITEM_SCHEDULED]


def test_a_workitem_that_is_canceled_before_anybody_began_it(told_bed: TestBed) -> None:
    for number in (1, 2):
        assert isinstance(told_bed.receive(ct(number)), Accepted)
    complete(told_bed)
    asked = told_bed.service.worklist.request_cancel(workitem(told_bed).uid, {}, actor=PERFORMER)
    assert isinstance(asked, Accepted)
    assert own(told_bed) == [EventType.WORKITEM_SCHEDULED, EventType.WORKITEM_CANCELED]
    assert claimed(told_bed) is None


@pytest.mark.parametrize(
    "failure", [FinalDeliveryError("refused"), RetryableDeliveryError("busy")], ids=["refused", "busy"]
)
def test_a_delivery_that_is_left_to_a_person(told_bed: TestBed, failure: Exception) -> None:
    uid = run_to_completed(told_bed)
    job = claimed(told_bed)
    assert job is not None
    assert told_bed.service.deliveries.perform(job, "pacs", Destination(failures=[failure]))
    given_up = isinstance(failure, FinalDeliveryError)
    with told_bed.database.read() as connection:
        events = jobs.events_about(connection, study_instance_uid=STUDY, accession_number="")
    told = [event for event in events if event.type is EventType.DELIVERY_GIVEN_UP]
    assert [(event.destination, event.workitem_uid, event.outcome) for event in told] == (
        [("pacs", uid, Outcome.SERIOUS_FAILURE)] if given_up else []
    )


def test_nobody_wants_to_be_told(quiet_bed: TestBed) -> None:
    uid = begun(quiet_bed)
    canceled(quiet_bed, uid)
    assert own(quiet_bed) == []
    assert claimed(quiet_bed) is None


def test_a_failed_run_is_told_to_those_that_want_it(told_bed: TestBed) -> None:
    uid = begun(told_bed)
    canceled(told_bed, uid)
    assert claimed(told_bed, "emr") is None
    job = claimed(told_bed)
    assert job is not None
    assert job.key == f"fail:{uid}:pacs"
    teller = FailureTeller()
    assert told_bed.service.deliveries.perform(job, "pacs", teller)
    assert (teller.failed, teller.got) == ([uid], [])
    assert state_of(told_bed, job.key) is JobState.DONE
    assert EventType.EXPORTED not in own(told_bed, list(EventType))


def test_a_destination_that_cannot_be_told_of_it(told_bed: TestBed) -> None:
    canceled(told_bed, begun(told_bed))
    job = claimed(told_bed)
    assert job is not None
    assert told_bed.service.deliveries.perform(job, "pacs", Destination())
    assert state_of(told_bed, job.key) is JobState.HELD


def test_a_shipment_tells_what_it_takes_the_place_of(told_bed: TestBed) -> None:
    uid = run_to_completed(told_bed)
    job = claimed(told_bed)
    assert job is not None
    plain = told_bed.service.deliveries.shipment(job, "pacs")
    assert (plain.supersedes, plain.is_superseded) == ((), False)
    with told_bed.database.write() as connection:
        for earlier, later in (("2.25.1", uid), (uid, "2.25.9"), ("2.25.2", "2.25.9")):
            superseding.supersede(connection, STUDY, earlier, by=later, why="late images", now=START)
    marked = told_bed.service.deliveries.shipment(job, "pacs")
    assert (marked.supersedes, marked.is_superseded) == (("2.25.1",), True)
