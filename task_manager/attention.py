# SPDX-License-Identifier: Apache-2.0
"""What waits for a person, and what a person may decide about it: try again, or leave it at that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from profiles.faults import Fault
from profiles.ups.states import ProcedureStepState
from task_manager.actor import Actor
from task_manager.dispatch.replacement import Replacement
from task_manager.outbox import (
    PRIORS_LANE,
    REVIEW_LANE,
    delivery_lane,
    event_lane,
    fetch_lane,
    push_lane,
)
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import attention, subtasks
from task_manager.store.attention import HeldJob, WaitingWorkitem
from task_manager.store.database import Database
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_MOST = 1000
_DEEPEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLane:
    """A lane that nobody works on although it has jobs: its destination is no longer configured."""

    lane: str
    waiting: int
    held: int
    since: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForAPerson:
    """Everything that waits for a person, each kind longest first."""

    workitems: tuple[WaitingWorkitem, ...]
    jobs: tuple[HeldJob, ...]
    lanes: tuple[WaitingLane, ...]


class Attention:
    """What waits for a person.

    Parameters
    ----------
    lanes
        Every lane that the configuration has a worker for.
    """

    def __init__(
        self,
        transact: Callable[[], AbstractContextManager[WorklistTransaction]],
        database: Database,
        replacement: Replacement,
        *,
        lanes: Collection[str],
    ) -> None:
        self._transact = transact
        self._database = database
        self._replacement = replacement
        self.lanes = frozenset(lanes)

    def everything(self) -> ForAPerson:
        """All that waits; of each kind the first thousand."""
        with self._database.read() as connection:
            lanes = attention.unfinished_lanes(connection)
            held = [lane.name for lane in lanes if lane.held]
            return ForAPerson(
                workitems=tuple(attention.waiting_workitems(connection, limit=_MOST)),
                jobs=tuple(attention.held_jobs(connection, held, limit=_MOST)),
                lanes=tuple(
                    WaitingLane(
                        lane=lane.name,
                        waiting=lane.waiting,
                        held=lane.held,
                        since=lane.since,
                        why=without_worker(lane.name),
                    )
                    for lane in lanes
                    if lane.name not in self.lanes
                ),
            )

    def count(self) -> int:
        """How many workitems wait."""
        with self._database.read() as connection:
            return attention.count_workitems(connection)

    def retry(self, uid: str, *, actor: Actor) -> Accepted | Refused:
        """Begin the tries of a waiting workitem anew; the UID of the one that replaces it.

        For a child whose parent has ended with it the parent is what is replaced: only so its results come
        to where they are wanted.
        """
        with self._transact() as work:
            waiting = self._waiting(work, uid)
            if isinstance(waiting, Refused):
                return waiting
            if waiting.state is not ProcedureStepState.CANCELED:
                fault = Fault("ProcedureStepState", f"is {waiting.state.value}: it is still being tried")
                return Refused(RefusalCode.MAY_NOT_BE_UPDATED, (fault,))
            ended = _outermost_ended(work, waiting)
            outcome = self._replacement.replace(work, ended, tries=1)
            if isinstance(outcome, Accepted):
                for settled in (uid, ended.uid):
                    work.set_dispatch(settled, replace(work.dispatch(settled), attention=""))
                extra = {"action": "attention.retried", "workitem": uid, "by": actor.name or actor.door}
                _LOG.info("workitem is tried again", extra=extra)
        return outcome

    def dismiss(self, uid: str, *, actor: Actor) -> Accepted | Refused:
        """Leave a waiting workitem as it is; once final, it may be deleted like any other."""
        with self._transact() as work:
            waiting = self._waiting(work, uid)
            if isinstance(waiting, Refused):
                return waiting
            work.set_dispatch(uid, replace(work.dispatch(uid), attention=""))
        extra = {"action": "attention.dismissed", "workitem": uid, "by": actor.name or actor.door}
        _LOG.info("workitem is left as it is", extra=extra)
        return Accepted(uid=uid)

    def _waiting(self, work: WorklistTransaction, uid: str) -> Workitem | Refused:
        workitem = work.get(uid)
        if workitem is None or not work.dispatch(uid).attention:
            fault = Fault("SOPInstanceUID", "names no workitem that waits for a person")
            return Refused(RefusalCode.NO_SUCH_INSTANCE, (fault,))
        return workitem


def configured_lanes(
    destinations: Iterable[str],
    event_sinks: Iterable[str],
    push_performers: Iterable[str],
    archives: Iterable[str] = (),
) -> frozenset[str]:
    """Every lane that somebody works on, from the names in the configuration."""
    return frozenset(
        (
            REVIEW_LANE,
            *(delivery_lane(name) for name in destinations),
            *(event_lane(name) for name in event_sinks),
            *(push_lane(name) for name in push_performers),
            PRIORS_LANE,
            *(fetch_lane(name) for name in archives),
        )
    )


def without_worker(lane: str) -> str:
    """Why nobody works on a lane."""
    kind, _, name = lane.partition("/")
    kinds = {
        "deliver": "destination",
        "events": "event repository",
        "push": "push performer",
        "fetch": "archive",
        "ask": "archive",
    }
    what = kinds.get(kind, kind)
    return f"no {what} named {name} is in the configuration"


def _outermost_ended(work: WorklistTransaction, workitem: Workitem) -> Workitem:
    """The workitem itself, or the parent that was canceled with it, and so on."""
    for _ in range(_DEEPEST):
        relation = subtasks.subtask_of_child(work.connection, workitem.uid)
        parent = None if relation is None else work.get(relation.parent_uid)
        if parent is None or parent.state is not ProcedureStepState.CANCELED:
            break
        workitem = parent
    return workitem
