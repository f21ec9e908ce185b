# SPDX-License-Identifier: Apache-2.0
"""Statements over workitems and their event reports. Each takes a connection; none commits.

The whole workitem is DICOM JSON text; the columns exist to be searched. A change names the version it was
made from, so two writers can never both win.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, collate, func, insert, select, update

from profiles.dicom_json import DicomJson
from profiles.ups.states import ProcedureStepState
from task_manager.store.tables import METADATA
from task_manager.workitem.machine import StateReport
from task_manager.workitem.model import RequestedCancel, Workitem

_WORKITEM = METADATA.tables["workitem"]
_REPORT = METADATA.tables["workitem_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What made a workitem, beside its attributes; empty for one created by a peer.

    `input_digest` tells whether a later revision of the study would ask for the same work again,
    `order_digest` whether the order has changed since.
    """

    rule: str = ""
    order_key: str = ""
    input_digest: str = ""
    order_digest: str = ""
    destinations: tuple[str, ...] = ()


def add_workitem(
    connection: Connection, workitem: Workitem, origin: Origin, columns: Mapping[str, Any]
) -> None:
    """Insert a new workitem; `columns` are its searched values."""
    connection.execute(
        insert(_WORKITEM).values(
            **_content(workitem),
            **columns,
            uid=workitem.uid,
            rule=origin.rule,
            order_key=origin.order_key,
            input_digest=origin.input_digest,
            order_digest=origin.order_digest,
            destinations=",".join(origin.destinations),
            created_at=workitem.created_at,
        )
    )


def save_workitem(
    connection: Connection, before: Workitem, after: Workitem, columns: Mapping[str, Any]
) -> bool:
    """Write exactly `after` if the row still is at the version of `before`; whether it was."""
    done = connection.execute(
        update(_WORKITEM)
        .where(_WORKITEM.c.uid == before.uid, _WORKITEM.c.version == before.version)
        .values(**_content(after), **columns)
    )
    return done.rowcount == 1


def workitem_by_uid(connection: Connection, uid: str, *, lock: bool = False) -> Workitem | None:
    """A workitem; None if unknown. `lock` keeps other writers away until the transaction ends."""
    statement = select(_WORKITEM).where(_WORKITEM.c.uid == uid)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _workitem(row)


def origin_of(connection: Connection, uid: str) -> Origin:
    """What made a workitem."""
    row = connection.execute(
        select(
            _WORKITEM.c.rule,
            _WORKITEM.c.order_key,
            _WORKITEM.c.input_digest,
            _WORKITEM.c.order_digest,
            _WORKITEM.c.destinations,
        ).where(_WORKITEM.c.uid == uid)
    ).one()
    return Origin(
        rule=row.rule,
        order_key=row.order_key,
        input_digest=row.input_digest,
        order_digest=row.order_digest,
        destinations=tuple(name for name in row.destinations.split(",") if name),
    )


def candidates(connection: Connection, equal: Mapping[str, Sequence[str | int]]) -> Generator[DicomJson]:
    """Attributes of workitems whose columns have one of the wanted values, in worklist order.

    HIGH priority first, then scheduled start, then arrival (the order performers should take them in).
    Close the iterator when stopping early: it holds a cursor.
    """
    wanted = [_WORKITEM.c[name].in_(list(values)) for name, values in equal.items()]
    statement = (
        select(_WORKITEM.c.attributes)
        .where(and_(True, *wanted))
        .order_by(_WORKITEM.c.priority_rank, _WORKITEM.c.scheduled_start, _WORKITEM.c.created_at)
        .order_by(collate(_WORKITEM.c.uid, "BINARY" if connection.dialect.name == "sqlite" else "C"))
    )
    with connection.execution_options(yield_per=200).execute(statement) as found:
        for (attributes,) in found:
            yield orjson.loads(attributes)


def workitems_of_study(connection: Connection, study_instance_uid: str) -> list[tuple[Workitem, Origin]]:
    """All workitems of a study with their origin, oldest first."""
    statement = (
        select(_WORKITEM)
        .where(_WORKITEM.c.study_instance_uid == study_instance_uid)
        .order_by(_WORKITEM.c.created_at, _WORKITEM.c.uid)
    )
    return [
        (
            _workitem(row),
            Origin(
                rule=row.rule,
                order_key=row.order_key,
                input_digest=row.input_digest,
                order_digest=row.order_digest,
                destinations=tuple(name for name in row.destinations.split(",") if name),
            ),
        )
        for row in connection.execute(statement)
    ]


def workitems_of_order(connection: Connection, order_key: str) -> list[str]:
    """UIDs of the workitems an order caused."""
    return list(
        connection.execute(select(_WORKITEM.c.uid).where(_WORKITEM.c.order_key == order_key)).scalars()
    )


def add_reports(
    connection: Connection, uid: str, reports: Sequence[StateReport], actor: str, now: datetime
) -> None:
    """Append the event reports of one change."""
    for report in reports:
        connection.execute(
            insert(_REPORT).values(
                workitem_uid=uid,
                event_type=int(report.event_type),
                state=report.state.value,
                content=orjson.dumps(report.payload).decode(),
                actor=actor,
                reported_at=now,
            )
        )


def reports_of(connection: Connection, uid: str) -> list[tuple[int, str, str, datetime]]:
    """(event type, state, actor, time) of a workitem's reports, oldest first."""
    statement = select(_REPORT).where(_REPORT.c.workitem_uid == uid).order_by(_REPORT.c.id)
    return [(row.event_type, row.state, row.actor, row.reported_at) for row in connection.execute(statement)]


def count_by_state(connection: Connection) -> dict[str, int]:
    """Number of workitems in each state."""
    statement = select(_WORKITEM.c.state, func.count()).group_by(_WORKITEM.c.state)
    return {row.state: row[1] for row in connection.execute(statement)}


def _content(workitem: Workitem) -> dict[str, Any]:
    return {
        "version": workitem.version,
        "state": workitem.state.value,
        "transaction_uid": workitem.transaction_uid,
        "attributes": orjson.dumps(workitem.attributes).decode(),
        "cancel_requested": _cancel_text(workitem.cancel_requested),
        "modified_at": workitem.modified_at,
    }


def _cancel_text(requested: RequestedCancel | None) -> str:
    return orjson.dumps(asdict(requested)).decode() if requested else ""


def _cancel_value(text: str) -> RequestedCancel | None:
    if not text:
        return None
    fields = orjson.loads(text)
    return RequestedCancel(**{**fields, "requested_at": datetime.fromisoformat(fields["requested_at"])})


def _workitem(row: Row[Any]) -> Workitem:
    return Workitem(
        uid=row.uid,
        state=ProcedureStepState(row.state),
        transaction_uid=row.transaction_uid,
        attributes=orjson.loads(row.attributes),
        created_at=row.created_at,
        modified_at=row.modified_at,
        version=row.version,
        cancel_requested=_cancel_value(row.cancel_requested),
    )
