# SPDX-License-Identifier: Apache-2.0
"""The processes of the demonstration: Airway as `serve` runs it, a stand-in archive and a stand-in EMR.

Each is a process of its own, spoken to over its real protocol.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from task_manager.errors import StoreError

_START_S = 60.0
_STOP_S = 25.0
_ARCHIVE_AE_TITLE = "ARCHIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAddresses:
    """Where everything listens.

    Attributes
    ----------
    airway
        The content of Airway's ``endpoints.json``.
    archive_web, emr
        DICOMweb base of the archive, FHIR base of the EMR.
    """

    airway: dict[str, Any]
    archive_web: str
    archive_dicom: tuple[str, int]
    emr: str


class DemoSystem:
    """Starts all processes, stops them in reverse order.

    Parameters
    ----------
    work
        Folder for configuration, data and logs of the processes.
    quiet_period_s
        How soon a study counts as complete.
    """

    def __init__(self, work: Path, *, quiet_period_s: float = 2.0) -> None:
        self._work = work
        self._quiet_period_s = quiet_period_s
        self._closing = ExitStack()

    def __enter__(self) -> DemoAddresses:
        try:
            return self._start()
        except BaseException:
            self._closing.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def airway_log(self) -> Path:
        """The log of the Airway process."""
        return self._work / "airway.log"

    @property
    def events_log(self) -> Path:
        """The operational events, one message per line."""
        return self._work / "data" / "events.log"

    def _start(self) -> DemoAddresses:
        self._work.mkdir(parents=True, exist_ok=True)
        archive_file, emr_file = self._work / "archive.json", self._work / "emr.json"
        self._run(
            "archive",
            *("-m", "conformance.peers.archive", "--dicom-port", "0", "--http-port", "0"),
            *("--folder", str(self._work / "archive"), "--endpoint-file", str(archive_file)),
        )
        self._run("emr", "-m", "conformance.peers.emr", "--port", "0", "--endpoint-file", str(emr_file))
        archive, emr = self._await(archive_file), self._await(emr_file)
        config = self._work / "airway.yaml"
        config.write_text(yaml.safe_dump(self._config(archive, emr), sort_keys=False), encoding="utf-8")
        data = self._work / "data"
        self._run(
            "airway",
            *("-m", "informatics_gateway", "serve", "--data", str(data), "--config", str(config)),
            *("--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0", "--hl7", "127.0.0.1:0"),
        )
        return DemoAddresses(
            airway=self._await(data / "endpoints.json"),
            archive_web=archive["dicom_web_url"],
            archive_dicom=(archive["dicom"]["host"], archive["dicom"]["port"]),
            emr=emr["base_url"],
        )

    def _config(self, archive: dict[str, Any], emr: dict[str, Any]) -> dict[str, Any]:
        return {
            "study": {"quiet_period_s": self._quiet_period_s},
            "performer": {"poll_s": 0.2},
            "destinations": [
                {
                    "name": "archive",
                    "kind": "dicom",
                    "host": archive["dicom"]["host"],
                    "port": archive["dicom"]["port"],
                    "ae_title": archive["dicom"]["ae_title"],
                },
                {"name": "archive-web", "kind": "dicomweb", "url": archive["dicom_web_url"]},
                {"name": "emr", "kind": "fhir", "url": emr["base_url"]},
            ],
            "events": [{"name": "log", "kind": "file", "path": "events.log"}],
        }

    def _run(self, name: str, *arguments: str) -> None:
        log = self._closing.enter_context((self._work / f"{name}.log").open("wb"))
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._closing.callback(_stop, process)
        self._last = process

    def _await(self, path: Path) -> dict[str, Any]:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if path.exists():
                content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                return content
            if self._last.poll() is not None:
                break
            time.sleep(0.05)
        raise StoreError(f"a process of the demonstration did not start; its log is in {self._work}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
