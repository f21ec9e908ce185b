# SPDX-License-Identifier: Apache-2.0
"""Assembly: what moves a deadline, what reopens a study, what is no sign of acquisition."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from profiles.dicom_json import element, merged
from task_manager.study.assembly import (
    after_instance,
    counts_for_assembly,
    is_due,
    study_attributes,
)
from task_manager.study.model import Evidence, InstanceHeader, Study, StudyState
from task_manager.study.sources import Pause

T0 = datetime(2024, 1, 1, 12, tzinfo=UTC)
QUIET = timedelta(seconds=30)
PAUSE = Pause(QUIET, timedelta(hours=2))
CT = "1.2.840.10008.5.1.4.1.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def header(sop_class_uid: str = CT, description: str = "first") -> InstanceHeader:
    return InstanceHeader(
        sop_instance_uid="1.2.3.4.5",
        sop_class_uid=sop_class_uid,
        series_instance_uid="1.2.3.4",
        study_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        attributes=merged(
            [
                element("StudyDescription", description),
                element("PatientID", "P1"),
                element("PatientAge", "045Y"),
                element("Modality", "CT"),
            ]
        ),
    )


def arrived(study: Study | None, sop_class_uid: str = CT, at: timedelta = timedelta(0)) -> Study | None:
    return after_instance(study, header(sop_class_uid, "later"), now=T0 + at, pause=PAUSE)


def fresh() -> Study:
    study = after_instance(None, header(), now=T0, pause=PAUSE)
    assert study is not None
    return study


def complete() -> Study:
    return replace(
        fresh(),
        state=StudyState.COMPLETE,
        revision=1,
        deadline_at=None,
        completed_at=T0 + QUIET,
        evidence=Evidence.QUIET_PERIOD,
    )


@pytest.mark.parametrize(
    ("sop_class_uid", "counts"),
    [
        (CT, True),
        ("1.2.840.10008.5.1.4.1.1.4", True),  # MR
        ("1.2.840.10008.5.1.4.1.1.7", True),  # Secondary Capture
        ("1.2.840.10008.5.1.4.1.1.481.1", True),  # RT Image
        ("1.2.840.10008.5.1.4.1.1.66", True),  # Raw Data
        ("1.2.840.10008.5.1.4.1.1.128", True),  # PET
        ("1.3.12.2.1107.5.9.1", True),  # private
        (SEG, False),
        ("1.2.840.10008.5.1.4.1.1.66.7", False),  # Label Map Segmentation
        ("1.2.840.10008.5.1.4.1.1.88.34", False),  # Comprehensive 3D SR
        ("1.2.840.10008.5.1.4.1.1.88.59", False),  # Key Object Selection
        ("1.2.840.10008.5.1.4.1.1.11.1", False),  # Grayscale Softcopy Presentation State
        ("1.2.840.10008.5.1.4.1.1.481.3", False),  # RT Structure Set
        ("1.2.840.10008.5.1.4.1.1.30", False),  # Parametric Map
        ("1.2.840.10008.5.1.4.1.1.104.1", False),  # Encapsulated PDF
        ("1.2.840.10008.5.1.4.1.1.90.1", False),  # Content Assessment Results
    ],
)
def test_what_counts(sop_class_uid: str, counts: bool) -> None:
    assert counts_for_assembly(sop_class_uid) is counts


def test_first_instance_opens_the_study() -> None:
    study = fresh()
    assert (study.state, study.revision, study.deadline_at) == (StudyState.RECEIVING, 0, T0 + QUIET)
    assert study.receiving_since == T0
    assert set(study.attributes) == {"00081030", "00100020", "00101010"}


def test_next_instance_moves_the_deadline_only() -> None:
    moved = arrived(fresh(), at=timedelta(seconds=10))
    assert moved == replace(
        fresh(), deadline_at=T0 + timedelta(seconds=40), last_received_at=T0 + timedelta(seconds=10)
    )


def test_a_clock_set_back_moves_no_deadline_back() -> None:
    moved = arrived(fresh(), at=timedelta(hours=-1))
    assert moved is not None
    assert (moved.deadline_at, moved.last_received_at) == (T0 + QUIET, T0)


def test_late_image_reopens_and_keeps_the_revision() -> None:
    late = arrived(complete(), at=timedelta(minutes=5))
    assert late is not None
    assert (late.state, late.revision, late.completed_at, late.evidence) == (
        StudyState.RECEIVING,
        1,
        None,
        None,
    )
    assert late.deadline_at == T0 + timedelta(minutes=5) + QUIET


@pytest.mark.parametrize("study", [fresh(), complete()], ids=["receiving", "complete"])
def test_a_result_changes_nothing(study: Study) -> None:
    assert arrived(study, SEG, timedelta(minutes=5)) is None


def test_a_result_of_an_unknown_study_waits_for_images() -> None:
    study = arrived(None, SEG)
    assert study is not None
    assert study.deadline_at is None
    assert not is_due(study, T0 + timedelta(days=1))
    with_image = after_instance(study, header(description="of the image"), now=T0, pause=PAUSE)
    assert with_image is not None
    assert with_image.deadline_at == T0 + QUIET
    assert with_image.attributes == study_attributes(header(description="of the image").attributes)


@pytest.mark.parametrize(
    ("study", "after", "due"),
    [
        pytest.param(fresh(), 29.9, False, id="before-the-deadline"),
        pytest.param(fresh(), 30, True, id="at-the-deadline"),
        pytest.param(fresh(), 3600, True, id="long-after"),
        pytest.param(complete(), 3600, False, id="complete"),
    ],
)
def test_when_to_look(study: Study, after: float, due: bool) -> None:
    assert is_due(study, T0 + timedelta(seconds=after)) is due


def test_a_study_that_never_goes_quiet_is_looked_at_when_its_bound_is_reached() -> None:
    study = fresh()
    for seconds in range(20, 7200, 20):
        after = arrived(study, at=timedelta(seconds=seconds))
        assert after is not None
        study = after

    assert study.deadline_at == T0 + timedelta(hours=2)


@pytest.mark.parametrize("state", [StudyState.HELD, StudyState.DISCARDED])
def test_a_study_that_a_person_stopped_keeps_what_comes_and_is_not_looked_at(state: StudyState) -> None:
    stopped = replace(complete(), state=state)

    late = arrived(stopped, at=timedelta(minutes=5))

    assert late is not None
    assert (late.state, late.deadline_at, late.completed_at) == (state, None, None)
    assert late.last_received_at == T0 + timedelta(minutes=5)


def test_an_image_does_not_put_off_what_a_person_wants_now() -> None:
    forced = replace(fresh(), deadline_at=T0, evidence=Evidence.PERSON)

    late = arrived(forced, at=timedelta(seconds=5))

    assert late is not None
    assert (late.state, late.deadline_at, late.evidence) == (StudyState.RECEIVING, T0, Evidence.PERSON)
