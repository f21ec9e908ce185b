# SPDX-License-Identifier: Apache-2.0
"""The processes that receive: started, lent associations, noticed when they die, and replaced.

Knows nothing of what they do; the command that starts one is given.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from informatics_gateway.dimse.loan import Loan, described
from informatics_gateway.dimse.receive_loop import Negotiated
from task_manager.errors import StoreError, facts_of

_LOG = logging.getLogger(__name__)
_AGAIN_S = 1.0
_STOP_S = 5.0
_READY = b"r"


class _Receiver:
    """One process: how to lend to it, and how many associations it has."""

    def __init__(self, start: Callable[[socket.socket], subprocess.Popen[bytes]]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(True)
        with theirs:
            self.process = start(theirs)
        self.is_ready = False
        self.loans = 0


class Receivers:
    """Processes that associations are lent to.

    Parameters
    ----------
    count
        How many.
    start
        Starts one, which inherits its end of the socket; it says ``r`` when it receives, and ``w`` when
        something in the store wants the worker.
    wake
        Called when it does.
    died
        Called when one has died, before another takes its place.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[socket.socket], subprocess.Popen[bytes]],
        *,
        wake: Callable[[], None],
        died: Callable[[], object] = lambda: None,
    ) -> None:
        self._count = count
        self._start = start
        self._wake = wake
        self._died = died
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._receivers: list[_Receiver | None] = [None] * count
        self._threads: list[threading.Thread] = []

    @property
    def pids(self) -> Sequence[int]:
        """The processes that receive now."""
        with self._changing:
            return [one.process.pid for one in self._receivers if one is not None and one.is_ready]

    def start(self) -> None:
        """Start all; until they are ready, nothing is lent."""
        for number in range(self._count):
            thread = threading.Thread(
                target=self._keep, args=(number,), name=f"receiver-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End all: what is lent ends with them."""
        self._stopping.set()
        with self._changing:
            for receiver in self._receivers:
                if receiver is not None:
                    receiver.control.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=2 * _STOP_S)

    def lend(self, connection: socket.socket, negotiated: Negotiated, unread: bytes) -> Loan | None:
        """Lend a connection to the process that has fewest; None if there is none."""
        with self._changing:
            ready = [one for one in self._receivers if one is not None and one.is_ready]
            if not ready or self._stopping.is_set():
                return None
            receiver = min(ready, key=lambda one: one.loans)
            receiver.loans += 1
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(
                    receiver.control, [described(negotiated)], [connection.fileno(), theirs.fileno()]
                )
            return Loan(ours, unread, ended=lambda: self._ended(receiver))
        except OSError:  # it has died just now
            ours.close()
            self._ended(receiver)
            return None

    def _ended(self, receiver: _Receiver) -> None:
        with self._changing:
            receiver.loans -= 1

    def _keep(self, number: int) -> None:
        """Have one process, and another when it dies."""
        while not self._stopping.is_set():
            try:
                receiver = _Receiver(self._start)
            except OSError as error:
                _LOG.error(
                    "a receiver cannot be started", extra={"action": "receiver.failed", "errno": error.errno}
                )
                self._stopping.wait(_AGAIN_S)
                continue
            with self._changing:
                self._receivers[number] = receiver
            if self._stopping.is_set():
                receiver.control.shutdown(socket.SHUT_RDWR)
            self._listen(receiver)
            with self._changing:
                self._receivers[number] = None
            status = _ended_status(receiver.process)
            receiver.control.close()
            if not self._stopping.is_set():
                facts = {"pid": receiver.process.pid, "status": status}
                _LOG.error("a receiver ended and is replaced", extra={"action": "receiver.replaced", **facts})
                self._tell_death()
                self._stopping.wait(0 if receiver.is_ready else _AGAIN_S)

    def _tell_death(self) -> None:
        try:
            self._died()
        except (StoreError, OSError) as error:  # what it left is looked at again when the next one dies
            _LOG.error(
                "what a receiver left cannot be settled",
                extra={"action": "receiver.unsettled", **facts_of(error)},
            )

    def _listen(self, receiver: _Receiver) -> None:
        """Hear one process until it ends."""
        while True:
            try:
                said = receiver.control.recv(64)
            except OSError:
                return
            if not said:
                return
            if said == _READY:
                receiver.is_ready = True
                _LOG.info(
                    "a receiver is ready", extra={"action": "receiver.ready", "pid": receiver.process.pid}
                )
            else:
                self._wake()


def _ended_status(process: subprocess.Popen[bytes]) -> int:
    """How it ended; one that does not is killed."""
    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if process.poll() is None:
        process.kill()
    return process.wait()
