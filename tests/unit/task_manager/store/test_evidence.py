# SPDX-License-Identifier: Apache-2.0
"""Evidence, looks and marks as they are kept, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from task_manager.store.evidence import (
    Awaited,
    Look,
    evidence_of,
    look_of,
    looks_of,
    note_evidence,
    put_looks,
)
from task_manager.store.questions import asked_study, plan_question, question_key
from task_manager.store.superseding import Superseded, reinstate, supersede, superseded, superseded_of
from task_manager.study.evidence import StudyEvidence, after_telling
from task_manager.study.model import Evidence
from tests.instances import STUDY, ct
from tests.service import START, TestBed

TOLD = StudyEvidence(
    kind=Evidence.MPPS,
    study_instance_uid=STUDY,
    source="1.2.3",
    told_at=START,
    series={"1.1": frozenset({"1.1.1", "1.1.2"}), "1.2": frozenset()},
    expected_series=2,
    expected_instances=2,
    ended=False,
)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((TOLD,), id="once"),
        pytest.param((TOLD, replace(TOLD, told_at=START + timedelta(seconds=5))), id="twice"),
        pytest.param((TOLD, replace(TOLD, ended=True, series={"1.1": frozenset({"1.1.1"})})), id="changed"),
        pytest.param(
            tuple(
                replace(TOLD, kind=Evidence.IAN, ended=True, series={"1.1": frozenset({uid})})
                for uid in ("1.1.1", "1.1.2")
            ),
            id="notifications",
        ),
    ],
)
def test_what_is_kept_is_what_was_told(bed: TestBed, words: tuple[StudyEvidence, ...]) -> None:
    expected = None
    for told in words:
        expected = after_telling(expected, told)
        bed.service.note_evidence(told, told.told_at)

    with bed.database.read() as connection:
        assert evidence_of(connection, STUDY) == (expected,)
        assert evidence_of(connection, f"{STUDY}.9") == ()


def test_evidence_makes_a_study_due_that_has_images_and_none_other(bed: TestBed) -> None:
    with bed.database.write() as connection:
        assert not note_evidence(connection, TOLD, bed.clock())
    bed.receive(ct(1))

    assert bed.service.note_evidence(TOLD)
    assert bed.service.scheduler.next_deadline() == bed.clock()


def test_the_last_look_is_kept(bed: TestBed) -> None:
    first = Look(waiting=(Awaited(rule="", what="more", until=START),), looked_at=START)
    last = Look(reason="all is here", ready=("a", "b"), instances=7, looked_at=START + timedelta(seconds=1))
    with bed.database.write() as connection:
        put_looks(connection, {STUDY: first, f"{STUDY}.9": first})
        put_looks(connection, {STUDY: last})
        put_looks(connection, {})

    with bed.database.read() as connection:
        assert look_of(connection, STUDY) == last
        assert looks_of(connection, [STUDY, f"{STUDY}.9", "1.2"]) == {STUDY: last, f"{STUDY}.9": first}
        assert look_of(connection, "1.2") is None


def test_a_mark_is_replaced_and_taken_off(bed: TestBed) -> None:
    with bed.database.write() as connection:
        supersede(connection, STUDY, "1.5", by="", why="gone", now=START)
        supersede(connection, STUDY, "1.5", by="1.6", why="newer", now=START)
        assert superseded_of(connection, STUDY) == {"1.5": Superseded(by="1.6", why="newer", at=START)}
        reinstate(connection, "1.5")
        assert superseded(connection, "1.5") is None


def test_a_question_that_was_answered_is_asked_again_in_its_own_row(bed: TestBed) -> None:
    lane = "ask/PACS"
    with bed.database.write() as connection:
        plan_question(connection, "PACS", STUDY, due=START)
        plan_question(connection, "PACS", STUDY, due=START + timedelta(hours=1))
    job = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert job is not None
    assert (job.key, asked_study(job.key)) == (question_key("PACS", STUDY), STUDY)
    bed.service.pushed(job)

    with bed.database.write() as connection:
        plan_question(connection, "PACS", STUDY, due=START)

    again = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert again is not None
    assert again.id == job.id
