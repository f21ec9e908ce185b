# SPDX-License-Identifier: Apache-2.0
"""Results that go to a reviewer before anybody else sees them (IHE AIW-I TF-1:50.4.2.6).

X is kept by the manager. Y1 asks for the inference, with our own store as destination; when it is done, Y2
asks for its review; when that is done, X is completed with what the reviewer let pass, and then delivered.
X, Y1 and Y2 are workitems of this store: Y1 may itself be pushed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from profiles.codes import ASSIGNMENT_REJECTED, OBJECT_SET_INCOMPLETE, Code
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text, values
from profiles.faults import Fault
from profiles.uids import derived_uid
from profiles.ups.context import code_item
from profiles.ups.references import InstanceReference, information_items, listed_instances
from profiles.ups.states import ProcedureStepState
from profiles.ups.times import dicom_datetime
from task_manager.actor import WORKER, Actor
from task_manager.dispatch.assignment import app_of, assigned, is_ready, station_of
from task_manager.dispatch.leases import replaced_uids
from task_manager.dispatch.model import SubtaskRole, SubtaskState, Verification
from task_manager.dispatch.subtasks import (
    PERFORMED,
    ParentWork,
    discontinuation,
    progress_changes,
    request_for_child,
    request_reason,
)
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import studies, subtasks
from task_manager.store.records import Dispatch
from task_manager.store.subtasks import Subtask
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import ChangeState, Command, Rearrange, RequestCancel
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_LABEL_CHARACTERS = 64
_HANDED_ON = tuple(
    tag_key(keyword)
    for keyword in (
        "ScheduledProcedureStepPriority",
        "ScheduledProcessingParametersSequence",
        "InputInformationSequence",
        "ScheduledProcedureStepStartDateTime",
        "ExpectedCompletionDateTime",
        "ScheduledProcedureStepExpirationDateTime",
        "CommentsOnTheScheduledProcedureStep",
    )
)
"""What its creator may still change of X while Y1 waits too."""


def review_request(
    parent: DicomJson, verification: Verification, inputs: Sequence[DicomJson], start: str
) -> DicomJson:
    """Attributes of Y2: the review of `inputs`, with X's own destination, for whom the site has named."""
    return request_for_child(
        parent,
        merged(
            [
                element("ScheduledWorkitemCodeSequence", code_item(verification.code)),
                element(
                    "ProcedureStepLabel", f"Review: {text(parent, 'ProcedureStepLabel')}"[:_LABEL_CHARACTERS]
                ),
                element("ScheduledProcessingParametersSequence"),
                element("ScheduledProcedureStepStartDateTime", start),
                element("InputReadinessState", "READY"),
                element("InputInformationSequence", *inputs),
                assigned(
                    station=verification.station,
                    station_class=verification.station_class,
                    organization=verification.organization,
                ),
            ]
        ),
    )


def verified_performed(inference: DicomJson, review: DicomJson) -> DicomJson:
    """Changes to X: what the inference performed, with the outputs that the reviewer let pass.

    The outputs are those that the review lists; if it lists none, the reviewer accepted those of the
    inference as they are. The reviewer becomes an actual human performer, the end is that of the review.
    """
    done = items(inference, "UnifiedProcedureStepPerformedProcedureSequence")
    seen = items(review, "UnifiedProcedureStepPerformedProcedureSequence")
    by: DicomJson = seen[0] if seen else {}
    parts = [done[0] if done else {}]
    taken = [
        "ActualHumanPerformersSequence",
        "PerformedProcedureStepEndDateTime",
        "OutputInformationSequence",
    ]
    parts += [{tag_key(name): by[tag_key(name)]} for name in taken if values(by, name)]
    return {PERFORMED: {"vr": "SQ", "Value": [merged(parts)]}}


class Verifying:
    """Splits X into Y1 and Y2 and brings them together again; a :class:`task_manager.transaction.Follower`.

    Has to come before the follower that assigns: X is the manager's own, Y1 and Y2 are for others.

    Parameters
    ----------
    verifications
        App to how its results are verified; other apps' workitems are left alone.
    codes
        App to its Scheduled Workitem Code.
    station
        The manager's own AE title: X is assigned to it.
    base_url
        Of our DICOMweb door: Y1's results are stored there, Y2's inputs retrieved.
    """

    def __init__(
        self,
        verifications: Mapping[str, Verification],
        codes: Mapping[str, Code],
        parents: ParentWork,
        *,
        station: str,
        base_url: Callable[[], str],
    ) -> None:
        self._verifications = dict(verifications)
        self._codes = {app: codes[app] for app in verifications if app in codes}
        self._reviews = [verification.code for verification in verifications.values()]
        self._parents = parents
        self._station = station
        self._base_url = base_url

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Keep a workitem of a verified app for the manager, and hand the inference on once it is ready."""
        if is_ready(workitem.attributes) and self._is_parent(work, workitem):
            self._keep(work, workitem)

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Bring children after their parent, and the parent after its child."""
        del actor
        if not self._concerns(after):
            return
        relation = subtasks.subtask_of_child(work.connection, after.uid)
        if relation is not None:
            if relation.state is not SubtaskState.DONE:
                self._child_changed(work, relation, before, after)
        elif self._is_parent(work, after):
            self._parent_changed(work, before, after, command)

    def kept(
        self, work: WorklistTransaction, workitem: Workitem, command: Command, actor: Actor
    ) -> Accepted | Refused | None:
        """The refusal of a claim on a workitem that the manager performs; None for anything else.

        Whoever claimed X would deliver what nobody has verified.
        """
        if (
            not isinstance(command, ChangeState)
            or actor == WORKER
            or workitem.state is not ProcedureStepState.SCHEDULED
            or command.state != ProcedureStepState.IN_PROGRESS.value
            or not self._is_parent(work, workitem)
        ):
            return None
        message = "is performed by the task manager, by way of sub-tasks"
        return Refused(RefusalCode.NOT_AUTHORIZED, (Fault("ScheduledWorkitemCodeSequence", message),))

    def _concerns(self, workitem: Workitem) -> bool:
        """Whether it may be one of three, by its code: most are not, and need no look into the store."""
        if not self._verifications:
            return False
        codes = [*self._codes.values(), *self._reviews]
        return bool(app_of({str(n): code for n, code in enumerate(codes)}, workitem.attributes))

    def _is_parent(self, work: WorklistTransaction, workitem: Workitem) -> bool:
        if not app_of(self._codes, workitem.attributes):
            return False
        family = (workitem.uid, *replaced_uids(workitem.attributes))  # what replaces a child is one
        return not any(subtasks.subtask_of_child(work.connection, uid) for uid in family)

    def _keep(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Assign X to the manager; whom it was assigned to does the inference."""
        theirs: DicomJson = {}
        if station_of(workitem.attributes) != self._station:
            theirs = {
                tag: workitem.attributes[tag]
                for tag in assigned()
                if workitem.attributes.get(tag, {}).get("Value")
            }
        work.apply(workitem.uid, Rearrange(changes=assigned(station=self._station)), actor=WORKER)
        self._hand_on(work, workitem.uid, theirs)

    def _hand_on(self, work: WorklistTransaction, uid: str, theirs: DicomJson) -> None:
        """Create Y1: all that X asks for, with our own store as destination and nobody to deliver to."""
        parent = work.get(uid)
        if parent is None:
            return
        child_uid = derived_uid("inference", uid)
        destination = element("STOWRSStorageSequence", element("StorageURL", f"{self._base_url()}/studies"))
        changes = merged([assigned(), theirs, element("OutputDestinationSequence", destination)])
        self._create(
            work,
            Subtask(
                parent_uid=uid,
                child_uid=child_uid,
                role=SubtaskRole.INFERENCE,
                state=SubtaskState.OPEN,
                created_at=work.now,
            ),
            request_for_child(parent.attributes, changes),
            app_of(self._codes, parent.attributes),
        )

    def _create(self, work: WorklistTransaction, subtask: Subtask, attributes: DicomJson, app: str) -> None:
        subtasks.add_subtask(work.connection, subtask)  # first: others ask what the new workitem is
        outcome = work.create(subtask.child_uid, attributes, actor=WORKER, dispatch=Dispatch(app=app))
        if isinstance(outcome, Refused):
            extra = {"action": "subtask.refused", "workitem": subtask.parent_uid, "code": outcome.code.value}
            _LOG.error("sub-task refused by our own rules", extra=extra)
            self._done(work, subtask)
            self._parents.cancel(
                work,
                subtask.parent_uid,
                OBJECT_SET_INCOMPLETE,
                "its results could not be handed on for review",
            )

    def _parent_changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command
    ) -> None:
        children = [
            child
            for child in subtasks.subtasks_of_parent(work.connection, after.uid)
            if not child.performer  # what is pushed has another keeper
        ]
        if after.state is ProcedureStepState.SCHEDULED:
            if not children and is_ready(after.attributes) and not is_ready(before.attributes):
                self._keep(work, after)
            elif children:
                self._pass_changes(work, before, after, children[-1])
            return
        if after.is_final and not before.is_final:
            for child in children:
                if child.state is not SubtaskState.DONE:
                    self._done(work, child)
                    self._ask_to_stop(work, child, RequestCancel(details=_details(after.attributes)))
        elif isinstance(command, RequestCancel):
            for child in children:
                if child.state is not SubtaskState.DONE:
                    self._ask_to_stop(work, child, command)

    def _pass_changes(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, child: Subtask
    ) -> None:
        """What X's creator changes while Y1 waits is changed there too."""
        changes = {
            tag: after.attributes[tag]
            for tag in _HANDED_ON
            if tag in after.attributes and after.attributes[tag] != before.attributes.get(tag)
        }
        waiting = work.get(child.child_uid) if changes and child.role is SubtaskRole.INFERENCE else None
        if waiting is not None and waiting.state is ProcedureStepState.SCHEDULED:
            work.apply(child.child_uid, Rearrange(changes=changes), actor=WORKER)

    def _ask_to_stop(self, work: WorklistTransaction, child: Subtask, command: RequestCancel) -> None:
        found = work.get(child.child_uid)
        if found is not None and not found.is_final:
            work.apply(child.child_uid, command, actor=WORKER)

    def _child_changed(
        self, work: WorklistTransaction, relation: Subtask, before: Workitem, after: Workitem
    ) -> None:
        uid = relation.parent_uid
        if after.state is ProcedureStepState.IN_PROGRESS:
            if self._parents.take_up(work, uid):
                parent = work.get(uid)
                changes = progress_changes(parent.attributes, after.attributes) if parent else {}
                if changes:
                    self._parents.follow(work, uid, changes)
        elif after.state is ProcedureStepState.CANCELED:
            self._done(work, relation)
            reason, why = discontinuation(after.attributes)
            if relation.role is SubtaskRole.VERIFICATION and reason.same_concept(ASSIGNMENT_REJECTED):
                told = "the review was rejected by whom it is for"  # and the inference is done
                work.set_dispatch(after.uid, replace(work.dispatch(after.uid), attention=told))
            self._parents.cancel(work, uid, reason, why)
        elif after.state is ProcedureStepState.COMPLETED and before.state is not after.state:
            self._done(work, relation)
            if relation.role is SubtaskRole.INFERENCE:
                self._ask_for_review(work, uid, after)
            else:
                self._finish(work, uid, after)

    def _ask_for_review(self, work: WorklistTransaction, uid: str, inference: Workitem) -> None:
        if not self._parents.take_up(work, uid):
            return
        parent = work.get(uid)
        if parent is None:
            return
        if parent.cancel_requested is not None:  # nobody needs the review, though the inference went on
            self._parents.cancel(work, uid, *request_reason(parent.cancel_requested.details))
            return
        app = app_of(self._codes, parent.attributes)
        verification = self._verifications[app]
        inputs = self._retrievable(work, inference.attributes)
        attributes = review_request(parent.attributes, verification, inputs, dicom_datetime(work.now))
        relation = Subtask(
            parent_uid=uid,
            child_uid=derived_uid("review", uid),
            role=SubtaskRole.VERIFICATION,
            state=SubtaskState.OPEN,
            created_at=work.now,
        )
        self._create(work, relation, attributes, "")

    def _retrievable(self, work: WorklistTransaction, inference: DicomJson) -> list[DicomJson]:
        """The outputs of Y1 as inputs of Y2, with our own address where we have them."""
        done = items(inference, "UnifiedProcedureStepPerformedProcedureSequence")
        outputs = [item for one in done for item in items(one, "OutputInformationSequence")]
        wanted = {reference.sop_instance_uid for reference in listed_instances(outputs)}
        stored = studies.find_instances(work.connection, sop_instance_uids=sorted(wanted)) if wanted else []
        if {instance.sop_instance_uid for instance in stored} != wanted:
            return outputs
        references = [
            InstanceReference(
                study_instance_uid=instance.study_instance_uid,
                series_instance_uid=instance.series_instance_uid,
                sop_class_uid=instance.sop_class_uid,
                sop_instance_uid=instance.sop_instance_uid,
            )
            for instance in stored
        ]
        return information_items(references, self._base_url())

    def _finish(self, work: WorklistTransaction, uid: str, review: Workitem) -> None:
        children = subtasks.subtasks_of_parent(work.connection, uid)
        first = next((one.child_uid for one in reversed(children) if one.role is SubtaskRole.INFERENCE), "")
        inference = work.get(first)
        if inference is not None:
            performed = verified_performed(inference.attributes, review.attributes)
            self._parents.complete(work, uid, performed)

    def _done(self, work: WorklistTransaction, relation: Subtask) -> None:
        subtasks.set_subtask_state(
            work.connection, relation.parent_uid, relation.child_uid, SubtaskState.DONE
        )


def _details(attributes: DicomJson) -> DicomJson:
    """Why the parent was canceled, as the details of a cancel request to its child."""
    reason, why = discontinuation(attributes)
    return merged(
        [
            element("ReasonForCancellation", why),
            element("ProcedureStepDiscontinuationReasonCodeSequence", code_item(reason)),
        ]
    )
