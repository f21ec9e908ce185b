# SPDX-License-Identifier: Apache-2.0
"""The requirement table against rows read again from PS3.4 table CC.2.5-3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profiles.dicom_json import tag_key
from profiles.ups.attributes import ENUMERATED_VALUES, SCHEDULED_MODULE_TAGS, TABLE, TOP_ROWS, by_tag, row_at
from profiles.ups.conditions import condition_test
from profiles.ups.dataset import entry
from profiles.ups.returning import search_result
from profiles.ups.table import Condition, Row
from tests.contract.workitems import minimal

TYPES = ("1", "2", "3", "1C", "2C", "-")
IN_SERVICE = {"NA", *(f"{scu}/{scp}" for scu in TYPES for scp in TYPES)}


def all_rows(rows: tuple[Row, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Row]]:
    for row in rows:
        yield (*path, row.keyword), row
        yield from all_rows(row.items, (*path, row.keyword))


ROWS = list(all_rows(TOP_ROWS))


def test_the_table_has_its_rows() -> None:
    assert {name: len(rows) for name, rows in TABLE.items()} == {
        "SOP Common": 4,
        "Scheduled Procedure Information": 18,
        "Relationship": 14,
        "Patient Medical": 3,
        "Progress Information": 2,
        "Performed Procedure Information": 1,
    }
    assert len({row.keyword for row in TOP_ROWS}) == len(TOP_ROWS)


@pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[".".join(path) for path, _ in ROWS])
def test_every_row_is_well_formed(row: Row) -> None:
    assert entry(tag_key(row.keyword)).keyword == row.keyword
    assert {row.create, row.update, row.get} <= IN_SERVICE
    assert row.final in {"R", "RC", "P", "X", "O"}
    assert row.match in {"U", "R", "O", "-"}
    assert row.returned in {"1", "1C", "2", "2C", "3", "-"}
    assert not row.items or "SQ" in entry(tag_key(row.keyword)).vrs


# Rows read again from PS3.4 table CC.2.5-3: path, N-CREATE, N-SET, final, match, return.
@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("ScheduledProcedureStepPriority", "1/1 3/1 R R 1"),
        ("ScheduledProcedureStepModificationDateTime", "-/1 -/1 R O 3"),
        ("WorklistLabel", "2/1 3/1 O R 1"),
        ("ScheduledProcessingParametersSequence", "2/2 3/2 O - 2"),
        ("ScheduledStationNameCodeSequence.CodeValue", "1C/1C 1C/1C O R 1C"),
        ("ScheduledStationNameCodeSequence.CodeMeaning", "1/1 1/1 O - 1"),
        ("ScheduledHumanPerformersSequence.HumanPerformerName", "1/1 1/1 O O 3"),
        ("ScheduledWorkitemCodeSequence", "2/2 3/1 O R 2"),
        ("InputReadinessState", "1/1 3/1 R R 1"),
        ("InputInformationSequence", "2/2 3/2 O O 2"),
        ("StudyInstanceUID", "1C/2 3/2 O O 2"),
        ("PatientName", "2/2 NA O R 2"),
        ("ReferencedRequestSequence.AccessionNumber", "2/2 NA O R 2"),
        ("ReferencedRequestSequence.RequestingService", "3/1 3/1 O R 3"),
        ("ReplacedProcedureStepSequence", "1C/1C NA O R 3"),
        ("MedicalAlerts", "3/2 3/2 O O 2C"),
        ("ProcedureStepState", "1/1 NA R R 1"),
        ("ProcedureStepProgressInformationSequence", "2/2 3/2 X - 2"),
        ("ProcedureStepProgressInformationSequence.ProcedureStepCancellationDateTime", "NA 3/1 X - -"),
        ("ProcedureStepProgressInformationSequence.ReasonForCancellation", "NA 3/1 O - -"),
        ("UnifiedProcedureStepPerformedProcedureSequence", "2/2 3/2 P - -"),
        ("UnifiedProcedureStepPerformedProcedureSequence.OutputInformationSequence", "NA 2/2 P - -"),
        ("UnifiedProcedureStepPerformedProcedureSequence.PerformedStationNameCodeSequence", "NA 3/2 P O 3"),
        ("OutputDestinationSequence.DICOMStorageSequence.DestinationAE", "1/1 1/1 O O 1"),
    ],
)
def test_rows_of_the_standard(path: str, codes: str) -> None:
    row = row_at(*path.split("."))
    assert row is not None
    assert f"{row.create} {row.update} {row.final} {row.match} {row.returned}" == codes


def test_final_state_rows_are_those_of_the_standard() -> None:
    final = {".".join(path): row.final for path, row in ROWS if row.final != "O"}
    performed = "UnifiedProcedureStepPerformedProcedureSequence"
    progress = "ProcedureStepProgressInformationSequence"
    assert final == {
        "SpecificCharacterSet": "RC",
        "SOPClassUID": "R",
        "SOPInstanceUID": "R",
        "ScheduledProcedureStepPriority": "R",
        "ScheduledProcedureStepModificationDateTime": "R",
        "ScheduledProcedureStepStartDateTime": "R",
        "InputReadinessState": "R",
        "ProcedureStepState": "R",
        progress: "X",
        f"{progress}.ProcedureStepCancellationDateTime": "X",
        f"{progress}.ProcedureStepDiscontinuationReasonCodeSequence": "X",
        performed: "P",
        f"{performed}.ActualHumanPerformersSequence": "RC",
        f"{performed}.ActualHumanPerformersSequence.HumanPerformerCodeSequence": "RC",
        f"{performed}.ActualHumanPerformersSequence.HumanPerformerName": "RC",
        f"{performed}.PerformedStationNameCodeSequence": "P",
        f"{performed}.PerformedProcedureStepStartDateTime": "P",
        f"{performed}.PerformedWorkitemCodeSequence": "P",
        f"{performed}.PerformedProcedureStepEndDateTime": "P",
        f"{performed}.OutputInformationSequence": "P",
    }


@pytest.mark.parametrize("condition", list(Condition))
def test_every_condition_is_used_and_decided(condition: Condition) -> None:
    assert any(row.when is condition for _, row in ROWS)
    assert condition_test(condition)({}, {}) in (True, False)


def test_paths_without_row() -> None:
    assert row_at("PatientWeight") is None
    assert row_at("PatientName", "PatientID") is None


def test_indexes() -> None:
    assert by_tag(TOP_ROWS)["00741000"].keyword == "ProcedureStepState"
    assert by_tag(TOP_ROWS) is by_tag(TOP_ROWS)
    assert "00404041" in SCHEDULED_MODULE_TAGS
    assert ENUMERATED_VALUES["00741200"] == {"HIGH", "MEDIUM", "LOW"}


def test_a_search_result_has_what_table_and_request_ask() -> None:
    found = search_result(minimal(MedicalAlerts="latex"), {"00091001", "00400400", "00081195"})
    always = {tag_key(row.keyword) for row in TOP_ROWS if row.returned in ("1", "2")}
    assert set(found) == always | {tag_key("MedicalAlerts"), "00091001", "00400400"}
    assert found["00091001"] == {"vr": "UN"}
    assert list(found) == sorted(found)
