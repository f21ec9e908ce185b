# SPDX-License-Identifier: Apache-2.0
"""What persons do about jobs, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from profiles.sole.events import EventType, Outcome
from task_manager.errors import FinalDeliveryError
from task_manager.outbox import JobKind, JobState
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import jobs, retention
from tests.instances import STUDY
from tests.service import TestBed
from tests.unit.task_manager.destinations import PERSON, Destination
from tests.unit.task_manager.steps import run_to_completed, workitem

LEASE = timedelta(minutes=1)


def held(bed: TestBed, destination: str = "pacs") -> str:
    """The key of a delivery that was refused."""
    run_to_completed(bed)
    job = bed.service.deliveries.claim(destination, worker="w", lease=LEASE)
    assert job is not None
    assert bed.service.deliveries.perform(job, destination, Destination([FinalDeliveryError("C000")]))
    return job.key


def test_a_dead_letter_is_listed_and_tried_again(bed: TestBed) -> None:
    key = held(bed)
    letters = bed.service.dead_letters
    assert [job.key for job in letters.page().jobs] == [key]
    assert [job.key for job in letters.page(lane="pacs").jobs] == [key]
    assert [job.key for job in letters.page(lane="deliver/pacs").jobs] == [key]
    assert letters.page(lane="emr").jobs == ()
    assert letters.retry(key, actor=PERSON) == Accepted(uid=key)
    assert letters.page().jobs == ()
    job = bed.service.deliveries.claim("pacs", worker="w", lease=LEASE)
    assert job is not None
    assert job.attempts == 0
    refused = letters.retry(key, actor=PERSON)
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.MAY_NOT_BE_UPDATED


def test_a_dropped_one_is_ended_told_and_explained(bed: TestBed) -> None:
    key = held(bed)
    letters = bed.service.dead_letters
    assert letters.drop(key, reason="the archive was replaced", actor=PERSON) == Accepted(uid=key)
    story = bed.service.story(STUDY)
    assert story is not None
    [job] = [job for job in story.workitems[-1].deliveries if job.key == key]
    assert (job.state, job.summary) == (JobState.DROPPED, "dropped by ann")
    [decision] = story.workitems[-1].fates[key].decisions
    assert (decision.decision, decision.decided_by, decision.reason) == (
        "drop",
        "ann",
        "the archive was replaced",
    )
    last = story.events[-1]
    assert (last.type, last.outcome, last.destination) == (
        EventType.EXPORTED,
        Outcome.SERIOUS_FAILURE,
        "pacs",
    )
    assert "archive" not in last.outcome_description
    assert [one.key for one in letters.page(states=(JobState.DROPPED,)).jobs] == [key]
    assert isinstance(letters.drop(key, reason="again", actor=PERSON), Refused)


def test_what_waits_may_be_dropped_too(bed: TestBed) -> None:
    run_to_completed(bed)
    key = workitem(bed).deliveries[0].key
    assert isinstance(bed.service.dead_letters.drop(key, reason="gone", actor=PERSON), Accepted)
    assert bed.service.deliveries.claim("pacs", worker="w", lease=LEASE) is None


def test_what_cannot_be_dropped(bed: TestBed) -> None:
    letters = bed.service.dead_letters
    unknown = letters.drop("no such job", reason="x", actor=PERSON)
    assert isinstance(unknown, Refused)
    assert unknown.code is RefusalCode.NO_SUCH_INSTANCE
    with bed.database.write() as connection:
        jobs.plan_job(connection, key="push:1", lane="push/P", kind=JobKind.PUSH, now=bed.clock())
    push = letters.drop("push:1", reason="x", actor=PERSON)
    assert isinstance(push, Refused)
    assert push.code is RefusalCode.MAY_NOT_BE_UPDATED
    key = held(bed)
    blank = letters.drop(key, reason="  ", actor=PERSON)
    assert isinstance(blank, Refused)
    assert [fault.path for fault in blank.faults] == ["reason"]


def test_pages(bed: TestBed) -> None:
    with bed.database.write() as connection:
        for number in range(5):
            key = f"job {number}"
            jobs.plan_job(connection, key=key, lane="deliver/pacs", kind=JobKind.DELIVER, now=bed.clock())
    waiting = (JobState.WAITING,)
    first = bed.service.dead_letters.page(states=waiting, limit=3)
    assert ([job.key for job in first.jobs], first.more) == (["job 0", "job 1", "job 2"], True)
    rest = bed.service.dead_letters.page(states=waiting, limit=3, after_id=first.jobs[-1].id)
    assert ([job.key for job in rest.jobs], rest.more) == (["job 3", "job 4"], False)


def test_decisions_go_with_their_job(bed: TestBed) -> None:
    key = held(bed)
    bed.service.dead_letters.drop(key, reason="gone", actor=PERSON)
    bed.clock.pass_(3600)
    with bed.database.write() as connection:
        ids, _ = retention.old_jobs(connection, bed.clock(), after_id=0, limit=100)
        assert retention.purge_jobs(connection, ids) == 1
    assert bed.service.dead_letters.page(states=(JobState.DROPPED,)).jobs == ()
    assert key not in workitem(bed).fates
