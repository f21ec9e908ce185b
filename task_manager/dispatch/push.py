# SPDX-License-Identifier: Apache-2.0
"""Work that is pushed to a performer with a worklist of its own (IHE AIW-I TF-1:50.4.2.3).

X is the workitem here, Y its copy on the performer, planned by ``pushing.py``. :class:`PushStep` is what the
worker does for it again and again, until Y is final and X says so too. Y's UID is derived from X's, so a push
that was cut off is found again instead of being made twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from profiles.codes import ASSIGNMENT_REJECTED, EQUIPMENT_FAILURE, RESOURCE_INADEQUATE
from profiles.dicom_json import DicomJson, element, merged, text
from profiles.ups.context import code_item
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER
from task_manager.dispatch.assignment import Assignment, station_of
from task_manager.dispatch.model import LeaseLimits, PerformerOffer, SubtaskState
from task_manager.dispatch.pushing import PUSH_KEY, Pushing
from task_manager.dispatch.subtasks import (
    ParentWork,
    discontinuation,
    performed_changes,
    progress_changes,
    request_for_child,
)
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.outbox import Job
from task_manager.store import subtasks, workitems
from task_manager.store.database import Database
from task_manager.store.subtasks import Subtask
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import Withdraw
from task_manager.workitem.model import RequestedCancel, Workitem

_LOG = logging.getLogger(__name__)
_PRIORITY = "ScheduledProcedureStepPriority"
_LONGEST_PAUSE = timedelta(minutes=5)
_SHARE_OF_SILENCE = 4  # a holder that is alive says so this often within the silence allowed


class PushTarget(Protocol):
    """The worklist of a performer. All methods but `listen` raise what deliverers raise."""

    def create(self, uid: str, attributes: DicomJson) -> None:
        """Create a workitem; one that is there already counts as created."""

    def retrieve(self, uid: str) -> DicomJson | None:
        """A workitem; None if the performer does not know it."""

    def update(self, uid: str, changes: DicomJson) -> None:
        """Change a workitem that waits; one that has begun, or may not be changed, stays as it is."""

    def request_cancel(self, uid: str, details: DicomJson) -> None:
        """Ask to cancel a workitem; one that is final or unknown needs none."""

    def watch(self, uid: str) -> None:
        """Subscribe to a workitem, with a deletion lock."""

    def release(self, uid: str) -> None:
        """Unsubscribe from a workitem."""

    def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with the UID of each workitem that an event report comes of, from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """What is known of one push.

    `wanted`: the workitem still is to be done, by this performer and this child.
    """

    parent: Workitem
    child: Subtask
    wanted: bool
    app: str
    number: int
    attention: str


@dataclass(slots=True)
class _Silence:
    """Since when and how often in a row a performer did not answer about one child."""

    since: datetime
    times: int = 0


class PushStep:
    """What the worker does with the jobs of one push performer. For one thread.

    Parameters
    ----------
    limits
        Lease limits by name of the app.
    poll
        Pause between two looks at Y when no event comes.
    wake
        Called when an event made a job due.
    """

    def __init__(
        self,
        offer: PerformerOffer,
        target: PushTarget,
        transact: Callable[[], AbstractContextManager[WorklistTransaction]],
        database: Database,
        assignment: Assignment,
        pushing: Pushing,
        parents: ParentWork,
        *,
        limits: Callable[[str], LeaseLimits],
        poll: timedelta,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._offer = offer
        self._target = target
        self._transact = transact
        self._database = database
        self._assignment = assignment
        self._pushing = pushing
        self._parents = parents
        self._limits = limits
        self._poll = poll
        self._clock = clock
        self._wake = wake
        self._silent: dict[str, _Silence] = {}
        self._asked: dict[str, RequestedCancel | None] = {}
        self._urged: dict[str, str] = {}
        self._news: set[str] = set()

    def listen(self) -> None:
        """Hear of events from now on; without any, polling finds out."""
        self._target.listen(self.heard)

    def heard(self, child_uid: str) -> None:
        """Look at a pushed workitem soon: its performer told something of it.

        Raises
        ------
        StoreError
            If the database fails.
        """
        self._news.add(child_uid)
        with self._database.write() as connection:
            parent_uid = subtasks.pushed_parent(connection, child_uid, self._offer.ae_title)
            if parent_uid:
                subtasks.hasten_pushes(connection, parent_uid, self._clock())
        self._wake()

    def perform(self, job: Job) -> datetime | None:
        """Take the next step of a push; when to look again, None if it is done.

        Raises
        ------
        StoreError
            If the database fails.
        """
        self._news.discard(job.key.removeprefix(PUSH_KEY))
        push = self._read(job)
        if push is None:
            return None
        try:
            due = self._step(push) if push.wanted else self._revoke(push)
        except RetryableDeliveryError as error:
            return self._no_answer(push, error)
        except FinalDeliveryError as error:
            extra = {"action": "push.refused", **self._facts(push), "error": str(error)}
            _LOG.error("performer refuses what is pushed to it", extra=extra)
            self._refused(push)
            due = None
        self._silent.pop(push.child.child_uid, None)
        self._attend_no_more(push)
        if due is None:
            self._asked.pop(push.child.child_uid, None)
            self._urged.pop(push.child.child_uid, None)
        elif push.child.child_uid in self._news:  # told while we looked: it may have been too early
            return self._clock()
        return due

    def _read(self, job: Job) -> _Push | None:
        """The push of a job; None when it is over."""
        child_uid = job.key.removeprefix(PUSH_KEY)
        with self._database.read() as connection:
            record = workitems.record_by_uid(connection, job.workitem_uid)
            pushed = [
                one for one in subtasks.subtasks_of_parent(connection, job.workitem_uid) if one.performer
            ]
        child = next((one for one in pushed if one.child_uid == child_uid), None)
        if record is None or child is None or child.state is SubtaskState.DONE:
            return None
        newest = [one for one in pushed if one.performer == child.performer][-1]
        return _Push(
            parent=record.workitem,
            child=child,
            wanted=child is newest and self._wants(record.workitem, record.dispatch.claimed_by),
            app=record.dispatch.app,
            number=sum(one.performer == child.performer for one in pushed),
            attention=record.dispatch.attention,
        )

    def _wants(self, parent: Workitem, claimed_by: str) -> bool:
        if station_of(parent.attributes) != self._offer.ae_title:
            return False
        if parent.state is ProcedureStepState.IN_PROGRESS:
            return claimed_by == WORKER.name
        return parent.state is ProcedureStepState.SCHEDULED

    # Y is wanted

    def _step(self, push: _Push) -> datetime | None:
        if push.child.state is SubtaskState.PLANNED:
            return self._create(push)
        self._pass_cancel_request(push)
        found = self._target.retrieve(push.child.child_uid)
        if found is None:
            return self._lost(push)
        match text(found, "ProcedureStepState"):
            case ProcedureStepState.SCHEDULED:
                self._pass_priority(push, found)
                return self._clock() + self._poll
            case ProcedureStepState.IN_PROGRESS:
                return self._in_progress(push, found)
            case ProcedureStepState.COMPLETED | ProcedureStepState.CANCELED as state:
                self._ended(push, found, ProcedureStepState(state))
                return None
            case _:
                raise RetryableDeliveryError("the answer is no workitem")

    def _create(self, push: _Push) -> datetime:
        uid = push.child.child_uid
        self._target.create(uid, request_for_child(push.parent.attributes, {}))
        with self._transact() as work:
            self._set(work, push, SubtaskState.OPEN)
        _LOG.info("workitem pushed", extra={"action": "push.created", **self._facts(push)})
        try:
            self._target.watch(uid)
        except (RetryableDeliveryError, FinalDeliveryError) as error:  # polling finds out as well
            extra = {"action": "push.not_watched", **self._facts(push), "error": str(error)}
            _LOG.warning("no events of a pushed workitem", extra=extra)
        return self._clock() + self._poll

    def _pass_cancel_request(self, push: _Push) -> None:
        request = push.parent.cancel_requested
        uid = push.child.child_uid
        if request is not None and self._asked.get(uid) != request:
            self._target.request_cancel(uid, request.details)
            self._asked[uid] = request

    def _pass_priority(self, push: _Push, found: DicomJson) -> None:
        """Let Y be as urgent as X has become; asked once, for not every performer takes it."""
        uid = push.child.child_uid
        wanted = text(push.parent.attributes, _PRIORITY)
        if text(found, _PRIORITY) != wanted and self._urged.get(uid) != wanted:
            try:
                self._target.update(uid, element(_PRIORITY, wanted))
            except FinalDeliveryError as error:  # it does the work all the same
                extra = {"action": "push.not_urged", **self._facts(push), "error": str(error)}
                _LOG.warning("priority of a pushed workitem stays", extra=extra)
            self._urged[uid] = wanted

    def _in_progress(self, push: _Push, found: DicomJson) -> datetime:
        with self._transact() as work:
            parent = self._wanted(work, push)
            if parent is not None and self._parents.take_up(work, parent.uid):
                parent = work.get(parent.uid) or parent
                changes = merged(
                    [
                        progress_changes(parent.attributes, found),
                        performed_changes(parent.attributes, found),
                    ]
                )
                silence = self._limits(push.app).silence
                unheard = work.now - (parent.heard_at or parent.modified_at)
                if changes or unheard * _SHARE_OF_SILENCE >= silence:
                    self._parents.follow(work, parent.uid, changes)
        return self._clock() + self._poll

    def _ended(self, push: _Push, found: DicomJson, state: ProcedureStepState) -> None:
        """Take the end of Y over."""
        with self._transact() as work:
            self._set(work, push, SubtaskState.DONE)
            parent = self._wanted(work, push)
            if parent is None:
                pass
            elif state is ProcedureStepState.COMPLETED:
                changes = merged(
                    [
                        progress_changes(parent.attributes, found),
                        performed_changes(parent.attributes, found),
                    ]
                )
                self._parents.complete(work, parent.uid, changes)
            else:
                reason, why = discontinuation(found)
                if parent.state is ProcedureStepState.SCHEDULED and reason.same_concept(ASSIGNMENT_REJECTED):
                    self._move_on(work, parent.uid)
                else:
                    self._parents.follow(work, parent.uid, performed_changes(parent.attributes, found))
                    self._parents.cancel(work, parent.uid, reason, why)
        extra = {"action": "push.ended", **self._facts(push), "state": state.value}
        _LOG.info("pushed workitem ended", extra=extra)
        self._release(push)

    def _lost(self, push: _Push) -> datetime | None:
        """Y was there and is not any more."""
        _LOG.error("performer lost a workitem", extra={"action": "push.lost", **self._facts(push)})
        with self._transact() as work:
            self._set(work, push, SubtaskState.DONE)
            parent = self._wanted(work, push)
            if parent is None:
                return None
            if parent.state is ProcedureStepState.IN_PROGRESS:
                why = "performer does not know it any more"
                self._parents.cancel(work, parent.uid, EQUIPMENT_FAILURE, why)
            elif push.number >= self._limits(push.app).tries:
                self._move_on(work, parent.uid)
            else:
                self._pushing.plan(work, parent.uid)
        return None

    def _refused(self, push: _Push) -> None:
        with self._transact() as work:
            self._set(work, push, SubtaskState.DONE)
            parent = self._wanted(work, push)
            if parent is None:
                return
            if parent.state is ProcedureStepState.SCHEDULED:
                self._move_on(work, parent.uid)
            else:
                self._parents.cancel(work, parent.uid, EQUIPMENT_FAILURE, "performer refuses to tell of it")

    def _move_on(self, work: WorklistTransaction, uid: str) -> None:
        """Assign X to another performer; if there is none, cancel it, and let a person see it."""
        if self._assignment.move_on(work, uid, self._offer.ae_title):
            return
        why = "every performer of this task rejected it"
        work.set_dispatch(uid, replace(work.dispatch(uid), attention=why))
        work.apply(uid, Withdraw(reason=RESOURCE_INADEQUATE, text=why), actor=WORKER)

    # Y is not wanted any more

    def _revoke(self, push: _Push) -> datetime | None:
        """Have Y canceled; done when it is final or unknown."""
        uid = push.child.child_uid
        found = self._target.retrieve(uid)
        states = (ProcedureStepState.SCHEDULED, ProcedureStepState.IN_PROGRESS)
        if found is None or text(found, "ProcedureStepState") not in states:
            self._forget(push)
            return None
        if uid not in self._asked or self._asked[uid] is not None:
            self._target.request_cancel(uid, _why(push.parent))
            self._asked[uid] = None
            _LOG.info("pushed workitem taken back", extra={"action": "push.revoked", **self._facts(push)})
        if self._clock() - push.child.created_at > self._patience(push):
            self._forget(push)
            return None
        return self._clock() + self._poll

    def _forget(self, push: _Push) -> None:
        with self._transact() as work:
            self._set(work, push, SubtaskState.DONE)
        self._release(push)

    def _patience(self, push: _Push) -> timedelta:
        limits = self._limits(push.app)
        return limits.silence + limits.run

    # The performer does not answer

    def _no_answer(self, push: _Push, error: RetryableDeliveryError) -> datetime | None:
        now = self._clock()
        silent = self._silent.setdefault(push.child.child_uid, _Silence(since=now))
        silent.times += 1
        extra = {"action": "push.no_answer", **self._facts(push), "error": str(error), "times": silent.times}
        _LOG.warning("performer does not answer", extra=extra)
        pause = min(self._poll * (1 << min(silent.times - 1, 20)), _LONGEST_PAUSE)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if not push.wanted:
            self._attend_no_more(push)
            if now - push.child.created_at > self._patience(push):
                self._forget(push)
                return None
        elif now - silent.since >= self._limits(push.app).silence:
            self._give_up(push)
        return now + pause

    @property
    def _unreachable(self) -> str:
        return f"performer {self._offer.ae_title} does not answer"

    def _attend_no_more(self, push: _Push) -> None:
        """Let X wait for a person no longer: its performer has answered, or X is over."""
        if push.attention != self._unreachable:
            return
        with self._transact() as work:
            dispatch = work.dispatch(push.parent.uid)
            if dispatch.attention == self._unreachable:
                work.set_dispatch(push.parent.uid, replace(dispatch, attention=""))

    def _give_up(self, push: _Push) -> None:
        """Let another performer do X. Y is canceled as soon as its performer answers again."""
        with self._transact() as work:
            parent = self._wanted(work, push)
            if parent is None:
                return
            if parent.state is ProcedureStepState.IN_PROGRESS:
                self._parents.cancel(work, parent.uid, EQUIPMENT_FAILURE, self._unreachable)
            elif not self._assignment.move_on(work, parent.uid, self._offer.ae_title):
                dispatch = work.dispatch(parent.uid)  # nobody else: it waits for this one, visibly
                work.set_dispatch(parent.uid, replace(dispatch, attention=self._unreachable))

    # Both

    def _wanted(self, work: WorklistTransaction, push: _Push) -> Workitem | None:
        """X, locked, if it still is to be done by Y."""
        parent = work.get(push.parent.uid)
        if parent is None or not self._wants(parent, work.dispatch(parent.uid).claimed_by):
            return None
        return parent

    def _set(self, work: WorklistTransaction, push: _Push, state: SubtaskState) -> None:
        subtasks.set_subtask_state(work.connection, push.parent.uid, push.child.child_uid, state)

    def _release(self, push: _Push) -> None:
        try:
            self._target.release(push.child.child_uid)
        except (RetryableDeliveryError, FinalDeliveryError) as error:
            extra = {"action": "push.not_released", **self._facts(push), "error": str(error)}
            _LOG.warning("subscription of a pushed workitem stays", extra=extra)

    def _facts(self, push: _Push) -> Mapping[str, str]:
        return {
            "workitem": push.parent.uid,
            "performer": self._offer.ae_title,
            "pushed_as": push.child.child_uid,
        }


def _why(parent: Workitem) -> DicomJson:
    """Details of the cancel request to a child that is not wanted any more."""
    if parent.state is ProcedureStepState.CANCELED:
        reason, why = discontinuation(parent.attributes)
        code = element("ProcedureStepDiscontinuationReasonCodeSequence", code_item(reason))
        return merged([element("ReasonForCancellation", why), code])
    return element("ReasonForCancellation", "assigned to another performer")
