# SPDX-License-Identifier: Apache-2.0
"""Reading objects again and comparing them with what was summed after their arrival.

What is wrong is kept and told; what was wrong and is right again is forgotten. Nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from task_manager.errors import StoreError
from task_manager.store import checksums
from task_manager.store.checksums import Damage, Damaged, Recorded, checksum_of
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.store.orphans import quarantined
from task_manager.store.summing import damage_of, tell_damage

_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification has found so far.

    Attributes
    ----------
    good, unsummed, skipped
        Objects that are as they were summed; that are there in their size and were never summed; that are not
        of the sample that was asked for.
    read_bytes
        How much was read.
    """

    good: int = 0
    unsummed: int = 0
    skipped: int = 0
    read_bytes: int = 0
    damaged: tuple[Damaged, ...] = field(default=())

    @property
    def looked_at(self) -> int:
        """Objects that were looked at."""
        return self.good + self.unsummed + len(self.damaged)


def verify(
    database: Database,
    objects: FileObjectStore,
    *,
    since: datetime | None = None,
    choose: Callable[[], bool] = lambda: True,
    clock: Callable[[], datetime],
) -> Iterator[Verified]:
    """Look at every object that `choose` wants, in batches; what was found so far after each.

    Parameters
    ----------
    since
        Leaves out what arrived before.

    Raises
    ------
    StoreError
        If the database fails.
    """
    so_far = Verified()
    position = ("", -1)
    while True:
        with database.read() as connection:
            rows = checksums.recorded_objects(connection, after=position, limit=_AT_ONCE, since=since)
        right: list[str] = []
        suspects: list[tuple[Recorded, Damage]] = []
        for row in rows:
            if not choose():
                so_far = replace(so_far, skipped=so_far.skipped + 1)
                continue
            kind = damage_of(objects, row) or _read(objects, row)
            if kind is not None:
                suspects.append((row, kind))
                continue
            right.append(row.path)
            if row.checksum is None:
                so_far = replace(so_far, unsummed=so_far.unsummed + 1)
            else:
                so_far = replace(so_far, good=so_far.good + 1, read_bytes=so_far.read_bytes + row.size)
        found = tell_damage(database, suspects, clock())
        so_far = replace(so_far, damaged=(*so_far.damaged, *found))
        _forget(database, right)
        yield so_far
        if len(rows) < _AT_ONCE:
            return
        position = (rows[-1].sop_instance_uid, rows[-1].copy_number)


def forget_settled(database: Database, objects: FileObjectStore) -> None:
    """Forget files that were set aside without a record and that a person has taken away since.

    Raises
    ------
    StoreError
        If the database fails.
    """
    with database.read() as connection:
        aside = [one for one in checksums.damage(connection) if one.kind is Damage.UNRECORDED]
    gone = [one.path for one in aside if not quarantined(objects, one.path).exists()]
    if gone:
        with database.write() as connection:
            checksums.clear_damage(connection, gone)


def _read(objects: FileObjectStore, row: Recorded) -> Damage | None:
    """What reading tells; None if all is as it was summed, or it never was."""
    if row.checksum is None:
        return None
    try:
        found = checksum_of(objects.absolute(row.path))
    except FileNotFoundError:
        return Damage.MISSING
    except (OSError, StoreError):
        return Damage.UNREADABLE
    return None if found == row.checksum else Damage.CHANGED


def _forget(database: Database, paths: list[str]) -> None:
    """Looks before it writes: mostly there is nothing to forget."""
    with database.read() as connection:
        known = checksums.damaged_among(connection, paths)
    if known:
        with database.write() as connection:
            checksums.clear_damage(connection, known)
