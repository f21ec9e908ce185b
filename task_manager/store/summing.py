# SPDX-License-Identifier: Apache-2.0
"""Checksums off the answer's path: what arrived is summed when arrivals pause, the rest by a walk.

The walk also finds records without a file, at the start and once a day; nothing of that is ever repaired in
silence. A file that cannot be summed now is found by the next walk.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from task_manager.errors import StoreError
from task_manager.store import checksums
from task_manager.store.checksums import Checksum, Damage, Damaged, Recorded
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 50_000
_QUIET_S = 2.0
_LONGEST_HELD_S = 600.0
_STEP_S = 0.25
_BUSY_PAUSE_S = 1.0
_AT_ONCE = 200
_BETWEEN_WALKS_S = 86_400.0
_START = ("", -1)


class Summing:
    """The chore that sums objects.

    Parameters
    ----------
    clock, monotonic
        Aware UTC time, and a clock that only runs.
    """

    name = "checksums"

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._waiting: deque[tuple[float, str]] = deque(maxlen=_MOST_WAITING)
        self._last_arrival = 0.0
        self._objects: FileObjectStore | None = None
        self._position: tuple[str, int] | None = _START
        self._next_walk = 0.0

    def look_after(self, objects: FileObjectStore) -> None:
        """Sum the objects of this store, which tells :meth:`arrived`."""
        self._objects = objects

    @property
    def waiting(self) -> int:
        """Objects that arrived and wait to be summed; more than are remembered are left to the walk."""
        return len(self._waiting)

    def arrived(self, path: str) -> None:
        """An object was committed; called on the way of the answer, so nothing is done here."""
        now = self._monotonic()
        self._last_arrival = now
        self._waiting.append((now, path))

    def step(self) -> float:
        """Sum for a moment; seconds until the next.

        Raises
        ------
        StoreError
            If the database fails; what was not recorded is summed again.
        """
        if self._objects is None:
            return _BUSY_PAUSE_S
        now = self._monotonic()
        quiet = now - self._last_arrival >= _QUIET_S
        overdue = bool(self._waiting) and now - self._waiting[0][0] > _LONGEST_HELD_S
        if not quiet and not overdue:
            return _BUSY_PAUSE_S
        if self._waiting:
            self._sum_waiting(self._objects, now + _STEP_S)
            return 0.0 if quiet else _BUSY_PAUSE_S
        if self._position is None and now >= self._next_walk:
            self._position = _START
        if self._position is None:
            return _BUSY_PAUSE_S
        self._walk(self._objects, self._position)
        return 0.0

    def _sum_waiting(self, objects: FileObjectStore, until: float) -> None:
        taken: list[tuple[float, str]] = []
        sums: list[tuple[str, Checksum]] = []
        while self._waiting and len(sums) < _AT_ONCE and (not taken or self._monotonic() < until):
            one = self._waiting.popleft()
            taken.append(one)
            found = _summed(objects, one[1])
            if found is not None:
                sums.append((one[1], found))
        try:
            self._record(sums)
        except StoreError:
            self._waiting.extendleft(reversed(taken))
            raise

    def _walk(self, objects: FileObjectStore, after: tuple[str, int]) -> None:
        with self._database.read() as connection:
            rows = checksums.recorded_objects(connection, after=after, limit=_AT_ONCE)
        sums: list[tuple[str, Checksum]] = []
        suspects: list[tuple[Recorded, Damage]] = []
        until, last = self._monotonic() + _STEP_S, after
        for row in rows:
            kind = damage_of(objects, row)
            if kind is not None:
                suspects.append((row, kind))
            elif row.checksum is None and (found := _summed(objects, row.path)) is not None:
                sums.append((row.path, found))
            last = (row.sop_instance_uid, row.copy_number)
            if self._monotonic() >= until:
                break
        self._record(sums)
        tell_damage(self._database, suspects, self._clock())
        ended = len(rows) < _AT_ONCE and (
            not rows or last == (rows[-1].sop_instance_uid, rows[-1].copy_number)
        )
        self._position = None if ended else last
        if ended:
            self._next_walk = self._monotonic() + _BETWEEN_WALKS_S

    def _record(self, sums: Sequence[tuple[str, Checksum]]) -> None:
        if sums:
            with self._database.write() as connection:
                checksums.put_checksums(connection, sums, self._clock())


def damage_of(objects: FileObjectStore, row: Recorded) -> Damage | None:
    """What a look at the file, without reading it, tells; None if it is there in its size."""
    try:
        size = objects.absolute(row.path).stat().st_size
    except FileNotFoundError:
        return Damage.MISSING
    except (OSError, StoreError):
        return Damage.UNREADABLE
    return None if size == row.size else Damage.CHANGED


def tell_damage(
    database: Database, suspects: Sequence[tuple[Recorded, Damage]], now: datetime
) -> list[Damaged]:
    """Keep and log what is wrong, unless a policy removed it meanwhile; what was kept."""
    if not suspects:
        return []
    found = [
        Damaged(path=row.path, kind=kind, study_instance_uid=row.study_instance_uid, found_at=now)
        for row, kind in suspects
    ]
    with database.write() as connection:
        recorded: dict[str, frozenset[str]] = {}
        for one in found:
            study = one.study_instance_uid
            if study not in recorded:
                recorded[study] = checksums.recorded_paths(connection, study)
        found = [one for one in found if one.path in recorded[one.study_instance_uid]]
        checksums.put_damage(connection, found)
    for one in found:
        _LOG.error(
            "an object is not as its record says",
            extra={"action": f"disk.{one.kind.value}", "path": one.path, "study": one.study_instance_uid},
        )
    return found


def _summed(objects: FileObjectStore, path: str) -> Checksum | None:
    """None if it is gone: a duplicate that was dropped again, or removed by policy."""
    try:
        return checksums.checksum_of(objects.absolute(path))
    except (OSError, StoreError):
        return None
