# SPDX-License-Identifier: Apache-2.0
"""What time does to workitems: leases pass, expirations pass, and what is finished is deleted at last.

Called again and again by the worker. Columns say which workitems to look at; each is decided again with its
row locked, in a transaction of its own, so that several replicas may sweep at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from profiles.codes import EQUIPMENT_FAILURE, WORKITEM_EXPIRED
from profiles.request import RequestKind
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER
from task_manager.dispatch.leases import lease_until, loss_text
from task_manager.dispatch.model import LeaseLimits, RetentionLimits, SubtaskRole, SubtaskState
from task_manager.dispatch.retention import Retention
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Refused
from task_manager.store import leases, requests, subtasks
from task_manager.store.database import Database
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.columns import expires_at
from task_manager.workitem.commands import Withdraw
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_AT_ONCE = 50
_AFTER_FAILURE = timedelta(minutes=1)

Transact = Callable[[], AbstractContextManager[WorklistTransaction]]
"""Opens a transaction over workitems, durable when it closes."""


class Sweeps:
    """Ends what its time has passed for.

    Parameters
    ----------
    transact
        Followers of its transactions replace what is withdrawn
        (:class:`task_manager.dispatch.replacement.Replacement`).
    limits
        Lease limits by name of the app; empty for foreign work.

    Attributes
    ----------
    leases_lost
        How many leases this process has seen run out.
    """

    def __init__(
        self,
        transact: Transact,
        database: Database,
        limits: Callable[[str], LeaseLimits],
        retention: RetentionLimits,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._transact = transact
        self._database = database
        self._limits = limits
        self._clock = clock
        self._retention = Retention(database, retention, clock=clock)
        self._started_at: datetime | None = None
        self._paused_until: datetime | None = None
        self.leases_lost = 0

    def started(self, now: datetime) -> None:
        """Give every workitem IN PROGRESS one silence from `now`: performers could not reach us until then.

        To be called when the doors open, by each process that has doors, and when this begins to sweep.

        Raises
        ------
        StoreError
            If the database fails.
        """
        self._started_at = now
        with self._database.write() as connection:
            number = leases.extend_leases(connection, now, lambda app: self._limits(app).silence)
        _LOG.info("leases extended", extra={"action": "leases.extended", "workitems": number})

    def run_due(self) -> int:
        """Do what is due, a bounded part of it; how many workitems and other rows were touched.

        Raises
        ------
        StoreError
            If the database fails.
        """
        now = self._clock()
        done = 0
        if self._paused_until is None or now >= self._paused_until:
            self._paused_until = None
            with self._database.read() as connection:
                lost = leases.due_leases(connection, now, limit=_AT_ONCE)
                late = leases.expired(connection, now, limit=_AT_ONCE)
            ended = sum(self._guarded(self._end_lease, uid, now) for uid in lost)
            self.leases_lost += ended
            done += ended
            done += sum(self._guarded(self._expire, uid, now) for uid in late)
        return done + self._retention.run_due()

    def next_due(self) -> datetime | None:
        """When there is something to do again, as far as is known now.

        Raises
        ------
        StoreError
            If the database fails.
        """
        with self._database.read() as connection:
            found = [leases.next_lease(connection), leases.next_expiry(connection)]
        due = min((at for at in found if at is not None), default=None)
        if due is not None and self._paused_until is not None:
            due = max(due, self._paused_until)
        return min((at for at in (due, self._retention.next_due) if at is not None), default=None)

    def _guarded(
        self, end: Callable[[WorklistTransaction, Workitem, datetime], bool], uid: str, now: datetime
    ) -> bool:
        """End one workitem in a transaction of its own; whether it was ended.

        One that breaks our own code stops no other, and is tried again after a pause.
        """
        try:
            with self._transact() as work:
                workitem = work.get(uid)
                return workitem is not None and end(work, workitem, now)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one workitem: the others must go on
            extra = {"action": "sweep.failed", "workitem": uid, **facts_of(error)}
            _LOG.error("workitem could not be swept", extra=extra)
            self._paused_until = now + _AFTER_FAILURE
            return False

    def _end_lease(self, work: WorklistTransaction, workitem: Workitem, now: datetime) -> bool:
        until = self._held_until(work, workitem)
        if until is None or until > now:
            leases.put_lease(work.connection, workitem.uid, until)
            return False
        limits = self._limits(work.dispatch(workitem.uid).app)
        extra = {
            "action": "workitem.lease_lost",
            "workitem": workitem.uid,
            "performer": work.dispatch(workitem.uid).claimed_by,
            "tries": work.dispatch(workitem.uid).tries,
        }
        _LOG.warning("performer lost, workitem is taken back", extra=extra)
        text = loss_text(workitem, limits, now)
        return self._withdraw(work, workitem, Withdraw(reason=EQUIPMENT_FAILURE, text=text), now)

    def _held_until(self, work: WorklistTransaction, workitem: Workitem) -> datetime | None:
        """When the workitem is really lost: never before one silence from our start, or what is stored."""
        limits = self._limits(work.dispatch(workitem.uid).app)
        children = subtasks.subtasks_of_parent(work.connection, workitem.uid)
        if not children and _is_by_rules(work, workitem.uid):
            return None  # what rules made of it has leases of its own
        waited_for = [child for child in children if child.state is not SubtaskState.DONE]
        if any(not child.performer for child in waited_for):  # each has a lease of its own
            return work.now + limits.silence
        parent = subtasks.subtask_of_child(work.connection, workitem.uid)
        by_a_person = parent is not None and parent.role is SubtaskRole.VERIFICATION
        counted = lease_until(workitem, limits, silence_counts=not (waited_for or by_a_person))
        if counted is None:
            return None
        stored = leases.lease_of(work.connection, workitem.uid)
        floor = self._started_at + limits.silence if self._started_at is not None else None
        return max(at for at in (counted, stored, floor) if at is not None)

    def _expire(self, work: WorklistTransaction, workitem: Workitem, now: datetime) -> bool:
        expiry = expires_at(workitem.attributes)
        if workitem.state is not ProcedureStepState.SCHEDULED or expiry is None or expiry > now:
            return False
        command = Withdraw(reason=WORKITEM_EXPIRED, text="not begun before its expiration")
        return self._withdraw(work, workitem, command, now)

    def _withdraw(
        self, work: WorklistTransaction, workitem: Workitem, command: Withdraw, now: datetime
    ) -> bool:
        outcome = work.apply(workitem.uid, command, actor=WORKER)
        if isinstance(outcome, Refused):
            extra = {"action": "sweep.refused", "workitem": workitem.uid, "code": outcome.code.value}
            _LOG.error("workitem could not be canceled", extra=extra)
            self._paused_until = now + _AFTER_FAILURE
            return False
        return True


def _is_by_rules(work: WorklistTransaction, uid: str) -> bool:
    """Whether the manager itself performs a workitem by way of its rules."""
    if work.dispatch(uid).claimed_by != WORKER.name:
        return False
    return requests.request_by_key(work.connection, f"{RequestKind.WORKITEM.value}:{uid}") is not None
