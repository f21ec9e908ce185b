# SPDX-License-Identifier: Apache-2.0
"""Statements over how destinations fare, and over jobs as persons see them: listed, retried, dropped.

Each takes a connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from task_manager.delivery.breaker import Health
from task_manager.outbox import JobKind, JobState
from task_manager.store import delivery_tables  # noqa: F401 - its tables join the metadata
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_HEALTH = METADATA.tables["destination_health"]
_DECISION = METADATA.tables["job_decision"]
_JOB = METADATA.tables["job"]
_WORKITEM = METADATA.tables["workitem"]
_HEALTH_FIELDS = ("failures", "openings", "open_until", "probe_until", "reason", "changed_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job as a person sees it."""

    id: int
    key: str
    lane: str
    kind: JobKind
    state: JobState
    workitem_uid: str
    study_instance_uid: str
    attempts: int
    created_at: datetime
    due_at: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person decided about a job."""

    decision: str
    decided_by: str
    reason: str
    decided_at: datetime


def health_of(connection: Connection, name: str, *, lock: bool = False) -> Health | None:
    """How a destination fares; None if it answers, or was never asked."""
    statement = select(_HEALTH).where(_HEALTH.c.name == name)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _health(row)


def all_health(connection: Connection) -> dict[str, Health]:
    """How all destinations fare that do not answer."""
    return {row.name: _health(row) for row in connection.execute(select(_HEALTH).order_by(_HEALTH.c.name))}


def set_health(connection: Connection, name: str, health: Health) -> None:
    """Keep how a destination fares."""
    values = {field: getattr(health, field) for field in _HEALTH_FIELDS}
    statement = upsert(connection, _HEALTH).values(name=name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def clear_health(connection: Connection, name: str) -> bool:
    """The destination answered; whether it had not before."""
    return connection.execute(delete(_HEALTH).where(_HEALTH.c.name == name)).rowcount == 1


def end_probes(connection: Connection, name: str = "") -> None:
    """Nobody probes a destination any more, or any destination: the next job may."""
    statement = update(_HEALTH).where(_HEALTH.c.probe_until.is_not(None))
    if name:
        statement = statement.where(_HEALTH.c.name == name)
    connection.execute(statement.values(probe_until=None))


def renew_claim(connection: Connection, job_id: int, worker: str, until: datetime) -> bool:
    """Keep a claimed job for longer; False if it is no longer claimed by `worker`."""
    statement = (
        update(_JOB)
        .where(_JOB.c.id == job_id, _JOB.c.state == JobState.RUNNING.value, _JOB.c.claimed_by == worker)
        .values(claimed_until=until)
    )
    return connection.execute(statement).rowcount == 1


def hasten_job(connection: Connection, key: str, now: datetime) -> bool:
    """Let a waiting job be looked at now; whether it waits."""
    statement = (
        update(_JOB).where(_JOB.c.key == key, _JOB.c.state == JobState.WAITING.value).values(due_at=now)
    )
    return connection.execute(statement).rowcount == 1


def list_jobs(
    connection: Connection,
    lanes: Sequence[str],
    states: Sequence[JobState],
    *,
    after_id: int = 0,
    limit: int = 100,
) -> list[ListedJob]:
    """Jobs of lanes in given states, in the order planned, from the one after `after_id`."""
    statement = (
        select(_JOB, _WORKITEM.c.study_instance_uid)
        .outerjoin(_WORKITEM, _WORKITEM.c.uid == _JOB.c.workitem_uid)
        .where(
            _JOB.c.lane.in_(list(lanes)),
            _JOB.c.state.in_([state.value for state in states]),
            _JOB.c.id > after_id,
        )
        .order_by(_JOB.c.id)
        .limit(limit)
    )
    return [_listed(row) for row in connection.execute(statement)]


def job_by_key(connection: Connection, key: str, *, lock: bool = False) -> ListedJob | None:
    """One job."""
    statement = (
        select(_JOB, _WORKITEM.c.study_instance_uid)
        .outerjoin(_WORKITEM, _WORKITEM.c.uid == _JOB.c.workitem_uid)
        .where(_JOB.c.key == key)
    )
    row = connection.execute(statement.with_for_update(of=_JOB) if lock else statement).first()
    return None if row is None else _listed(row)


def retry_job(connection: Connection, key: str, now: datetime) -> bool:
    """Let a job be tried now whose tries begin anew; whether there was one that is not done."""
    statement = (
        update(_JOB)
        .where(_JOB.c.key == key, _JOB.c.state.in_((JobState.HELD.value, JobState.WAITING.value)))
        .values(state=JobState.WAITING.value, attempts=0, due_at=now)
    )
    return connection.execute(statement).rowcount == 1


def drop_job(connection: Connection, key: str, *, summary: str, now: datetime) -> bool:
    """End a job that nobody works on without having done it; whether there was one."""
    statement = (
        update(_JOB)
        .where(_JOB.c.key == key, _JOB.c.state.in_((JobState.HELD.value, JobState.WAITING.value)))
        .values(state=JobState.DROPPED.value, summary=summary, done_at=now)
    )
    return connection.execute(statement).rowcount == 1


def add_decision(connection: Connection, key: str, decision: Decision) -> None:
    """Keep what a person decided."""
    connection.execute(
        insert(_DECISION).values(
            job_key=key,
            decision=decision.decision,
            decided_by=decision.decided_by,
            reason=decision.reason,
            decided_at=decision.decided_at,
        )
    )


def decisions_of(connection: Connection, keys: Sequence[str]) -> dict[str, list[Decision]]:
    """What persons decided about jobs, by key, oldest first."""
    found: dict[str, list[Decision]] = {}
    statement = select(_DECISION).where(_DECISION.c.job_key.in_(list(keys))).order_by(_DECISION.c.id)
    for row in connection.execute(statement):
        decision = Decision(
            decision=row.decision,
            decided_by=row.decided_by,
            reason=row.reason,
            decided_at=row.decided_at,
        )
        found.setdefault(row.job_key, []).append(decision)
    return found


def forget_decisions(connection: Connection, keys: Sequence[str]) -> None:
    """Delete what was decided about jobs that are deleted."""
    connection.execute(delete(_DECISION).where(_DECISION.c.job_key.in_(list(keys))))


def _health(row: Row[Any]) -> Health:
    return Health(**{field: getattr(row, field) for field in _HEALTH_FIELDS})


def _listed(row: Row[Any]) -> ListedJob:
    return ListedJob(
        id=row.id,
        key=row.key,
        lane=row.lane,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        workitem_uid=row.workitem_uid,
        study_instance_uid=row.study_instance_uid or "",
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=row.due_at,
        why=row.last_error,
    )
