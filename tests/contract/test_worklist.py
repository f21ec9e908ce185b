# SPDX-License-Identifier: Apache-2.0
"""The worklists of Airway, each held against the same contract."""

from __future__ import annotations

import pytest

from task_manager.ports import Worklist
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW
from tests.contract.worklist import WorklistContract


class TestMemoryWorklist(WorklistContract):
    @pytest.fixture
    def worklist(self) -> Worklist:
        return MemoryWorklist(lambda: NOW)
