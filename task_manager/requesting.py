# SPDX-License-Identifier: Apache-2.0
"""Workitems of others that ask for what the rules give (IHE AIW-I TF-1:50.4: a Task Requester that asks us).

X, such a workitem, is the manager's: nobody else may claim it. It becomes a request; when rules have made
work for its study it is IN PROGRESS, and it ends as that work ends. Workitems that rules or the manager made
never ask for anything, whatever their code: there is no way back into the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from profiles.codes import OBJECT_SET_INCOMPLETE, OBJECTS_INCORRECTLY_FORMATTED
from profiles.dicom_json import DicomJson, first, items, merged, text, values
from profiles.faults import Fault
from profiles.order import Order, OrderControl, Priority
from profiles.request import Request, RequestKind, Trigger, blank_order
from profiles.uids import is_uid
from profiles.ups.context import code_in, code_of
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.dispatch.assignment import assigned
from task_manager.dispatch.leases import replaced_uids
from task_manager.dispatch.subtasks import PERFORMED, ParentWork, discontinuation, request_reason
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.request_intake import Recorded
from task_manager.store import requests, subtasks
from task_manager.store.orders import OrderStatus
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import ChangeState, Command, Rearrange, RequestCancel, Withdraw
from task_manager.workitem.model import Workitem

_OUTPUTS = "OutputInformationSequence"
_NO_RULE = "no rule gives work on the study"
_NO_STUDY = "names neither a study nor an accession number"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestingKind:
    """Which workitems ask: by code (of any scheme, if none is named), by worklist label, or by both.

    `app` is asked for with them; empty leaves it to the rules.
    """

    code: str = ""
    scheme: str = ""
    worklist_label: str = ""
    app: str = ""

    def is_of(self, attributes: DicomJson) -> bool:
        """Whether a workitem is one of these."""
        code = code_of(attributes, "ScheduledWorkitemCodeSequence")
        if self.code and (code is None or code.value != self.code or self.scheme not in ("", code.scheme)):
            return False
        return not self.worklist_label or text(attributes, "WorklistLabel") == self.worklist_label


def workitem_request(uid: str, attributes: DicomJson, app: str, actor: Actor) -> Request:
    """What a requesting workitem asks for: its first study, with what it says of patient and procedure."""
    requested = next(iter(items(attributes, "ReferencedRequestSequence")), {})
    told = text(attributes, "ScheduledProcedureStepPriority")
    priority = Priority(told) if told in set(Priority) else None
    codes = [code_in(one) for one in items(requested, "RequestedProcedureCodeSequence")]
    asked: Order = replace(
        blank_order(
            study_instance_uid=_study(attributes, requested),
            accession_number=text(requested, "AccessionNumber"),
            patient_id=text(attributes, "PatientID"),
            priority=priority,
        ),
        issuer_of_patient_id=text(attributes, "IssuerOfPatientID"),
        patient_name=_name(attributes),
        patient_birth_date=text(attributes, "PatientBirthDate"),
        patient_sex=text(attributes, "PatientSex"),
        requested_procedure_id=text(requested, "RequestedProcedureID"),
        requested_procedure_description=text(requested, "RequestedProcedureDescription"),
        requested_procedure_code=next((code for code in codes if code.value), None),
        reason=text(requested, "ReasonForTheRequestedProcedure"),
        comments=text(attributes, "CommentsOnTheScheduledProcedureStep"),
    )
    trigger = Trigger(
        kind=RequestKind.WORKITEM,
        source=actor.name or actor.door,
        requester=text(requested, "RequestingService"),
        app=app,
        priority=priority,
    )
    return Request(name=uid, trigger=trigger, asked=asked)


def _study(attributes: DicomJson, requested: DicomJson) -> str:
    inputs = items(attributes, "InputInformationSequence")
    for item in (*inputs, attributes, requested):
        uid = text(item, "StudyInstanceUID")
        if is_uid(uid):
            return uid
    return ""


def _name(attributes: DicomJson) -> str:
    name = first(attributes, "PatientName")
    return str(name.get("Alphabetic", "")) if isinstance(name, dict) else ""


Ask = Callable[[WorklistTransaction, Request, Actor], Recorded | Refused]


class Requesting:
    """What the manager does with requesting workitems; a follower and an interceptor of transactions.

    Parameters
    ----------
    station
        The manager's own AE title: the station they are assigned to.
    ask
        Records a request in the transaction; without it no workitem asks.
    """

    def __init__(
        self, kinds: Sequence[RequestingKind], parents: ParentWork, *, station: str, ask: Ask | None
    ) -> None:
        self._kinds = tuple(kinds) if ask is not None else ()
        self._parents = parents
        self._station = station
        self._record = ask
        self._made: WeakKeyDictionary[WorklistTransaction, list[str]] = WeakKeyDictionary()

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Take X for the manager and ask for what it asks for; remember what rules make meanwhile."""
        if not self._kinds:
            return
        if work.origin(workitem.uid).rule:
            self._made.setdefault(work, []).append(workitem.uid)
            return
        kind = self._kind(work, workitem)
        if kind is None:
            return
        work.apply(workitem.uid, Rearrange(changes=assigned(station=self._station)), actor=WORKER)
        request = workitem_request(workitem.uid, workitem.attributes, kind.app, work.creator)
        if not request.asked.study_instance_uid and not request.asked.accession_number:
            self._withdraw(work, workitem.uid, _NO_STUDY)
            return
        told = self._ask(work, request, work.creator)
        if isinstance(told, Refused):
            why = "; ".join(str(fault) for fault in told.faults)
            self._withdraw(work, workitem.uid, f"cannot be joined to a study: {why}"[:1024])

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Take a request back with its X; bring X after the work that was made for it.

        What the manager itself cancels is often replaced in the same breath: that is settled when rules were
        tried.
        """
        if not self._kinds or (actor == WORKER and isinstance(command, Rearrange)):
            return
        if work.origin(after.uid).rule:
            is_tried_again = isinstance(command, RequestCancel) and actor == WORKER
            if after.state is not before.state and not is_tried_again:
                self._settle_all(work, after)
        elif after.state is ProcedureStepState.CANCELED or isinstance(command, RequestCancel):
            self._take_back(work, after, command)

    def kept(
        self, work: WorklistTransaction, workitem: Workitem, command: Command, actor: Actor
    ) -> Accepted | Refused | None:
        """The refusal of a claim on X: it is performed by the manager. None for anything else."""
        if (
            not self._kinds
            or not isinstance(command, ChangeState)
            or actor == WORKER
            or workitem.state is not ProcedureStepState.SCHEDULED
            or work.origin(workitem.uid).rule
            or self._request(work, workitem.uid) is None
        ):
            return None
        message = "is performed by the task manager, by way of its rules"
        return Refused(RefusalCode.NOT_AUTHORIZED, (Fault("ScheduledWorkitemCodeSequence", message),))

    def settle(
        self, work: WorklistTransaction, *, study_instance_uid: str, accession_number: str, patient_id: str
    ) -> None:
        """Bring every X of a study after what rules made of it; called when they were tried, too."""
        if not self._kinds:
            return
        asked = requests.requests_of_study(
            work.connection,
            study_instance_uid=study_instance_uid,
            accession_number=accession_number,
            patient_id=patient_id,
        )
        for one in asked:
            if one.kind is RequestKind.WORKITEM and one.status is OrderStatus.ACTIVE:
                uid = one.request_key.partition(":")[2]
                workitem = work.get(uid)
                if workitem is not None and not workitem.is_final:
                    self._settle(work, uid, self._work(work, study_instance_uid, one.app))

    def _ask(self, work: WorklistTransaction, request: Request, actor: Actor) -> Recorded | Refused:
        assert self._record is not None  # no kinds without it
        return self._record(work, request, actor)

    def _kind(self, work: WorklistTransaction, workitem: Workitem) -> RequestingKind | None:
        if work.creator == WORKER or replaced_uids(workitem.attributes):
            return None
        if subtasks.subtask_of_child(work.connection, workitem.uid) is not None:
            return None
        return next((kind for kind in self._kinds if kind.is_of(workitem.attributes)), None)

    def _request(self, work: WorklistTransaction, uid: str) -> requests.KeptRequest | None:
        return requests.request_by_key(work.connection, f"{RequestKind.WORKITEM.value}:{uid}")

    def _settle_all(self, work: WorklistTransaction, workitem: Workitem) -> None:
        requested = next(iter(items(workitem.attributes, "ReferencedRequestSequence")), {})
        self.settle(
            work,
            study_instance_uid=text(workitem.attributes, "StudyInstanceUID")
            or _study(workitem.attributes, {}),
            accession_number=text(requested, "AccessionNumber"),
            patient_id=text(workitem.attributes, "PatientID"),
        )

    def _work(self, work: WorklistTransaction, study_instance_uid: str, app: str) -> list[Workitem]:
        """What rules made of a study that counts: not what was canceled, unless all was."""
        written = requests.work_of_studies(work.connection, [study_instance_uid])
        uids = dict.fromkeys((*(uid for uid, _, _ in written), *self._made.get(work, ())))
        found = [
            one for uid in uids if (one := work.get(uid)) is not None and app in ("", work.dispatch(uid).app)
        ]
        living = [one for one in found if one.state is not ProcedureStepState.CANCELED]
        return living or found

    def _settle(self, work: WorklistTransaction, uid: str, made: Sequence[Workitem]) -> None:
        if not made:
            self._withdraw(work, uid, _NO_RULE)
        elif any(not one.is_final for one in made):
            self._parents.take_up(work, uid)
        elif made[0].state is ProcedureStepState.CANCELED:
            reason, why = discontinuation(made[-1].attributes)
            self._parents.cancel(work, uid, reason, why)
        else:
            self._parents.complete(work, uid, _performed(made))

    def _take_back(self, work: WorklistTransaction, x: Workitem, command: Command) -> None:
        """The request of X ends with it; X ends at once, its work is stopped as that of a canceled order."""
        kept = self._request(work, x.uid)
        if kept is None or kept.status is OrderStatus.REVOKED:
            return
        if isinstance(command, Withdraw) and command.text == _NO_RULE:
            return  # nothing to stop: the request stays as it was
        request = workitem_request(x.uid, x.attributes, kept.app, Actor(door="ups", name=kept.source))
        canceled = replace(request, asked=replace(request.asked, control=OrderControl.CANCEL))
        self._ask(work, canceled, WORKER)
        if not x.is_final and isinstance(command, RequestCancel):
            reason, why = request_reason(command.details)
            self._parents.cancel(work, x.uid, reason, why)

    def _withdraw(self, work: WorklistTransaction, uid: str, why: str) -> None:
        reason = OBJECT_SET_INCOMPLETE if why == _NO_RULE else OBJECTS_INCORRECTLY_FORMATTED
        work.apply(uid, Withdraw(reason=reason, text=why), actor=WORKER)


def _performed(made: Sequence[Workitem]) -> DicomJson:
    """What was performed by several workitems as one: the last of them, with the outputs of all."""
    done = [
        item
        for one in made
        for item in items(one.attributes, "UnifiedProcedureStepPerformedProcedureSequence")
    ]
    if not done:
        return {}
    outputs = [output for item in done for output in values(item, _OUTPUTS)]
    listed = {"vr": "SQ", "Value": outputs} if outputs else {"vr": "SQ"}
    whole = merged([done[-1], {"00404033": listed}])
    return {PERFORMED: {"vr": "SQ", "Value": [whole]}}
