# SPDX-License-Identifier: Apache-2.0
"""Every refusal and warning has its name on every wire."""

from __future__ import annotations

import pytest

from informatics_gateway.statuses import STATUSES, WARNINGS, Operation, refusal_text
from task_manager.outcome import RefusalCode, WarningCode
from task_manager.workitem.machine import REFUSALS
from task_manager.workitem.machine import WARNINGS as MACHINE_WARNINGS

# PS3.4 CC.2.1.4 to CC.2.7.4 and PS3.7 Annex C, with the HTTP answers of PS3.18 chapter 11.
UPS_ROWS = [
    (
        RefusalCode.INVALID_ATTRIBUTES,
        0x0106,
        {"create": 400, "update": 400, "change_state": 400, "cancel": 400},
    ),
    (RefusalCode.MISSING_ATTRIBUTE, 0x0120, {"create": 400, "update": 400}),
    (RefusalCode.MISSING_VALUE, 0x0121, {"create": 400, "update": 400}),
    (RefusalCode.DUPLICATE_INSTANCE, 0x0111, {"create": 409}),
    (RefusalCode.MAY_NOT_BE_UPDATED, 0xC300, {"update": 400, "change_state": 409}),
    (RefusalCode.WRONG_TRANSACTION_UID, 0xC301, {"update": 400, "change_state": 400}),
    (RefusalCode.ALREADY_IN_PROGRESS, 0xC302, {"change_state": 409}),
    (RefusalCode.MAY_NOT_BECOME_SCHEDULED, 0xC303, {"change_state": 400}),
    (RefusalCode.FINAL_STATE_NOT_MET, 0xC304, {"change_state": 409}),
    (
        RefusalCode.NO_SUCH_INSTANCE,
        0xC307,
        {"retrieve": 404, "update": 404, "change_state": 404, "cancel": 404},
    ),
    (RefusalCode.NOT_SCHEDULED, 0xC309, {"create": 400}),
    (RefusalCode.NOT_YET_IN_PROGRESS, 0xC310, {"update": 409, "change_state": 409}),
    (RefusalCode.ALREADY_COMPLETED, 0xC311, {"cancel": 409}),
    (RefusalCode.PERFORMER_NOT_CONTACTABLE, 0xC312, {"cancel": 409}),
    (RefusalCode.PERFORMER_WILL_NOT_CANCEL, 0xC313, {"cancel": 409}),
    (RefusalCode.UNSUPPORTED_MATCHING, 0xA900, {"search": 400}),
    (RefusalCode.PROCESSING_FAILURE, 0x0110, {"create": 500}),
    (RefusalCode.OUT_OF_RESOURCES, 0xA700, {"create": 503}),
    (RefusalCode.NO_ROOM, 0xA700, {"create": 507}),
]
UPS_WARNINGS = [
    (WarningCode.COERCED, "create", 0xB300, "The Workitem was created with modifications."),
    (WarningCode.COERCED, "update", 0xB305, "The Workitem was updated with modifications."),
    (WarningCode.ATTRIBUTES_IGNORED, "update", 0x0001, "Requested optional Attributes are not supported."),
    (
        WarningCode.ALREADY_CANCELED,
        "change_state",
        0xB304,
        "The UPS is already in the requested state of CANCELED.",
    ),
    (
        WarningCode.ALREADY_CANCELED,
        "cancel",
        0xB304,
        "The UPS is already in the requested state of CANCELED.",
    ),
    (
        WarningCode.ALREADY_COMPLETED,
        "change_state",
        0xB306,
        "The UPS is already in the requested state of COMPLETED.",
    ),
]


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_has_a_row_for_every_wire(code: RefusalCode) -> None:
    row = STATUSES[code]
    assert 0 < row.dimse <= 0xFFFF
    assert row.dimse not in (0x0000, 0xFF00, 0xFF01)
    assert 400 <= row.http < 600
    assert row.hl7[0] in ("AE", "AR")
    assert row.hl7[1].isdigit()
    assert set(row.http_by_operation) | set(row.text_by_operation) <= {o.value for o in Operation}


@pytest.mark.parametrize("code", list(WarningCode))
def test_every_warning_has_a_row(code: WarningCode) -> None:
    assert 0 <= WARNINGS[code].dimse_status() <= 0xFFFF


@pytest.mark.parametrize(("code", "dimse", "http"), UPS_ROWS, ids=[row[0].value for row in UPS_ROWS])
def test_the_rows_of_ups(code: RefusalCode, dimse: int, http: dict[str, int]) -> None:
    assert STATUSES[code].dimse == dimse
    assert {operation: STATUSES[code].http_status(operation) for operation in http} == http


@pytest.mark.parametrize(("code", "operation", "dimse", "text"), UPS_WARNINGS)
def test_the_warnings_of_ups(code: WarningCode, operation: str, dimse: int, text: str) -> None:
    assert (WARNINGS[code].dimse_status(operation), WARNINGS[code].http_text(operation)) == (dimse, text)


def test_the_machine_and_the_doors_name_the_same_statuses() -> None:
    assert {status: STATUSES[code].dimse for status, code in REFUSALS.items()} == {s: s for s in REFUSALS}
    assert {s: WARNINGS[code].dimse for s, code in MACHINE_WARNINGS.items()} == {
        s: s for s in MACHINE_WARNINGS
    }


@pytest.mark.parametrize("code", list(RefusalCode))
def test_rejected_updates_and_state_changes_carry_a_text(code: RefusalCode) -> None:
    assert refusal_text(code, Operation.UPDATE)
    assert refusal_text(code, Operation.CHANGE_STATE)


def test_a_missing_transaction_uid_is_told_from_a_wrong_one() -> None:
    code = RefusalCode.WRONG_TRANSACTION_UID
    assert refusal_text(code, "change_state") == "The Transaction UID is missing."
    assert refusal_text(code, "change_state", transaction_uid="1.2") == "The Transaction UID is incorrect."
