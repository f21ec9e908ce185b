# SPDX-License-Identifier: Apache-2.0
"""Writing event reports to the journal. Each takes a connection; none commits.

Identifiers grow in the order of the commits: SQLite has one writer at a time; on PostgreSQL writers of
reports queue on a lock that goes with the transaction, so reports are written last in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, func, insert, literal_column, select
from sqlalchemy.sql import Executable

from task_manager.store.compiled import utc_text
from task_manager.store.rowwise import RowStatement
from task_manager.store.tables import METADATA
from task_manager.workitem.machine import StateReport

_REPORT = METADATA.tables["workitem_report"]
_JOURNAL_LOCK = 4_180_113
CHANNEL = "airway_reports"
"""What PostgreSQL notifies other processes of after the commit."""

_NAMES = ("workitem_uid", "receiving_ae", "event_type", "state", "content", "actor", "reported_at")


def _adding(dialect: str, values: Mapping[str, Any]) -> Executable:
    """On PostgreSQL the lock is taken before the first row is numbered, and others are told."""
    if dialect == "sqlite":
        return insert(_REPORT).values(dict(values))
    lock = select(func.pg_advisory_xact_lock(literal_column(str(_JOURNAL_LOCK)))).subquery("journal")
    rows = select(*values.values()).select_from(lock)
    added = insert(_REPORT).from_select(list(values), rows)
    return added.returning(func.pg_notify(literal_column(f"'{CHANNEL}'"), literal_column("''")))


_ADD = RowStatement(_REPORT, _NAMES, _adding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One report to be written: whose doing it was, and for whom it is (empty: all subscribers)."""

    report: StateReport
    actor: str = ""
    receiving_ae: str = ""


def lock_journal(connection: Connection) -> None:
    """Let no other transaction write reports before this one ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_JOURNAL_LOCK})")


def write_reports(connection: Connection, written: Sequence[Written], now: datetime) -> None:
    """Append reports in the order given; the caller writes nothing else that takes long after it."""
    _ADD.run(
        connection,
        [
            {
                "workitem_uid": one.report.workitem_uid,
                "receiving_ae": one.receiving_ae,
                "event_type": int(one.report.event_type),
                "state": one.report.state.value,
                "content": orjson.dumps(one.report.payload).decode(),
                "actor": one.actor,
                "reported_at": utc_text(now),
            }
            for one in written
        ],
    )


def reports_of(connection: Connection, uid: str) -> list[tuple[int, str, str, datetime]]:
    """(event type, state, actor, time) of a workitem's reports to all, oldest first."""
    statement = (
        select(_REPORT)
        .where(_REPORT.c.workitem_uid == uid, _REPORT.c.receiving_ae == "")
        .order_by(_REPORT.c.id)
    )
    return [(row.event_type, row.state, row.actor, row.reported_at) for row in connection.execute(statement)]
