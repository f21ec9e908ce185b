# SPDX-License-Identifier: Apache-2.0
"""A real `airway serve` in a process group of its own, asked through its doors only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from conformance.peers.process import PeerFailedError, PeerProcess

_START_S = 60.0
_STOP_S = 25.0
_PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where DICOM or HL7 listens."""

    host: str
    port: int
    ae_title: str = ""


class ServedAirway:
    """A running `airway serve`: its doors, and questions about studies."""

    def __init__(self, process: PeerProcess, endpoints: Mapping[str, Any]) -> None:
        self._process = process
        self.dicom = Door(**endpoints["dicom"])
        self.hl7 = Door(**endpoints["hl7"])
        url = urlsplit(str(endpoints["http"]))
        self.http = (url.hostname or "", url.port or 0)
        self._client = httpx.Client(base_url=str(endpoints["http"]), timeout=30, trust_env=False)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def close(self) -> None:
        """Close the connections of the questions."""
        self._client.close()

    def story(self, study_instance_uid: str) -> dict[str, Any]:
        """The story of a study; empty while it is unknown."""
        answer = self._client.get(f"/api/studies/{study_instance_uid}")
        if answer.status_code == 404:
            return {}
        content: dict[str, Any] = answer.raise_for_status().json()
        return content

    def wait_story(
        self, study_instance_uid: str, until: Callable[[Mapping[str, Any]], bool], timeout_s: float
    ) -> dict[str, Any]:
        """The story as soon as `until` holds of it.

        Raises
        ------
        PeerFailedError
            If it does not within `timeout_s`, or Airway stops; quotes its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.running:
            story = self.story(study_instance_uid)
            if story and until(story):
                return story
            time.sleep(0.2)
        raise PeerFailedError(
            f"airway did not finish the study within {timeout_s:g} s\n{self._process.log_tail()}"
        )

    def instances(self, study_instance_uid: str) -> int:
        """How many instances of a study were received."""
        return sum(series["instances"] for series in self.story(study_instance_uid).get("series", ()))

    def log_records(self) -> Iterator[dict[str, Any]]:
        """What Airway and its performer logged, oldest first."""
        for line in self._process.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


@contextmanager
def run_airway(folder: Path, config: Mapping[str, Any]) -> Iterator[ServedAirway]:
    """Serve with its data in `folder` and yield it once every door is open; stop it afterwards.

    Raises
    ------
    PeerFailedError
        If it does not come up; quotes its log.
    """
    folder.mkdir(parents=True)
    settings = folder / "airway.yaml"
    settings.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    data = folder / "data"
    endpoints = data / "endpoints.json"
    command: list[str | Path] = [
        *(sys.executable, "-m", "informatics_gateway", "serve"),
        *("--data", data, "--config", settings),
        *("--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0", "--hl7", "127.0.0.1:0"),
    ]
    environment = {"PYTHONPATH": str(_PROJECT)}
    process = PeerProcess("airway", command, folder, environment=environment)
    try:
        process.start()
        process.wait_ready(endpoints.exists, _START_S)
        airway = ServedAirway(process, json.loads(endpoints.read_text(encoding="utf-8")))
        try:
            yield airway
        finally:
            airway.close()
    finally:
        process.stop(_STOP_S)
