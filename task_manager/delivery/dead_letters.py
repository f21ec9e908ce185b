# SPDX-License-Identifier: Apache-2.0
"""Jobs as persons see them, and what they may decide about them: try now, or drop.

A decision is kept with who made it and why; a dropped delivery is told to the event repositories as an export
that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from profiles.faults import Fault
from profiles.sole.events import EventType, Outcome
from task_manager.actor import Actor
from task_manager.delivery.consequences import workitem_event
from task_manager.outbox import FINISHED, JobKind, JobState, delivery_lane, event_lane
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import attention, commitments, deliveries, jobs, workitems
from task_manager.store.database import Connection, Database
from task_manager.store.deliveries import Decision, ListedJob

_LOG = logging.getLogger(__name__)
_LONGEST_REASON = 500
_DROPPABLE = frozenset((JobKind.DELIVER, JobKind.TELL))
RETRY = "retry"
DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPage:
    """Some jobs, oldest first, what was decided about each, and whether there are more."""

    jobs: tuple[ListedJob, ...]
    decisions: dict[str, list[Decision]]
    more: bool


class DeadLetters:
    """What persons do about jobs.

    Parameters
    ----------
    sinks
        Names of the event repositories.
    clock
        Gives aware UTC time.
    wake
        Called when a job may be tried.
    """

    def __init__(
        self,
        database: Database,
        *,
        sinks: Sequence[str],
        clock: Callable[[], datetime],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._sinks = tuple(sinks)
        self._clock = clock
        self._wake = wake

    def page(
        self,
        *,
        states: Sequence[JobState] = (JobState.HELD,),
        lane: str = "",
        after_id: int = 0,
        limit: int = 100,
    ) -> JobsPage:
        """Jobs in some states, of one lane (its name, or that of its destination or repository) or of all."""
        with self._database.read() as connection:
            lanes = [one for one in _lanes_with(connection, states) if not lane or _is_called(one, lane)]
            found = deliveries.list_jobs(connection, lanes, states, after_id=after_id, limit=limit + 1)
            decided = deliveries.decisions_of(connection, [job.key for job in found[:limit]])
        return JobsPage(jobs=tuple(found[:limit]), decisions=decided, more=len(found) > limit)

    def retry(self, key: str, *, actor: Actor) -> Accepted | Refused:
        """Let a job be tried now, its tries anew."""
        now = self._clock()
        with self._database.write() as connection:
            job = deliveries.job_by_key(connection, key, lock=True)
            if job is None or not deliveries.retry_job(connection, key, now):
                return _refused(job)
            if job.state is JobState.HELD:
                commitments.forget_commitments(connection, [key])
            self._keep(connection, key, RETRY, actor, "", now)
        _LOG.info("job is tried again", extra={"action": "job.retried", "lane": job.lane, **_by(actor)})
        self._wake()
        return Accepted(uid=key)

    def drop(self, key: str, *, reason: str, actor: Actor) -> Accepted | Refused:
        """End a job without doing it; `reason` is kept for persons and told nobody else."""
        now = self._clock()
        if not reason.strip():
            return Refused(RefusalCode.INVALID_ATTRIBUTES, (Fault("reason", "is needed"),))
        with self._database.write() as connection:
            job = deliveries.job_by_key(connection, key, lock=True)
            if job is not None and job.kind not in _DROPPABLE:
                fault = Fault("key", f"names a {job.kind.value} job: only deliveries and events are dropped")
                return Refused(RefusalCode.MAY_NOT_BE_UPDATED, (fault,))
            dropped = f"dropped by {actor.name or actor.door}"
            if job is None or not deliveries.drop_job(connection, key, summary=dropped, now=now):
                return _refused(job)
            self._keep(connection, key, DROP, actor, reason, now)
            if job.kind is JobKind.DELIVER:
                self._tell(connection, job, actor, now)
        _LOG.warning("job is dropped", extra={"action": "job.dropped", "lane": job.lane, **_by(actor)})
        self._wake()
        return Accepted(uid=key)

    def _keep(
        self, connection: Connection, key: str, decision: str, actor: Actor, reason: str, now: datetime
    ) -> None:
        kept = Decision(
            decision=decision,
            decided_by=actor.name or actor.door,
            reason=reason.strip()[:_LONGEST_REASON],
            decided_at=now,
        )
        deliveries.add_decision(connection, key, kept)

    def _tell(self, connection: Connection, job: ListedJob, actor: Actor, now: datetime) -> None:
        record = workitems.record_by_uid(connection, job.workitem_uid)
        if record is None:
            return
        destination = job.lane.removeprefix(delivery_lane(""))
        event = workitem_event(
            job.workitem_uid,
            record.workitem.attributes,
            EventType.EXPORTED,
            now,
            qualifier=f"{destination}:dropped",
            machine="AIRWAY",
            destination=destination,
            outcome=Outcome.SERIOUS_FAILURE,
            outcome_description=f"dropped by {actor.name or actor.door}",
        )
        jobs.record_event(connection, event, self._sinks, now)


def _lanes_with(connection: Connection, states: Sequence[JobState]) -> list[str]:
    """Lanes that may have jobs in some of the states; few, so that the index over lane and state is used."""
    if set(states) & set(FINISHED):
        return sorted({lane for lane, _ in jobs.count_jobs(connection)})
    return [lane.name for lane in attention.unfinished_lanes(connection)]


def _is_called(lane: str, name: str) -> bool:
    return name in (lane, lane.removeprefix(delivery_lane("")), lane.removeprefix(event_lane("")))


def _refused(job: ListedJob | None) -> Refused:
    if job is None:
        return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("key", "names no job"),))
    fault = Fault("key", f"names a job that is {job.state.value}")
    return Refused(RefusalCode.MAY_NOT_BE_UPDATED, (fault,))


def _by(actor: Actor) -> dict[str, str]:
    return {"by": actor.name or actor.door}
