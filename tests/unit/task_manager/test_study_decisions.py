# SPDX-License-Identifier: Apache-2.0
"""What a person decides about a study counts before all evidence, and is kept with who it was."""

from __future__ import annotations

import pytest

from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store.evidence import StudyDecision
from task_manager.study.model import Evidence, StudyState
from task_manager.study_decisions import StudyAction
from tests.instances import STUDY, ct
from tests.service import START, TestBed
from tests.unit.task_manager.test_completion import look

ANNA = Actor(door="person", name="anna", address="10.0.0.5")
FORCE, HOLD = StudyAction.FORCE, StudyAction.HOLD
RELEASE, DISCARD = StudyAction.RELEASE, StudyAction.DISCARD


def decide(bed: TestBed, action: StudyAction) -> Accepted | Refused:
    return bed.service.studies.decide(STUDY, action, actor=ANNA, reason="because")


def received(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))


def test_a_forced_study_is_complete_at_once(bed: TestBed) -> None:
    received(bed)
    decide(bed, FORCE)
    bed.receive(ct(3))

    story = look(bed)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.PERSON)
    assert story.completeness.reason == "anna said so"
    assert story.completeness.decisions == (
        StudyDecision(action="force", actor=ANNA, reason="because", decided_at=START),
    )


def test_images_after_a_forced_completion_are_waited_for_as_ever(bed: TestBed) -> None:
    received(bed)
    decide(bed, FORCE)
    look(bed)
    bed.receive(ct(3))

    assert look(bed, 29).study.state is StudyState.RECEIVING
    assert look(bed, 1).study.evidence is Evidence.QUIET_PERIOD


def test_a_held_study_waits_until_it_is_released(bed: TestBed) -> None:
    received(bed)
    decide(bed, HOLD)
    bed.receive(ct(3))
    held = look(bed, 86_400)
    assert (held.study.state, held.workitems) == (StudyState.HELD, ())

    decide(bed, RELEASE)
    story = look(bed)

    assert (story.study.state, len(story.workitems)) == (StudyState.COMPLETE, 1)
    assert [one.action for one in story.completeness.decisions] == ["hold", "release"]


def test_a_complete_study_that_is_held_runs_nothing_on_late_images(bed: TestBed) -> None:
    received(bed)
    look(bed, 31)
    decide(bed, HOLD)
    bed.receive(ct(3))
    assert look(bed, 3600).study.revision == 1

    decide(bed, RELEASE)

    assert look(bed).study.revision == 2


def test_a_discarded_study_loses_its_work_and_keeps_its_images(bed: TestBed) -> None:
    received(bed)
    look(bed, 31)
    decide(bed, DISCARD)
    bed.receive(ct(3))

    story = look(bed, 3600)

    assert (story.study.state, story.study.revision) == (StudyState.DISCARDED, 1)
    assert [(one.state, one.reason) for one in story.workitems] == [("CANCELED", "the study was discarded")]
    assert story.study.series[0].number_of_instances == 3


def test_a_discarded_study_can_be_taken_up_again(bed: TestBed) -> None:
    received(bed)
    decide(bed, DISCARD)
    decide(bed, RELEASE)

    assert len(look(bed, 31).workitems) == 1


@pytest.mark.parametrize(
    ("before", "action", "state"),
    [
        pytest.param(None, RELEASE, "RECEIVING", id="release-what-is-not-held"),
        pytest.param(DISCARD, FORCE, "DISCARDED", id="force-what-is-discarded"),
        pytest.param(DISCARD, HOLD, "DISCARDED", id="hold-what-is-discarded"),
    ],
)
def test_what_cannot_be_decided(
    bed: TestBed, before: StudyAction | None, action: StudyAction, state: str
) -> None:
    received(bed)
    if before is not None:
        decide(bed, before)

    refused = decide(bed, action)

    fault = Fault("StudyInstanceUID", f"is of a study that is {state}")
    assert refused == Refused(RefusalCode.MAY_NOT_BE_UPDATED, (fault,))


def test_an_unknown_study_is_refused(bed: TestBed) -> None:
    refused = decide(bed, FORCE)

    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.NO_SUCH_INSTANCE


@pytest.mark.parametrize("action", [HOLD, DISCARD])
def test_deciding_the_same_twice_changes_nothing(bed: TestBed, action: StudyAction) -> None:
    received(bed)
    decide(bed, action)

    again = decide(bed, action)

    assert isinstance(again, Accepted)
    assert again.warnings == (WarningCode.DUPLICATE,)
    assert len(look(bed).completeness.decisions) == 1


def test_the_list_shows_what_is_open_and_what_it_waits_for(bed: TestBed) -> None:
    received(bed)
    bed.receive(ct(1, study=f"{STUDY}.9"))
    decide(bed, HOLD)

    listed = bed.service.studies.listed()

    assert {(one.study.study_instance_uid, one.study.state) for one in listed} == {
        (f"{STUDY}.9", StudyState.RECEIVING),
        (STUDY, StudyState.HELD),
    }
