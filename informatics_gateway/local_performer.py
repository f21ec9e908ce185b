# SPDX-License-Identifier: Apache-2.0
"""The performer that `serve` starts beside the doors: a child process that takes the same door as anybody's.

It is started again, with growing pauses, if it dies; it resumes what it had claimed. It stops by itself when
this process is gone, however that ended: left behind it would keep its work folder from the next one.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

from informatics_gateway.settings import PerformerSettings

_LOG = logging.getLogger(__name__)
_STOP_S = 20.0
_SHORTEST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class LocalPerformer:
    """Keeps one performer process running.

    Parameters
    ----------
    manager_url
        DICOMweb base URL of the task manager.
    work
        Folder where the performer keeps its claims and jobs.
    heartbeat_s
        Longest silence while it holds a workitem, seconds.
    """

    def __init__(
        self, *, manager_url: str, work: Path, settings: PerformerSettings, heartbeat_s: float = 60.0
    ) -> None:
        self._command = [
            *(sys.executable, "-m", "ai_apps.performer"),
            *("--manager", manager_url),
            *("--work", str(work)),
            *("--station", settings.station),
            *("--poll-seconds", str(settings.poll_s)),
            *("--timeout-seconds", str(settings.timeout_s)),
            *("--heartbeat-seconds", str(heartbeat_s)),
            *("--style", settings.style.replace("_", "-")),
            *(("--station-class", settings.station_class) if settings.station_class else ()),
            *(("--organization", settings.organization) if settings.organization else ()),
            "--until-stdin-ends",
            *(part for app in settings.apps for part in ("--app", app)),
        ]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="performer", daemon=True)

    def start(self) -> None:
        """Start the process and the thread that watches it."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop, kill it if it does not."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while True:
            began = time.monotonic()
            process = self._begin()
            ended_well = process is not None and _wait(process) == 0
            if self._stopping.is_set():
                return
            if ended_well or time.monotonic() - began > _LONGEST_PAUSE_S:
                pause_s = _SHORTEST_PAUSE_S
            else:
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            _LOG.error("performer ended, starting it again", extra={"action": "performer.restarted"})
            self._stopping.wait(pause_s)

    def _begin(self) -> subprocess.Popen[bytes] | None:
        """The process, which `stop` then knows; None if it is not to be or cannot be started."""
        with self._lock:
            if self._stopping.is_set():
                return None
            try:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603 - our own module
            except OSError as error:
                extra = {"action": "performer.not_started", "error": type(error).__name__}
                _LOG.error("performer cannot be started", extra=extra)
                return None
            return self._process


def _wait(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    if process.stdin is not None:
        process.stdin.close()
    return status
