# SPDX-License-Identifier: Apache-2.0
"""Medplum's FHIR R4 router on Node: the independent EMR of the tests.

It keeps everything in memory, checks structure and invariants, honours conditional creates, and rolls nothing
back: a server our client must satisfy, not the reference for error semantics.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from conformance.peers.installed import node_modules, node_program, node_script
from conformance.peers.process import PeerProcess, free_port

_HTTP_TIMEOUT_S = 30.0


class FhirServer:
    """A running FHIR server: its base address, and questions a test asks it."""

    def __init__(self, process: PeerProcess, *, port: int) -> None:
        self.process = process
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/fhir"
        self._client = httpx.Client(timeout=_HTTP_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections of the questions; the process is not stopped."""
        self._client.close()

    def answers(self) -> bool:
        """Whether ``/metadata`` is served."""
        try:
            return self._client.get(f"{self.base_url}/metadata").is_success
        except httpx.TransportError:
            return False

    def read(self, path: str) -> dict[str, Any]:
        """Return the resource at `path` below the base, such as ``Patient/1``.

        Raises
        ------
        httpx.HTTPStatusError
            When the server refuses.
        """
        return dict(self._client.get(f"{self.base_url}/{path}").raise_for_status().json())

    def search(self, resource_type: str, **parameters: str) -> list[dict[str, Any]]:
        """Return the resources of a type that match the search parameters, at most 1000."""
        answer = self._client.get(f"{self.base_url}/{resource_type}", params={"_count": "1000", **parameters})
        entries = answer.raise_for_status().json().get("entry", [])
        return [entry["resource"] for entry in entries]

    def clear(self) -> None:
        """Forget every resource, so that the next test starts with an empty server."""
        self._client.delete(f"http://127.0.0.1:{self.port}/records").raise_for_status()


@contextmanager
def run_fhir_server(*, port: int | None = None) -> Iterator[FhirServer]:
    """Run the FHIR server and yield it once it answers; stop it afterwards.

    Parameters
    ----------
    port : int, optional
        A fixed port, for a server that comes late; a free one otherwise.

    Raises
    ------
    PeerMissingError
        When the npm packages are not installed.
    PeerFailedError
        When it does not come up; quotes its log.
    """
    chosen = port or free_port()
    with tempfile.TemporaryDirectory(prefix="fhir-server-", ignore_cleanup_errors=True) as temporary:
        command: list[str | Path] = [
            node_program(),
            node_script("fhir_server.mjs"),
            node_modules(),
            str(chosen),
        ]
        with PeerProcess("fhir-server", command, Path(temporary)) as process:
            server = FhirServer(process, port=chosen)
            try:
                process.wait_ready(server.answers)
                yield server
            finally:
                server.close()
