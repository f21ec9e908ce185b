# SPDX-License-Identifier: Apache-2.0
"""The room on the disk: asked before bytes are written, so that many transfers at once cannot overrun it.

Each transfer is promised its bytes some at a time; what is promised and not yet written counts as used. What
the states mean is decided in ``task_manager/space.py``.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from task_manager.errors import NoRoomError, StoreError
from task_manager.space import Space, SpaceLimits, SpaceState, room_left, state_after

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_LONG = frozenset({errno.EFBIG})
_HIT_S = 2.0
_UNKNOWN = 1 << 62


def store_error(message: str, error: BaseException) -> StoreError:
    """`error` of the file system as ours: a full disk is told from a broken one."""
    full = is_full(error) or (isinstance(error, OSError) and error.errno in _TOO_LONG)
    return (NoRoomError if full else StoreError)(message)


def is_full(error: BaseException) -> bool:
    """Whether the file system says that it is full, or our share of it."""
    return isinstance(error, OSError) and error.errno in _FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomReport:
    """What the room is like now, for people and for metrics; bytes."""

    state: SpaceState
    free_bytes: int
    total_bytes: int
    used_bytes: int
    promised_bytes: int
    left_bytes: int
    counted: bool
    refused: int


class DiskRoom:
    """The room of one data folder, shared by all threads of a process.

    Parameters
    ----------
    folder
        On the file system that matters.
    used_bytes
        What the folder holds, as far as is known; corrected by :meth:`recount`.

    Notes
    -----
    The file system is asked at most five times a second, by the thread that finds the last answer old; what
    this process wrote since then is counted.
    """

    def __init__(
        self,
        folder: Path,
        limits: SpaceLimits,
        *,
        used_bytes: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = str(folder)
        self._limits = limits
        self._monotonic = monotonic
        self._changing = threading.Lock()
        self._used = used_bytes
        self._counted = not limits.most_bytes
        self._promised = 0
        self._since_look = 0
        self._free = 0
        self._total = 0
        self._looked_at = -1.0
        self._hit_until = -1.0
        self._state = SpaceState.OK
        self._refused = 0
        self._changed_since_count = 0

    @property
    def limits(self) -> SpaceLimits:
        """What must stay free."""
        return self._limits

    @property
    def state(self) -> SpaceState:
        """How much is taken now."""
        with self._changing:
            self._look()
            return self._state

    def takes_images(self) -> bool:
        """Whether new images are taken; who fetches images asks this before each."""
        return self.state is SpaceState.OK

    def takes_messages(self) -> bool:
        """Whether anything that adds content is taken."""
        return self.state is not SpaceState.FULL

    def report(self) -> RoomReport:
        """All numbers now."""
        with self._changing:
            self._look(anyway=True)
            space = self._space()
            return RoomReport(
                state=self._state,
                free_bytes=space.free_bytes,
                total_bytes=space.total_bytes,
                used_bytes=space.used_bytes,
                promised_bytes=space.promised_bytes,
                left_bytes=room_left(space, self._limits),
                counted=self._counted,
                refused=self._refused,
            )

    def promise(self, size: int) -> None:
        """Promise `size` bytes to a transfer.

        Raises
        ------
        NoRoomError
            If there is not so much room.
        """
        with self._changing:
            self._look()
            left = room_left(self._space(), self._limits)
            if left < size or self._looked_at < self._hit_until:
                self._refused += 1
                raise NoRoomError("there is no room left for this")
            self._promised += size

    def written(self, size: int) -> None:
        """`size` bytes of those promised are in a file now."""
        with self._changing:
            self._promised -= size
            self._used += size
            self._since_look += size
            self._changed_since_count += size

    def give_back(self, size: int) -> None:
        """`size` bytes that were promised will not be written."""
        with self._changing:
            self._promised -= size

    def removed(self, size: int) -> None:
        """A file of `size` bytes is gone; how much that freed, the next look tells."""
        with self._changing:
            self._used = max(0, self._used - size)
            self._changed_since_count -= size

    def hit_the_end(self) -> None:
        """The disk itself said that it is full, whatever the numbers are: refuse for a moment, then look."""
        with self._changing:
            now = self._monotonic()
            self._hit_until = now + _HIT_S
            self._looked_at = now
            self._change(SpaceState.FULL)

    def begin_count(self) -> None:
        """The folder is going to be counted: note what changes meanwhile."""
        with self._changing:
            self._changed_since_count = 0

    def recount(self, used_bytes: int) -> None:
        """The folder was counted, from :meth:`begin_count` to now."""
        with self._changing:
            self._used = max(0, used_bytes + self._changed_since_count)
            self._counted = True

    def _space(self) -> Space:
        return Space(
            free_bytes=max(0, self._free - self._since_look),
            total_bytes=self._total,
            used_bytes=self._used,
            promised_bytes=self._promised,
        )

    def _look(self, *, anyway: bool = False) -> None:
        now = self._monotonic()
        if not anyway and self._looked_at >= 0 and now - self._looked_at < _LOOK_S:
            return
        if now < self._hit_until:
            return
        try:
            found = os.statvfs(self._folder)
        except OSError as error:  # what cannot be asked must not stop what can be written
            _LOG.error("the disk cannot be asked", extra={"action": "disk.unknown", "errno": error.errno})
            self._looked_at = now
            self._free = self._free if self._total else _UNKNOWN
            return
        self._free, self._total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        self._since_look, self._looked_at = 0, now
        self._change(state_after(self._state, self._space(), self._limits))

    def _change(self, state: SpaceState) -> None:
        if state is self._state:
            return
        facts = {"free_bytes": self._free, "used_bytes": self._used, "promised_bytes": self._promised}
        better = state is SpaceState.OK or (state is SpaceState.LOW and self._state is SpaceState.FULL)
        self._state = state
        if better:
            _LOG.warning("there is room again", extra={"action": "disk.recovered", "state": state, **facts})
        else:
            _LOG.error("room runs out", extra={"action": f"disk.{state.value}", "state": state, **facts})
