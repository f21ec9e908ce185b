# SPDX-License-Identifier: Apache-2.0
"""The worklists of Airway, each held against the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from task_manager.ports import Worklist
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW
from tests.contract.worklist import WorklistContract
from tests.service import make_service


class TestMemoryWorklist(WorklistContract):
    @pytest.fixture
    def worklist(self) -> Worklist:
        return MemoryWorklist(lambda: NOW)


class TestStoredWorklist(WorklistContract):
    @pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
    def worklist(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worklist]:
        url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
        bed = make_service(tmp_path, url)
        bed.clock.now = NOW
        yield bed.service.worklist
        bed.database.close()
