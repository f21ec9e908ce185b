# SPDX-License-Identifier: Apache-2.0
"""The manager corrects whose a workitem is: what no requester may change (CC.2.5-3), and nothing else."""

from __future__ import annotations

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, text
from task_manager.outcome import RefusalCode
from task_manager.workitem.commands import Reidentify, Update
from tests.unit.task_manager.workitem.machines import LATER, C, P, S, X, applied, do, in_state, refused

JANE = merged([element("PatientID", "P9"), element("PatientName", "Roe^Jane"), element("PatientSex", "F")])


@pytest.mark.parametrize("state", [S, P])
def test_work_that_is_not_final_follows_the_patient(state: str) -> None:
    outcome = applied(do(in_state(state), Reidentify(changes=JANE)))
    after = outcome.workitem
    assert [text(after.attributes, key) for key in ("PatientID", "PatientName", "PatientSex")] == [
        *("P9", "Roe^Jane", "F")
    ]
    assert after.state == state
    assert after.modified_at == LATER
    assert outcome.reports == ()


@pytest.mark.parametrize("state", [C, X])
def test_final_work_stays(state: str) -> None:
    assert refused(do(in_state(state), Reidentify(changes=JANE))).code is RefusalCode.MAY_NOT_BE_UPDATED


def test_a_workitem_that_is_so_already_does_not_change() -> None:
    before = in_state(S)
    once = applied(do(before, Reidentify(changes=JANE))).workitem
    assert applied(do(once, Reidentify(changes=JANE))).workitem is once


def test_there_has_to_be_a_workitem() -> None:
    assert refused(do(None, Reidentify(changes=JANE))).code is RefusalCode.NO_SUCH_INSTANCE


def test_a_name_beyond_ascii_is_told_as_utf_8() -> None:
    after = applied(do(in_state(S), Reidentify(changes=element("PatientName", "Müller^Jörg")))).workitem
    assert text(after.attributes, "SpecificCharacterSet") == "ISO_IR 192"


def test_requests_are_completed_as_a_create_is() -> None:
    request = merged([element("StudyInstanceUID", "1.2.3"), element("AccessionNumber", "A9")])
    after = applied(
        do(in_state(S), Reidentify(changes=element("ReferencedRequestSequence", request)))
    ).workitem
    (kept,) = items(after.attributes, "ReferencedRequestSequence")
    assert text(kept, "AccessionNumber") == "A9"
    assert "00401001" in kept


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        pytest.param(element("ProcedureStepState", "CANCELED"), "ProcedureStepState", id="state"),
        pytest.param(element("SOPInstanceUID", "1.2"), "SOPInstanceUID", id="identity-of-the-workitem"),
        pytest.param(element("InputReadinessState", "READY"), "InputReadinessState", id="inputs"),
        pytest.param(element("PatientID", "x" * 65), "PatientID", id="too-long"),
        pytest.param(
            element("ReferencedRequestSequence", element("AccessionNumber", "A9")),
            "ReferencedRequestSequence[0].StudyInstanceUID",
            id="request-without-study",
        ),
    ],
)
def test_nothing_else_can_be_corrected(changes: DicomJson, path: str) -> None:
    assert [fault.path for fault in refused(do(in_state(S), Reidentify(changes=changes))).faults] == [path]


def test_a_requester_may_not_do_it() -> None:
    outcome = refused(do(in_state(S), Update(changes=JANE)))
    assert {fault.path for fault in outcome.faults} == {"PatientID", "PatientName", "PatientSex"}
