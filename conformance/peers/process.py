# SPDX-License-Identifier: Apache-2.0
"""A peer as a child process: started on free loopback ports, awaited, stopped with everything it started.

Every peer writes what it says to a file in its own folder, which a failure quotes. Waiting has a deadline.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_INTERVAL_S = 0.02
_LOG_TAIL_BYTES = 4096
_given_ports: set[int] = set()


class PeerFailedError(RuntimeError):
    """A peer stopped by itself, or did not answer in time."""


def free_port() -> int:
    """Return a TCP port nothing listens on at 127.0.0.1, never the same one twice in this process."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a TCP connection to `port` is accepted now."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Return as soon as `condition` holds.

    Raises
    ------
    TimeoutError
        When it does not within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_INTERVAL_S)


class PeerProcess:
    """One child process in its own process group.

    Parameters
    ----------
    name : str
        Used in messages and for the log file ``<name>.log``.
    command : sequence of str
        Program and arguments.
    folder : Path
        Working folder of the process; its log goes here.
    environment : mapping, optional
        Variables added to the present ones.
    user : str, optional
        Account to run as, when this process may change accounts.
    stop_signal : signal.Signals
        What asks the program to end in an orderly way.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._environment = {**os.environ, **(environment or {})}
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, also the id of its process group.

        Raises
        ------
        PeerFailedError
            When it was not started.
        """
        if self._process is None:
            raise PeerFailedError(f"{self.name} was not started")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Status the process ended with, negative for a signal; None while it runs or was not started."""
        return self._process.poll() if self._process is not None else None

    def log_tail(self) -> str:
        """Return the end of what the process wrote."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def start(self) -> None:
        """Start the process; `wait_ready` tells when it can be used."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
            )

    def wait_ready(self, ready: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Return once `ready` holds; stop the process when it never does.

        Raises
        ------
        PeerFailedError
            When the process ends first, or the time is over; quotes the end of its log.
        """

        def answers_or_ended() -> bool:
            return not self.running or bool(ready())

        try:
            wait_until(answers_or_ended, f"{self.name} ready", timeout_s)
        except TimeoutError as error:
            self.stop()
            raise PeerFailedError(f"{error}\n{self.log_tail()}") from error
        if not self.running:
            raise PeerFailedError(f"{self.name} ended with status {self.exit_status}\n{self.log_tail()}")

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask the process to end, then end its whole group; safe to call twice."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self._stop_signal)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()

    def kill(self) -> None:
        """End the process and its group at once, as a power failure would."""
        if self._process is not None:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # the group is gone already
