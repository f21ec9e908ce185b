# SPDX-License-Identifier: Apache-2.0
"""A real `airway serve` in a process group of its own, for tests that follow a study from door to door."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from conformance.peers.dcmtk import ToolResult, storescu
from conformance.peers.process import PeerProcess, free_port, wait_until
from informatics_gateway.hl7.sender import send_message
from profiles.hl7.order_text import order_message
from profiles.order import Order

QUIET_S = 1.0
SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FINISH_S = 60.0


class RunningAirway:
    """`airway serve` on free ports with its data in `folder`; keeps them when killed and started again.

    Parameters
    ----------
    folder
        Gets ``airway.yaml``, the data folder and the log.
    config
        Content of ``airway.yaml`` beside what every test needs (short times).
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.data = folder / "data"
        content = {"study": {"quiet_period_s": QUIET_S}, "performer": {"poll_s": 0.1}, **config}
        path = folder / "airway.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        # Fixed: workitems name the HTTP door, and what they name must be there after a restart.
        doors = [
            part for door in ("http", "dicom", "hl7") for part in (f"--{door}", f"127.0.0.1:{free_port()}")
        ]
        command = [
            sys.executable,
            "-m",
            "informatics_gateway",
            "serve",
            "--data",
            self.data,
            "--config",
            path,
            *doors,
        ]
        self._process = PeerProcess("airway", command, folder)
        self._endpoints = self.data / "endpoints.json"

    def start(self) -> None:
        """Start, and wait until every door is open."""
        self._endpoints.unlink(missing_ok=True)
        self._process.start()
        self._process.wait_ready(self._endpoints.exists, 60)

    def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        self._process.stop(30)

    def kill(self) -> None:
        """SIGKILL the whole process group."""
        self._process.kill()

    @property
    def log_path(self) -> Path:
        """Where the log goes, over all starts."""
        return self._process.log_path

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.running

    @property
    def exit_status(self) -> int | None:
        """Status the last process ended with, negative for a signal; None while it runs."""
        return self._process.exit_status

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return list(self._process.command)

    @property
    def endpoints(self) -> dict[str, Any]:
        """The content of ``endpoints.json``."""
        content: dict[str, Any] = json.loads(self._endpoints.read_text(encoding="utf-8"))
        return content

    @property
    def http(self) -> str:
        """Base URL."""
        return str(self.endpoints["http"])

    def send_images(self, folder: Path) -> ToolResult:
        """Send a folder with DCMTK's ``storescu``."""
        door = self.endpoints["dicom"]
        return storescu(
            door["host"],
            door["port"],
            [folder],
            called_ae_title=door["ae_title"],
            calling_ae_title="CT_SCANNER",
        )

    def send_order(self, order: Order, control_id: str) -> str:
        """Send an order over MLLP; the acknowledgement."""
        door = self.endpoints["hl7"]
        raw = order_message(order, control_id=control_id, sent_at=SENT_AT)
        return send_message(door["host"], door["port"], raw).decode()

    def story(self, study_instance_uid: str) -> dict[str, Any]:
        """The story of a study; empty while it is unknown."""
        answer = httpx.get(f"{self.http}/api/studies/{study_instance_uid}", timeout=10)
        if answer.status_code == 404:
            return {}
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def wait_story(
        self, study_instance_uid: str, until: Callable[[dict[str, Any]], bool], timeout_s: float = FINISH_S
    ) -> dict[str, Any]:
        """The story once `until` holds of it."""
        deadline = time.monotonic() + timeout_s
        story: dict[str, Any] = {}
        while time.monotonic() < deadline:
            story = self.story(study_instance_uid)
            if story and until(story):
                return story
            time.sleep(0.1)
        raise AssertionError(
            f"not within {timeout_s} s: {json.dumps(story)[:4000]}\n{self._process.log_tail()}"
        )

    def wait_action(self, action: str, *, count: int = 1, timeout_s: float = FINISH_S) -> None:
        """Return as soon as the log has told `action` `count` times since the file began."""
        wanted = f'"action": "{action}"'

        def told() -> bool:
            return self.log_path.read_text(encoding="utf-8", errors="replace").count(wanted) >= count

        wait_until(told, f"{count} x {action}", timeout_s)


def is_delivered(story: Mapping[str, Any]) -> bool:
    """Whether a workitem is COMPLETED and all its deliveries are done."""
    return any(
        workitem["state"] == "COMPLETED"
        and workitem["deliveries"]
        and all(delivery["state"] == "DONE" for delivery in workitem["deliveries"])
        for workitem in story["workitems"]
    )
