# SPDX-License-Identifier: Apache-2.0
"""A manager and a performer for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback.performer.performing import ROOT, Performing
from tests.loopback.performer.worklist_peer import Manager, run_manager


@pytest.fixture(autouse=True)
def _project_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes import the project whatever their folder is."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with run_manager(tmp_path / "archive") as running:
        yield running


@pytest.fixture
def performing(manager: Manager, tmp_path: Path) -> Iterator[Performing]:
    one = Performing(manager.base_url, tmp_path / "work")
    yield one
    one.connection.close()
