# SPDX-License-Identifier: Apache-2.0
"""Statements that delete what need not be kept any longer. Each takes a connection; none commits.

Each deletes a bounded number of rows. The newest report always stays: its number must not be used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, delete, exists, func, or_, select

from task_manager.dispatch.model import SubtaskState
from task_manager.outbox import FINISHED
from task_manager.store.commitments import forget_commitments
from task_manager.store.contents import drop_contents
from task_manager.store.deliveries import forget_decisions
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA, OF_A_WORKITEM

_WORKITEM = METADATA.tables["workitem"]
_REPORT = METADATA.tables["workitem_report"]
_SUBSCRIPTION = METADATA.tables["subscription"]
_SUBTASK = METADATA.tables["subtask"]
_PURGED = METADATA.tables["purged_workitem"]
_JOB = METADATA.tables["job"]
_AVAILABILITY = METADATA.tables["availability"]
_FINISHED = tuple(state.value for state in FINISHED)


def purge_workitems(connection: Connection, before: datetime, *, now: datetime, limit: int) -> list[str]:
    """Delete workitems final since `before` that nothing keeps; their UIDs.

    Kept are those with a deletion lock, with an unfinished job, with a sub-task that is not done, and those
    that wait for a person. What became a reason meanwhile counts: it is looked for again under the lock.
    """
    wanted = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c.final_at.is_not(None), _WORKITEM.c.final_at <= before, *_nothing_keeps())
        .order_by(_WORKITEM.c.final_at)
        .limit(limit)
    )
    locked = list(connection.execute(wanted.with_for_update(skip_locked=True, of=_WORKITEM)).scalars())
    if not locked:
        return []
    again = select(_WORKITEM.c.uid).where(_WORKITEM.c.uid.in_(locked), *_nothing_keeps())
    uids = list(connection.execute(again).scalars())
    if not uids:
        return []
    newest = select(func.max(_REPORT.c.id)).scalar_subquery()
    connection.execute(delete(_REPORT).where(_REPORT.c.workitem_uid.in_(uids), _REPORT.c.id < newest))
    connection.execute(delete(_SUBSCRIPTION).where(_SUBSCRIPTION.c.workitem_uid.in_(uids)))
    connection.execute(
        delete(_SUBTASK).where(or_(_SUBTASK.c.parent_uid.in_(uids), _SUBTASK.c.child_uid.in_(uids)))
    )
    numbers = connection.execute(select(_WORKITEM.c.content_number).where(_WORKITEM.c.uid.in_(uids)))
    drop_contents(connection, list(numbers.scalars()))
    connection.execute(delete(_WORKITEM).where(_WORKITEM.c.uid.in_(uids)))
    gone = upsert(connection, _PURGED).on_conflict_do_nothing(index_elements=["uid"])
    connection.execute(gone, [{"uid": uid, "purged_at": now} for uid in uids])
    return uids


def _nothing_keeps() -> tuple[Any, ...]:
    uid = _WORKITEM.c.uid
    locks = exists().where(_SUBSCRIPTION.c.workitem_uid == uid, _SUBSCRIPTION.c.deletion_lock)
    unfinished = exists().where(_JOB.c.workitem_uid == uid, OF_A_WORKITEM, _JOB.c.state.not_in(_FINISHED))
    not_done = _SUBTASK.c.state != SubtaskState.DONE.value
    has_child = exists().where(_SUBTASK.c.parent_uid == uid, not_done)
    is_child = exists().where(_SUBTASK.c.child_uid == uid, not_done)
    return (_WORKITEM.c.attention == "", ~locks, ~unfinished, ~has_child, ~is_child)


def purge_reports(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest event reports of before `before`; how many there were."""
    newest = select(func.max(_REPORT.c.id)).scalar_subquery()
    oldest = select(_REPORT.c.id, _REPORT.c.reported_at).where(_REPORT.c.id < newest)
    rows = connection.execute(oldest.order_by(_REPORT.c.id).limit(limit))  # numbered in the order written
    old = [row.id for row in takewhile(lambda row: row.reported_at < before, rows)]
    if old:
        connection.execute(delete(_REPORT).where(_REPORT.c.id.between(old[0], old[-1])))
    return len(old)


def old_jobs(
    connection: Connection, before: datetime, *, after_id: int, limit: int
) -> tuple[Sequence[int], int | None]:
    """Finished jobs of before `before` among the next `limit`, and where to go on; None at the end.

    Jobs are numbered in the order made, so that this needs no index and reads no younger ones.
    """
    statement = (
        select(_JOB.c.id, _JOB.c.state, _JOB.c.created_at, _JOB.c.done_at)
        .where(_JOB.c.id > after_id)
        .order_by(_JOB.c.id)
        .limit(limit)
    )
    rows = list(takewhile(lambda row: row.created_at < before, connection.execute(statement)))
    finished = [
        row.id for row in rows if row.state in _FINISHED and row.done_at is not None and row.done_at < before
    ]
    return finished, rows[-1].id if len(rows) == limit else None


def purge_jobs(connection: Connection, ids: Sequence[int]) -> int:
    """Delete finished jobs; how many there were."""
    finished = _JOB.c.id.in_(list(ids)), _JOB.c.state.in_(_FINISHED)
    keys = list(connection.execute(select(_JOB.c.key).where(*finished)).scalars())
    forget_commitments(connection, keys)
    forget_decisions(connection, keys)
    return connection.execute(delete(_JOB).where(*finished)).rowcount


def purge_availability(connection: Connection, before: datetime, *, limit: int) -> int:
    """Forget where instances were said to be before `before`; how many entries there were."""
    told = _AVAILABILITY.c.told_at
    oldest = select(told).where(told < before).order_by(told).limit(limit).subquery()
    last = connection.execute(select(func.max(oldest.c.told_at))).scalar()
    if last is None:
        return 0
    return connection.execute(delete(_AVAILABILITY).where(told <= last)).rowcount
