# SPDX-License-Identifier: Apache-2.0
"""The database: migrations equal the tables, writes are durable or undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from task_manager.errors import StoreError
from task_manager.store.database import Database
from task_manager.store.tables import METADATA, UtcText


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_dsn"))
    return f"sqlite:///{tmp_path / 'airway.db'}"


def test_migrations_equal_the_tables_and_may_run_twice(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.migrate()
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_a_write_that_raises_is_undone(url: str) -> None:
    database = Database(url)
    database.migrate()
    row = "INSERT INTO message VALUES ('a', 'b', 'c', :raw, '2026-03-01T12:00:00.000000Z')"

    def write_and_fail() -> None:
        with database.write() as connection:
            connection.execute(text(row), {"raw": b"x"})
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM message")).scalar() == 0
    database.close()


def test_sqlite_is_durable_and_concurrent(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    database.close()


def test_an_unreachable_database_is_a_store_error() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreError), database.read():
        pass
    database.close()


@pytest.mark.parametrize(
    ("at", "stored"),
    [
        (datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC), "2026-03-01T12:00:00.000005Z"),
        (datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2026-03-01T10:00:00.000000Z"),
    ],
    ids=["utc", "another zone"],
)
def test_times_are_stored_as_utc_text_that_sorts(at: datetime, stored: str) -> None:
    column = UtcText()
    assert column.process_bind_param(at, sqlite.dialect()) == stored
    assert column.process_result_value(stored, sqlite.dialect()) == at


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        UtcText().process_bind_param(datetime(2026, 3, 1), sqlite.dialect())
