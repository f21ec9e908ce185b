# SPDX-License-Identifier: Apache-2.0
"""The disk of one process, put together from the settings: object store, room, and who looks after both.

Knows the data folder; decides nothing. The gateway counts, sums and sweeps; the task manager removes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from informatics_gateway.dimse.commitment_spool import CommitmentSpool
from informatics_gateway.disk_settings import object_policies, space_limits
from informatics_gateway.settings import Role, Settings
from task_manager.object_retention import ObjectRetention
from task_manager.space import SPACE_TEXT
from task_manager.store import checksums
from task_manager.store.counting import Counting, keep_count, last_count
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.store.orphans import OrphanSweep
from task_manager.store.room import DiskRoom
from task_manager.store.summing import Summing
from task_manager.store.upkeep import Chore, Upkeep

COMMITMENTS = "commitments"
"""Folder of what storage commitment is owed for, in the data folder."""


class Disk:
    """What the doors store to, and what looks after it once :meth:`start` was called.

    Parameters
    ----------
    data
        The data folder.

    Attributes
    ----------
    room
        Asked whether more is taken.
    objects
        The object store.
    retention
        Removes objects by policy.
    """

    def __init__(
        self, settings: Settings, data: Path, database: Database, *, clock: Callable[[], datetime]
    ) -> None:
        self._data = data
        self._database = database
        self._clock = clock
        self._settings = settings.disk
        self.room = DiskRoom(data, space_limits(settings.disk), used_bytes=last_count(data))
        self._summing = Summing(database, clock=clock)
        summed = settings.disk.checksums and Role.GATEWAY in settings.roles
        self.objects = (
            FileObjectStore(data / "store", room=self.room, arrived=self._summing.arrived)
            if summed
            else FileObjectStore(data / "store", room=self.room)
        )
        self.retention = ObjectRetention(
            database,
            self.objects,
            object_policies(settings.disk),
            sinks=tuple(sink.name for sink in settings.events),
            committing=lambda: committing(data),
            clock=clock,
        )
        self._upkeep: Upkeep | None = None

    def start(self, roles: Collection[Role]) -> None:
        """Look after the disk as these roles do."""
        chores: list[Chore] = []
        if Role.GATEWAY in roles:
            if self.room.limits.most_bytes:
                chores.append(Counting(self._data, self.room))
            if self._settings.checksums:
                self._summing.look_after(self.objects)
                chores.append(self._summing)
            chores.append(
                OrphanSweep(
                    self._database,
                    self.objects,
                    remove=self._settings.orphans == "remove",
                    clock=self._clock,
                )
            )
        if Role.TASK_MANAGER in roles:
            chores.append(self.retention)
        self._upkeep = Upkeep(chores)
        self._upkeep.start()

    def stop(self) -> None:
        """Stop looking after it."""
        if self._upkeep is not None:
            self._upkeep.stop()
        if self.room.limits.most_bytes:
            keep_count(self._data, self.room.report().used_bytes)
        self.objects.close()

    def report(self) -> dict[str, Any]:
        """What the disk is like now, as plain JSON values."""
        found = self.room.report()
        with self._database.read() as connection:
            damaged = checksums.count_damage(connection)
        return {
            "state": found.state.value,
            "meaning": SPACE_TEXT[found.state],
            "free_bytes": found.free_bytes,
            "total_bytes": found.total_bytes,
            "used_bytes": found.used_bytes if found.counted else None,
            "promised_bytes": found.promised_bytes,
            "left_bytes": max(0, found.left_bytes),
            "refused": found.refused,
            "unsummed": self._summing.waiting,
            "damaged": {kind.value: number for kind, number in damaged.items()},
        }


def committing(data: Path) -> frozenset[str]:
    """SOP Instance UIDs whose storage commitment is owed."""
    folder = data / COMMITMENTS
    if not folder.is_dir():
        return frozenset()
    return frozenset(uid for owed in CommitmentSpool(folder).owed() for _, uid in owed.request.references)
