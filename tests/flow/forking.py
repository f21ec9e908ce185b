# SPDX-License-Identifier: Apache-2.0
"""`airway serve` started many times in a short time: a process that has imported everything forks each one.

What is forked runs the command line itself, in a process group of its own, and is killed like any other; only
the seconds of importing are saved. ``python -m tests.flow.forking`` reads one JSON line per start from its
input, and answers with the process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from conformance.peers.process import PeerFailedError, free_port, wait_until

_START_S = 60.0
_STOP_S = 30.0


class Forker:
    """The process that forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, arguments: list[str], log: Path) -> int:
        """Start `airway` with `arguments`; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def forker() -> Iterator[Forker]:
    """Run one; everything it started ends with it."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.flow.forking"],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Forker(process)
    finally:
        process.communicate(timeout=_STOP_S)


class ForkedAirway:
    """One Airway of doors and task manager, killed and started again on the same data.

    Parameters
    ----------
    folder
        Gets ``airway.yaml``, the data folder and the log.
    config
        Content of ``airway.yaml`` beside the roles.
    """

    def __init__(self, forker: Forker, folder: Path, config: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.log_path = folder / "airway.log"
        self._forker = forker
        self._pid = 0
        path = folder / "airway.yaml"
        path.write_text(yaml.safe_dump({"roles": ["gateway", "task_manager"], **(config or {})}))
        self._arguments = ["serve", "--data", str(self.data), "--config", str(path)]
        self.ports = {door: free_port() for door in ("http", "dicom", "hl7")}
        for door, port in self.ports.items():
            self._arguments += [f"--{door}", f"127.0.0.1:{port}"]
        self._endpoints = self.data / "endpoints.json"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        if not self._pid:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def start(self) -> None:
        """Start, and wait until every door is open."""
        self._endpoints.unlink(missing_ok=True)
        self._pid = self._forker.start(self._arguments, self.log_path)
        wait_until(lambda: self._endpoints.exists() or not self.running, "airway serves", _START_S)
        if not self.running:
            raise PeerFailedError(self.log_path.read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        """SIGKILL the whole process group."""
        if self.running:
            os.killpg(self._pid, signal.SIGKILL)
        wait_until(lambda: not self.running, "the killed process gone", _STOP_S)

    def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        if self.running:
            os.kill(self._pid, signal.SIGTERM)
        wait_until(lambda: not self.running, "the process ended", _STOP_S)


def main() -> None:
    """Import everything, then fork what is asked for."""
    import informatics_gateway.commands.serve  # noqa: F401 - the libraries behind it take seconds
    from informatics_gateway.__main__ import main as airway

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes care of those that ended
    started: list[int] = []
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["airway", *asked["arguments"]]
            airway()
            os._exit(0)
        started.append(pid)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for pid in started:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
