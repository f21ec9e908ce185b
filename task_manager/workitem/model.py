# SPDX-License-Identifier: Apache-2.0
"""A workitem as the task manager knows it (a UPS instance, PS3.3 B.26).

Values only: what may happen to a workitem is decided in ``machine.py`` and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from profiles.dicom_json import DicomJson
from profiles.ups.states import FINAL_STATES, ProcedureStepState


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCancel:
    """The latest cancel request that the performer has not yet answered with a state.

    Attributes
    ----------
    requested_at
        Aware time of the request.
    requesting_ae
        Requesting AE (0074,1236) as told to subscribers.
    details
        The attributes of the request: reason text and code, contact (PS3.4 table CC.2.2-1).
    """

    requested_at: datetime
    requesting_ae: str
    details: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """One workitem with its lock.

    Attributes
    ----------
    uid
        SOP Instance UID.
    state
        Equals Procedure Step State (0074,1000) of `attributes`.
    transaction_uid
        The recorded lock; empty until claimed. It never leaves the task manager.
    attributes
        Everything else in DICOM JSON, in ascending tag order, Procedure Step State included and Transaction
        UID never.
    created_at, modified_at
        Aware times of the create and of the last accepted change.
    version
        Grows by one with each change: the guard of every write (compare and swap).
    cancel_requested
        Set by a cancel request while IN PROGRESS; kept afterwards as part of the record.
    claimed_at, heard_at
        When it went IN PROGRESS, and when the holder of the Transaction UID was last heard.
    """

    uid: str
    state: ProcedureStepState
    attributes: DicomJson
    created_at: datetime
    modified_at: datetime
    version: int = 1
    transaction_uid: str = ""
    cancel_requested: RequestedCancel | None = None
    claimed_at: datetime | None = None
    heard_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether the workitem is COMPLETED or CANCELED and can change no more."""
        return self.state in FINAL_STATES
