# SPDX-License-Identifier: Apache-2.0
"""One database transaction over workitems: commands are applied, what follows from them is gathered, and all
is written in a few statements at the end.

Every change of a workitem, whoever asks for it, goes through here and so through ``workitem.machine``. What
else has to happen with it (events, deliveries, assignment, replacement, sub-tasks) is done by followers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.sole.events import OperationalEvent
from profiles.uids import is_uid
from profiles.ups.states import ProcedureStepState
from task_manager.actor import Actor, performer_name
from task_manager.dispatch.leases import lease_until, renewed_lease
from task_manager.dispatch.model import LeaseLimits
from task_manager.outbox import JobKind
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import jobs, reports, subscriptions, workitems
from task_manager.store.compiled import pipelined
from task_manager.store.contents import Content, Contents
from task_manager.store.database import Connection
from task_manager.store.records import Dispatch, Origin, Record
from task_manager.store.reports import Written
from task_manager.workitem import machine
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel
from task_manager.workitem.machine import Applied
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)


class Follower(Protocol):
    """What else happens in the transaction of a change; called after each accepted command, in order."""

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """A workitem was created."""

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """A command changed a workitem, or was told to its subscribers only (a cancel request)."""


Interceptor = Callable[["WorklistTransaction", Workitem, Command, Actor], Accepted | Refused | None]
"""May answer a claim or a cancel request in place of the machine: the manager performs, or assigns anew."""


class WorklistTransaction:
    """Workitems in one transaction.

    Parameters
    ----------
    limits
        Lease limits by name of the app.
    sinks
        Names of the event repositories that are told operational events.
    contents
        What lasts of workitems and need not be read again.

    Attributes
    ----------
    connection
        For statements of followers.
    now
        The time of the transaction.
    creator
        Who created the workitem that followers are told of.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        now: datetime,
        followers: Sequence[Follower] = (),
        interceptors: Sequence[Interceptor] = (),
        limits: Callable[[str], LeaseLimits] = lambda _: LeaseLimits(),
        sinks: Sequence[str] = (),
        contents: Contents | None = None,
    ) -> None:
        self.connection = connection
        self.now = now
        self._followers = tuple(followers)
        self._interceptors = tuple(interceptors)
        self._limits = limits
        self._sinks = tuple(sinks)
        self._contents = contents or Contents()
        self._learned: dict[int, Content] = {}
        self._held: dict[str, Record | None] = {}
        self._read: dict[str, Record] = {}
        self._new: dict[str, None] = {}
        self._dirty: dict[str, None] = {}
        self._reports: list[Written] = []
        self._events: list[OperationalEvent] = []
        self._planned = False
        self._leaves_new = False
        self._actions: list[tuple[str, str]] = []
        self.creator = Actor(door="")

    def hold(self, uids: Iterable[str]) -> None:
        """Lock and read several workitems at once, those that exist."""
        wanted = [uid for uid in dict.fromkeys(uids) if uid not in self._held]
        names = [uid for uid in wanted if is_uid(uid)]  # a database may fail at what is no UID
        found, learned = workitems.locked_records(self.connection, names, self._contents)
        self._held.update({uid: found.get(uid) for uid in wanted})
        self._learned.update(learned)

    def get(self, uid: str) -> Workitem | None:
        """A workitem as it is now in this transaction, its row locked; None if there is none."""
        record = self._record(uid)
        return None if record is None else record.workitem

    def origin(self, uid: str) -> Origin:
        """What made a workitem; empty if there is none."""
        record = self._record(uid)
        return Origin() if record is None else record.origin

    def dispatch(self, uid: str) -> Dispatch:
        """How work on it goes; the default if there is none."""
        record = self._record(uid)
        return Dispatch() if record is None else record.dispatch

    def set_dispatch(self, uid: str, dispatch: Dispatch) -> None:
        """Change how work on it goes; nothing for a workitem that is not there."""
        record = self._record(uid)
        if record is not None and record.dispatch != dispatch:
            self._keep(replace(record, dispatch=dispatch))

    def set_origin(self, uid: str, origin: Origin) -> None:
        """Change what its results are owed to; nothing for a workitem that is not there."""
        record = self._record(uid)
        if record is not None and record.origin != origin:
            self._keep(replace(record, origin=origin))

    def create(
        self,
        uid: str,
        attributes: DicomJson,
        *,
        actor: Actor,
        origin: Origin | None = None,
        dispatch: Dispatch | None = None,
    ) -> Accepted | Refused:
        """UPS Create."""
        applied = machine.create(Create(uid=uid, attributes=attributes), now=self.now, existing=self.get(uid))
        if isinstance(applied, Refused):
            return applied
        self._held[uid] = Record(
            workitem=applied.workitem, origin=origin or Origin(), dispatch=dispatch or Dispatch()
        )
        self._new[uid] = None
        self._report(applied, actor)
        self._actions.append(("created", uid))
        self.creator = actor
        for follower in self._followers:
            follower.created(self, self._current(uid))
        return applied.accepted

    def apply(self, uid: str, command: Command, *, actor: Actor) -> Accepted | Refused:
        """Whatever is asked of a workitem that exists."""
        record = self._record(uid)
        if record is None:
            return self._unknown(uid)
        before = record.workitem
        if isinstance(command, ChangeState | RequestCancel):
            for interceptor in self._interceptors:
                answer = interceptor(self, before, command, actor)
                if answer is not None:
                    return answer
        applied = machine.apply(before, command, now=self.now)
        if isinstance(applied, Refused):
            return applied
        after = applied.workitem
        if after is not before:
            dispatch = record.dispatch
            if after.state is ProcedureStepState.IN_PROGRESS and after.state is not before.state:
                dispatch = replace(dispatch, claimed_by=performer_name(actor))
            limits = self._limits(dispatch.app)
            until = renewed_lease(record.lease_until, lease_until(after, limits), limits)
            self._keep(replace(record, workitem=after, dispatch=dispatch, lease_until=until))
        self._report(applied, actor)
        if after.state is not before.state:
            self._actions.append((_ACTION[after.state], uid))
        if after is not before:
            for follower in self._followers:
                follower.changed(self, before, after, command, actor)
        return applied.accepted

    def record(self, event: OperationalEvent) -> None:
        """Write an operational event, and have the repositories told; the same key again does nothing."""
        self._events.append(event)

    def plan(self, *, key: str, lane: str, kind: JobKind, workitem_uid: str = "") -> None:
        """Write an outbox job; one with the same key stays as it is."""
        self._planned = True
        jobs.plan_job(self.connection, key=key, lane=lane, kind=kind, now=self.now, workitem_uid=workitem_uid)

    @property
    def leaves_reports(self) -> bool:
        """Whether watchers have to be told something after the commit."""
        return bool(self._reports)

    @property
    def leaves_jobs(self) -> bool:
        """Whether the worker has something to do after the commit, besides telling events."""
        return self._planned

    @property
    def leaves_events(self) -> bool:
        """Whether repositories have to be told events after the commit."""
        return bool(self._events)

    @property
    def leaves_new(self) -> bool:
        """Whether workitems were made, or what is scheduled of one was changed; known after the flush."""
        return self._leaves_new

    def committed(self) -> None:
        """Remember what was read and written; for who has committed it."""
        self._contents.add(self._learned)

    def hasten_jobs(self) -> None:
        """Have the worker look after the commit: a follower made jobs due."""
        self._planned = True

    def flush(self) -> None:
        """Write everything; once, at the end."""
        new = [self._held[uid] for uid in self._new]
        changed = [self._held[uid] for uid in self._dirty if uid not in self._new]
        added = [record for record in new if record is not None]
        saved = [(self._read[record.workitem.uid], record) for record in changed if record is not None]
        with pipelined(self.connection):
            if added:
                enrolled = [(record.workitem.uid, record.workitem.attributes) for record in added]
                subscriptions.enroll(self.connection, enrolled)
            self._learned.update(workitems.add_records(self.connection, added, self._contents))
            rescheduled = workitems.save_records(self.connection, saved, self._contents)
            self._leaves_new = bool(added) or rescheduled
            jobs.record_events(self.connection, self._events, self._sinks, self.now)
            reports.write_reports(self.connection, self._reports, self.now)
        self._log_actions()

    def _log_actions(self) -> None:
        """One line for each kind of change: a line for each workitem would cost more than the change."""
        for action in dict.fromkeys(action for action, _ in self._actions):
            uids = [uid for one, uid in self._actions if one == action]
            named = {"workitem": uids[0]} if len(uids) == 1 else {"workitems": uids}
            _LOG.info("workitems changed", extra={"action": f"workitem.{action}", **named})

    def _record(self, uid: str) -> Record | None:
        if uid not in self._held:
            self.hold([uid])
        return self._held[uid]

    def _current(self, uid: str) -> Workitem:
        record = self._held[uid]
        assert record is not None
        return record.workitem

    def _keep(self, record: Record) -> None:
        uid = record.workitem.uid
        former = self._held.get(uid)
        if former is not None and uid not in self._read:
            self._read[uid] = former
        self._held[uid] = record
        self._dirty[uid] = None

    def _report(self, applied: Applied, actor: Actor) -> None:
        name = actor.name or actor.door
        self._reports += [Written(report=report, actor=name) for report in applied.reports]

    def _unknown(self, uid: str) -> Refused:
        if is_uid(uid) and workitems.is_purged(self.connection, uid):
            return Refused(RefusalCode.NO_LONGER_HERE, (Fault("SOPInstanceUID", "was deleted here"),))
        return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))


_ACTION = {
    ProcedureStepState.SCHEDULED: "scheduled",
    ProcedureStepState.IN_PROGRESS: "in_progress",
    ProcedureStepState.COMPLETED: "completed",
    ProcedureStepState.CANCELED: "canceled",
}
