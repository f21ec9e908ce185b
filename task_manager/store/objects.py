# SPDX-License-Identifier: Apache-2.0
"""Instances on disk: one Part 10 file each, its bytes as they came.

Layout under the root: ``incoming/`` holds what is on its way in and is worth nothing after a crash;
``objects/<2 hex>/<study uid>/<sop uid>.dcm`` holds what was committed and is never written again.
No other name than those made here from well-formed UIDs is ever opened.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from uuid import uuid4

from profiles.uids import is_uid
from task_manager.errors import StoreError
from task_manager.outcome import Refused
from task_manager.ports import StagedObject
from task_manager.study.header import read_header

_INCOMING = "incoming"
_OBJECTS = "objects"
_MAX_SAME_NAME = 1000
_KEPT_START = 32 * 1024
_MOST_PIECES = 1024  # IOV_MAX of Linux
_MOST_SYNCED = 4096


class StagedFile:
    """A file under ``incoming/``; see :class:`task_manager.ports.StagedObject`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = 0
        self._start: list[bytes] = []
        self._committed = False
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError("an object cannot be staged") from error

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
        StoreError
            If the disk is full or fails, or the object is no longer staged.
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
        try:
            for start in range(0, len(pieces), _MOST_PIECES):
                self._write(pieces[start : start + _MOST_PIECES])
        except OSError as error:
            raise StoreError("an object cannot be written") from error

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
        except (OSError, ValueError) as error:
            raise StoreError("an object cannot be made durable") from error
        self._close()

    def discard(self) -> None:
        """Remove the staged bytes; does nothing when committed or discarded before."""
        self._close()
        if not self._committed:
            self._unlink()

    def mark_committed(self) -> None:
        """From now on only `settle` or a sweep removes the staged name of the object."""
        self._committed = True

    def settle(self) -> None:
        """Remove the staged name of a committed object."""
        self._close()
        self._unlink()

    def _unlink(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1  # closed even where closing reports an error
        if descriptor >= 0:
            os.close(descriptor)


class FileObjectStore:
    """The object store on a local or shared file system; see :class:`task_manager.ports.ObjectStore`.

    Parameters
    ----------
    root
        The folder that holds everything; made if it is missing.

    Raises
    ------
    StoreError
        If the folders cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._incoming = self._root / _INCOMING
        # names as plain text: paths of the library cost more than what the system does with them
        self._objects = f"{self._root}/{_OBJECTS}"
        self._staging = f"{self._incoming}/"
        self._own = uuid4().hex
        self._numbers = count(1)
        self._synced: set[str] = set()  # folders of studies that are known to survive a power loss
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            (self._root / _OBJECTS).mkdir(exist_ok=True)
            _sync_folder(self._root)
        except OSError as error:
            raise StoreError("the object store cannot be opened") from error

    def sweep_incoming(self, is_recorded: Callable[[str], bool]) -> int:
        """Remove what a stopped process left in ``incoming/``; returns how many files.

        Call it at start-up, before any door opens: nothing staged then has been acknowledged, and an object
        that was committed and not settled is removed too unless `is_recorded` knows its path.
        """
        leftovers = [path for path in self._incoming.iterdir() if path.is_file()]
        for path in leftovers:
            for target in self._committed_names(path):
                if not is_recorded(target.relative_to(self._root).as_posix()):
                    target.unlink()
            path.unlink()
        return len(leftovers)

    def stage(self) -> StagedFile:
        """A new, empty staged object.

        Raises
        ------
        StoreError
            If it cannot be made.
        """
        return StagedFile(f"{self._staging}{self._own}-{next(self._numbers)}.part")

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
            raise StoreError("an object cannot be committed") from error
        staged.mark_committed()
        return target.removeprefix(f"{self._root}/")

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


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
