# SPDX-License-Identifier: Apache-2.0
"""The performer that `serve` starts beside the doors: a child process that takes the same door as anybody's.

It is started again, with growing pauses, if it dies; it resumes what it had claimed.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from informatics_gateway.settings import PerformerSettings

_LOG = logging.getLogger(__name__)
_STOP_S = 20.0
_LONGEST_PAUSE_S = 30.0


class LocalPerformer:
    """Keeps one performer process running.

    Parameters
    ----------
    manager_url
        DICOMweb base URL of the task manager.
    work
        Folder where the performer keeps its claims and jobs.
    """

    def __init__(self, *, manager_url: str, work: Path, settings: PerformerSettings) -> None:
        self._command = [
            *(sys.executable, "-m", "ai_apps.performer"),
            *("--manager", manager_url),
            *("--work", str(work)),
            *("--station", settings.station),
            *("--poll-seconds", str(settings.poll_s)),
            *("--timeout-seconds", str(settings.timeout_s)),
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
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        pause_s = 0.5
        while not self._stopping.is_set():
            with self._lock:
                self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
            if self._process.wait() == 0 or self._stopping.is_set():
                pause_s = 0.5
            else:
                _LOG.error("performer died, starting it again", extra={"action": "performer.restarted"})
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)
