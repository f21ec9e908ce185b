# SPDX-License-Identifier: Apache-2.0
"""Files without a record: set aside, or removed if the site wants that.

A crash between the sync of a file and the commit of its record leaves one. Nothing young is touched, and
nothing that is still staged: its record may be about to be committed, here or in another process.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from task_manager.store import checksums, removals
from task_manager.store.checksums import Damage, Damaged
from task_manager.store.database import Database
from task_manager.store.held import REMOVED
from task_manager.store.objects import FileObjectStore

_LOG = logging.getLogger(__name__)
SAFETY_AGE = timedelta(hours=1)
"""Younger files are left alone: no transaction of an arrival takes so long."""
_QUARANTINE = "quarantine"
_BETWEEN_ROUNDS_S = 86_400.0
_FIRST_ROUND_S = 600.0
_STEP_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A file that no record knows."""

    path: str
    study_instance_uid: str
    size: int


def find_orphans(database: Database, objects: FileObjectStore, study: Path, now: datetime) -> list[Orphan]:
    """The orphans in the folder of one study; the records are asked after the files were looked at.

    Raises
    ------
    StoreError
        If the database fails.
    """
    old = _old_files(study, now)
    if not old:
        return []
    with database.read() as connection:
        recorded = checksums.recorded_paths(connection, study.name)
        recorded |= removals.unfinished_paths(connection, study.name)
    found = []
    for path, size in old:
        relative = path.relative_to(objects.root).as_posix()
        if relative not in recorded and f"{REMOVED}{relative}" not in recorded:
            found.append(Orphan(path=relative, study_instance_uid=study.name, size=size))
    return found


def study_folders(objects: FileObjectStore) -> Iterator[Path]:
    """The folder of each study that has one."""
    for shard in sorted((objects.root / "objects").iterdir()):
        if shard.is_dir():
            yield from (folder for folder in sorted(shard.iterdir()) if folder.is_dir())


def quarantined(objects: FileObjectStore, path: str) -> Path:
    """Where an orphan that was at `path` was set aside."""
    was = Path(path)
    return objects.root / _QUARANTINE / was.parent.name / was.name


class OrphanSweep:
    """The chore that looks for orphans once a day.

    Parameters
    ----------
    remove
        Whether orphans are removed; else they go to ``quarantine/`` in the store.
    """

    name = "orphans"

    def __init__(
        self,
        database: Database,
        objects: FileObjectStore,
        *,
        remove: bool = False,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._objects = objects
        self._remove = remove
        self._clock = clock
        self._monotonic = monotonic
        self._folders: Iterator[Path] | None = None
        self._begun = False

    def step(self) -> float:
        """Look into some folders; seconds until the next.

        Raises
        ------
        StoreError
            If the database fails.
        """
        if not self._begun:  # what a start has to do is more urgent
            self._begun = True
            return _FIRST_ROUND_S
        if self._folders is None:
            self._folders = study_folders(self._objects)
        until = self._monotonic() + _STEP_S
        for folder in self._folders:
            self.settle(find_orphans(self._database, self._objects, folder, self._clock()))
            if self._monotonic() >= until:
                return _STEP_S
        self._folders = None
        return _BETWEEN_ROUNDS_S

    def settle(self, orphans: list[Orphan]) -> None:
        """Set orphans aside or remove them, and tell it."""
        for one in orphans:
            path = self._objects.absolute(one.path)
            if self._remove:
                self._objects.remove(one.path)
            else:
                aside = quarantined(self._objects, one.path).parent
                aside.mkdir(parents=True, exist_ok=True)
                _move(path, aside)
            action = "removed" if self._remove else "quarantined"
            _LOG.warning(
                "a file without a record", extra={"action": f"disk.orphan_{action}", "path": one.path}
            )
        if orphans and not self._remove:
            now = self._clock()
            with self._database.write() as connection:
                checksums.put_damage(
                    connection,
                    [
                        Damaged(
                            path=one.path,
                            kind=Damage.UNRECORDED,
                            study_instance_uid=one.study_instance_uid,
                            found_at=now,
                        )
                        for one in orphans
                    ],
                )


def _old_files(study: Path, now: datetime) -> list[tuple[Path, int]]:
    before = (now.astimezone(UTC) - SAFETY_AGE).timestamp()
    found = []
    try:
        with os.scandir(study) as entries:
            for entry in entries:
                known = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and known.st_nlink == 1 and known.st_ctime < before:
                    found.append((Path(entry.path), known.st_size))
    except FileNotFoundError:  # removed meanwhile
        return []
    return found


def _move(path: Path, folder: Path) -> None:
    """Move `path` into `folder` under a name that is free there; a link never replaces anything."""
    for number in range(1, 1000):
        target = folder / (path.name if number == 1 else f"{path.stem}~{number}{path.suffix}")
        try:
            os.link(path, target)
        except FileExistsError:
            continue
        path.unlink()
        return
