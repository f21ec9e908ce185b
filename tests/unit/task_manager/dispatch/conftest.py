# SPDX-License-Identifier: Apache-2.0
"""A worklist with replacement and sweeps for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from task_manager.store.database import Database
from tests.unit.task_manager.dispatch.bed import DispatchBed


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables."""
    sqlite = f"sqlite:///{tmp_path / 'airway.db'}"
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else sqlite
    made = Database(url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def bed(database: Database) -> DispatchBed:
    """Hides the service of the folder above: here every room is made by hand."""
    return DispatchBed(database)
