# SPDX-License-Identifier: Apache-2.0
"""What a modality may tell of a performed procedure step (PS3.4 table F.7.2-1)."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from profiles.dicom_json import DicomJson, element, tag_key
from task_manager.outcome import RefusalCode, Refused
from task_manager.study.performed import (
    PerformedStep,
    StepStatus,
    changed_step,
    created_step,
    step_evidence,
    step_request,
)
from tests.performed_steps import completed, in_progress, series
from tests.service import START


def json_of(data_set: Dataset) -> DicomJson:
    found: DicomJson = data_set.to_json_dict()
    return found


def begun() -> PerformedStep:
    step = created_step("1.2.3.7", json_of(in_progress()), source="CT1")
    assert isinstance(step, PerformedStep)
    return step


def faults(outcome: PerformedStep | Refused) -> tuple[RefusalCode | None, list[str]]:
    if isinstance(outcome, PerformedStep):
        return None, []
    return outcome.code, [fault.path for fault in outcome.faults]


def test_a_step_begins() -> None:
    step = begun()
    assert (step.status, step.study_instance_uid) == (StepStatus.IN_PROGRESS, "1.2.3")


def without(keyword: str) -> DicomJson:
    told = json_of(in_progress())
    del told[tag_key(keyword)]
    return told


@pytest.mark.parametrize(
    "keyword",
    [
        *("ScheduledStepAttributesSequence", "PerformedProcedureStepID", "PerformedStationAETitle"),
        *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality"),
        "PerformedProcedureStepStatus",
    ],
)
def test_type_1_attributes_are_needed_at_create(keyword: str) -> None:
    code, paths = faults(created_step("1.2", without(keyword), source="CT1"))
    assert (code, paths) == (RefusalCode.MISSING_ATTRIBUTE, [keyword])


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyID", "PerformedSeriesSequence"])
def test_type_2_attributes_may_be_left_out(keyword: str) -> None:
    assert faults(created_step("1.2", without(keyword), source="CT1")) == (None, [])


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"Modality": ""}, RefusalCode.MISSING_VALUE, "Modality"),
        (
            {"PerformedProcedureStepStatus": "COMPLETED"},
            RefusalCode.INVALID_ATTRIBUTES,
            "PerformedProcedureStepStatus",
        ),
        (
            {"ScheduledStepAttributesSequence": []},
            RefusalCode.MISSING_VALUE,
            "ScheduledStepAttributesSequence",
        ),
        (
            {"PerformedSeriesSequence": [Dataset()]},
            RefusalCode.MISSING_ATTRIBUTE,
            "PerformedSeriesSequence[0].SeriesInstanceUID",
        ),
    ],
    ids=["empty", "begins at its end", "no scheduled step", "series without UID"],
)
def test_faults_of_a_create(changes: dict[str, Any], code: RefusalCode, path: str) -> None:
    data_set = in_progress()
    for keyword, value in changes.items():
        setattr(data_set, keyword, value)
    assert faults(created_step("1.2", json_of(data_set), source="CT1")) == (code, [path])


def test_all_faults_are_told_at_once() -> None:
    _, paths = faults(created_step("1.2", {}, source="CT1"))
    assert len(paths) == 7


def test_a_step_is_completed_and_says_what_it_made() -> None:
    step = changed_step(begun(), json_of(completed()), source="CT1")
    assert isinstance(step, PerformedStep)
    assert step.status is StepStatus.COMPLETED
    told = step_evidence(step, START)
    assert told.ended
    assert told.series == {"1.2.3.1": frozenset({"1.2.3.1.1", "1.2.3.1.2"})}
    assert not step_evidence(begun(), START).ended


def test_the_same_again_is_no_change() -> None:
    step = changed_step(begun(), json_of(completed()), source="CT1")
    assert isinstance(step, PerformedStep)
    assert changed_step(step, json_of(completed()), source="CT1") is step


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_step_that_is_over_may_not_be_updated(status: str) -> None:
    step = changed_step(begun(), json_of(completed(status)), source="CT1")
    assert isinstance(step, PerformedStep)
    again = changed_step(step, element("PerformedProcedureStepDescription", "other"), source="CT1")
    assert faults(again)[0] is RefusalCode.MAY_NOT_BE_UPDATED


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        (element("PatientID", "P2"), "PatientID"),
        (element("PerformedProcedureStepID", "X"), "PerformedProcedureStepID"),
        (element("PerformedProcedureStepStatus", "DONE"), "PerformedProcedureStepStatus"),
    ],
    ids=["patient", "id", "status"],
)
def test_what_an_update_may_not_change(changes: DicomJson, path: str) -> None:
    code, paths = faults(changed_step(begun(), changes, source="CT1"))
    assert (code, paths) == (RefusalCode.INVALID_ATTRIBUTES, [path])


@pytest.mark.parametrize(
    "keyword", ["PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence"]
)
def test_what_a_completed_step_needs(keyword: str) -> None:
    told = completed()
    delattr(told, keyword)
    code, paths = faults(changed_step(begun(), json_of(told), source="CT1"))
    assert paths == [keyword]
    assert code in (RefusalCode.MISSING_ATTRIBUTE, RefusalCode.MISSING_VALUE)


def test_a_discontinued_step_may_have_made_nothing() -> None:
    told = completed("DISCONTINUED")
    told.PerformedSeriesSequence = []
    assert faults(changed_step(begun(), json_of(told), source="CT1")) == (None, [])


def test_series_of_a_step_that_is_over_need_a_protocol_and_whole_references() -> None:
    one = series()
    del one.ProtocolName
    del one.ReferencedImageSequence[0].ReferencedSOPClassUID
    told = completed()
    told.PerformedSeriesSequence = [one]
    _, paths = faults(changed_step(begun(), json_of(told), source="CT1"))
    assert paths == [
        "PerformedSeriesSequence[0].ProtocolName",
        "PerformedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPClassUID",
    ]


def test_what_a_completed_step_asks_for() -> None:
    step = changed_step(begun(), json_of(completed()), source="CT1")
    assert isinstance(step, PerformedStep)
    asked = step_request(step).asked
    assert (asked.study_instance_uid, asked.accession_number, asked.patient_id) == ("1.2.3", "A1", "P1")
    assert asked.requested_procedure_description == "CT chest"
    assert asked.protocol_code is not None
    assert asked.protocol_code.value == "CHEST"
    assert asked.modality == "CT"
