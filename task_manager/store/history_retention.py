# SPDX-License-Identifier: Apache-2.0
"""Statements that delete old history: messages, changes, reports, steps, explanations, events. None commits.

Each deletes a bounded number of the oldest rows, found by an index or by their numbers, which grow with time.
"""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, delete, func, select, tuple_

from task_manager.outbox import FINISHED, JobState
from task_manager.store.disk_tables import KeepRow
from task_manager.store.evidence_tables import StudyEvidenceRow
from task_manager.store.patient_tables import IdentityChangeRow, OrderChangeRow, PriorReportRow
from task_manager.store.request_tables import PerformedStepRow
from task_manager.store.tables import METADATA

_MESSAGE = METADATA.tables["message"]
_EXPLANATION = METADATA.tables["explanation"]
_EVENT = METADATA.tables["event"]
_JOB = METADATA.tables["job"]
_ORDER_CHANGE = METADATA.tables[OrderChangeRow.__tablename__]
_IDENTITY_CHANGE = METADATA.tables[IdentityChangeRow.__tablename__]
_PRIOR = METADATA.tables[PriorReportRow.__tablename__]
_STEP = METADATA.tables[PerformedStepRow.__tablename__]
_EVIDENCE = METADATA.tables[StudyEvidenceRow.__tablename__]
_KEEP = METADATA.tables[KeepRow.__tablename__]
_UNFINISHED = tuple(state.value for state in JobState if state not in FINISHED)


def purge_messages(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest HL7 messages received before `before`; how many there were."""
    return _purge_oldest(connection, _MESSAGE, _MESSAGE.c.received_at, before, limit)


def purge_prior_reports(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest prior reports received before `before`; how many there were."""
    return _purge_oldest(connection, _PRIOR, _PRIOR.c.received_at, before, limit)


def purge_performed_steps(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest performed procedure steps told last before `before`; how many there were."""
    return _purge_oldest(connection, _STEP, _STEP.c.changed_at, before, limit)


def purge_evidence(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest of what others said of studies last before `before`; how much there was."""
    return _purge_oldest(connection, _EVIDENCE, _EVIDENCE.c.told_at, before, limit)


def purge_explanations(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest explanations evaluated before `before`; how many there were."""
    return _purge_oldest(connection, _EXPLANATION, _EXPLANATION.c.evaluated_at, before, limit)


def purge_order_changes(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest changes of orders told before `before`; how many there were."""
    return _purge_first(connection, _ORDER_CHANGE, _ORDER_CHANGE.c.changed_at, before, limit)


def purge_identity_changes(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest changes of identities told before `before`; how many there were."""
    return _purge_first(connection, _IDENTITY_CHANGE, _IDENTITY_CHANGE.c.changed_at, before, limit)


def purge_events(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete the oldest events of before `before` that every repository was told; how many there were.

    None after the first that a job still has to tell: repositories are told in order.
    """
    pending = _first_pending_event(connection)
    return _purge_first(connection, _EVENT, _EVENT.c.occurred_at, before, limit, below=pending)


def purge_keeps(connection: Connection, now: datetime) -> int:
    """Forget that studies were to be kept until a time that has passed; how many."""
    return connection.execute(delete(_KEEP).where(_KEEP.c.until <= now)).rowcount


def _purge_oldest(connection: Connection, table: Any, column: Any, before: datetime, limit: int) -> int:
    """By an index over `column`; times that many rows share go together."""
    key = tuple_(*table.primary_key.columns)
    oldest = select(*table.primary_key.columns).where(column < before).order_by(column).limit(limit)
    return connection.execute(delete(table).where(key.in_(oldest))).rowcount


def _purge_first(
    connection: Connection,
    table: Any,
    column: Any,
    before: datetime,
    limit: int,
    *,
    below: int | None = None,
) -> int:
    """By the numbers of rows; ends at the first that is young, so that no younger ones are read."""
    first = select(table.c.id, column).order_by(table.c.id).limit(limit)
    if below is not None:
        first = first.where(table.c.id < below)
    old = [number for number, _ in takewhile(lambda row: row[1] < before, connection.execute(first))]
    return connection.execute(delete(table).where(table.c.id.in_(old))).rowcount if old else 0


def _first_pending_event(connection: Connection) -> int | None:
    """The least event that an unfinished job tells. Lanes are found one after the other by their index."""
    found: list[int] = []
    lane = connection.execute(select(func.min(_JOB.c.lane))).scalar()
    while lane is not None:
        for state in _UNFINISHED:
            first = (
                select(_JOB.c.event_id)
                .where(_JOB.c.lane == lane, _JOB.c.state == state, _JOB.c.event_id.is_not(None))
                .order_by(_JOB.c.id)
                .limit(1)
            )
            event = connection.execute(first).scalar()
            if event is not None:
                found.append(int(event))
        lane = connection.execute(select(func.min(_JOB.c.lane)).where(_JOB.c.lane > lane)).scalar()
    return min(found, default=None)
