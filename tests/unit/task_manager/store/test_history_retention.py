# SPDX-License-Identifier: Apache-2.0
"""Old history that is deleted in bounded parts, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from profiles.sole.events import EventType, OperationalEvent
from task_manager.store import history_retention as history
from task_manager.store import jobs, wanted
from task_manager.store.database import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Purge = Callable[..., int]

ROWS = {
    "message": "INSERT INTO message VALUES ('RIS', 'H', :key, :raw, :at)",
    "explanation": "INSERT INTO explanation VALUES (:key, 1, 0, 'r', 'v', '{}', :at)",
    "prior_report": (
        "INSERT INTO prior_report (report_key, patient_id, issuer, accession_number, study_instance_uid, "
        "order_number, status, content, received_at) VALUES (:key, 'P', '', '', '', '', '', '{}', :at)"
    ),
    "order_change": (
        "INSERT INTO order_change (order_key, control, order_status, fields, effect, sender, control_id, "
        "changed_at) VALUES (:key, 'NW', '', '', '', '', '', :at)"
    ),
    "performed_step": "INSERT INTO performed_step VALUES (:key, '1.2', 'COMPLETED', 'CT1', '{}', :at, :at)",
    "study_evidence": (
        "INSERT INTO study_evidence (study_instance_uid, kind, source, series, ended, first_told_at, "
        "told_at) VALUES (:key, 'mpps', '1.2', '{}', true, :at, :at)"
    ),
    "identity_change": (
        "INSERT INTO identity_change (kind, patient_id, issuer, former_id, former_issuer, fields, sender, "
        "control_id, changed_at) VALUES ('merge', :key, '', '', '', '', '', '', :at)"
    ),
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = f"sqlite:///{tmp_path / 'airway.db'}"
    made = Database(request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else sqlite)
    made.migrate()
    yield made
    made.close()


def stored(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def count(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.mark.parametrize(
    ("table", "purge"),
    [
        ("message", history.purge_messages),
        ("explanation", history.purge_explanations),
        ("prior_report", history.purge_prior_reports),
        ("order_change", history.purge_order_changes),
        ("identity_change", history.purge_identity_changes),
        ("performed_step", history.purge_performed_steps),
        ("study_evidence", history.purge_evidence),
    ],
    ids=[
        *("message", "explanation", "prior_report", "order_change", "identity_change", "performed_step"),
        "study_evidence",
    ],
)
def test_the_oldest_go_in_parts_and_the_young_stay(database: Database, table: str, purge: Purge) -> None:
    with database.write() as connection:
        for number, days in enumerate((400, 300, 200, 100, 10)):
            row = {"key": f"k{number}", "at": stored(days)}
            given = row | ({"raw": b"MSH|"} if table == "message" else {})
            connection.execute(text(ROWS[table]), given)
    before = NOW - timedelta(days=100)
    with database.write() as connection:
        assert purge(connection, before, limit=2) == 2
        assert purge(connection, before, limit=2) == 1, "older than the limit, not as old"
        assert purge(connection, before, limit=2) == 0
        assert count(connection, table) == 2


def event(number: int, days: float) -> OperationalEvent:
    return OperationalEvent(key=f"e{number}", type=EventType.EXPORTED, occurred_at=NOW - timedelta(days=days))


def test_events_stay_until_every_repository_was_told(database: Database) -> None:
    with database.write() as connection:
        jobs.record_events(connection, [event(1, 400), event(2, 300)], ("a", "b"), NOW)
        jobs.record_events(connection, [event(3, 200)], ("b",), NOW)
        jobs.record_events(connection, [event(4, 1)], (), NOW)
    before = NOW - timedelta(days=100)
    with database.write() as connection:
        assert history.purge_events(connection, before, limit=10) == 0
        connection.execute(text("UPDATE job SET state = 'DONE' WHERE key <> 'tell:b:e2'"))
        assert history.purge_events(connection, before, limit=10) == 1
        connection.execute(text("UPDATE job SET state = 'DONE'"))
        assert history.purge_events(connection, before, limit=10) == 2
        assert count(connection, "event") == 1


def test_keeps_that_ended_are_forgotten(database: Database) -> None:
    with database.write() as connection:
        for owner, until in (("a", NOW), ("b", NOW + timedelta(days=1)), ("c", None)):
            wanted.keep_study(connection, "1.2.3", owner=owner, reason="r", until=until)
        assert history.purge_keeps(connection, NOW) == 1
        assert count(connection, "study_keep") == 2


@pytest.mark.parametrize(
    ("table", "index"),
    [
        ("message", "message_received"),
        ("explanation", "explanation_evaluated"),
        ("prior_report", "prior_received"),
        ("performed_step", "performed_step_changed"),
        ("study_evidence", "study_evidence_told"),
    ],
)
def test_the_oldest_are_found_by_an_index(tmp_path: Path, table: str, index: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    columns = {"explanation": "evaluated_at", "performed_step": "changed_at", "study_evidence": "told_at"}
    column = columns.get(table, "received_at")
    with database.read() as connection:
        plan = connection.execute(
            text(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {column} < 'x' ORDER BY {column} LIMIT 5")
        ).all()
    database.close()
    assert any(index in str(row) for row in plan)
    assert not any("TEMP B-TREE" in str(row) for row in plan)
