# SPDX-License-Identifier: Apache-2.0
"""A service for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import TestBed, make_service


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url)
    yield made
    made.database.close()
