# SPDX-License-Identifier: Apache-2.0
"""Statements over workitems. Each takes a connection; none commits.

The whole workitem is DICOM JSON text; the columns exist to be searched. Rows are locked when they are read to
be changed, and the version grows with each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, select

from profiles.dicom_json import DicomJson
from profiles.ups.returning import search_result
from profiles.ups.states import ProcedureStepState
from task_manager.store.compiled import Statement, fetch, utc_text, utc_time
from task_manager.store.rowwise import inserting, updating
from task_manager.store.tables import METADATA
from task_manager.workitem.columns import expires_at, same_columns, search_columns
from task_manager.workitem.model import RequestedCancel, Workitem

_WORKITEM = METADATA.tables["workitem"]
_PURGED = METADATA.tables["purged_workitem"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """How work on a workitem goes, beside its attributes.

    Attributes
    ----------
    app
        Name of the app that its code belongs to; empty for foreign work.
    tries
        Which try this is: 1, and one more in each replacement.
    rejected_by
        Stations that rejected the assignment.
    attention
        Why a person has to decide; empty if nobody has to.
    claimed_by
        Who claimed it, as their door knew them.
    """

    app: str = ""
    tries: int = 1
    rejected_by: tuple[str, ...] = ()
    attention: str = ""
    claimed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A workitem with all that is kept of it."""

    workitem: Workitem
    origin: Origin
    dispatch: Dispatch


_KEPT = tuple(
    _WORKITEM.c[name]
    for name in (
        *("uid", "state", "transaction_uid", "attributes", "created_at", "modified_at", "version"),
        *("cancel_requested", "claimed_at", "heard_at"),
        *("rule", "order_key", "input_digest", "order_digest", "destinations"),
        *("app", "tries", "rejected_by", "attention", "claimed_by"),
    )
)
_INSERTED = [column.name for column in _WORKITEM.columns]
_UPDATED = [name for name in _INSERTED if name != "created_at"]

_SEARCHED = frozenset({*search_columns({}), "expires_at"})
_ADD = inserting(_WORKITEM, _INSERTED)
_SAVE = updating(_WORKITEM, _UPDATED, key="uid")
_SAVE_UNSEARCHED = updating(_WORKITEM, [name for name in _UPDATED if name not in _SEARCHED], key="uid")
_ONE = Statement(lambda _: select(*_KEPT).where(_WORKITEM.c.uid == bindparam("uid")))
_ONE_LOCKED = Statement(lambda _: select(*_KEPT).where(_WORKITEM.c.uid == bindparam("uid")).with_for_update())
_MANY_LOCKED = Statement(
    lambda _: (
        select(*_KEPT)
        .where(_WORKITEM.c.uid == func.any(bindparam("uids")))
        .order_by(_WORKITEM.c.uid)
        .with_for_update()
    )
)
_OF_STUDY = Statement(
    lambda _: (
        select(*_KEPT)
        .where(_WORKITEM.c.study_instance_uid == bindparam("study_instance_uid"))
        .order_by(_WORKITEM.c.created_at, _WORKITEM.c.uid)
    )
)
_TEXT = Statement(lambda _: select(_WORKITEM.c.attributes).where(_WORKITEM.c.uid == bindparam("uid")))
_PURGED_ONE = Statement(lambda _: select(_PURGED.c.uid).where(_PURGED.c.uid == bindparam("uid")))


def add_records(
    connection: Connection, records: Sequence[Record], lease_until: Mapping[str, datetime | None]
) -> None:
    """Insert new workitems; `lease_until` holds the lease of those that have one, by UID."""
    rows = [
        {
            **_content(record, lease_until.get(record.workitem.uid)),
            **_searched_row(record.workitem.attributes),
        }
        for record in records
    ]
    _ADD.run(connection, rows)


def save_records(
    connection: Connection,
    records: Sequence[tuple[Workitem, Record]],
    lease_until: Mapping[str, datetime | None],
) -> None:
    """Write workitems, each as it was read and as it is now; the caller has locked their rows."""
    searched: list[dict[str, Any]] = []
    unsearched: list[dict[str, Any]] = []
    for before, record in records:
        workitem = record.workitem
        row = _content(record, lease_until.get(workitem.uid))
        if same_columns(before.attributes, workitem.attributes):
            unsearched.append(row)
        else:
            searched.append({**row, **_searched_row(workitem.attributes)})
    _SAVE_UNSEARCHED.run(connection, unsearched)
    _SAVE.run(connection, searched)


def record_by_uid(connection: Connection, uid: str, *, lock: bool = False) -> Record | None:
    """A workitem; None if unknown. `lock` keeps other writers away until the transaction ends."""
    rows = (_ONE_LOCKED if lock else _ONE).rows(connection, {"uid": uid})
    return _record(rows[0]) if rows else None


def locked_records(connection: Connection, uids: Iterable[str]) -> dict[str, Record]:
    """The workitems among `uids` that exist, their rows locked in one order by all who lock several."""
    wanted = sorted(set(uids))
    if connection.dialect.name == "sqlite" or len(wanted) < 2:
        found = (record_by_uid(connection, uid, lock=True) for uid in wanted)
        return {record.workitem.uid: record for record in found if record is not None}
    rows = _MANY_LOCKED.rows(connection, {"uids": wanted})
    return {row[0]: _record(row) for row in rows}


def workitem_by_uid(connection: Connection, uid: str) -> Workitem | None:
    """A workitem; None if unknown."""
    record = record_by_uid(connection, uid)
    return None if record is None else record.workitem


def texts(connection: Connection, uids: Sequence[str]) -> list[bytes | None]:
    """The attributes of workitems as DICOM JSON text, None for those that are unknown."""
    if connection.dialect.name == "sqlite" or len(uids) < 2:
        found_each = (_TEXT.rows(connection, {"uid": uid}) for uid in uids)
        return [rows[0][0].encode() if rows else None for rows in found_each]
    statement = "SELECT uid, attributes FROM workitem WHERE uid = ANY(%(uids)s)"
    found = dict(fetch(connection, statement, {"uids": list(uids)}))
    return [found[uid].encode() if uid in found else None for uid in uids]


def is_purged(connection: Connection, uid: str) -> bool:
    """Whether a workitem was here and has been deleted."""
    return bool(_PURGED_ONE.rows(connection, {"uid": uid}))


def records_of_study(connection: Connection, study_instance_uid: str) -> list[Record]:
    """All workitems of a study, oldest first."""
    return [_record(row) for row in _OF_STUDY.rows(connection, {"study_instance_uid": study_instance_uid})]


def workitems_of_study(connection: Connection, study_instance_uid: str) -> list[tuple[Workitem, Origin]]:
    """All workitems of a study with their origin, oldest first."""
    found = records_of_study(connection, study_instance_uid)
    return [(record.workitem, record.origin) for record in found]


def workitems_of_order(connection: Connection, order_key: str) -> list[str]:
    """UIDs of the workitems an order caused."""
    return list(
        connection.execute(select(_WORKITEM.c.uid).where(_WORKITEM.c.order_key == order_key)).scalars()
    )


def count_by_state(connection: Connection) -> dict[str, int]:
    """Number of workitems in each state."""
    statement = select(_WORKITEM.c.state, func.count()).group_by(_WORKITEM.c.state)
    return {row.state: row[1] for row in connection.execute(statement)}


def _searched_row(attributes: DicomJson) -> dict[str, Any]:
    return {**search_columns(attributes), "expires_at": utc_text(expires_at(attributes))}


def _content(record: Record, lease_until: datetime | None) -> dict[str, Any]:
    workitem, origin, dispatch = record.workitem, record.origin, record.dispatch
    attributes: DicomJson = workitem.attributes
    return {
        "uid": workitem.uid,
        "version": workitem.version,
        "state": workitem.state.value,
        "transaction_uid": workitem.transaction_uid,
        "attributes": orjson.dumps(attributes).decode(),
        "summary": orjson.dumps(search_result(attributes, ())).decode(),
        "cancel_requested": _cancel_text(workitem.cancel_requested),
        "rule": origin.rule,
        "order_key": origin.order_key,
        "input_digest": origin.input_digest,
        "order_digest": origin.order_digest,
        "destinations": ",".join(origin.destinations),
        "app": dispatch.app,
        "tries": dispatch.tries,
        "rejected_by": ",".join(dispatch.rejected_by),
        "attention": dispatch.attention,
        "claimed_by": dispatch.claimed_by,
        "claimed_at": utc_text(workitem.claimed_at),
        "heard_at": utc_text(workitem.heard_at),
        "lease_until": utc_text(lease_until),
        "final_at": utc_text(workitem.modified_at) if workitem.is_final else None,
        "created_at": utc_text(workitem.created_at),
        "modified_at": utc_text(workitem.modified_at),
    }


def _cancel_text(requested: RequestedCancel | None) -> str:
    return orjson.dumps(asdict(requested)).decode() if requested else ""


def _cancel_value(text: str) -> RequestedCancel | None:
    if not text:
        return None
    fields = orjson.loads(text)
    return RequestedCancel(**{**fields, "requested_at": datetime.fromisoformat(fields["requested_at"])})


def _aware(stored: str) -> datetime:
    return datetime.fromisoformat(stored)


def _record(row: Sequence[Any]) -> Record:
    """A row of the columns in :data:`_KEPT`."""
    return Record(
        workitem=Workitem(
            uid=row[0],
            state=ProcedureStepState(row[1]),
            transaction_uid=row[2],
            attributes=orjson.loads(row[3]),
            created_at=_aware(row[4]),
            modified_at=_aware(row[5]),
            version=row[6],
            cancel_requested=_cancel_value(row[7]),
            claimed_at=utc_time(row[8]),
            heard_at=utc_time(row[9]),
        ),
        origin=Origin(
            rule=row[10],
            order_key=row[11],
            input_digest=row[12],
            order_digest=row[13],
            destinations=_names(row[14]),
        ),
        dispatch=Dispatch(
            app=row[15],
            tries=row[16],
            rejected_by=_names(row[17]),
            attention=row[18],
            claimed_by=row[19],
        ),
    )


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()
