# SPDX-License-Identifier: Apache-2.0
"""Reports are numbered in the order of the commits, also where several transactions write at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from conformance.peers.process import wait_until
from profiles.ups.report import EventType
from profiles.ups.states import ProcedureStepState
from task_manager.store.database import Database
from task_manager.store.reports import Written, lock_journal, write_reports
from task_manager.workitem.machine import StateReport

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _reports(*uids: str) -> list[Written]:
    return [
        Written(
            report=StateReport(
                event_type=EventType.STATE_REPORT,
                workitem_uid=uid,
                state=ProcedureStepState.SCHEDULED,
                payload={},
            )
        )
        for uid in uids
    ]


def _in_order(database: Database) -> list[str]:
    with database.read() as connection:
        statement = text("SELECT workitem_uid FROM workitem_report ORDER BY id")
        return list(connection.execute(statement).scalars())


def _is_anyone_waiting(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())


@pytest.mark.peers
def test_who_has_the_journal_numbers_first(postgresql_dsn: str) -> None:
    database = Database(postgresql_dsn)
    database.migrate()

    def write() -> None:
        with database.write() as connection:
            write_reports(connection, _reports("2.25.2", "2.25.3"), NOW)

    try:
        with ThreadPoolExecutor(1) as pool:
            with database.write() as connection:
                lock_journal(connection)
                other = pool.submit(write)
                wait_until(lambda: _is_anyone_waiting(database), "the other waits for the journal")
                write_reports(connection, _reports("2.25.1"), NOW)
            other.result(10)
        assert _in_order(database) == ["2.25.1", "2.25.2", "2.25.3"]
    finally:
        database.close()


def test_reports_of_one_transaction_keep_their_order(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    uids = [f"2.25.{number}" for number in (7, 3, 9, 1)]
    with database.write() as connection:
        write_reports(connection, _reports(*uids), NOW)
        write_reports(connection, [], NOW)
    assert _in_order(database) == uids
    database.close()
