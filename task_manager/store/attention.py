# SPDX-License-Identifier: Apache-2.0
"""Statements over what waits for a person: workitems, held jobs, lanes.

Each takes a connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, literal_column, select, type_coerce

from task_manager.outbox import FINISHED, JobState
from task_manager.store.tables import METADATA, UtcText

_WORKITEM = METADATA.tables["workitem"]
_JOB = METADATA.tables["job"]
_WAITS = _WORKITEM.c.attention != literal_column("''")
"""Written out: only then SQLite sees that the index over attention holds all that are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingWorkitem:
    """A workitem that waits for a person.

    Attributes
    ----------
    since
        When it became final.
    why
        What a person has to decide about.
    """

    uid: str
    since: datetime
    why: str
    tries: int
    app: str
    label: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldJob:
    """A job that was set aside for a person."""

    key: str
    lane: str
    workitem_uid: str
    attempts: int
    since: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane with jobs that are not done; `since` is when the oldest of them was planned."""

    name: str
    waiting: int
    held: int
    since: datetime


def waiting_workitems(connection: Connection, *, limit: int) -> list[WaitingWorkitem]:
    """Workitems with attention set, oldest first."""
    since = func.coalesce(_WORKITEM.c.final_at, _WORKITEM.c.modified_at)
    statement = (
        select(
            _WORKITEM.c.uid,
            type_coerce(since, UtcText()).label("since"),
            _WORKITEM.c.attention,
            _WORKITEM.c.tries,
            _WORKITEM.c.app,
            _WORKITEM.c.label,
            _WORKITEM.c.study_instance_uid,
        )
        .where(_WAITS)
        .order_by(_WORKITEM.c.created_at)
        .limit(limit)
    )
    return [
        WaitingWorkitem(
            uid=row.uid,
            since=row.since,
            why=row.attention,
            tries=row.tries,
            app=row.app,
            label=row.label,
            study_instance_uid=row.study_instance_uid,
        )
        for row in connection.execute(statement)
    ]


def count_workitems(connection: Connection) -> int:
    """How many workitems wait for a person."""
    statement = select(func.count()).select_from(_WORKITEM).where(_WAITS)
    return int(connection.execute(statement).scalar_one())


def unfinished_lanes(connection: Connection) -> list[Lane]:
    """Lanes with jobs that are not done, by name."""
    statement = (
        select(
            _JOB.c.lane,
            _JOB.c.state,
            func.count().label("number"),
            type_coerce(func.min(_JOB.c.created_at), UtcText()).label("since"),
        )
        .where(_JOB.c.state.not_in([state.value for state in FINISHED]))
        .group_by(_JOB.c.lane, _JOB.c.state)
    )
    found: dict[str, Lane] = {}
    for row in connection.execute(statement):
        held = row.number if row.state == JobState.HELD.value else 0
        lane = found.get(row.lane, Lane(name=row.lane, waiting=0, held=0, since=row.since))
        found[row.lane] = Lane(
            name=row.lane,
            waiting=lane.waiting + row.number - held,
            held=lane.held + held,
            since=min(lane.since, row.since),
        )
    return [found[name] for name in sorted(found)]


def held_jobs(connection: Connection, lanes: Sequence[str], *, limit: int) -> list[HeldJob]:
    """Jobs of the lanes that were set aside for a person, oldest first."""
    statement = (
        select(_JOB)
        .where(_JOB.c.lane.in_(list(lanes)), _JOB.c.state == JobState.HELD.value)
        .order_by(_JOB.c.id)
        .limit(limit)
    )
    return [
        HeldJob(
            key=row.key,
            lane=row.lane,
            workitem_uid=row.workitem_uid,
            attempts=row.attempts,
            since=row.created_at,
            why=row.last_error,
        )
        for row in connection.execute(statement)
    ]
