# SPDX-License-Identifier: Apache-2.0
"""One table: what each refusal is called on each wire.

Doors look their answer up here and nowhere else. HTTP answers follow PS3.18 chapters 8 and 11 where they are
explicit; where one refusal has two HTTP answers by operation, `http_by_operation` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from task_manager.outcome import RefusalCode as R


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
    """

    dimse: int
    http: int
    hl7: tuple[str, str]
    http_by_operation: Mapping[str, int] = field(default_factory=dict)

    def http_status(self, operation: str = "") -> int:
        """The HTTP status for an operation."""
        return self.http_by_operation.get(operation, self.http)


STATUSES: Mapping[R, WireStatus] = {
    R.MALFORMED: WireStatus(dimse=0xC000, http=400, hl7=("AR", "100")),
    R.INVALID_ATTRIBUTES: WireStatus(dimse=0x0106, http=400, hl7=("AE", "102")),
    R.MISSING_ATTRIBUTE: WireStatus(dimse=0x0120, http=400, hl7=("AE", "101")),
    R.MISSING_VALUE: WireStatus(dimse=0x0121, http=400, hl7=("AE", "101")),
    R.NO_SUCH_INSTANCE: WireStatus(dimse=0xC307, http=404, hl7=("AE", "204")),
    R.OUT_OF_RESOURCES: WireStatus(dimse=0xA700, http=503, hl7=("AE", "207")),
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
    R.NOT_YET_IN_PROGRESS: WireStatus(dimse=0xC310, http=409, hl7=("AE", "207")),
    R.ALREADY_COMPLETED: WireStatus(dimse=0xC311, http=409, hl7=("AE", "207")),
    R.PERFORMER_NOT_CONTACTABLE: WireStatus(dimse=0xC312, http=409, hl7=("AE", "207")),
    R.PERFORMER_WILL_NOT_CANCEL: WireStatus(dimse=0xC313, http=409, hl7=("AE", "207")),
    R.UNSUPPORTED_MATCHING: WireStatus(dimse=0xA900, http=400, hl7=("AE", "207")),
    R.UNKNOWN_ORDER: WireStatus(dimse=0x0112, http=404, hl7=("AE", "204")),
    R.UNSUPPORTED_MESSAGE: WireStatus(dimse=0x0211, http=415, hl7=("AR", "200")),
}
