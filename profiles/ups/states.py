# SPDX-License-Identifier: Apache-2.0
"""The states of a workitem and the literal transition table, PS3.4 CC.1.1-1 and CC.1.1-2 (2020 text).

Only data lives here. A cell is either an :class:`Effect` (what the manager does) or the DIMSE status it
answers; ``task_manager.workitem.machine`` looks its answer up here and has no rule about states of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

UPS_PUSH_SOP_CLASS_UID = "1.2.840.10008.5.1.4.34.6.1"
"""SOP Class UID of every UPS instance, whoever created it (CC.3.1)."""

UPS_SOP_CLASS_UIDS = frozenset(f"1.2.840.10008.5.1.4.34.6.{number}" for number in range(1, 6))

GLOBAL_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5"
FILTERED_GLOBAL_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5.1"
WELL_KNOWN_UIDS = frozenset({GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID})
"""Instances that are subscriptions and never workitems."""


class ProcedureStepState(StrEnum):
    """Procedure Step State (0074,1000), PS3.3 C.30.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL_STATES = frozenset({ProcedureStepState.COMPLETED, ProcedureStepState.CANCELED})


class InputReadinessState(StrEnum):
    """Input Readiness State (0040,4041), PS3.3 C.30.2."""

    INCOMPLETE = "INCOMPLETE"
    UNAVAILABLE = "UNAVAILABLE"
    READY = "READY"


class TransitionEvent(StrEnum):
    """The rows of table CC.1.1-2; `UID` says whether the correct Transaction UID came with the request."""

    CREATE = "N-CREATE for this UID"
    TO_IN_PROGRESS = "Change State to IN PROGRESS, correct UID"
    TO_IN_PROGRESS_WRONG_UID = "Change State to IN PROGRESS, UID missing or wrong"
    TO_SCHEDULED = "Change State to SCHEDULED"
    TO_COMPLETED = "Change State to COMPLETED, correct UID"
    TO_COMPLETED_WRONG_UID = "Change State to COMPLETED, UID missing or wrong"
    REQUEST_CANCEL = "Request Cancel"
    TO_CANCELED = "Change State to CANCELED, correct UID"
    TO_CANCELED_WRONG_UID = "Change State to CANCELED, UID missing or wrong"


class Effect(StrEnum):
    """What the manager does in a cell that is not a plain status."""

    CREATE = "create with empty Transaction UID, state SCHEDULED"
    CLAIM = "report state change, record the UID, go IN PROGRESS"
    COMPLETE = "final-state rules met: report, go COMPLETED; otherwise C304"
    CANCEL = "final-state rules met: report, go CANCELED; otherwise C304"
    CANCEL_SCHEDULED = "report IN PROGRESS, report CANCELED, go CANCELED"
    REPORT_CANCEL_REQUEST = "report that cancellation was requested, state unchanged"


Cell = Effect | int

_E, _S = TransitionEvent, ProcedureStepState

TRANSITIONS: Mapping[TransitionEvent, Mapping[ProcedureStepState | None, Cell]] = {
    _E.CREATE: {
        None: Effect.CREATE,
        _S.SCHEDULED: 0x0111,
        _S.IN_PROGRESS: 0x0111,
        _S.COMPLETED: 0x0111,
        _S.CANCELED: 0x0111,
    },
    _E.TO_IN_PROGRESS: {
        None: 0xC307,
        _S.SCHEDULED: Effect.CLAIM,
        _S.IN_PROGRESS: 0xC302,
        _S.COMPLETED: 0xC300,
        _S.CANCELED: 0xC300,
    },
    _E.TO_IN_PROGRESS_WRONG_UID: {
        None: 0xC307,
        _S.SCHEDULED: 0xC301,
        _S.IN_PROGRESS: 0xC301,
        _S.COMPLETED: 0xC301,
        _S.CANCELED: 0xC301,
    },
    _E.TO_SCHEDULED: {
        None: 0xC307,
        _S.SCHEDULED: 0xC303,
        _S.IN_PROGRESS: 0xC303,
        _S.COMPLETED: 0xC303,
        _S.CANCELED: 0xC303,
    },
    _E.TO_COMPLETED: {
        None: 0xC307,
        _S.SCHEDULED: 0xC310,
        _S.IN_PROGRESS: Effect.COMPLETE,
        _S.COMPLETED: 0xB306,
        _S.CANCELED: 0xC300,
    },
    _E.TO_COMPLETED_WRONG_UID: {
        None: 0xC307,
        _S.SCHEDULED: 0xC301,
        _S.IN_PROGRESS: 0xC301,
        _S.COMPLETED: 0xC301,
        _S.CANCELED: 0xC301,
    },
    _E.REQUEST_CANCEL: {
        None: 0xC307,
        _S.SCHEDULED: Effect.CANCEL_SCHEDULED,
        _S.IN_PROGRESS: Effect.REPORT_CANCEL_REQUEST,
        _S.COMPLETED: 0xC311,
        _S.CANCELED: 0xB304,
    },
    _E.TO_CANCELED: {
        None: 0xC307,
        _S.SCHEDULED: 0xC310,
        _S.IN_PROGRESS: Effect.CANCEL,
        _S.COMPLETED: 0xC300,
        _S.CANCELED: 0xB304,
    },
    _E.TO_CANCELED_WRONG_UID: {
        None: 0xC307,
        _S.SCHEDULED: 0xC301,
        _S.IN_PROGRESS: 0xC301,
        _S.COMPLETED: 0xC301,
        _S.CANCELED: 0xC301,
    },
}
"""Event, then state (None: no such instance), to the cell; every cell of the printed table is entered."""

CHANGE_STATE_EVENTS: Mapping[ProcedureStepState, tuple[TransitionEvent, TransitionEvent]] = {
    _S.SCHEDULED: (_E.TO_SCHEDULED, _E.TO_SCHEDULED),
    _S.IN_PROGRESS: (_E.TO_IN_PROGRESS, _E.TO_IN_PROGRESS_WRONG_UID),
    _S.COMPLETED: (_E.TO_COMPLETED, _E.TO_COMPLETED_WRONG_UID),
    _S.CANCELED: (_E.TO_CANCELED, _E.TO_CANCELED_WRONG_UID),
}
"""Requested state to its row with the correct Transaction UID and its row with a missing or wrong one."""
