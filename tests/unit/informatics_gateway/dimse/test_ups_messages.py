# SPDX-License-Identifier: Apache-2.0
"""How answers tell their reasons, and that every refusal and warning has a status a service may answer."""

from __future__ import annotations

import pytest
from pynetdicom.status import UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS

from informatics_gateway.dimse.ups_messages import (
    ACTIONS,
    EVENT,
    MAX_COMMENT,
    PULL,
    PUSH,
    QUERY,
    SERVICES,
    WATCH,
    Action,
    accepted_answer,
    comment,
    fault_tags,
    refused_answer,
)
from informatics_gateway.statuses import Operation
from profiles.faults import Fault
from profiles.ups.states import UPS_SOP_CLASS_UIDS
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ((), "invalid-attributes"),
        ((Fault("PatientSex", "must be one of F, M, O"),), "PatientSex: must be one of F, M, O"),
        ((Fault("", "needs a data set"),), "needs a data set"),
        ((Fault("PatientSex", "a"), Fault("PatientID", "b")), "2 faults: PatientSex, PatientID"),
        ((Fault("PatientSex", "a"), Fault("PatientSex", "b")), "2 faults: PatientSex"),
        (
            tuple(Fault(f"ReferencedRequestSequence[{n}].AccessionNumber", "c") for n in range(3)),
            "3 faults: ReferencedRequestSequence[0].AccessionNumber ...",
        ),
        ((Fault("A" * 70, "a"), Fault("B", "b")), f"2 faults: {'A' * 54}"),
        ((Fault("PatientID", "é\\ü"),), "PatientID: ?/?"),
    ],
    ids=["none", "one", "no place", "two", "one place", "too many", "long place", "no ASCII"],
)
def test_error_comment(faults: tuple[Fault, ...], told: str) -> None:
    found = comment(Refused(RefusalCode.INVALID_ATTRIBUTES, faults))
    assert found == told
    assert len(found) <= MAX_COMMENT


def test_attributes_at_fault_are_told_once() -> None:
    faults = [
        Fault("ReferencedRequestSequence[0].AccessionNumber", "a"),
        Fault("ReferencedRequestSequence[1]", "b"),
        Fault("(0099,1001)", "c"),
        Fault("", "d"),
        Fault("not a keyword", "e"),
    ]
    assert fault_tags(faults) == (0x0040A370, 0x00991001)


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_a_status_of_the_service(code: RefusalCode) -> None:
    for normalized in (True, False):
        status = refused_answer(Refused(code), normalized=normalized).status
        assert UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS[status][0] == "Failure"


@pytest.mark.parametrize(
    ("code", "normalized", "other"),
    [
        (RefusalCode.OUT_OF_RESOURCES, 0x0213, 0xA700),
        (RefusalCode.NO_ROOM, 0x0213, 0xA700),
        (RefusalCode.MALFORMED, 0x0110, 0xC000),
        (RefusalCode.UNSUPPORTED_MATCHING, 0x0106, 0xA900),
        (RefusalCode.NO_LONGER_HERE, 0xC307, 0xC307),
    ],
)
def test_statuses_that_only_c_services_have(code: RefusalCode, normalized: int, other: int) -> None:
    assert refused_answer(Refused(code)).status == normalized
    assert refused_answer(Refused(code), normalized=False).status == other


@pytest.mark.parametrize(
    ("warning", "operation", "status"),
    [
        (WarningCode.COERCED, Operation.CREATE, 0xB300),
        (WarningCode.COERCED, Operation.UPDATE, 0xB305),
        (WarningCode.ATTRIBUTES_IGNORED, Operation.UPDATE, 0x0001),
        (WarningCode.ATTRIBUTES_IGNORED, Operation.CANCEL, 0x0000),
        (WarningCode.ALREADY_CANCELED, Operation.CHANGE_STATE, 0xB304),
        (WarningCode.ALREADY_CANCELED, Operation.CANCEL, 0xB304),
        (WarningCode.ALREADY_COMPLETED, Operation.CHANGE_STATE, 0xB306),
        (WarningCode.LOCK_NOT_GRANTED, Operation.SUBSCRIBE, 0xB301),
        (WarningCode.DUPLICATE, Operation.CREATE, 0x0000),
    ],
)
def test_warnings(warning: WarningCode, operation: Operation, status: int) -> None:
    assert accepted_answer(Accepted(warnings=(warning,)), operation).status == status


def test_the_tables_know_every_class_and_action() -> None:
    assert set(SERVICES) == set(UPS_SOP_CLASS_UIDS) == {PUSH, WATCH, PULL, EVENT, QUERY}
    assert frozenset().union(*ACTIONS.values()) == frozenset(Action)
