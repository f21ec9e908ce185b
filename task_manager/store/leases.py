# SPDX-License-Identifier: Apache-2.0
"""Statements over leases and expirations. Each takes a connection; none commits.

The columns say where to look; whoever changes a workitem decides again with its row locked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select, type_coerce, update

from profiles.ups.states import ProcedureStepState
from task_manager.store.tables import METADATA, UtcText

_WORKITEM = METADATA.tables["workitem"]
_IN_PROGRESS = _WORKITEM.c.state == ProcedureStepState.IN_PROGRESS.value
_SCHEDULED = _WORKITEM.c.state == ProcedureStepState.SCHEDULED.value


def due_leases(connection: Connection, now: datetime, *, limit: int) -> list[str]:
    """UIDs of workitems IN PROGRESS whose lease has passed, longest first."""
    statement = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c.lease_until.is_not(None), _WORKITEM.c.lease_until <= now, _IN_PROGRESS)
        .order_by(_WORKITEM.c.lease_until)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def next_lease(connection: Connection) -> datetime | None:
    """When the first lease passes."""
    return _least(connection, _WORKITEM.c.lease_until, _IN_PROGRESS)


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
    statement = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c.expires_at.is_not(None), _WORKITEM.c.expires_at <= now, _SCHEDULED)
        .order_by(_WORKITEM.c.expires_at)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def next_expiry(connection: Connection) -> datetime | None:
    """When the first SCHEDULED workitem expires."""
    return _least(connection, _WORKITEM.c.expires_at, _SCHEDULED)


def _least(connection: Connection, column: Any, condition: Any) -> datetime | None:
    statement = (
        select(type_coerce(column, UtcText())).where(column.is_not(None), condition).order_by(column).limit(1)
    )
    found: datetime | None = connection.execute(statement).scalar()
    return found
