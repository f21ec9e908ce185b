# SPDX-License-Identifier: Apache-2.0
"""The two FHIR servers the client is tried on: the stand-in EMR and an independent one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.peers.emr import run_emr
from conformance.peers.fhir_server import FhirServer


@pytest.fixture(scope="session")
def emr() -> Iterator[FhirServer]:
    """One stand-in EMR for the session."""
    with run_emr() as peer:
        yield peer


@pytest.fixture(
    params=[
        pytest.param("emr", id="stand-in"),
        pytest.param("fhir_server", marks=pytest.mark.peers, id="medplum"),
    ]
)
def receiver(request: pytest.FixtureRequest) -> FhirServer:
    """An empty FHIR server, each of the two in turn."""
    server: FhirServer = request.getfixturevalue(request.param)
    server.clear()
    return server
