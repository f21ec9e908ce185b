# SPDX-License-Identifier: Apache-2.0
"""Hearing of reports of other processes, on a real PostgreSQL server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from task_manager.store.database import Database
from task_manager.store.listening import ReportListener
from tests.watching import Office, until

UID = "2.25.100"


@pytest.fixture
def database(postgresql_dsn: str) -> Iterator[Database]:
    found = Database(postgresql_dsn)
    found.migrate()
    yield found
    found.close()


@pytest.mark.peers
def test_a_commit_of_another_connection_is_heard(database: Database) -> None:
    heard: list[float] = []
    listener = ReportListener(database, lambda: heard.append(time.monotonic()))
    listener.start()
    assert listener.wait_listening(20)
    until(lambda: len(heard) == 1, "the begin is not told")
    office = Office(database)

    office.create(UID)
    until(lambda: len(heard) == 2, "the creation was not heard")
    office.claim(UID)
    until(lambda: len(heard) == 3, "the claim was not heard")

    listener.stop()


@pytest.mark.peers
def test_a_connection_that_is_lost_is_made_anew(database: Database) -> None:
    heard: list[float] = []
    listener = ReportListener(database, lambda: heard.append(time.monotonic()))
    listener.start()
    assert listener.wait_listening(20)
    until(lambda: len(heard) == 1, "the begin is not told")
    with database.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND left(query, 6) = 'LISTEN'"
        )
    until(lambda: len(heard) == 2, "it was not made anew")

    Office(database).create(UID)

    until(lambda: len(heard) == 3, "the creation was not heard")
    listener.stop()


@pytest.mark.peers
def test_a_server_that_is_away_is_asked_again_until_the_end(postgresql_dsn: str) -> None:
    gone = Database(postgresql_dsn.rsplit("/", 1)[0] + "/no_such_database")
    listener = ReportListener(gone, lambda: None)
    listener.start()

    assert not listener.wait_listening(0.7)
    listener.stop()
    gone.close()


def test_on_sqlite_there_is_nothing_to_hear(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    listener = ReportListener(database, lambda: None)
    listener.start()

    assert not listener.wait_listening(0)
    listener.stop()
    database.close()
