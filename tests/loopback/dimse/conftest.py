# SPDX-License-Identifier: Apache-2.0
"""A DICOM port over a folder, for tests over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from informatics_gateway.dimse.server import DimseServer
from tests.instances import FolderIntake


@pytest.fixture
def intake(tmp_path: Path) -> FolderIntake:
    return FolderIntake(tmp_path / "store")


@pytest.fixture
def server(intake: FolderIntake) -> Iterator[DimseServer]:
    with _running(DimseServer(intake, max_associations=4)) as server:
        yield server


@pytest.fixture
def impatient(intake: FolderIntake) -> Iterator[DimseServer]:
    """A port that waits half a second for whatever is due."""
    with _running(DimseServer(intake, network_timeout_s=0.5)) as server:
        yield server


@contextmanager
def _running(server: DimseServer) -> Iterator[DimseServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)
