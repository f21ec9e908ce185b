# SPDX-License-Identifier: Apache-2.0
"""A service on two archives: one that has a study, and one that has nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import TestBed, make_service
from tests.unit.task_manager.fetching.asking import FILES, LIMITS
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive


@pytest.fixture
def pacs() -> MemoryArchive:
    return MemoryArchive(files=list(FILES))


@pytest.fixture
def vna() -> MemoryArchive:
    return MemoryArchive(name="vna")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(
    request: pytest.FixtureRequest, tmp_path: Path, pacs: MemoryArchive, vna: MemoryArchive
) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url, study_archives=[pacs, vna], fetching=LIMITS)
    yield made
    made.database.close()


@pytest.fixture
def plain(tmp_path: Path, pacs: MemoryArchive, vna: MemoryArchive) -> Iterator[TestBed]:
    """On SQLite only, for what no database does otherwise."""
    made = make_service(tmp_path, study_archives=[pacs, vna], fetching=LIMITS)
    yield made
    made.database.close()
