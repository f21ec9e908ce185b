# SPDX-License-Identifier: Apache-2.0
"""The database: migrations equal the tables, writes are durable or undone."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from task_manager.errors import ConfigurationError, StoreError
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


def test_an_error_of_the_database_names_no_value(url: str) -> None:
    database = Database(url)
    name = "^".join(("Doe", "Jane"))

    def fail() -> None:
        with database.write() as connection:
            if database.is_sqlite:  # nothing was migrated: there is no such table
                connection.execute(text("SELECT * FROM message WHERE control_id = :name"), {"name": name})
            connection.execute(text("SET LOCAL statement_timeout = 1"))
            connection.execute(text("SELECT CAST(:name AS text), pg_sleep(1)"), {"name": name})

    with pytest.raises(StoreError) as caught:
        fail()
    assert name not in "".join(traceback.format_exception(caught.value))
    database.close()


def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(url: str) -> None:
    database = Database(url)
    database.migrate()
    row = text("INSERT INTO message VALUES ('a', 'b', 'c', :raw, '2026-03-01T12:00:00.000000Z')")
    count = text("SELECT count(*) FROM message")
    with database.read() as reading:
        assert reading.execute(count).scalar() == 0
        with database.write() as writing:
            writing.execute(row, {"raw": b"x"})
        assert reading.execute(count).scalar() == 0
    with database.read() as reading:
        assert reading.execute(count).scalar() == 1
    database.close()


@pytest.mark.parametrize(
    "address", ["", "airway.db", "mysql://127.0.0.1/airway", "postgresql://127.0.0.1/airway", "::"]
)
def test_another_kind_of_database_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"postgresql\+psycopg://"):
        Database(address)


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


@pytest.mark.parametrize(
    "dialect",
    [sqlite.dialect(), postgresql.dialect()],  # type: ignore[no-untyped-call]
    ids=["sqlite", "postgresql"],
)
def test_no_table_bears_a_word_of_the_language(tmp_path: Path, dialect: Dialect) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()  # brings all tables
    database.close()
    written = dialect.identifier_preparer
    assert [name for name in METADATA.tables if written.quote(name) != name] == []
