# SPDX-License-Identifier: Apache-2.0
"""What a store may index, and that it never hides a match."""

from __future__ import annotations

import pytest

from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.matching import matches
from task_manager.workitem.columns import SEVERAL, search_columns, search_order, searched_columns
from tests.contract.workitems import NOW, code, minimal, request

WORKITEM = minimal(
    PatientID=" P1 ",
    StudyInstanceUID="1.2.3",
    ScheduledProcedureStepPriority="HIGH",
    ScheduledProcedureStepStartDateTime="20260301120000+0100",
    ScheduledWorkitemCodeSequence=code(),
    ScheduledStationNameCodeSequence=(code("PERF1", "L", "1"), code("PERF2", "L", "2")),
    ReferencedRequestSequence=request(),
)


def test_the_columns_of_a_workitem() -> None:
    assert search_columns(WORKITEM) == {
        "priority_rank": 0,
        "scheduled_start": "2026-03-01T11:00:00.000000Z",
        "readiness": "READY",
        "label": "Lung analysis",
        "worklist_label": "AI",
        "patient_id": "P1",
        "study_instance_uid": "1.2.3",
        "code_value": "AW1001",
        "code_scheme": "99AIRWAY",
        "station_name": SEVERAL,
        "accession_number": "A1",
    }


def test_an_empty_workitem_has_all_columns() -> None:
    assert set(search_columns({})) == set(search_columns(WORKITEM))


@pytest.mark.parametrize(
    ("keys", "narrowed"),
    [
        ({}, {}),
        (element("ProcedureStepState", "SCHEDULED"), {"state": ("SCHEDULED",)}),
        (element("ScheduledProcedureStepPriority", "LOW"), {"priority_rank": (2,)}),
        (element("ScheduledProcedureStepPriority", "STAT"), {}),
        (element("PatientID", " P1"), {"patient_id": ("P1",)}),
        (element("PatientID", "P*"), {}),
        (element("PatientID"), {}),
        (element("StudyInstanceUID", "1.2.3"), {"study_instance_uid": ("1.2.3",)}),
        (element("StudyInstanceUID", "1.2.3", "1.2.4"), {}),
        (element("StudyInstanceUID", "1.2.3\\1.2.4"), {}),
        (
            element("ScheduledStationNameCodeSequence", element("CodeValue", "PERF2")),
            {"station_name": ("PERF2", SEVERAL)},
        ),
        (element("ReferencedRequestSequence", element("AccessionNumber", "A?")), {}),
        (element("PatientName", "Doe"), {}),
    ],
)
def test_what_keys_narrow(keys: DicomJson, narrowed: dict[str, tuple[str | int, ...]]) -> None:
    assert searched_columns(keys) == narrowed


@pytest.mark.parametrize(
    "keys",
    [
        element("ScheduledStationNameCodeSequence", element("CodeValue", "PERF2")),
        element("ReferencedRequestSequence", element("AccessionNumber", "A1")),
        element(
            "ScheduledWorkitemCodeSequence",
            merged([element("CodeValue", "AW1001"), element("CodingSchemeDesignator", "99AIRWAY")]),
        ),
        merged([element("PatientID", "P1"), element("InputReadinessState", "READY")]),
    ],
)
def test_columns_never_exclude_what_matches(keys: DicomJson) -> None:
    columns = search_columns(WORKITEM)
    assert matches(keys, WORKITEM)
    assert all(columns[name] in wanted for name, wanted in searched_columns(keys).items())


def test_order() -> None:
    late = minimal(ScheduledProcedureStepStartDateTime="2027")
    order = [
        search_order(WORKITEM, NOW, "b"),
        search_order(minimal(), NOW, "b"),
        search_order(late, NOW, "a"),
        search_order(late, NOW, "b"),
        search_order(minimal(ScheduledProcedureStepPriority="LOW"), NOW, "a"),
    ]
    assert order == sorted(order)
