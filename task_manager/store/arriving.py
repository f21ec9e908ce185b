# SPDX-License-Identifier: Apache-2.0
"""Records of instances that arrive, many in one transaction.

The statements that run for every instance; what else is known of studies and instances is in ``studies.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from task_manager.store.compiled import Statement, utc_text
from task_manager.store.database import PlainCursor
from task_manager.store.rowwise import inserting
from task_manager.store.tables import METADATA
from task_manager.study.model import Instance, InstanceHeader

_INSTANCE = METADATA.tables["instance"]
_SERIES = METADATA.tables["series"]

_COPIES = Statement(
    lambda _: (
        select(_INSTANCE.c.copy_number, _INSTANCE.c.path)
        .where(_INSTANCE.c.sop_instance_uid == bindparam("uid"))
        .order_by(_INSTANCE.c.copy_number)
    )
)
_COLUMNS = (
    "sop_instance_uid",
    "copy_number",
    "sop_class_uid",
    "series_instance_uid",
    "study_instance_uid",
    "transfer_syntax_uid",
    "instance_number",
    "path",
    "size",
    "received_at",
    "source",
    "attributes",
)
_ADD_INSTANCES = inserting(_INSTANCE, _COLUMNS)
_PLACES = ", ".join("?" for _ in _COLUMNS)
_EXTEND = f"INSERT INTO instance ({', '.join(_COLUMNS)}) VALUES ({_PLACES}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of columns
_MOVE = (
    "UPDATE study SET last_received_at = ?, deadline_at = ? WHERE study_instance_uid = ? "
    "AND state = 'RECEIVING' AND evidence = '' AND completed_at IS NULL AND deadline_at IS NOT NULL "
    "AND receiving_since = ? AND last_received_at <= ?"
)
_SERIES_KEY = ("series_instance_uid", "study_instance_uid")
_ADD_SERIES = inserting(_SERIES, (*_SERIES_KEY, "attributes"), unless=_SERIES_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An instance to be recorded, the how manieth of its UID it is, and where it came from."""

    instance: Instance
    copy_number: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A study that receives on: when it was looked at first, what came last, and when to look next."""

    study_instance_uid: str
    receiving_since: datetime
    now: datetime
    deadline_at: datetime


def copies_of(connection: Connection, sop_instance_uid: str) -> list[tuple[int, str]]:
    """(copy number, path) of everything kept under a SOP Instance UID."""
    return [(number, path) for number, path in _COPIES.rows(connection, {"uid": sop_instance_uid})]


def add_instances(connection: Connection, recorded: Sequence[Recorded]) -> None:
    """Record stored instances."""
    _ADD_INSTANCES.run(connection, [dict(zip(_COLUMNS, _values(one), strict=True)) for one in recorded])


def extend_studies(cursor: PlainCursor, recorded: Sequence[Recorded], moves: Sequence[Move]) -> bool:
    """Record instances of series and studies that are known; whether that is all there is to do.

    If not, some UID is not new, or some study is not as it was: nothing of this may be committed.
    """
    if cursor.change(_EXTEND, [_values(one) for one in recorded]) != len(recorded):
        return False
    return cursor.change(_MOVE, [_moved(one) for one in moves]) == len(moves)


def _values(recorded: Recorded) -> tuple[Any, ...]:
    """The values of a row in the order of the columns."""
    instance = recorded.instance
    return (
        instance.sop_instance_uid,
        recorded.copy_number,
        instance.sop_class_uid,
        instance.series_instance_uid,
        instance.study_instance_uid,
        instance.transfer_syntax_uid,
        instance.instance_number,
        instance.path,
        instance.size,
        utc_text(instance.received_at),
        recorded.source,
        orjson.dumps(instance.attributes).decode(),
    )


def _moved(move: Move) -> tuple[Any, ...]:
    now = utc_text(move.now)
    return now, utc_text(move.deadline_at), move.study_instance_uid, utc_text(move.receiving_since), now


def add_series(connection: Connection, headers: Iterable[InstanceHeader]) -> None:
    """Remember series by the header of their first instance; known ones stay as they are."""
    firsts: dict[tuple[str, str], InstanceHeader] = {}
    for header in headers:
        firsts.setdefault((header.series_instance_uid, header.study_instance_uid), header)
    _ADD_SERIES.run(
        connection,
        [
            {
                "series_instance_uid": header.series_instance_uid,
                "study_instance_uid": header.study_instance_uid,
                "attributes": orjson.dumps(header.attributes).decode(),
            }
            for header in firsts.values()
        ],
    )
