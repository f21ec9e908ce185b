# SPDX-License-Identifier: Apache-2.0
"""A DICOM port over a folder, for tests over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from informatics_gateway.dimse.server import DimseServer
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW
from tests.instances import FolderIntake
from tests.loopback.dimse.ups_peer import (
    SUBSCRIPTIONS,
    WORKLIST,
    RememberedSubscriptions,
    UpsScu,
    connected,
    ups_port,
)


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


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DimseServer]:
    """One port for the tests of a module; what is behind it is each test's own."""
    with ups_port(tmp_path_factory.mktemp("port"), WORKLIST, subscriptions=SUBSCRIPTIONS) as server:
        yield server


@pytest.fixture
def worklist() -> MemoryWorklist:
    WORKLIST.actor = MemoryWorklist(lambda: NOW)
    return WORKLIST.actor


@pytest.fixture
def subscriptions() -> RememberedSubscriptions:
    SUBSCRIPTIONS.actor = RememberedSubscriptions()
    return SUBSCRIPTIONS.actor


@pytest.fixture
def ups_server(
    listening: DimseServer, worklist: MemoryWorklist, subscriptions: RememberedSubscriptions
) -> DimseServer:
    """A port whose worklist and subscriptions are those fixtures."""
    return listening


@pytest.fixture
def scu(ups_server: DimseServer) -> Iterator[UpsScu]:
    with connected(ups_server.port) as peer:
        yield peer
