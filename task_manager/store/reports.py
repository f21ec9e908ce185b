# SPDX-License-Identifier: Apache-2.0
"""Writing event reports to the journal. Each takes a connection; none commits.

Identifiers grow in the order of the commits: SQLite has one writer at a time; on PostgreSQL writers of
reports queue on a lock that goes with the transaction, so reports are written last in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, select

from task_manager.store.compiled import utc_text
from task_manager.store.rowwise import inserting
from task_manager.store.tables import METADATA
from task_manager.workitem.machine import StateReport

_REPORT = METADATA.tables["workitem_report"]
_JOURNAL_LOCK = 4_180_113
CHANNEL = "airway_reports"
"""What PostgreSQL notifies other processes of after the commit."""

_NAMES = ("workitem_uid", "receiving_ae", "event_type", "state", "content", "actor", "reported_at")
_ADD = inserting(_REPORT, _NAMES)


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
    if not written:
        return
    lock_journal(connection)
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
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_notify('{CHANNEL}', '')")


def reports_of(connection: Connection, uid: str) -> list[tuple[int, str, str, datetime]]:
    """(event type, state, actor, time) of a workitem's reports to all, oldest first."""
    statement = (
        select(_REPORT)
        .where(_REPORT.c.workitem_uid == uid, _REPORT.c.receiving_ae == "")
        .order_by(_REPORT.c.id)
    )
    return [(row.event_type, row.state, row.actor, row.reported_at) for row in connection.execute(statement)]
