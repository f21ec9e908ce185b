# SPDX-License-Identifier: Apache-2.0
"""One table: what each refusal and each warning is called on each wire.

Doors look their answer up here and nowhere else. HTTP answers follow PS3.18 chapters 8 and 11 where they are
explicit; where one refusal has two answers by operation, the row says so. Warning texts are those of PS3.18
8.3.4 and chapter 11, which a rejected Update or Change State must carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from task_manager.outcome import RefusalCode as R
from task_manager.outcome import WarningCode as W


class Operation(StrEnum):
    """The UPS transactions whose answers differ."""

    CREATE = "create"
    RETRIEVE = "retrieve"
    SEARCH = "search"
    UPDATE = "update"
    CHANGE_STATE = "change_state"
    CANCEL = "cancel"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    SUSPEND = "suspend"
    CAPABILITIES = "capabilities"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireStatus:
    """The answer of one refusal.

    Attributes
    ----------
    dimse
        Status (0000,0900), PS3.7 Annex C and PS3.4 CC.2.
    http
        HTTP status code.
    hl7
        Acknowledgement code (table 0008) and error code (table 0357).
    http_by_operation
        Operation (``update``, ``change_state``, ``cancel``, ``create``) to another HTTP status.
    text_by_operation
        Operation to the text of the HTTP Warning header.
    """

    dimse: int
    http: int
    hl7: tuple[str, str]
    http_by_operation: Mapping[str, int] = field(default_factory=dict)
    text_by_operation: Mapping[str, str] = field(default_factory=dict)

    def http_status(self, operation: str = "") -> int:
        """The HTTP status for an operation."""
        return self.http_by_operation.get(operation, self.http)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireWarning:
    """What is added to a success.

    Attributes
    ----------
    dimse
        Status of the warning class; 0000H where the service has none.
    dimse_by_operation
        Operation to another status.
    text_by_operation
        Operation to the text of the HTTP Warning header; none where PS3.18 has none.
    """

    dimse: int
    dimse_by_operation: Mapping[str, int] = field(default_factory=dict)
    text_by_operation: Mapping[str, str] = field(default_factory=dict)

    def dimse_status(self, operation: str = "") -> int:
        """The DIMSE status for an operation."""
        return self.dimse_by_operation.get(operation, self.dimse)

    def http_text(self, operation: str) -> str:
        """The Warning text for an operation, or empty."""
        return self.text_by_operation.get(operation, "")


_UNCLAIMED: Mapping[str, str] = {Operation.UPDATE: "The target URI did not reference a claimed Workitem."}
_REJECTED: Mapping[str, str] = {
    Operation.UPDATE: "The submitted request is inconsistent with the current state of the Workitem.",
    Operation.CHANGE_STATE: "The submitted request is inconsistent with the state of the UPS Instance.",
}

TRANSACTION_UID_MISSING = "The Transaction UID is missing."
TRANSACTION_UID_INCORRECT = "The Transaction UID is incorrect."

STATUSES: Mapping[R, WireStatus] = {
    R.MALFORMED: WireStatus(dimse=0xC000, http=400, hl7=("AR", "100")),
    R.INVALID_ATTRIBUTES: WireStatus(dimse=0x0106, http=400, hl7=("AE", "102")),
    R.MISSING_ATTRIBUTE: WireStatus(dimse=0x0120, http=400, hl7=("AE", "101")),
    R.MISSING_VALUE: WireStatus(dimse=0x0121, http=400, hl7=("AE", "101")),
    R.NO_SUCH_INSTANCE: WireStatus(dimse=0xC307, http=404, hl7=("AE", "204"), text_by_operation=_UNCLAIMED),
    R.OUT_OF_RESOURCES: WireStatus(dimse=0xA700, http=503, hl7=("AE", "207")),
    R.NO_ROOM: WireStatus(dimse=0xA700, http=507, hl7=("AE", "207")),
    R.PROCESSING_FAILURE: WireStatus(dimse=0x0110, http=500, hl7=("AE", "207")),
    R.SOP_CLASS_MISMATCH: WireStatus(dimse=0xA900, http=409, hl7=("AE", "207")),
    R.NOT_STORABLE: WireStatus(dimse=0xC000, http=409, hl7=("AE", "207")),
    R.DUPLICATE_INSTANCE: WireStatus(dimse=0x0111, http=409, hl7=("AE", "205")),
    R.NOT_SCHEDULED: WireStatus(dimse=0xC309, http=400, hl7=("AE", "103")),
    R.MAY_NOT_BE_UPDATED: WireStatus(
        dimse=0xC300, http=409, hl7=("AE", "207"), http_by_operation={"update": 400}
    ),
    R.WRONG_TRANSACTION_UID: WireStatus(dimse=0xC301, http=400, hl7=("AE", "207")),
    R.ALREADY_IN_PROGRESS: WireStatus(dimse=0xC302, http=409, hl7=("AE", "206")),
    R.MAY_NOT_BECOME_SCHEDULED: WireStatus(dimse=0xC303, http=400, hl7=("AE", "207")),
    R.FINAL_STATE_NOT_MET: WireStatus(dimse=0xC304, http=409, hl7=("AE", "101")),
    R.NOT_YET_IN_PROGRESS: WireStatus(
        dimse=0xC310, http=409, hl7=("AE", "207"), text_by_operation=_UNCLAIMED
    ),
    R.ALREADY_COMPLETED: WireStatus(
        dimse=0xC311,
        http=409,
        hl7=("AE", "207"),
        text_by_operation={Operation.CANCEL: "The UPS is already COMPLETED."},
    ),
    R.PERFORMER_NOT_CONTACTABLE: WireStatus(
        dimse=0xC312,
        http=409,
        hl7=("AE", "207"),
        text_by_operation={Operation.CANCEL: "The performer cannot be contacted."},
    ),
    R.PERFORMER_WILL_NOT_CANCEL: WireStatus(
        dimse=0xC313,
        http=409,
        hl7=("AE", "207"),
        text_by_operation={Operation.CANCEL: "Performer chooses not to cancel."},
    ),
    R.UNSUPPORTED_MATCHING: WireStatus(dimse=0xA900, http=400, hl7=("AE", "207")),
    R.NO_LONGER_HERE: WireStatus(dimse=0xC307, http=410, hl7=("AE", "204"), text_by_operation=_UNCLAIMED),
    R.NOT_SUBSCRIBED: WireStatus(dimse=0xC307, http=404, hl7=("AE", "204")),
    R.UNKNOWN_RECEIVING_AE: WireStatus(dimse=0xC308, http=404, hl7=("AE", "204")),
    R.NOT_APPROPRIATE: WireStatus(dimse=0xC314, http=400, hl7=("AE", "207")),
    R.EVENTS_NOT_SUPPORTED: WireStatus(dimse=0xC315, http=403, hl7=("AE", "207")),
    R.NOT_AUTHORIZED: WireStatus(dimse=0x0124, http=403, hl7=("AE", "207")),
    R.PRECONDITION_FAILED: WireStatus(dimse=0x0110, http=412, hl7=("AE", "207")),
    R.UNKNOWN_ORDER: WireStatus(dimse=0x0112, http=404, hl7=("AE", "204")),
    R.UNSUPPORTED_MESSAGE: WireStatus(dimse=0x0211, http=415, hl7=("AR", "200")),
}

_ALREADY_CANCELED = "The UPS is already in the requested state of CANCELED."
_UNSUPPORTED = "Requested optional Attributes are not supported."

WARNINGS: Mapping[W, WireWarning] = {
    W.ALREADY_CANCELED: WireWarning(
        dimse=0xB304,
        text_by_operation={
            Operation.CHANGE_STATE: _ALREADY_CANCELED,
            Operation.CANCEL: _ALREADY_CANCELED,
        },
    ),
    W.ALREADY_COMPLETED: WireWarning(
        dimse=0xB306,
        text_by_operation={Operation.CHANGE_STATE: "The UPS is already in the requested state of COMPLETED."},
    ),
    W.COERCED: WireWarning(
        dimse=0xB300,
        dimse_by_operation={Operation.UPDATE: 0xB305},
        text_by_operation={
            Operation.CREATE: "The Workitem was created with modifications.",
            Operation.UPDATE: "The Workitem was updated with modifications.",
        },
    ),
    W.LOCK_NOT_GRANTED: WireWarning(
        dimse=0xB301, text_by_operation={Operation.SUBSCRIBE: "Deletion Lock not granted."}
    ),
    W.ATTRIBUTES_IGNORED: WireWarning(
        dimse=0x0000,
        dimse_by_operation={Operation.UPDATE: 0x0001, Operation.RETRIEVE: 0x0001},
        text_by_operation={Operation.UPDATE: _UNSUPPORTED, Operation.CANCEL: _UNSUPPORTED},
    ),
    W.DUPLICATE: WireWarning(dimse=0x0000),
    W.KEPT_APART: WireWarning(dimse=0x0000),
    W.RESTORED: WireWarning(dimse=0x0000),
}


def refusal_text(code: R, operation: str, *, transaction_uid: str = "") -> str:
    """The Warning text of a refusal over HTTP; empty where PS3.18 has none.

    `transaction_uid` is what the request carried: Change State tells a missing UID from a wrong one.
    """
    if code is R.WRONG_TRANSACTION_UID and operation == Operation.CHANGE_STATE:
        return TRANSACTION_UID_INCORRECT if transaction_uid else TRANSACTION_UID_MISSING
    return STATUSES[code].text_by_operation.get(operation) or _REJECTED.get(operation, "")
