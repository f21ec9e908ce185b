# SPDX-License-Identifier: Apache-2.0
"""Statements over where instances are available, and what waits for them. None commits.

Each source (a sender of notifications, an archive that was asked) has one word on each instance: its last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, type_coerce

from profiles.ups.states import InputReadinessState, ProcedureStepState
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA, UtcText

_AVAILABILITY = METADATA.tables["availability"]
_WORKITEM = METADATA.tables["workitem"]
_AT_ONCE = 500
_ROWS_AT_ONCE = 100
_RETRIEVABLE = ("ONLINE", "NEARLINE")
_UNAVAILABLE = and_(
    _WORKITEM.c.readiness == InputReadinessState.UNAVAILABLE.value,
    _WORKITEM.c.state == ProcedureStepState.SCHEDULED.value,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """One source's word on one instance.

    Attributes
    ----------
    availability
        Instance Availability (0008,0056): ONLINE, NEARLINE, OFFLINE or UNAVAILABLE.
    retrieve_ae_title, retrieve_url
        Where it can be retrieved by C-MOVE, and by WADO-RS (of its series or itself) if that was told.
    """

    sop_instance_uid: str
    source: str
    availability: str
    told_at: datetime
    retrieve_ae_title: str = ""
    retrieve_url: str = ""


def put_availability(connection: Connection, told: Sequence[Availability]) -> None:
    """Keep the last word of each source on each instance; in one order by all who write several."""
    last = {(one.sop_instance_uid, one.source): one for one in told}
    rows = [_row(last[key]) for key in sorted(last)]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        statement = upsert(connection, _AVAILABILITY).values(rows[start : start + _ROWS_AT_ONCE])
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["sop_instance_uid", "source"],
                set_={
                    name: new[name]
                    for name in ("availability", "retrieve_ae_title", "retrieve_url", "told_at")
                },
            )
        )


def available(connection: Connection, sop_instance_uids: Iterable[str]) -> dict[str, list[Availability]]:
    """Who says that instances can be retrieved, by SOP Instance UID; the latest word first."""
    found: dict[str, list[Availability]] = {}
    wanted = list(dict.fromkeys(sop_instance_uids))
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        statement = (
            select(_AVAILABILITY)
            .where(_AVAILABILITY.c.sop_instance_uid.in_(some), _AVAILABILITY.c.availability.in_(_RETRIEVABLE))
            .order_by(_AVAILABILITY.c.told_at.desc(), _AVAILABILITY.c.source)
        )
        for row in connection.execute(statement):
            found.setdefault(row.sop_instance_uid, []).append(
                Availability(
                    sop_instance_uid=row.sop_instance_uid,
                    source=row.source,
                    availability=row.availability,
                    told_at=row.told_at,
                    retrieve_ae_title=row.retrieve_ae_title,
                    retrieve_url=row.retrieve_url,
                )
            )
    return found


def waiting_for_inputs(
    connection: Connection, *, after: tuple[datetime, str] | None = None, limit: int
) -> list[tuple[datetime, str]]:
    """(time of create, UID) of SCHEDULED workitems whose inputs are UNAVAILABLE, oldest first.

    `after` is the last of the page before.
    """
    created = _WORKITEM.c.created_at
    wanted = [_UNAVAILABLE]
    if after is not None:
        wanted.append(or_(created > after[0], and_(created == after[0], _WORKITEM.c.uid > after[1])))
    statement = (
        select(created, _WORKITEM.c.uid).where(*wanted).order_by(created, _WORKITEM.c.uid).limit(limit)
    )
    return [(row.created_at, row.uid) for row in connection.execute(statement)]


def first_waiting(connection: Connection) -> datetime | None:
    """When the oldest workitem whose inputs are UNAVAILABLE was created; None if there is none."""
    statement = select(type_coerce(func.min(_WORKITEM.c.created_at), UtcText())).where(_UNAVAILABLE)
    return connection.execute(statement).scalar()


def _row(one: Availability) -> dict[str, Any]:
    return {
        "sop_instance_uid": one.sop_instance_uid,
        "source": one.source,
        "availability": one.availability,
        "retrieve_ae_title": one.retrieve_ae_title,
        "retrieve_url": one.retrieve_url,
        "told_at": one.told_at,
    }
