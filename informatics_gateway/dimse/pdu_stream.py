# SPDX-License-Identifier: Apache-2.0
"""The bytes of one connection as PDUs (PS3.8 9.3): one buffer for all of them, whatever their length.

Acknowledges each read at once: senders that leave Nagle's algorithm on (DCMTK ``storescu`` by default) wait
for our delayed acknowledgement inside every object otherwise. Knows nothing of what PDUs mean.
"""

from __future__ import annotations

import mmap
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Protocol

P_DATA = 0x04
"""Type of a P-DATA-TF PDU."""
_BUFFER_BYTES = 512 * 1024
_AT_ONCE = socket.MSG_DONTWAIT
_PDU_HEADER = struct.Struct(">BxL")
_LEAST_RATE = 64
"""Bytes per second within a PDU or message: who sends less holds a thread and a file for nothing."""


class ConnectionEndedError(Exception):
    """The peer hung up, or we were asked to stop in the middle of something."""


class StalledError(Exception):
    """The peer sends nothing, or next to nothing, in the middle of something."""


class Waker(Protocol):
    """What becomes readable when something else than bytes of the peer wants attention."""

    def fileno(self) -> int:
        """What is polled."""

    def recv(self, most: int, /) -> bytes:
        """Take what was said."""


class PduStream:
    """Reads a connection.

    Parameters
    ----------
    connection
        A blocking socket, also one of TLS.
    timeout_s
        How long nothing may come in the middle of a PDU; also the span over which the least rate is taken.
    waker
        Becomes readable when something else than bytes of the peer wants attention.
    interrupted
        Asked after `waker` spoke, whether to stop in the middle of a PDU.
    before_refill
        Called before bytes that were given out are overwritten.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        timeout_s: float,
        waker: Waker | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        before_refill: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._waker = waker
        self._interrupted = interrupted
        self.before_refill = before_refill
        self._pending = connection.pending if isinstance(connection, ssl.SSLSocket) else None
        self._quick = connection.family in (socket.AF_INET, socket.AF_INET6) and hasattr(
            socket, "TCP_QUICKACK"
        )
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        if waker is not None:
            self._poll.register(waker, select.POLLIN)
        # memory of the system's own, which goes back to it whole: the heap would be left full of holes
        self._view = memoryview(mmap.mmap(-1, _BUFFER_BYTES))
        self._start = self._end = 0
        self._since = 0.0
        self._in_span = 0

    def wait(self, timeout_s: float) -> bool:
        """Whether bytes are there to be read, or the end; returns early, with no, when the waker speaks."""
        if self._end > self._start or (self._pending is not None and self._pending()):
            return True
        connection = self._connection.fileno()
        if connection < 0:
            return False
        ready = [number for number, _ in self._poll.poll(timeout_s * 1000)]
        if self._waker is not None and self._waker.fileno() in ready:
            self._waker.recv(4096)
        return connection in ready

    def rest(self, timeout_s: float) -> None:
        """Wait for the waker alone."""
        if self._waker is not None:
            waiting = select.poll()
            waiting.register(self._waker, select.POLLIN)
            if waiting.poll(timeout_s * 1000):
                self._waker.recv(4096)

    def header(self) -> tuple[int, int]:
        """Type and length of the next PDU.

        Raises
        ------
        ConnectionEndedError, StalledError
            As every reading method, if its bytes do not come.
        """
        kind, length = _PDU_HEADER.unpack(self.take(_PDU_HEADER.size))
        return kind, length

    def begin(self) -> None:
        """What is read from now on belongs together: it has to come at the least rate."""
        self._since = 0.0
        self._in_span = 0

    def take(self, count: int) -> memoryview:
        """The next few bytes, valid until the next call."""
        while self._end - self._start < count:
            self._refill()
        start = self._start
        self._start += count
        return self._view[start : self._start]

    def peek(self, count: int) -> memoryview:
        """The next few bytes, which stay; valid until the next call."""
        while self._end - self._start < count:
            self._refill()
        return self._view[self._start : self._start + count]

    def unread(self) -> bytes:
        """What was read and not given out; it is forgotten here."""
        rest = bytes(self._view[self._start : self._end])
        self._start = self._end = 0
        return rest

    def restore(self, unread: bytes) -> None:
        """Begin with what another reader of the connection has read."""
        self._view[: len(unread)] = unread
        self._start, self._end = 0, len(unread)

    def read(self, count: int) -> bytes:
        """The next bytes; the caller has bounded `count`."""
        parts: list[bytes] = []
        while count:
            piece = self.piece(count)
            parts.append(bytes(piece))
            count -= len(piece)
        return b"".join(parts)

    def piece(self, most: int) -> memoryview:
        """At least one and at most so many of the next bytes, valid until `before_refill` is called."""
        if self._start == self._end:
            self._refill()
        start = self._start
        self._start = min(self._end, start + most)
        return self._view[start : self._start]

    def drop(self) -> bool:
        """Throw away what has come by now; whether there was anything, and more may come."""
        self._start = self._end = 0
        if not self.wait(0):
            return False
        try:
            return bool(self._connection.recv_into(self._view))
        except OSError:
            return False

    def _refill(self) -> None:
        self.before_refill()
        rest = self._end - self._start
        if rest:
            self._view[:rest] = self._view[self._start : self._end]
        self._start, self._end = 0, rest
        self._end += self._receive(self._view[rest:])

    def _receive(self, space: memoryview) -> int:
        """What has come, or comes within the time; where nothing has to be waited for, in one call."""
        self._mind_the_rate()
        try:
            count = 0 if self._pending is not None else self._connection.recv_into(space, 0, _AT_ONCE)
        except BlockingIOError:
            count = -1
        except OSError as error:
            raise ConnectionEndedError from error
        if count < 0 or self._pending is not None:
            self._wait_within()
            try:
                count = self._connection.recv_into(space)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError) as error:
                raise StalledError from error
            except (OSError, ValueError) as error:
                raise ConnectionEndedError from error
        if not count:
            raise ConnectionEndedError
        if self._quick and count < len(space):  # all there was; the kernel forgets the option
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._in_span += count
        return count

    def _mind_the_rate(self) -> None:
        now = time.monotonic()
        if not self._since:
            self._since = now
        elif now - self._since > self._timeout_s:
            if self._in_span < _LEAST_RATE * self._timeout_s:
                raise StalledError
            self._since, self._in_span = now, 0

    def _wait_within(self) -> None:
        """Wait for bytes that are due."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            if self._pending is not None and self._pending():
                return
            ready = [number for number, _ in self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
            if self._connection.fileno() in ready:
                return
            if not ready:
                raise StalledError
            if self._waker is not None:
                self._waker.recv(4096)
            if self._interrupted():
                raise ConnectionEndedError
