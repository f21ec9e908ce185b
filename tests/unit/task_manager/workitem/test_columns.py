# SPDX-License-Identifier: Apache-2.0
"""What a store may index, and that it never hides a match."""

from __future__ import annotations

import pytest

from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.matching import matches
from task_manager.workitem.columns import SEVERAL, narrowing, search_columns, search_order
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
        "station_class": "",
        "organization": "",
        "accession_number": "A1",
    }


def test_an_empty_workitem_has_all_columns() -> None:
    assert set(search_columns({})) == set(search_columns(WORKITEM))


STATION = "ScheduledStationNameCodeSequence"
TASK = "ScheduledWorkitemCodeSequence"
PERFORMERS = "ScheduledHumanPerformersSequence"


@pytest.mark.parametrize(
    ("keys", "narrowed", "exact"),
    [
        ({}, {}, True),
        (element("ProcedureStepState", "SCHEDULED"), {"state": ("SCHEDULED",)}, True),
        (element("SOPInstanceUID", "1.2.3"), {"uid": ("1.2.3",)}, True),
        (element("ScheduledProcedureStepPriority", "LOW"), {"priority_rank": (2,)}, True),
        (element("ScheduledProcedureStepPriority", "STAT"), {}, False),
        (element("PatientID", " P1"), {"patient_id": ("P1",)}, True),
        (element("PatientID", "P*"), {}, False),
        (element("PatientID"), {}, True),
        (element("StudyInstanceUID", "1.2.3"), {"study_instance_uid": ("1.2.3",)}, True),
        (element("StudyInstanceUID", "1.2.3", "1.2.4"), {}, False),
        (element("StudyInstanceUID", "1.2.3\\1.2.4"), {}, False),
        (element(STATION, element("CodeValue", "PERF2")), {"station_name": ("PERF2", SEVERAL)}, True),
        (element(STATION), {}, True),
        (element(STATION, {}), {}, True),
        (
            element(STATION, merged([element("CodeValue", "P"), element("CodingSchemeDesignator", "L")])),
            {"station_name": ("P", SEVERAL)},
            False,
        ),
        (element(TASK, element("CodeValue", "AW1001")), {"code_value": ("AW1001",)}, True),
        (
            element(PERFORMERS, element("HumanPerformerOrganization", "Radiology")),
            {"organization": ("Radiology", SEVERAL)},
            True,
        ),
        (element("ReferencedRequestSequence", element("AccessionNumber", "A?")), {}, False),
        (element("PatientName", "Doe"), {}, False),
        (
            merged([element("PatientName", "Doe"), element("PatientID", "P1")]),
            {"patient_id": ("P1",)},
            False,
        ),
    ],
)
def test_what_keys_narrow(keys: DicomJson, narrowed: dict[str, tuple[str | int, ...]], exact: bool) -> None:
    found = narrowing(keys)
    assert (found.equal, found.exact) == (narrowed, exact)


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
    assert all(columns[name] in wanted for name, wanted in narrowing(keys).equal.items())


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
