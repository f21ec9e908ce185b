# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of the store, on each database held against the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.peers.postgresql import Postgresql
from task_manager.store.database import Database
from tests.contract.subscriptions import SubscriptionsContract
from tests.watching import Office, emptied


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder: Path = tmp_path_factory.mktemp("subscriptions")
    database = Database(f"sqlite:///{folder / 'airway.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="module")
def on_postgresql(postgresql: Postgresql) -> Iterator[Database]:
    database = Database(postgresql.sqlalchemy_url(postgresql.create_database()))
    database.migrate()
    yield database
    database.close()


class TestOnSqlite(SubscriptionsContract):
    @pytest.fixture
    def office(self, sqlite: Database) -> Office:
        return Office(emptied(sqlite))


@pytest.mark.peers
class TestOnPostgresql(SubscriptionsContract):
    @pytest.fixture
    def office(self, on_postgresql: Database) -> Office:
        return Office(emptied(on_postgresql))
