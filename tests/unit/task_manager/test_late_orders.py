# SPDX-License-Identifier: Apache-2.0
"""Orders that come late, change, are canceled or repeat a control id; two patients as one study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from informatics_gateway.story_words import story_text
from profiles import dicom_json
from profiles.order import OrderControl, Priority
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from tests.instances import STUDY, ct
from tests.service import PERFORMER, TestBed
from tests.unit.task_manager.steps import KEY, LOCK, ORDER, RIS, complete, order, workitem


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)


def told(bed: TestBed) -> str:
    story = bed.service.story(STUDY)
    assert story is not None
    return story_text(story)


def accession_of(bed: TestBed) -> str:
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    requests = dicom_json.items(found, "ReferencedRequestSequence")
    return dicom_json.text(requests[0], "PlacerOrderNumberImagingServiceRequest") if requests else ""


def states(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.state for one in story.workitems]


def test_an_order_that_comes_after_the_study_reaches_work_that_waits(bed: TestBed) -> None:
    two_images(bed)
    assert accession_of(bed) == ""
    order(bed)
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["CANCELED", "SCHEDULED"]
    assert accession_of(bed) == "PL1"


def test_a_changed_order_replaces_work_that_waits(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    order(bed, replace(ORDER, control=OrderControl.CHANGE, priority=Priority.LOW), "M2")
    assert bed.service.scheduler.complete_due_studies() == 1
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    assert states(bed) == ["CANCELED", "SCHEDULED"]
    assert dicom_json.text(found, "ScheduledProcedureStepPriority") == "LOW"


def test_work_that_has_begun_keeps_its_order(bed: TestBed) -> None:
    two_images(bed)
    bed.service.worklist.change_state(workitem(bed).uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    order(bed)
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["IN PROGRESS"]


def test_an_order_of_another_study_disturbs_nothing(bed: TestBed) -> None:
    two_images(bed)
    order(bed, replace(ORDER, study_instance_uid="1.2.3", accession_number="A9"))
    assert bed.service.scheduler.complete_due_studies() == 0
    assert states(bed) == ["SCHEDULED"]


def test_a_revoked_order_causes_no_work(bed: TestBed) -> None:
    order(bed)
    order(bed, replace(ORDER, control=OrderControl.CANCEL), "M2")
    two_images(bed)
    assert states(bed) == []
    assert "the order is revoked" in told(bed)


def test_images_of_two_patients_under_one_study_are_told_and_not_analysed(bed: TestBed) -> None:
    bed.receive(ct(1))
    bed.receive(ct(2))
    bed.receive(
        ct(3, PatientID="P2", SeriesInstanceUID=f"{STUDY}.77", SOPInstanceUID=f"{STUDY}.77.1"),
    )
    complete(bed)
    assert states(bed) == []
    assert "images of 2 patients" in told(bed)


@pytest.mark.parametrize(
    ("again", "outcome"),
    [
        (b"MSH|^~\\&|RIS|H|A|B|20260302||ORM^O01|M1\rPID|1", "duplicate"),
        (b"MSH|^~\\&|RIS|H|A|B|20260301||ORM^O01|M1\r\nPID|1\r\n", "duplicate"),
        (b"MSH|^~\\&|RIS|H|A|B|20260301||ORM^O01|M1\rPID|2", "refused"),
    ],
    ids=["another time of sending", "other line ends", "another message"],
)
def test_a_used_control_id(bed: TestBed, again: bytes, outcome: str) -> None:
    first = b"MSH|^~\\&|RIS|H|A|B|20260301||ORM^O01|M1\rPID|1"
    bed.service.intake.receive_order([ORDER], key=KEY, raw=first, actor=RIS)
    answer = bed.service.intake.receive_order([ORDER], key=KEY, raw=again, actor=RIS)
    if outcome == "duplicate":
        assert answer == Accepted(uid="M1", warnings=(WarningCode.DUPLICATE,))
    else:
        assert isinstance(answer, Refused)
        assert answer.code is RefusalCode.DUPLICATE_INSTANCE
        assert answer.faults[0].path == "MSH-10"
