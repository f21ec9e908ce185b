# SPDX-License-Identifier: Apache-2.0
"""What is to be pushed to performers with their own worklists, planned in the transaction that assigns it.

Nothing is sent here: a job is written, and ``push.py`` does it. Meanwhile a workitem is kept from being
claimed by others.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiles.dicom_json import text
from profiles.faults import Fault
from profiles.uids import derived_uid
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.dispatch.assignment import is_ready, station_of
from task_manager.dispatch.model import PerformerOffer, Style, SubtaskRole, SubtaskState
from task_manager.outbox import JobKind, push_lane
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import subtasks
from task_manager.store.subtasks import Subtask
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import ChangeState, Command
from task_manager.workitem.model import Workitem

_PRIORITY = "ScheduledProcedureStepPriority"
PUSH_KEY = "push:"
"""Keys of push jobs begin with it and end with the UID of the child."""


class Pushing:
    """Plans what is to be pushed; a :class:`task_manager.transaction.Follower`, after that which assigns."""

    def __init__(self, offers: Sequence[PerformerOffer]) -> None:
        self._targets = frozenset(
            offer.ae_title for offer in offers if offer.style is Style.PUSH and offer.url
        )

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Plan to push a workitem that is for such a performer."""
        if self._targets:
            self.plan(work, workitem.uid)

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Plan to push what is assigned now, and let a push see that its workitem has changed."""
        del command, actor
        if not self._targets:
            return
        was, is_ = station_of(before.attributes), station_of(after.attributes)
        if self._targets.isdisjoint((was, is_)):
            return
        ended = after.is_final and not before.is_final
        urged = text(after.attributes, _PRIORITY) != text(before.attributes, _PRIORITY)
        if was != is_ or ended or urged or after.cancel_requested != before.cancel_requested:
            subtasks.hasten_pushes(work.connection, after.uid, work.now)
            work.hasten_jobs()
        if was != is_ or is_ready(after.attributes) != is_ready(before.attributes):
            self.plan(work, after.uid)

    def kept(
        self, work: WorklistTransaction, workitem: Workitem, command: Command, actor: Actor
    ) -> Accepted | Refused | None:
        """The refusal of a claim on a workitem that is pushed: X is the manager's, and Y its performer's.

        Whoever claimed X would do what is being done already. None for anything else.
        """
        if (
            not isinstance(command, ChangeState)
            or actor == WORKER
            or workitem.state is not ProcedureStepState.SCHEDULED
            or command.state != ProcedureStepState.IN_PROGRESS.value
            or station_of(workitem.attributes) not in self._targets
        ):
            return None
        pushed = [one for one in subtasks.subtasks_of_parent(work.connection, workitem.uid) if one.performer]
        if all(one.state is SubtaskState.DONE for one in pushed):
            return None
        message = "is pushed to its station by the task manager"
        return Refused(RefusalCode.NOT_AUTHORIZED, (Fault("ScheduledStationNameCodeSequence", message),))

    def plan(self, work: WorklistTransaction, uid: str) -> None:
        """Plan to push a workitem to its station, if that is a push performer and has not got it yet."""
        workitem = work.get(uid)  # followers before this one may have changed it
        if workitem is None or workitem.state is not ProcedureStepState.SCHEDULED:
            return
        station = station_of(workitem.attributes)
        if station not in self._targets or not is_ready(workitem.attributes):
            return
        pushed = [one for one in subtasks.subtasks_of_parent(work.connection, uid) if one.performer]
        if pushed and pushed[-1].performer == station and pushed[-1].state is not SubtaskState.DONE:
            return
        child_uid = derived_uid("pushed", uid, station, str(len(pushed) + 1))
        subtasks.add_subtask(
            work.connection,
            Subtask(
                parent_uid=uid,
                child_uid=child_uid,
                role=SubtaskRole.PUSHED,
                performer=station,
                state=SubtaskState.PLANNED,
                created_at=work.now,
            ),
        )
        work.plan(key=f"{PUSH_KEY}{child_uid}", lane=push_lane(station), kind=JobKind.PUSH, workitem_uid=uid)
