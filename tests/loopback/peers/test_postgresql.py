# SPDX-License-Identifier: Apache-2.0
"""The PostgreSQL peer gives each test a database of its own, behind a password."""

from __future__ import annotations

import psycopg
import pytest

from conformance.peers.postgresql import Postgresql

pytestmark = pytest.mark.peers


def test_each_database_is_empty_and_apart(postgresql: Postgresql) -> None:
    first, second = postgresql.create_database(), postgresql.create_database()
    with psycopg.connect(postgresql.dsn(first)) as connection:
        connection.execute("CREATE TABLE seen (id integer)")

    with psycopg.connect(postgresql.dsn(second)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()

    assert first != second
    assert tables == []


def test_connection_without_the_password_is_refused(postgresql: Postgresql) -> None:
    without = f"postgresql://airway@{postgresql.host}:{postgresql.port}/postgres"

    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(without)


def test_dsn_fixture_names_the_driver_and_a_database(postgresql_dsn: str) -> None:
    assert postgresql_dsn.startswith("postgresql+psycopg://airway:")
    assert "/check_" in postgresql_dsn
