# SPDX-License-Identifier: Apache-2.0
"""Statements over leases and expirations. Each takes a connection; none commits.

The columns say where to look; whoever changes a workitem decides again with its row locked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, text, update

from profiles.ups.states import ProcedureStepState
from task_manager.store.compiled import utc_text, utc_time
from task_manager.store.tables import METADATA

_WORKITEM = METADATA.tables["workitem"]
_IN_PROGRESS = _WORKITEM.c.state == ProcedureStepState.IN_PROGRESS.value
_EXPIRY = " WHERE expires_at IS NOT NULL AND state = 'SCHEDULED'"
"""The condition of the index over expirations, to the letter: only then SQLite uses it."""


def due_leases(connection: Connection, now: datetime, *, limit: int) -> list[str]:
    """UIDs of workitems IN PROGRESS whose lease has passed, longest first."""
    statement = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c.lease_until.is_not(None), _WORKITEM.c.lease_until <= now)
        .order_by(_WORKITEM.c.lease_until)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def next_lease(connection: Connection) -> datetime | None:
    """When the first lease passes."""
    ends = _WORKITEM.c.lease_until
    return connection.execute(select(ends).where(ends.is_not(None)).order_by(ends).limit(1)).scalar()


def lease_of(connection: Connection, uid: str) -> datetime | None:
    """Until when a workitem is its performer's, as stored."""
    return connection.execute(select(_WORKITEM.c.lease_until).where(_WORKITEM.c.uid == uid)).scalar()


def put_lease(connection: Connection, uid: str, until: datetime | None) -> None:
    """Store another end of a lease; nothing else of the workitem changes."""
    connection.execute(update(_WORKITEM).where(_WORKITEM.c.uid == uid).values(lease_until=until))


def extend_leases(connection: Connection, now: datetime, silence: Callable[[str], timedelta]) -> int:
    """Let no lease end before one silence (by name of the app) from `now`; how many were moved."""
    apps = list(connection.execute(select(_WORKITEM.c.app).where(_IN_PROGRESS).distinct()).scalars())
    moved = 0
    for app in apps:
        until = now + silence(app)
        early = or_(_WORKITEM.c.lease_until.is_(None), _WORKITEM.c.lease_until < until)
        done = connection.execute(
            update(_WORKITEM).where(_IN_PROGRESS, _WORKITEM.c.app == app, early).values(lease_until=until)
        )
        moved += done.rowcount
    return moved


def expired(connection: Connection, now: datetime, *, limit: int) -> list[str]:
    """UIDs of workitems still SCHEDULED after their expiration."""
    due = f"{_expiring(connection)}{_EXPIRY} AND expires_at <= :now"
    statement = f"SELECT uid FROM {due} ORDER BY expires_at LIMIT :most"  # noqa: S608 - only constants
    return list(connection.execute(text(statement), {"now": utc_text(now), "most": limit}).scalars())


def next_expiry(connection: Connection) -> datetime | None:
    """When the first SCHEDULED workitem expires."""
    due = f"{_expiring(connection)}{_EXPIRY}"
    statement = f"SELECT expires_at FROM {due} ORDER BY expires_at LIMIT 1"  # noqa: S608 - only constants
    return utc_time(connection.execute(text(statement)).scalar())


def _expiring(connection: Connection) -> str:
    """The table, read by its index over expirations: SQLite would rather look through all that waits."""
    return "workitem INDEXED BY workitem_expiry" if connection.dialect.name == "sqlite" else "workitem"
