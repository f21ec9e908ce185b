# SPDX-License-Identifier: Apache-2.0
"""The parent side of a run: start the child, follow it, and never leave it behind.

The child has its own process group, which is killed as a whole on time-out and cancel, and asks the kernel
to die with its parent. A run that finished before a restart is not run again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ai_apps.contract import Progress
from ai_apps.performer.job import JobError, RunFailure, RunResult, read_failure, read_result
from profiles.codes import EQUIPMENT_FAILURE

logger = logging.getLogger(__name__)

RUNNER = (sys.executable, "-m", "ai_apps.performer.runner")
STANDBY = "-"
"""In place of the job folder: wait for it on standard input."""

_POLL_S = 0.1
_LINE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The app gave results."""

    result: RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The app gave no result; running it again on the same input would not either, or it crashed."""

    failure: RunFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The run was stopped after `timeout_s` seconds."""

    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """The run was stopped because the caller asked for it."""


RunOutcome = Finished | Failed | TimedOut | Canceled


class Standby:
    """A child that has imported everything and waits to be told its job, so that a run starts at once.

    Parameters
    ----------
    command
        Program that is given ``-`` and the parent's process id, and reads the job folder from standard input.
    """

    def __init__(self, command: tuple[str, ...] = RUNNER) -> None:
        self._command = command
        self._waiting: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Start a child unless one waits; call it in the thread that stays until the job has ended."""
        if self._waiting is not None and self._waiting.poll() is None:
            return
        self.close()
        try:
            self._waiting = subprocess.Popen(  # noqa: S603 - see run_job
                [*self._command, STANDBY, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            logger.warning("no child in advance", extra={"action": "run-not-prepared"})

    def take(self, job_folder: Path) -> subprocess.Popen[bytes] | None:
        """The child that waits, now running the job of `job_folder`; None if there is none."""
        child, self._waiting = self._waiting, None
        if child is None:
            return None
        assert child.stdin is not None
        try:
            with child.stdin as pipe:
                pipe.write(os.fsencode(job_folder) + b"\n")
        except OSError:  # it is gone
            _end(child)
            return None
        return child

    def close(self) -> None:
        """End the child that waits, if there is one."""
        child, self._waiting = self._waiting, None
        if child is not None:
            _end(child)


def run_job(
    job_folder: Path,
    *,
    timeout_s: float,
    on_progress: Progress,
    cancel: threading.Event,
    command: tuple[str, ...] = RUNNER,
    standby: Standby | None = None,
) -> RunOutcome:
    """Run the job in `job_folder` and return what came of it; call it in the thread that stays till then.

    Parameters
    ----------
    job_folder
        Holds ``job.json`` (:func:`ai_apps.performer.job.write_job`).
    timeout_s
        Seconds of wall-clock time the child may take.
    on_progress
        Called in this thread with percent and text.
    cancel
        Set it from another thread to stop the run.
    command
        Program that is given the job folder and the parent's process id.
    standby
        Gives a child that has been started already, if it has one.

    Raises
    ------
    OSError
        If the child cannot be started at all.
    """
    earlier = _outcome_in(job_folder)
    if earlier is not None:
        return earlier
    child = (standby.take(job_folder) if standby else None) or _started(job_folder, command)
    try:
        stopped = _follow(child, timeout_s, on_progress, cancel)
    finally:
        _kill_group(child)
    finished = _outcome_in(job_folder)
    if isinstance(finished, Finished):
        return finished
    if stopped is not None:
        return stopped
    if finished is not None:
        return finished
    logger.error("app ended without result", extra={"action": "run-crashed", "status": child.returncode})
    return Failed(failure=RunFailure(message=_ending(child.returncode), reason=EQUIPMENT_FAILURE))


def _started(job_folder: Path, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    # Own session: signals of a terminal do not reach the child before its parent has decided. The log is for
    # operators; its last lines are not sent anywhere, for an app's traceback may quote its input.
    with (job_folder / "runner.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - a fixed program and two arguments of our own
            [*command, str(job_folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


def _outcome_in(job_folder: Path) -> Finished | Failed | None:
    try:
        result = read_result(job_folder)
        if result is not None:
            return Finished(result=result)
        failure = read_failure(job_folder)
    except JobError as error:
        return Failed(failure=RunFailure(message=str(error), reason=EQUIPMENT_FAILURE))
    return None if failure is None else Failed(failure=failure)


def _follow(
    child: subprocess.Popen[bytes], timeout_s: float, on_progress: Progress, cancel: threading.Event
) -> TimedOut | Canceled | None:
    """Pass progress on until the child has ended, time is up or the caller cancels."""
    assert child.stdout is not None
    deadline = time.monotonic() + timeout_s
    pending = b""
    with selectors.DefaultSelector() as selector, child.stdout as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        open_pipe = True
        while True:
            if cancel.is_set():
                return Canceled()
            left = deadline - time.monotonic()
            if left <= 0:
                return TimedOut(timeout_s=timeout_s)
            if not open_pipe:
                # All progress is told; only the exit is left.
                try:
                    child.wait(min(_POLL_S, left))
                except subprocess.TimeoutExpired:
                    continue
                return None
            if not selector.select(min(_POLL_S, left)):
                if child.poll() is not None:
                    return None  # a grandchild may keep the pipe open; it is killed with the group
                continue
            data = os.read(pipe.fileno(), _LINE_LIMIT)
            if not data:
                open_pipe = False
                selector.unregister(pipe)
                continue
            *lines, pending = (pending + data).split(b"\n")
            pending = pending[-_LINE_LIMIT:]
            for line in lines:
                _tell(line, on_progress)


def _tell(line: bytes, on_progress: Callable[[int, str], None]) -> None:
    """Pass one progress line on; anything else on the pipe is ignored."""
    try:
        said = json.loads(line)
        percent, text = int(said["percent"]), str(said["text"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return
    on_progress(max(0, min(100, percent)), text[:200])


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the child's process group and reap the child."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        child.kill()  # macOS refuses for a group of zombies
    child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that has no job."""
    _kill_group(child)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _ending(status: int) -> str:
    if status < 0:
        return f"the app process was ended by signal {-status}"
    return f"the app process ended with status {status} and without a result"
