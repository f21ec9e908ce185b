# SPDX-License-Identifier: Apache-2.0
"""Statements over who has how much to do, and what waits for somebody. None commits."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from profiles.ups.states import ProcedureStepState
from task_manager.store.tables import METADATA

_WORKITEM = METADATA.tables["workitem"]
_UNDONE = (ProcedureStepState.SCHEDULED.value, ProcedureStepState.IN_PROGRESS.value)


def assigned_to_station(connection: Connection, ae_title: str, *, most: int) -> int:
    """How many workitems that are not final name a station, counted to `most`."""
    return _count(connection, "station_name", ae_title, most)


def assigned_to_class(connection: Connection, station_class: str, *, most: int) -> int:
    """How many workitems that are not final name a station class, counted to `most`."""
    return _count(connection, "station_class", station_class, most)


def assigned_to_organization(connection: Connection, organization: str, *, most: int) -> int:
    """How many workitems that are not final name an organization, counted to `most`."""
    return _count(connection, "organization", organization, most)


def waiting_unassigned(connection: Connection, apps: Iterable[str], *, limit: int) -> list[str]:
    """UIDs of READY workitems of the apps that nobody is named for, in worklist order."""
    statement = (
        select(_WORKITEM.c.uid)
        .where(
            _WORKITEM.c.state == ProcedureStepState.SCHEDULED.value,
            _WORKITEM.c.station_name == "",
            _WORKITEM.c.station_class == "",
            _WORKITEM.c.organization == "",
            _WORKITEM.c.readiness == "READY",
            _WORKITEM.c.app.in_(sorted(apps)),
        )
        .order_by(_WORKITEM.c.priority_rank, _WORKITEM.c.scheduled_start, _WORKITEM.c.created_at)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def _count(connection: Connection, column: str, name: str, most: int) -> int:
    """Count to a bound: more than that is only known to be much."""
    some = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c[column] == name, _WORKITEM.c.state.in_(_UNDONE))
        .limit(most)
        .subquery()
    )
    return connection.execute(select(func.count()).select_from(some)).scalar_one()
