# SPDX-License-Identifier: Apache-2.0
"""Statements over workitems. Each takes a connection; none commits.

A workitem is DICOM JSON text in two parts (``workitem.parts``); the columns exist to be searched. Rows are
locked when they are read to be changed, and the version grows with each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, func, literal_column, select

from profiles.dicom_json import DicomJson
from task_manager.store.compiled import Statement, fetch
from task_manager.store.records import (
    CONTENT,
    INSERTED,
    PROGRESSED,
    READ,
    STEPPED,
    UPDATED,
    WITH_CONTENT,
    Origin,
    Record,
    around_columns,
    content_row,
    only_progressed,
    progress_columns,
    record_of,
    same_around,
    searched_columns,
    step_columns,
)
from task_manager.store.rowwise import inserting, updating
from task_manager.store.tables import METADATA
from task_manager.workitem.columns import same_columns
from task_manager.workitem.model import Workitem
from task_manager.workitem.parts import lasts, whole_text

_WORKITEM = METADATA.tables["workitem"]
_CONTENT = METADATA.tables["workitem_content"]
_PURGED = METADATA.tables["purged_workitem"]


_ADD = inserting(_WORKITEM, INSERTED)
_ADD_CONTENT = inserting(_CONTENT, CONTENT)
_SAVE = updating(_WORKITEM, UPDATED, key="uid")
_SAVE_PROGRESS = updating(_WORKITEM, PROGRESSED, key="uid")
_SAVE_STEP = updating(_WORKITEM, STEPPED, key="uid")
_SAVE_CONTENT = updating(_CONTENT, CONTENT, key="number")
_ONE = Statement(lambda _: select(*READ).select_from(WITH_CONTENT).where(_WORKITEM.c.uid == bindparam("uid")))
_ONE_LOCKED = Statement(
    lambda _: (
        select(*READ)
        .select_from(WITH_CONTENT)
        .where(_WORKITEM.c.uid == bindparam("uid"))
        .with_for_update(of=_WORKITEM)
    )
)
_MANY_LOCKED = Statement(
    lambda _: (
        select(*READ)
        .select_from(WITH_CONTENT)
        .where(_WORKITEM.c.uid == func.any(bindparam("uids")))
        .order_by(_WORKITEM.c.uid)
        .with_for_update(of=_WORKITEM)
    )
)
_OF_STUDY = Statement(
    lambda _: (
        select(*READ)
        .select_from(WITH_CONTENT)
        .where(_WORKITEM.c.study_instance_uid == bindparam("study_instance_uid"))
        .order_by(_WORKITEM.c.created_at, _WORKITEM.c.uid)
    )
)
_PARTS = (_CONTENT.c.attributes, _WORKITEM.c.attributes)
_TEXT = Statement(
    lambda _: select(*_PARTS).select_from(WITH_CONTENT).where(_WORKITEM.c.uid == bindparam("uid"))
)
_TEXTS = Statement(
    lambda _: (
        select(_WORKITEM.c.uid, *_PARTS)
        .select_from(WITH_CONTENT)
        .where(_WORKITEM.c.uid == func.any(bindparam("uids")))
    )
)
_LAST_NUMBER = Statement(lambda _: select(func.coalesce(func.max(_CONTENT.c.number), literal_column("0"))))
_NEW_NUMBERS = (
    "SELECT nextval(pg_get_serial_sequence('workitem_content', 'number')) FROM generate_series(1, %(count)s)"
)
_PURGED_ONE = Statement(lambda _: select(_PURGED.c.uid).where(_PURGED.c.uid == bindparam("uid")))


def add_records(connection: Connection, records: Sequence[Record]) -> None:
    """Insert new workitems."""
    if not records:
        return
    numbers = _new_numbers(connection, len(records))
    rows, contents = [], []
    for number, record in zip(numbers, records, strict=True):
        attributes: DicomJson = record.workitem.attributes
        contents.append(content_row(number, attributes))
        around = {**around_columns(record), "content_number": number}
        rows.append({**step_columns(record), **around, **searched_columns(attributes)})
    _ADD_CONTENT.run(connection, contents)
    _ADD.run(connection, rows)


def save_records(connection: Connection, records: Sequence[tuple[Record, Record]]) -> None:
    """Write workitems, each as it was read and as it is now; the caller has locked their rows."""
    progresses, steps, rows, contents = [], [], [], []
    for former, record in records:
        before, after = former.workitem.attributes, record.workitem.attributes
        same_content = lasts(before, after)
        if not same_content:
            contents.append(content_row(record.content_number, after))
        if not (same_content and same_columns(before, after) and same_around(former, record)):
            rows.append({**step_columns(record), **around_columns(record), **searched_columns(after)})
        elif only_progressed(former, record):
            progresses.append(progress_columns(record.workitem))
        else:
            steps.append(step_columns(record))
    _SAVE_CONTENT.run(connection, contents)
    _SAVE_PROGRESS.run(connection, progresses)
    _SAVE_STEP.run(connection, steps)
    _SAVE.run(connection, rows)


def _new_numbers(connection: Connection, count: int) -> Sequence[int]:
    """Numbers for new rows of content: SQLite has one writer at a time, PostgreSQL counts for all."""
    if connection.dialect.name == "sqlite":
        [[last]] = _LAST_NUMBER.rows(connection, {})
        return range(last + 1, last + 1 + count)
    return [row[0] for row in fetch(connection, _NEW_NUMBERS, {"count": count})]


def record_by_uid(connection: Connection, uid: str, *, lock: bool = False) -> Record | None:
    """A workitem; None if unknown. `lock` keeps other writers away until the transaction ends."""
    rows = (_ONE_LOCKED if lock else _ONE).rows(connection, {"uid": uid})
    return record_of(rows[0]) if rows else None


def locked_records(connection: Connection, uids: Iterable[str]) -> dict[str, Record]:
    """The workitems among `uids` that exist, their rows locked in one order by all who lock several."""
    wanted = sorted(set(uids))
    if connection.dialect.name == "sqlite" or len(wanted) < 2:
        found = (record_by_uid(connection, uid, lock=True) for uid in wanted)
        return {record.workitem.uid: record for record in found if record is not None}
    rows = _MANY_LOCKED.rows(connection, {"uids": wanted})
    return {row[0]: record_of(row) for row in rows}


def workitem_by_uid(connection: Connection, uid: str) -> Workitem | None:
    """A workitem; None if unknown."""
    record = record_by_uid(connection, uid)
    return None if record is None else record.workitem


def texts(connection: Connection, uids: Sequence[str]) -> list[bytes | None]:
    """The attributes of workitems as DICOM JSON text, None for those that are unknown."""
    if connection.dialect.name == "sqlite" or len(uids) < 2:
        found_each = (_TEXT.texts(connection, {"uid": uid}) for uid in uids)
        return [whole_text(*rows[0]) if rows else None for rows in found_each]
    rows = _TEXTS.texts(connection, {"uids": list(uids)})
    found = {uid.decode(): whole_text(lasting, moving) for uid, lasting, moving in rows}
    return [found.get(uid) for uid in uids]


def is_purged(connection: Connection, uid: str) -> bool:
    """Whether a workitem was here and has been deleted."""
    return bool(_PURGED_ONE.rows(connection, {"uid": uid}))


def records_of_study(connection: Connection, study_instance_uid: str) -> list[Record]:
    """All workitems of a study, oldest first."""
    return [record_of(row) for row in _OF_STUDY.rows(connection, {"study_instance_uid": study_instance_uid})]


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
