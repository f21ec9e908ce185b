# SPDX-License-Identifier: Apache-2.0
"""Statements over workitems. Each takes a connection; none commits.

A workitem is DICOM JSON text in two parts (``workitem.parts``); the columns exist to be searched. Rows are
locked when they are read to be changed, and the version grows with each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, select

from task_manager.store.compiled import Statement, pipelined
from task_manager.store.contents import Content, Contents, add_contents, contents_by_number, drop_contents
from task_manager.store.records import (
    INSERTED,
    KEPT,
    PROGRESSED,
    READ,
    STEPPED,
    UPDATED,
    WITH_CONTENT,
    Origin,
    Record,
    around_columns,
    only_progressed,
    progress_columns,
    record_of,
    same_around,
    searched_columns,
    step_columns,
)
from task_manager.store.rowwise import inserting, updating
from task_manager.store.tables import METADATA
from task_manager.store.whole_texts import WholeTexts
from task_manager.workitem.columns import same_columns
from task_manager.workitem.model import Workitem
from task_manager.workitem.parts import lasts

_WORKITEM = METADATA.tables["workitem"]
_NUMBER = KEPT.index(_WORKITEM.c.content_number)
_PURGED = METADATA.tables["purged_workitem"]


def _among(dialect: str) -> Any:
    """The condition that a workitem is among several: an array in PostgreSQL, one JSON text in SQLite."""
    uids: Any = bindparam("uids")
    if dialect == "sqlite":
        return _WORKITEM.c.uid.in_(select(func.json_each(uids).table_valued("value").c.value))
    return _WORKITEM.c.uid == func.any(uids)


_ADD = inserting(_WORKITEM, INSERTED)
_SAVE = updating(_WORKITEM, UPDATED, key="uid")
_SAVE_PROGRESS = updating(_WORKITEM, PROGRESSED, key="uid")
_SAVE_STEP = updating(_WORKITEM, STEPPED, key="uid")
_ONE = Statement(lambda _: select(*READ).select_from(WITH_CONTENT).where(_WORKITEM.c.uid == bindparam("uid")))
_LOCKED = Statement(
    lambda dialect: select(*KEPT).where(_among(dialect)).order_by(_WORKITEM.c.uid).with_for_update()
)
_OF_STUDY = Statement(
    lambda _: (
        select(*READ)
        .select_from(WITH_CONTENT)
        .where(_WORKITEM.c.study_instance_uid == bindparam("study_instance_uid"))
        .order_by(_WORKITEM.c.created_at, _WORKITEM.c.uid)
    )
)
_TEXT = WholeTexts(lambda _, select_: select_.where(_WORKITEM.c.uid == bindparam("uid")))
_TEXTS = WholeTexts(lambda dialect, select_: select_.where(_among(dialect)))
_PURGED_ONE = Statement(lambda _: select(_PURGED.c.uid).where(_PURGED.c.uid == bindparam("uid")))


def add_records(connection: Connection, records: Sequence[Record], known: Contents) -> dict[int, Content]:
    """Insert new workitems; what lasts of them by number, to be known once it is committed."""
    if not records:
        return {}
    contents = add_contents(connection, [record.workitem.attributes for record in records], known)
    rows = [
        {
            **step_columns(record),
            **around_columns(record),
            **searched_columns(record.workitem.attributes),
            "content_number": number,
        }
        for number, record in zip(contents, records, strict=True)
    ]
    _ADD.run(connection, rows)
    return contents


def save_records(connection: Connection, records: Sequence[tuple[Record, Record]], known: Contents) -> bool:
    """Write workitems, each as it was read and as it is now; whether more than steps of performers changed.

    The caller has locked their rows.
    """
    progresses, steps, rescheduled, renewed = [], [], [], []
    for former, record in records:
        before, after = former.workitem.attributes, record.workitem.attributes
        if not lasts(before, after):
            renewed.append(record)
        elif not (same_columns(before, after) and same_around(former, record)):
            rescheduled.append((record, record.content_number))
        elif only_progressed(former, record):
            progresses.append(progress_columns(record.workitem))
        else:
            steps.append(step_columns(record))
    numbers = add_contents(connection, [record.workitem.attributes for record in renewed], known)
    rescheduled += zip(renewed, numbers, strict=True)
    _SAVE_PROGRESS.run(connection, progresses)
    _SAVE_STEP.run(connection, steps)
    _SAVE.run(connection, [_whole_row(record, number) for record, number in rescheduled])
    drop_contents(connection, [record.content_number for record in renewed])
    return bool(rescheduled)


def _whole_row(record: Record, content_number: int) -> dict[str, Any]:
    searched = searched_columns(record.workitem.attributes)
    return {**step_columns(record), **around_columns(record), **searched, "content_number": content_number}


def record_by_uid(connection: Connection, uid: str) -> Record | None:
    """A workitem; None if unknown."""
    rows = _ONE.rows(connection, {"uid": uid})
    return record_of(rows[0], orjson.loads(rows[0][-1])) if rows else None


def locked_records(
    connection: Connection, uids: Iterable[str], known: Contents
) -> tuple[dict[str, Record], dict[int, Content]]:
    """The workitems among `uids` that exist, their rows locked in one order by all who lock several.

    Also the contents that were read because they were not `known`, to be known once it is committed.
    They are read after the rows are locked: on PostgreSQL a statement that waited for a lock sees the row as
    it is then, and rows of other tables as they were before.
    """
    wanted = _several(connection, sorted(set(uids)))
    with pipelined(connection):
        asked = _LOCKED.asked_rows(connection, {"uids": wanted})
    rows = asked()
    contents, learned = contents_by_number(connection, (row[_NUMBER] for row in rows), known)
    return {row[0]: record_of(row, contents[row[_NUMBER]].part) for row in rows}, learned


def workitem_by_uid(connection: Connection, uid: str) -> Workitem | None:
    """A workitem; None if unknown."""
    record = record_by_uid(connection, uid)
    return None if record is None else record.workitem


def texts(connection: Connection, uids: Sequence[str], known: Contents | None = None) -> list[bytes | None]:
    """The attributes of workitems as DICOM JSON text, None for those that are not there; see `WholeTexts`."""
    if len(uids) < 2:
        rows = [_TEXT.read(connection, {"uid": uid}, known) for uid in uids]
        return [row[0][1] if row else None for row in rows]
    found = dict(_TEXTS.read(connection, {"uids": _several(connection, uids)}, known))
    return [found.get(uid.encode()) for uid in uids]


def _several(connection: Connection, uids: Sequence[str]) -> Any:
    """UIDs as a value of :func:`_among`."""
    return orjson.dumps(uids).decode() if connection.dialect.name == "sqlite" else list(uids)


def is_purged(connection: Connection, uid: str) -> bool:
    """Whether a workitem was here and has been deleted."""
    return bool(_PURGED_ONE.rows(connection, {"uid": uid}))


def records_of_study(connection: Connection, study_instance_uid: str) -> list[Record]:
    """All workitems of a study, oldest first."""
    rows = _OF_STUDY.rows(connection, {"study_instance_uid": study_instance_uid})
    return [record_of(row, orjson.loads(row[-1])) for row in rows]


def workitems_of_study(connection: Connection, study_instance_uid: str) -> list[tuple[Workitem, Origin]]:
    """All workitems of a study with their origin, oldest first."""
    found = records_of_study(connection, study_instance_uid)
    return [(record.workitem, record.origin) for record in found]


def count_by_state(connection: Connection) -> dict[str, int]:
    """Number of workitems in each state."""
    statement = select(_WORKITEM.c.state, func.count()).group_by(_WORKITEM.c.state)
    return {row.state: row[1] for row in connection.execute(statement)}
