# SPDX-License-Identifier: Apache-2.0
"""What happens to a workitem when something is asked of it: the one decision, pure.

``create`` and ``apply`` return the next workitem with the event reports it causes, or the refusal. The answer
of every state change is the cell of ``profiles.ups.states.TRANSITIONS``; no other place knows a next state.
The caller writes exactly the workitem returned, guarded by its version, and sends the reports after the
commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from profiles.codes import DISCONTINUED_FOR_UNSPECIFIED_REASON
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, values
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups import report
from profiles.ups.attributes import SCHEDULED_MODULE_TAGS
from profiles.ups.report import CANCEL_DETAILS, EventType
from profiles.ups.states import (
    CHANGE_STATE_EVENTS,
    TRANSITIONS,
    UPS_PUSH_SOP_CLASS_UID,
    Effect,
    ProcedureStepState,
    TransitionEvent,
)
from profiles.ups.times import dicom_datetime
from profiles.ups.values import is_ae_title
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.workitem.commands import (
    ChangeState,
    Command,
    Create,
    Rearrange,
    Reidentify,
    RequestCancel,
    Update,
    Withdraw,
)
from task_manager.workitem.model import RequestedCancel, Workitem
from task_manager.workitem.validate import (
    checked_correction,
    checked_create,
    checked_details,
    checked_update,
    final_state_faults,
)

DEFAULT_WORKLIST_LABEL = "AIRWAY"
"""Fills an empty Worklist Label at create (CC.2.5-3: the SCP supplies one)."""

ANONYMOUS = "ANONYMOUS"
"""Requesting AE of a cancel request whose sender has no AE title."""

REFUSALS: Mapping[int, RefusalCode] = {
    0x0111: RefusalCode.DUPLICATE_INSTANCE,
    0xC300: RefusalCode.MAY_NOT_BE_UPDATED,
    0xC301: RefusalCode.WRONG_TRANSACTION_UID,
    0xC302: RefusalCode.ALREADY_IN_PROGRESS,
    0xC303: RefusalCode.MAY_NOT_BECOME_SCHEDULED,
    0xC304: RefusalCode.FINAL_STATE_NOT_MET,
    0xC307: RefusalCode.NO_SUCH_INSTANCE,
    0xC310: RefusalCode.NOT_YET_IN_PROGRESS,
    0xC311: RefusalCode.ALREADY_COMPLETED,
}
WARNINGS: Mapping[int, WarningCode] = {
    0xB304: WarningCode.ALREADY_CANCELED,
    0xB306: WarningCode.ALREADY_COMPLETED,
}
_MESSAGES: Mapping[RefusalCode, Fault] = {
    RefusalCode.DUPLICATE_INSTANCE: Fault("SOPInstanceUID", "names a workitem that exists"),
    RefusalCode.MAY_NOT_BE_UPDATED: Fault(
        "ProcedureStepState", "is final: the workitem may no longer be updated"
    ),
    RefusalCode.WRONG_TRANSACTION_UID: Fault(
        "TransactionUID", "is missing or not the one that claimed the workitem"
    ),
    RefusalCode.ALREADY_IN_PROGRESS: Fault("ProcedureStepState", "is IN PROGRESS already"),
    RefusalCode.MAY_NOT_BECOME_SCHEDULED: Fault("ProcedureStepState", "becomes SCHEDULED by create only"),
    RefusalCode.NO_SUCH_INSTANCE: Fault("SOPInstanceUID", "names no workitem here"),
    RefusalCode.NOT_YET_IN_PROGRESS: Fault("ProcedureStepState", "is SCHEDULED: the workitem is not claimed"),
    RefusalCode.ALREADY_COMPLETED: Fault("ProcedureStepState", "is COMPLETED already"),
}
_PROGRESS = tag_key("ProcedureStepProgressInformationSequence")
_MODIFIED = "ScheduledProcedureStepModificationDateTime"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """One event report to the subscribers of a workitem (PS3.4 CC.2.4), of any event type.

    `payload` is the event information in DICOM JSON, without the addressing of the channel that carries it;
    `state` is the workitem's at that moment.
    """

    event_type: EventType
    workitem_uid: str
    state: ProcedureStepState
    payload: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The command took effect: `workitem` is what is to be stored.

    It is the very workitem given to ``apply`` when nothing changes (a repeated final state), so that a caller
    need not write. `reports` are in the order they happened.
    """

    workitem: Workitem
    accepted: Accepted
    reports: tuple[StateReport, ...] = ()


def create(command: Create, *, now: datetime, existing: Workitem | None = None) -> Applied | Refused:
    """Create a workitem (PS3.4 CC.2.5.3), or refuse with all faults.

    The manager sets SOP Class UID and Scheduled Procedure Step Modification DateTime, fills an empty Worklist
    Label and adds missing type 2 attributes; the last two are told as COERCED (B300), and so is a time of
    modification that the creator gave.
    """
    cell = TRANSITIONS[TransitionEvent.CREATE][existing.state if existing else None]
    if not isinstance(cell, Effect):
        return _refused(cell)
    checked = checked_create(command.uid, command.attributes)
    if isinstance(checked, Refused):
        return checked
    given, filled = checked
    label: DicomJson = {}
    if not values(given, "WorklistLabel"):
        label = element("WorklistLabel", DEFAULT_WORKLIST_LABEL)
    attributes = _with_character_set(
        merged(
            [
                {tag: {"vr": "LO"} if tag == tag_key("PatientID") else {"vr": "UI"} for tag in _SCP_TYPE_2},
                given,
                label,
                element("SOPClassUID", UPS_PUSH_SOP_CLASS_UID),
                element("SOPInstanceUID", command.uid),
                element(_MODIFIED, dicom_datetime(now)),
            ]
        ),
        given,
    )
    workitem = Workitem(
        uid=command.uid,
        state=ProcedureStepState.SCHEDULED,
        attributes=attributes,
        created_at=now,
        modified_at=now,
    )
    reports = [_state_report(workitem)]
    if report.is_assigned(attributes):
        reports.append(_report(EventType.ASSIGNED, workitem, report.assigned_report(attributes)))
    coerced = filled or bool(label) or bool(values(given, _MODIFIED))
    return _applied(workitem, reports, WarningCode.COERCED if coerced else None)


_SCP_TYPE_2 = (tag_key("PatientID"), tag_key("StudyInstanceUID"))
"""Type 1C/2: kept empty by the manager when the creator's condition did not hold."""


def apply(workitem: Workitem | None, command: Command, *, now: datetime) -> Applied | Refused:
    """Apply `command` to `workitem` (None: there is no such workitem), or refuse with all faults."""
    match command:
        case Update():
            return _update(workitem, command, now)
        case ChangeState():
            return _change_state(workitem, command, now)
        case RequestCancel():
            return _request_cancel(workitem, command, now)
        case Rearrange():
            return _rearrange(workitem, command, now)
        case Reidentify():
            return _reidentify(workitem, command, now)
        case Withdraw():
            return _withdraw(workitem, command, now)


def _refused(status: int) -> Refused:
    code = REFUSALS[status]
    return Refused(code, (_MESSAGES[code],))


def _answer(workitem: Workitem, status: int) -> Applied | Refused:
    """The outcome of a cell that holds a status: a warning without effect, or a refusal."""
    warning = WARNINGS.get(status)
    return _refused(status) if warning is None else _applied(workitem, (), warning)


def _applied(
    workitem: Workitem,
    reports: list[StateReport] | tuple[StateReport, ...],
    warning: WarningCode | None = None,
) -> Applied:
    return Applied(
        workitem=workitem,
        accepted=Accepted(uid=workitem.uid, warnings=() if warning is None else (warning,)),
        reports=tuple(reports),
    )


def _report(event: EventType, workitem: Workitem, payload: DicomJson) -> StateReport:
    return StateReport(event_type=event, workitem_uid=workitem.uid, state=workitem.state, payload=payload)


def _state_report(workitem: Workitem) -> StateReport:
    return _report(EventType.STATE_REPORT, workitem, report.state_report(workitem.attributes))


def _with_character_set(attributes: DicomJson, new: DicomJson) -> DicomJson:
    """DICOM JSON is UTF-8 (PS3.18 F.2): told whenever text needs it or the sender told another repertoire.

    Only what is `new` among the attributes is looked at: what was there before has been.
    """
    tag = tag_key("SpecificCharacterSet")
    if tag not in new and orjson.dumps(new).isascii():
        return attributes
    return merged([attributes, element("SpecificCharacterSet", "ISO_IR 192")])


def _in_state(workitem: Workitem, state: ProcedureStepState, now: datetime, **more: Any) -> Workitem:
    """The workitem in another state: the one place that writes a state, in both places where it stands."""
    attributes = merged([workitem.attributes, element("ProcedureStepState", state.value)])
    version = workitem.version + 1
    return replace(workitem, attributes=attributes, modified_at=now, version=version, state=state, **more)


# Update -----------------------------------------------------------------------------------------------------


def _update(workitem: Workitem | None, command: Update, now: datetime) -> Applied | Refused:
    """UPS Set: rights first (CC.2.6.3), then all faults of the changes, then all or nothing."""
    if workitem is None:
        return _refused(0xC307)
    if workitem.is_final:
        return _refused(0xC300)
    if (
        workitem.state is ProcedureStepState.IN_PROGRESS
        and command.transaction_uid != workitem.transaction_uid
    ):
        return _refused(0xC301)
    if workitem.state is ProcedureStepState.SCHEDULED and command.transaction_uid:
        return _refused(0xC310)
    heard_at = now if workitem.state is ProcedureStepState.IN_PROGRESS else workitem.heard_at
    return _with_changes(workitem, command.changes, now, heard_at=heard_at)


def _rearrange(workitem: Workitem | None, command: Rearrange, now: datetime) -> Applied | Refused:
    """The manager's own changes keep the rules of the attributes, whatever the state."""
    if workitem is None:
        return _refused(0xC307)
    return _with_changes(workitem, command.changes, now, heard_at=workitem.heard_at)


def _reidentify(workitem: Workitem | None, command: Reidentify, now: datetime) -> Applied | Refused:
    """Correct patient or request; the very same workitem if all is so already."""
    if workitem is None:
        return _refused(0xC307)
    if workitem.is_final:
        return _refused(0xC300)
    changes = checked_correction(command.changes)
    if isinstance(changes, Refused):
        return changes
    if all(workitem.attributes.get(tag) == value for tag, value in changes.items()):
        return _applied(workitem, ())
    attributes = merged([workitem.attributes, changes, element(_MODIFIED, dicom_datetime(now))])
    attributes = _with_character_set(attributes, changes)
    version = workitem.version + 1
    return _applied(replace(workitem, attributes=attributes, modified_at=now, version=version), ())


def _with_changes(
    workitem: Workitem, wanted: DicomJson, now: datetime, *, heard_at: datetime | None
) -> Applied | Refused:
    changes = checked_update(wanted)
    if isinstance(changes, Refused):
        return changes
    before = workitem.attributes
    parts = [before, changes]
    if not SCHEDULED_MODULE_TAGS.isdisjoint(changes):
        parts.append(element(_MODIFIED, dicom_datetime(now)))
    attributes = _with_character_set(merged(parts), changes)
    version = workitem.version + 1
    after = replace(workitem, attributes=attributes, modified_at=now, version=version, heard_at=heard_at)
    reports = []
    if report.readiness_changed(before, after.attributes):
        reports.append(_state_report(after))
    if report.progress_changed(before, after.attributes):
        reports.append(_report(EventType.PROGRESS_REPORT, after, report.progress_report(after.attributes)))
    if report.assignment_changed(before, after.attributes):
        reports.append(_report(EventType.ASSIGNED, after, report.assigned_report(after.attributes)))
    return _applied(after, reports, WarningCode.COERCED if values(changes, _MODIFIED) else None)


# Change state -----------------------------------------------------------------------------------------------


def _change_state(workitem: Workitem | None, command: ChangeState, now: datetime) -> Applied | Refused:
    """Change UPS State: the row is chosen by the asked state and the Transaction UID, the cell answers."""
    try:
        asked = ProcedureStepState(command.state)
    except ValueError:
        asked = None
    if workitem is None:
        return _refused(0xC307)
    if asked is None:
        return Refused(
            RefusalCode.INVALID_ATTRIBUTES,
            (Fault("ProcedureStepState", "must be IN PROGRESS, COMPLETED or CANCELED"),),
        )
    right_uid = is_uid(command.transaction_uid) and (
        workitem.state is ProcedureStepState.SCHEDULED or command.transaction_uid == workitem.transaction_uid
    )
    cell = TRANSITIONS[CHANGE_STATE_EVENTS[asked][0 if right_uid else 1]][workitem.state]
    match cell:
        case Effect.CLAIM:
            claimed = _in_state(
                workitem,
                ProcedureStepState.IN_PROGRESS,
                now,
                transaction_uid=command.transaction_uid,
                claimed_at=now,
                heard_at=now,
            )
            return _applied(claimed, [_state_report(claimed)])
        case Effect.COMPLETE:
            return _finish(workitem, ProcedureStepState.COMPLETED, now)
        case Effect.CANCEL:
            return _finish(_with_reason(workitem, {}, now), ProcedureStepState.CANCELED, now)
        case Effect():
            raise AssertionError(f"no change of state has the effect {cell}")
        case status:
            return _answer(workitem, status)


def _finish(workitem: Workitem, state: ProcedureStepState, now: datetime) -> Applied | Refused:
    """Move to a final state if its rules are met, else C304 with everything that is missing."""
    final = _in_state(workitem, state, now)
    unmet = final_state_faults(final.attributes, state)
    return unmet if unmet is not None else _applied(final, [_state_report(final)])


def _with_reason(workitem: Workitem, details: DicomJson, now: datetime) -> Workitem:
    """Fill what a canceled workitem must tell and its performer or requester did not.

    Cancellation time (CC.2.5-3: the SCP fills it in) and 110513 Discontinued for unspecified reason; the
    reason of a cancel request is taken over.
    """
    told = items(workitem.attributes, "ProcedureStepProgressInformationSequence")
    item: DicomJson = told[0] if told else {}
    wanted = [
        element("ProcedureStepCancellationDateTime", dicom_datetime(now)),
        element(
            "ProcedureStepDiscontinuationReasonCodeSequence", DISCONTINUED_FOR_UNSPECIFIED_REASON.to_json()
        ),
        {tag: value for tag, value in details.items() if tag in _REASON_TAGS},
        {tag: value for tag, value in item.items() if value.get("Value")},
    ]
    attributes = {**workitem.attributes, _PROGRESS: {"vr": "SQ", "Value": [merged(wanted)]}}
    return replace(workitem, attributes=dict(sorted(attributes.items())))


_REASON_TAGS = frozenset(
    {tag_key("ReasonForCancellation"), tag_key("ProcedureStepDiscontinuationReasonCodeSequence")}
)


# Request cancel ---------------------------------------------------------------------------------------------


def _request_cancel(workitem: Workitem | None, command: RequestCancel, now: datetime) -> Applied | Refused:
    """Request UPS Cancel (CC.2.2.3).

    A SCHEDULED workitem is canceled by way of IN PROGRESS, with the two state reports of table CC.1.1-2 and
    no event 2. For one IN PROGRESS the request is recorded and told; its performer decides.
    """
    if workitem is None:
        return _refused(0xC307)
    cell = TRANSITIONS[TransitionEvent.REQUEST_CANCEL][workitem.state]
    if not isinstance(cell, Effect):
        return _answer(workitem, cell)
    checked = checked_details(command.details, CANCEL_DETAILS)
    if isinstance(checked, Refused):
        return checked
    details, ignored = checked
    warning = WarningCode.ATTRIBUTES_IGNORED if ignored else None
    if cell is Effect.CANCEL_SCHEDULED:
        started = _in_state(workitem, ProcedureStepState.IN_PROGRESS, now)
        finished = _finish(_with_reason(started, details, now), ProcedureStepState.CANCELED, now)
        if isinstance(finished, Refused):
            return finished
        return _applied(finished.workitem, [_state_report(started), *finished.reports], warning)
    asker = command.requesting_ae.strip()
    asker = asker if is_ae_title(asker) else ANONYMOUS
    request = RequestedCancel(requested_at=now, requesting_ae=asker, details=details)
    asked = replace(workitem, cancel_requested=request, modified_at=now, version=workitem.version + 1)
    payload = report.cancel_requested(asker, details)
    return _applied(asked, [_report(EventType.CANCEL_REQUESTED, asked, payload)], warning)


def _withdraw(workitem: Workitem | None, command: Withdraw, now: datetime) -> Applied | Refused:
    """Cancel by the manager's own decision (CC.2.1.3), with the reports a watcher of the table expects."""
    if workitem is None:
        return _refused(0xC307)
    if workitem.state is ProcedureStepState.COMPLETED:
        return _refused(0xC300)
    if workitem.state is ProcedureStepState.CANCELED:
        return _applied(workitem, (), WarningCode.ALREADY_CANCELED)
    reports: list[StateReport] = []
    started = workitem
    if workitem.state is ProcedureStepState.SCHEDULED:
        started = _in_state(workitem, ProcedureStepState.IN_PROGRESS, now)
        reports.append(_state_report(started))
    told = items(started.attributes, "ProcedureStepProgressInformationSequence")
    item = merged(
        [
            {tag: value for tag, value in (told[0] if told else {}).items() if tag not in _REASON_TAGS},
            element("ReasonForCancellation", command.text),
            element("ProcedureStepDiscontinuationReasonCodeSequence", command.reason.to_json()),
        ]
    )
    attributes = merged([started.attributes, element("ProcedureStepProgressInformationSequence", item)])
    stated = _with_reason(replace(started, attributes=attributes), {}, now)
    finished = _finish(stated, ProcedureStepState.CANCELED, now)
    if isinstance(finished, Refused):
        return finished
    return _applied(finished.workitem, [*reports, *finished.reports])
