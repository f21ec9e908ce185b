# SPDX-License-Identifier: Apache-2.0
"""Instances on disk: one Part 10 file each, its bytes as they came.

Layout under the root: ``incoming/`` holds what is on its way in and is worth nothing after a crash;
``objects/<2 hex>/<study uid>/<sop uid>.dcm`` holds what was committed and is never written again.
No other name than those made here from well-formed UIDs is ever opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from uuid import uuid4

from profiles.uids import is_uid
from task_manager.errors import StoreError
from task_manager.outcome import Refused
from task_manager.ports import StagedObject
from task_manager.store.room import DiskRoom, is_full, store_error
from task_manager.store.staging import StagedFile
from task_manager.study.header import read_header

_INCOMING = "incoming"
_OBJECTS = "objects"
_OWNERS = "owners"
_MAX_SAME_NAME = 1000
_MOST_SYNCED = 4096


class FileObjectStore:
    """The object store on a local or shared file system; see :class:`task_manager.ports.ObjectStore`.

    Parameters
    ----------
    root
        The folder that holds everything; made if it is missing.
    room
        Asked before bytes are written; without, only the disk itself says when it is full.
    arrived
        Called with the path of each object that was committed.

    Raises
    ------
    StoreError
        If the folders cannot be made.
    """

    def __init__(
        self,
        root: Path,
        *,
        room: DiskRoom | None = None,
        arrived: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._root = root.resolve()
        self._room = room
        self._arrived = arrived
        self._incoming = self._root / _INCOMING
        # names as plain text: paths of the library cost more than what the system does with them
        self._objects = f"{self._root}/{_OBJECTS}"
        self._staging = f"{self._incoming}/"
        self._own = uuid4().hex
        self._numbers = count(1)
        self._synced: set[str] = set()  # folders of studies that are known to survive a power loss
        self._owning = threading.Lock()
        self._release: Callable[[], object] | None = None
        try:
            for folder in (self._incoming, self._root / _OBJECTS, self._root / _OWNERS):
                folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(self._root)
        except OSError as error:
            raise store_error("the object store cannot be opened", error) from error

    @property
    def root(self) -> Path:
        """The folder that holds everything."""
        return self._root

    @property
    def room(self) -> DiskRoom | None:
        """What is asked before bytes are written."""
        return self._room

    def close(self) -> None:
        """What is still staged belongs to nobody from now on; nothing more is staged."""
        with self._owning:
            if self._release is not None:
                self._release()

    def sweep_incoming(self, is_recorded: Callable[[str], bool]) -> int:
        """Remove what a stopped process left in ``incoming/``; returns how many files.

        Nothing that they staged has been acknowledged, and an object that was committed and not settled is
        removed too unless `is_recorded` knows its path. What a process that runs has staged stays: each
        holds a lock on a file under ``owners/`` as long as it lives.
        """
        removed = 0
        staged = list(self._incoming.iterdir())  # before the owners: what comes later is somebody's
        held = self._held_owners()
        for path in staged:
            if not path.is_file() or path.name.partition("-")[0] in held:
                continue
            with suppress(FileNotFoundError):  # another sweeps too
                for target in self._committed_names(path):
                    if not is_recorded(target.relative_to(self._root).as_posix()):
                        target.unlink(missing_ok=True)
                path.unlink()
                removed += 1
        return removed

    def _held_owners(self) -> set[str]:
        """Who stages and lives; the marks of others are removed."""
        held = set()
        for mark in (self._root / _OWNERS).iterdir():
            with suppress(FileNotFoundError), mark.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    held.add(mark.name)
                else:
                    mark.unlink(missing_ok=True)
        return held

    def _own_staging(self) -> None:
        """Mark what is staged here as ours for as long as this process lives, however it ends."""
        with self._owning:
            if self._release is not None:
                return
            try:
                descriptor = _locked(self._root / _OWNERS / self._own)
            except OSError as error:
                raise store_error("an object cannot be staged", error) from error
            self._release = weakref.finalize(self, os.close, descriptor)

    def stage(self) -> StagedFile:
        """A new, empty staged object.

        Raises
        ------
        NoRoomError
            If there is no room for any.
        StoreError
            If it cannot be made.
        """
        if self._release is None:
            self._own_staging()
        return StagedFile(f"{self._staging}{self._own}-{next(self._numbers)}.part", self._room)

    def commit(self, staged: StagedObject, *, study_instance_uid: str, sop_instance_uid: str) -> str:
        """Make `staged` durable and return its path relative to the store.

        Committing under a name that exists keeps both: the name gets the suffix ``~2``, ``~3``, ... The
        staged name stays until it is settled, so that a sweep can tell an object without a record.

        Raises
        ------
        StoreError
            If a UID is not well-formed, `staged` is not of this store or not staged any more, or the disk
            fails; then `staged` can still be discarded.
        """
        if not (is_uid(study_instance_uid) and is_uid(sop_instance_uid)):
            raise StoreError("an object without well-formed UIDs cannot be committed")
        if not isinstance(staged, StagedFile) or not staged.name.startswith(self._staging):
            raise StoreError("the object was not staged here")
        folder = f"{self._objects}/{_shard_of(study_instance_uid)}/{study_instance_uid}"
        try:
            staged.make_durable()
            target = self._link(staged.name, folder, sop_instance_uid)
            try:
                _sync_folder(folder)
            except OSError:
                os.unlink(target)
                raise
        except OSError as error:
            if self._room is not None and is_full(error):
                self._room.hit_the_end()
            raise store_error("an object cannot be committed", error) from error
        staged.mark_committed()
        relative = target.removeprefix(f"{self._root}/")
        self._arrived(relative)
        return relative

    def remove(self, relative: str) -> bool:
        """Remove a committed object and its folder if that is empty; whether it was there.

        Raises
        ------
        StoreError
            If `relative` would leave the committed objects, or the disk fails.
        """
        path = self.absolute(relative)
        try:
            known = path.stat()
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise store_error("an object cannot be removed", error) from error
        if self._room is not None:
            self._room.removed(known.st_size)
        with suppress(OSError):  # others are in it; one that comes just now makes the folder anew
            path.parent.rmdir()
        return True

    def is_settled(self, relative: str) -> bool:
        """Whether an object is there and not staged any more: its record is committed, or never will be.

        Raises
        ------
        StoreError
            If `relative` would leave the committed objects.
        """
        try:
            return self.absolute(relative).stat().st_nlink == 1
        except OSError:
            return False

    def absolute(self, relative: str) -> Path:
        """The file of a committed path; never outside the store.

        Raises
        ------
        StoreError
            If `relative` would leave the committed objects.
        """
        objects = self._root / _OBJECTS
        try:
            path = (self._root / relative).resolve()
        except (OSError, ValueError) as error:
            raise StoreError("not a path of the object store") from error
        if not path.is_relative_to(objects) or path == objects:
            raise StoreError("not a path of the object store")
        return path

    def _committed_names(self, staged: Path) -> list[Path]:
        """Names under ``objects/`` of a file that is still staged."""
        if staged.stat().st_nlink == 1:
            return []
        header = read_header(staged)
        if isinstance(header, Refused):
            return []
        folder = self._folder_of(header.study_instance_uid)
        return [path for path in folder.glob(f"{header.sop_instance_uid}*.dcm") if path.samefile(staged)]

    def _folder_of(self, study_instance_uid: str) -> Path:
        return self._root / _OBJECTS / _shard_of(study_instance_uid) / study_instance_uid

    def _link(self, source: str, folder: str, stem: str) -> str:
        if folder not in self._synced:
            self._make_folder(Path(folder))
        try:
            return _link_to_free_name(source, folder, stem)
        except FileNotFoundError:  # removed meanwhile
            self._synced.discard(folder)
            self._make_folder(Path(folder))
            return _link_to_free_name(source, folder, stem)

    def _make_folder(self, folder: Path) -> None:
        """Make it durable. That it exists says nothing: who made it may be about to sync, or have died."""
        shard = folder.parent
        shard.mkdir(exist_ok=True)
        _sync_folder(shard.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(shard)
        if len(self._synced) >= _MOST_SYNCED:
            self._synced.clear()
        self._synced.add(str(folder))


@lru_cache(maxsize=1024)
def _shard_of(study_instance_uid: str) -> str:
    return hashlib.sha256(study_instance_uid.encode("ascii")).hexdigest()[:2]


def _link_to_free_name(source: str, folder: str, stem: str) -> str:
    """A hard link, since unlike a rename it never replaces what another thread committed just now."""
    for number in range(1, _MAX_SAME_NAME + 1):
        target = f"{folder}/{stem}.dcm" if number == 1 else f"{folder}/{stem}~{number}.dcm"
        try:
            os.link(source, target)
        except FileExistsError:
            continue
        return target
    raise StoreError("too many different objects under one SOP Instance UID")


def _locked(mark: Path) -> int:
    """A file that is locked as long as the descriptor is open; a sweep may have removed it before."""
    while True:
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(mark)):
                return descriptor
        os.close(descriptor)


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
