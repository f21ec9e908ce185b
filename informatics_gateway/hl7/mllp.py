# SPDX-License-Identifier: Apache-2.0
"""MLLP framing without I/O: bytes in, messages out.

``<0B> message <1C><0D>``. The end block alone ends a message: senders that forget the CR after it would
otherwise wait for their answer forever. Bytes outside a frame are ignored but bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiles.faults import Fault
from task_manager.errors import InputError

START_BLOCK = b"\x0b"
END_BLOCK = b"\x1c"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_GARBAGE_BYTES = 64 * 1024
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message without its frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Oversize:
    """A message over the limit: its first bytes, enough for a header; the stream cannot be read on."""

    head: bytes


@dataclass(frozen=True, slots=True)
class Unframed:
    """More bytes outside frames than any sender has reason to send; the stream cannot be read on."""

    size: int


FrameEvent = Frame | Oversize | Unframed


def framed(message: bytes) -> bytes:
    """`message` in an MLLP frame.

    Raises
    ------
    InputError
        If it holds a start or end block, which MLLP release 1 cannot carry.
    """
    if START_BLOCK in message or END_BLOCK in message:
        raise InputError(Fault("", "the message holds a framing byte (0B or 1C)"))
    return START_BLOCK + message + END_BLOCK + b"\r"


class FrameReader:
    """Cuts a stream of bytes into messages; linear in time, bounded in memory.

    Parameters
    ----------
    max_message_bytes
        A longer message is :class:`Oversize`, told as soon as the limit is passed.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = max_message_bytes
        self._buffer = bytearray()
        self._inside = False
        self._garbage = 0
        self._dead = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[FrameEvent]:
        """The messages that `data` completes, in order.

        A start block inside a message begins it anew: its sender gave the first one up. Nothing follows an
        :class:`Oversize` or :class:`Unframed`.
        """
        events: list[FrameEvent] = []
        position = 0
        while position < len(data) and not self._dead:
            if self._inside:
                position = self._read_inside(data, position, events)
            else:
                position = self._read_outside(data, position, events)
        return events

    def _read_outside(self, data: bytes, position: int, events: list[FrameEvent]) -> int:
        start = data.find(START_BLOCK, position)
        skipped = (len(data) if start < 0 else start) - position
        self._garbage += skipped
        if self._garbage > MAX_GARBAGE_BYTES:
            self._dead = True
            events.append(Unframed(self._garbage))
        if start < 0:
            return len(data)
        self._inside = True
        return start + 1

    def _read_inside(self, data: bytes, position: int, events: list[FrameEvent]) -> int:
        end = data.find(END_BLOCK, position)
        stop = len(data) if end < 0 else end
        while True:
            restart = data.find(START_BLOCK, position, stop)
            until = restart if restart >= 0 else stop
            if len(self._buffer) + until - position > self._limit:
                self._buffer += data[position : min(until, position + _HEAD_BYTES)]
                return self._end(data, Oversize(bytes(self._buffer[:_HEAD_BYTES])), events)
            self._buffer += data[position:until]
            if restart < 0:
                break
            self._garbage += len(self._buffer) + 1
            self._buffer.clear()
            position = restart + 1
            if self._garbage > MAX_GARBAGE_BYTES:
                return self._end(data, Unframed(self._garbage), events)
        if end < 0:
            return len(data)
        events.append(Frame(bytes(self._buffer)))
        self._buffer.clear()
        self._inside = False
        self._garbage = 0
        return end + 1

    def _end(self, data: bytes, event: Oversize | Unframed, events: list[FrameEvent]) -> int:
        """Tell why the stream cannot be read on; nothing of it is kept."""
        events.append(event)
        self._buffer.clear()
        self._dead = True
        return len(data)
