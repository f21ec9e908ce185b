# SPDX-License-Identifier: Apache-2.0
"""Bytes on their way in: a file under ``incoming/`` that nobody else sees, written within the room there is.

It becomes an object by a link that ``objects.py`` makes; until then it is worth nothing after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from task_manager.errors import StoreError
from task_manager.space import SpaceState
from task_manager.store.room import DiskRoom, is_full, store_error

_KEPT_START = 32 * 1024
_MOST_PIECES = 1024  # IOV_MAX of Linux
_FIRST_PROMISE = 1024 * 1024
_NEXT_PROMISE = 8 * 1024 * 1024


class StagedFile:
    """A file under ``incoming/``; see :class:`task_manager.ports.StagedObject`."""

    def __init__(self, path: str, room: DiskRoom | None = None) -> None:
        self._path = path
        self._size = 0
        self._start: list[bytes] = []
        self._committed = False
        self._descriptor = -1
        self._room = room
        self._promised = 0
        self._counted = 0
        self.on_reserve = room is not None and room.state is not SpaceState.OK
        """Whether it was staged where only what finishes work is taken."""
        if room is not None:
            room.promise(_FIRST_PROMISE)
            self._promised = _FIRST_PROMISE
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._settle_promise()
            raise self._failure("an object cannot be staged", error) from error

    @property
    def path(self) -> Path:
        """Where the staged bytes are."""
        return Path(self._path)

    @property
    def name(self) -> str:
        """Where the staged bytes are, as the system is told."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def start(self) -> bytes:
        """The first bytes, up to a bound, so that a header can be read without the file."""
        return b"".join(self._start)

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises
        ------
        NoRoomError
            If there is no room for it.
        StoreError
            If the disk fails, or the object is no longer staged.
        """
        self.write_pieces((memoryview(data),))

    def write_pieces(self, pieces: Sequence[memoryview]) -> None:
        """Append several pieces, with as few calls of the system as can be.

        Raises
        ------
        StoreError
            As :meth:`write`.
        """
        self._keep_start(pieces)
        if self._room is not None:
            self._have_room(self._room, sum(map(len, pieces)))
        try:
            for start in range(0, len(pieces), _MOST_PIECES):
                self._write(pieces[start : start + _MOST_PIECES])
        except OSError as error:
            raise self._failure("an object cannot be written", error) from error

    def _have_room(self, room: DiskRoom, size: int) -> None:
        """Have what will be written promised, some at a time."""
        missing = self._size + size - self._promised
        if missing > 0:
            more = max(missing, _NEXT_PROMISE)
            room.promise(more)
            self._promised += more
            room.written(self._size - self._counted)
            self._counted = self._size

    def _settle_promise(self) -> None:
        """Nothing more will be written: give back what was promised beyond."""
        if self._room is not None and self._promised:
            self._room.written(self._size - self._counted)
            self._room.give_back(self._promised - self._size)
            self._promised, self._counted = 0, self._size

    def _failure(self, message: str, error: OSError) -> StoreError:
        if self._room is not None and is_full(error):
            self._room.hit_the_end()
        return store_error(message, error)

    def _keep_start(self, pieces: Sequence[memoryview]) -> None:
        room = _KEPT_START - self._size
        for piece in pieces:
            if room <= 0:
                return
            self._start.append(bytes(piece[:room]))
            room -= len(piece)

    def _write(self, pieces: Sequence[memoryview]) -> None:
        written = os.writev(self._descriptor, pieces)
        self._size += written
        for piece in pieces:  # what a nearly full disk or a signal left over
            if written >= len(piece):
                written -= len(piece)
                continue
            rest, written = piece[written:], 0
            while rest:
                count = os.write(self._descriptor, rest)
                self._size += count
                rest = rest[count:]

    def make_durable(self) -> None:
        """Bring the bytes to the disk and close the file.

        Raises
        ------
        StoreError
            If the disk fails, or the object is no longer staged.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failure("an object cannot be made durable", error) from error
        except ValueError as error:
            raise StoreError("an object cannot be made durable") from error
        self._close()

    def discard(self) -> None:
        """Remove the staged bytes; does nothing when committed or discarded before."""
        self._close()
        if not self._committed and self._unlink() and self._room is not None:
            self._room.removed(self._size)

    def mark_committed(self) -> None:
        """From now on only `settle` or a sweep removes the staged name of the object."""
        self._committed = True

    def settle(self) -> None:
        """Remove the staged name of a committed object."""
        self._close()
        self._unlink()

    def _unlink(self) -> bool:
        """Whether there was something to remove."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        return True

    def _close(self) -> None:
        self._settle_promise()
        descriptor, self._descriptor = self._descriptor, -1  # closed even where closing reports an error
        if descriptor >= 0:
            os.close(descriptor)
