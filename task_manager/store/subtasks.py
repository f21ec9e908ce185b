# SPDX-License-Identifier: Apache-2.0
"""Statements over what workitems were handed on as. Each takes a connection; none commits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from task_manager.dispatch.model import SubtaskRole, SubtaskState
from task_manager.outbox import JobKind, JobState
from task_manager.store.compiled import Statement, utc_time
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA, OF_A_WORKITEM

_SUBTASK = METADATA.tables["subtask"]
_JOB = METADATA.tables["job"]
_COLUMNS = [column for column in _SUBTASK.columns if column.name != "created_at"]
_CREATED = _SUBTASK.c.created_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """A child workitem and its parent.

    Attributes
    ----------
    performer
        AE title of the performer that manages a pushed child; empty for a workitem of this store.
    created_at
        When it was handed on, aware.
    """

    parent_uid: str
    child_uid: str
    role: SubtaskRole
    state: SubtaskState
    created_at: datetime
    performer: str = ""


_OF_CHILD = Statement(
    lambda _: (
        select(*_COLUMNS, _CREATED)
        .where(_SUBTASK.c.child_uid == bindparam("child_uid"), _SUBTASK.c.performer == bindparam("performer"))
        .order_by(_CREATED)
    )
)


def add_subtask(connection: Connection, subtask: Subtask) -> None:
    """Remember a child; one that is known stays as it is."""
    statement = upsert(connection, _SUBTASK).values(
        parent_uid=subtask.parent_uid,
        child_uid=subtask.child_uid,
        role=subtask.role.value,
        performer=subtask.performer,
        state=subtask.state.value,
        created_at=subtask.created_at,
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=["parent_uid", "child_uid"]))


def subtask_of_child(connection: Connection, child_uid: str) -> Subtask | None:
    """The relation of a workitem of this store to its parent; None if it has none."""
    row = _OF_CHILD.run(connection, {"child_uid": child_uid, "performer": ""}).first()
    return None if row is None else _subtask(row, utc_time(row.created_at))


def subtasks_of_parent(connection: Connection, parent_uid: str) -> list[Subtask]:
    """The children of a workitem, the oldest first."""
    statement = (
        select(_SUBTASK).where(_SUBTASK.c.parent_uid == parent_uid).order_by(_CREATED, _SUBTASK.c.child_uid)
    )
    return [_subtask(row, row.created_at) for row in connection.execute(statement)]


def set_subtask_state(connection: Connection, parent_uid: str, child_uid: str, state: SubtaskState) -> None:
    """Note where a child stands."""
    connection.execute(
        update(_SUBTASK)
        .where(_SUBTASK.c.parent_uid == parent_uid, _SUBTASK.c.child_uid == child_uid)
        .values(state=state.value)
    )


def hasten_pushes(connection: Connection, parent_uid: str, now: datetime) -> None:
    """Let the pushes of a workitem be looked at now: something happened at one end of them."""
    connection.execute(
        update(_JOB)
        .where(
            _JOB.c.workitem_uid == parent_uid,
            OF_A_WORKITEM,
            _JOB.c.kind == JobKind.PUSH.value,
            _JOB.c.state == JobState.WAITING.value,
        )
        .values(due_at=now)
    )


def pushed_parent(connection: Connection, child_uid: str, performer: str) -> str:
    """UID of the workitem that was pushed to a performer as `child_uid`; empty if none was."""
    statement = select(_SUBTASK.c.parent_uid).where(
        _SUBTASK.c.child_uid == child_uid, _SUBTASK.c.performer == performer
    )
    return str(connection.execute(statement).scalar() or "")


def _subtask(row: Row[Any], created_at: Any) -> Subtask:
    return Subtask(
        parent_uid=row.parent_uid,
        child_uid=row.child_uid,
        role=SubtaskRole(row.role),
        state=SubtaskState(row.state),
        created_at=created_at,
        performer=row.performer,
    )
