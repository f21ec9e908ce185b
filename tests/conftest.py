# SPDX-License-Identifier: Apache-2.0
"""What tests of more than one folder share: real peers, one of each per session, and the real studies.

A peer that is missing fails the tests that need it (``make peers`` brings it). Tests marked ``real_data`` are
left out of the collection where the studies are not, except in CI, where a missing study fails them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.peers.fhir_server import FhirServer, run_fhir_server
from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.postgresql import Postgresql, run_postgresql
from conformance.peers.rsyslog import Rsyslog, run_rsyslog

PROJECT_ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT_ROOT.parent / "shared" / "data"


def in_ci() -> bool:
    """Whether this runs where the real studies are promised to be."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on real studies where there are none and none is promised."""
    if SHARED_DATA.is_dir() or in_ci():
        return
    left_out = [item for item in items if item.get_closest_marker("real_data")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("real_data")]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real, de-identified studies and models; read-only."""
    assert SHARED_DATA.is_dir(), f"CI promises the real studies, and {SHARED_DATA} does not exist"
    return SHARED_DATA


@pytest.fixture(scope="session")
def orthanc() -> Iterator[Orthanc]:
    """One Orthanc for the session; call ``clear()`` first where a test counts what is stored."""
    with run_orthanc() as peer:
        yield peer


@pytest.fixture(scope="session")
def fhir_server() -> Iterator[FhirServer]:
    """One FHIR R4 server for the session; call ``clear()`` first where a test counts what is stored."""
    with run_fhir_server() as peer:
        yield peer


@pytest.fixture(scope="session")
def rsyslog() -> Iterator[Rsyslog]:
    """One syslog receiver, TLS and UDP, for the session; call ``clear()`` before counting messages."""
    with run_rsyslog() as peer:
        yield peer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One PostgreSQL server for the session."""
    with run_postgresql() as peer:
        yield peer


@pytest.fixture
def postgresql_dsn(postgresql: Postgresql) -> str:
    """SQLAlchemy address (psycopg 3) of an empty database made for this test."""
    return postgresql.sqlalchemy_url(postgresql.create_database())
