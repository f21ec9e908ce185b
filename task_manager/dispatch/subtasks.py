# SPDX-License-Identifier: Apache-2.0
"""Parents and children: one workitem done by way of another (IHE AIW-I TF-1:50.4.1.6).

No attribute of DICOM connects them (PS3.17 GGG.3.2). The manager performs the parent: it claims it when the
child is taken up, copies progress and results up, and ends it as the child ends. Where children come from is
not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from profiles.codes import DISCONTINUED_FOR_UNSPECIFIED_REASON, OBJECTS_INCORRECTLY_FORMATTED, Code
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text, values
from profiles.ups.context import code_in
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER
from task_manager.outcome import Refused
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import ChangeState, Update, Withdraw
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
PROGRESS = tag_key("ProcedureStepProgressInformationSequence")
PERFORMED = tag_key("UnifiedProcedureStepPerformedProcedureSequence")
_LEFT_OUT = frozenset(
    tag_key(keyword)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "ScheduledProcedureStepModificationDateTime",
        "ReplacedProcedureStepSequence",
    )
)
_REASONS = frozenset(
    tag_key(keyword)
    for keyword in (
        "ProcedureStepCancellationDateTime",
        "ReasonForCancellation",
        "ProcedureStepDiscontinuationReasonCodeSequence",
    )
)


def request_for_child(parent: DicomJson, changes: DicomJson) -> DicomJson:
    """Attributes of a create that asks for the same as `parent`, but for `changes`.

    Patient, request and all else that results copy is kept exactly (TF-3 Appendix V), also what peers added
    of their own; identity, progress and performed attributes are those of a new workitem.
    """
    kept = {tag: value for tag, value in parent.items() if tag not in _LEFT_OUT}
    return merged(
        [
            kept,
            element("TransactionUID"),
            element("ProcedureStepState", ProcedureStepState.SCHEDULED.value),
            {PROGRESS: {"vr": "SQ"}, PERFORMED: {"vr": "SQ"}},
            changes,
        ]
    )


def progress_changes(parent: DicomJson, child: DicomJson) -> DicomJson:
    """Changes that let the parent tell what the child tells of its progress; empty if it does already.

    Why the child was canceled is not progress: it is told when the parent is canceled.
    """
    found = items(child, "ProcedureStepProgressInformationSequence")
    told = {tag: value for tag, value in (found[0] if found else {}).items() if tag not in _REASONS}
    if not told or values(parent, "ProcedureStepProgressInformationSequence") == [told]:
        return {}
    return {PROGRESS: {"vr": "SQ", "Value": [told]}}


def performed_changes(parent: DicomJson, child: DicomJson) -> DicomJson:
    """Changes that let the parent list what the child performed and made; empty if it does already."""
    told = values(child, "UnifiedProcedureStepPerformedProcedureSequence")
    if not told or values(parent, "UnifiedProcedureStepPerformedProcedureSequence") == told:
        return {}
    return {PERFORMED: {"vr": "SQ", "Value": list(told)}}


def discontinuation(attributes: DicomJson) -> tuple[Code, str]:
    """Why a workitem was canceled: its first reason code, else 110513, and its text."""
    told = items(attributes, "ProcedureStepProgressInformationSequence")
    return request_reason(told[0] if told else {})


def request_reason(details: DicomJson) -> tuple[Code, str]:
    """Why a cancel request wants it: its first reason code, else 110513, and its text."""
    codes = [code_in(one) for one in items(details, "ProcedureStepDiscontinuationReasonCodeSequence")]
    reason = next((code for code in codes if code.value), DISCONTINUED_FOR_UNSPECIFIED_REASON)
    return reason, text(details, "ReasonForCancellation") or reason.meaning


class ParentWork:
    """What the manager does with parents, as their performer.

    Parameters
    ----------
    new_transaction_uid
        Makes the Transaction UID it claims a parent with: nobody may guess it.
    """

    def __init__(self, new_transaction_uid: Callable[[], str]) -> None:
        self._new_transaction_uid = new_transaction_uid

    def take_up(self, work: WorklistTransaction, uid: str) -> bool:
        """Claim a SCHEDULED parent; whether it is the manager's and IN PROGRESS now."""
        parent = work.get(uid)
        if parent is None or parent.is_final:
            return False
        if parent.state is ProcedureStepState.IN_PROGRESS:
            return self.holds(work, uid)
        claim = ChangeState(
            state=ProcedureStepState.IN_PROGRESS.value, transaction_uid=self._new_transaction_uid()
        )
        return not isinstance(work.apply(uid, claim, actor=WORKER), Refused)

    def holds(self, work: WorklistTransaction, uid: str) -> bool:
        """Whether the manager itself has claimed a parent."""
        parent = work.get(uid)
        return (
            parent is not None
            and parent.state is ProcedureStepState.IN_PROGRESS
            and work.dispatch(uid).claimed_by == WORKER.name
        )

    def follow(self, work: WorklistTransaction, uid: str, changes: DicomJson) -> None:
        """Copy `changes` to a parent that the manager holds; without any, tell that its child is alive."""
        parent = work.get(uid)
        if parent is not None and self.holds(work, uid):
            update = Update(changes=changes, transaction_uid=parent.transaction_uid)
            self._note(work.apply(uid, update, actor=WORKER), uid)

    def complete(self, work: WorklistTransaction, uid: str, performed: DicomJson) -> bool:
        """Complete a parent with what was performed; whether that went. If it does not, it is canceled.

        A child that tells less than the rules of COMPLETED ask for (PS3.4 CC.2.5-3, code P) is one.
        """
        if not self.take_up(work, uid):
            return False
        self.follow(work, uid, performed)
        parent = work.get(uid)
        if parent is None:
            return False
        done = ChangeState(state=ProcedureStepState.COMPLETED.value, transaction_uid=parent.transaction_uid)
        outcome = work.apply(uid, done, actor=WORKER)
        if not isinstance(outcome, Refused):
            return True
        self._note(outcome, uid)
        lacking = ", ".join(fault.path for fault in outcome.faults[:10])
        self.cancel(work, uid, OBJECTS_INCORRECTLY_FORMATTED, f"performer did not tell {lacking}"[:1024])
        return False

    def cancel(self, work: WorklistTransaction, uid: str, reason: Code, why: str) -> None:
        """Cancel a parent because of its child; a final one stays as it is."""
        parent: Workitem | None = work.get(uid)
        if parent is not None and not parent.is_final:
            self._note(work.apply(uid, Withdraw(reason=reason, text=why), actor=WORKER), uid)

    def _note(self, outcome: object, uid: str) -> None:
        if isinstance(outcome, Refused):
            extra = {
                "action": "subtask.refused",
                "workitem": uid,
                "code": outcome.code.value,
                "faults": len(outcome.faults),
            }
            _LOG.error("what a sub-task tells does not fit its workitem", extra=extra)
