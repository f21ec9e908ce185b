# SPDX-License-Identifier: Apache-2.0
"""Results as Part 10 files in a folder, for whoever reads a share instead of a network service.

A file appears whole or not at all: written beside its place, synced, renamed. A result is whole when its
index is there, the last file written. Names are made in ``folder_layout.py``; nothing outside the folder is
ever written.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import orjson

from informatics_gateway.folder_layout import Layout, index_path, workitem_code
from profiles.dicom_json import items, text
from profiles.ups.references import listed_instances
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import InstanceArchive, Receipt, Shipment, Turn, at_once
from task_manager.study.model import Instance

logger = logging.getLogger(__name__)

SCHEMA = "airway-folder-result/1"
_CHUNK_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Sources(StrEnum):
    """What is written beside the results: nothing, the images that were analysed, or their whole study."""

    NONE = "none"
    INPUTS = "inputs"
    STUDY = "study"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPlace:
    """A folder and how it is written.

    Attributes
    ----------
    path
        Absolute; it has to exist, so that nothing is written where a share is not mounted.
    mode
        Permissions of files; folders may also be entered by who may read them.
    """

    path: Path
    layout: Layout
    sources: Sources = Sources.NONE
    mode: int = 0o640


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """One file of a result as its index tells it; `path` is relative to the folder."""

    path: str
    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    size: int
    sha256: str


class FolderDeliverer:
    """Delivers shipments as files (implements ``task_manager.ports.Deliverer``).

    Parameters
    ----------
    archive
        Where source images are found; not needed where none are written.
    clock
        Gives the aware time of a receipt.
    """

    def __init__(
        self,
        place: FolderPlace,
        *,
        archive: InstanceArchive | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._place = place
        self._archive = archive
        self._clock = clock

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Write all files and then the index; a second time only what is not there yet.

        Raises
        ------
        RetryableDeliveryError
            If the folder is not there or cannot be written, there is no room, or an object cannot be read
            now.
        FinalDeliveryError
            If a name leads out of the folder.
        """
        results = zip(shipment.instances, shipment.paths, strict=True)
        wanted = [*self._source_files(shipment), *((one, path, "result") for one, path in results)]
        try:
            written = []
            for instance, source, role in wanted:
                turn()
                written.append(self._written(shipment, instance, source, role))
            self._write_index(shipment, written)
        except FileNotFoundError as error:
            raise RetryableDeliveryError("the folder is not there", unreachable=True) from error
        except OSError as error:
            why = "has no room" if error.errno in _NO_ROOM else "cannot be written"
            raise RetryableDeliveryError(f"the folder {why} ({type(error).__name__})") from error
        except ValueError as error:
            raise FinalDeliveryError(str(error)) from error
        logger.info(
            "results written to a folder",
            extra={
                "action": "folder.delivered",
                "destination": shipment.destination,
                "workitem_uid": shipment.workitem_uid,
                "files": len(written),
            },
        )
        return Receipt(summary=f"{len(written)} files and their index", sent_at=self._clock())

    def _source_files(self, shipment: Shipment) -> list[tuple[Instance, Path, str]]:
        if self._archive is None or self._place.sources is Sources.NONE:
            return []
        inputs = listed_instances(items(shipment.workitem, "InputInformationSequence"))
        whole = self._place.sources is Sources.STUDY
        series = dict.fromkeys(
            (one.study_instance_uid, "" if whole else one.series_instance_uid)
            for one in inputs
            if one.study_instance_uid and (whole or one.series_instance_uid)
        )
        results = {one.sop_instance_uid for one in shipment.instances}
        named = {one.sop_instance_uid for one in inputs}
        return [
            (one, self._archive.open_path(one), "source")
            for study_uid, series_uid in series
            for one in self._archive.find_instances(
                study_instance_uid=study_uid, series_instance_uid=series_uid
            )
            if one.sop_instance_uid not in results and (whole or one.sop_instance_uid in named)
        ]

    def _written(self, shipment: Shipment, instance: Instance, source: Path, role: str) -> WrittenFile:
        relative = self._place.layout.path_of(shipment, instance)
        try:
            content = source.open("rb")
        except FileNotFoundError as error:
            raise RetryableDeliveryError("an object is not there") from error
        with content:
            size, digest = _digest(content)
            if size != instance.size:
                raise RetryableDeliveryError("an object is not as long as when it was stored")
            with self._folder_of(relative) as folder:
                if not _holds(folder, relative.name, size, digest):
                    content.seek(0)
                    self._put(folder, relative.name, content, _mark(shipment))
        return WrittenFile(
            path=relative.as_posix(),
            role=role,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            series_instance_uid=instance.series_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            size=size,
            sha256=digest,
        )

    def _write_index(self, shipment: Shipment, written: Sequence[WrittenFile]) -> None:
        """The index says the same whenever it is written; no patient data."""
        index = {
            "schema": SCHEMA,
            "workitem_uid": shipment.workitem_uid,
            "study_instance_uid": text(shipment.workitem, "StudyInstanceUID"),
            "workitem_code": workitem_code(shipment.workitem),
            "files": [asdict(file) for file in written],
        }
        content = orjson.dumps(index, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        relative = index_path(shipment)
        with self._folder_of(relative) as folder:
            if not _holds(folder, relative.name, len(content), hashlib.sha256(content).hexdigest()):
                self._put(folder, relative.name, content, _mark(shipment))

    @contextmanager
    def _folder_of(self, relative: PurePosixPath) -> Iterator[int]:
        """The folder of a name, open; those on the way are made. No link in it is followed, whoever puts one.

        Raises
        ------
        ValueError
            If there is one.
        """
        folder = os.open(self._place.path, _FOLDER)
        try:
            for part in relative.parts[:-1]:
                inner = self._inner_folder(folder, part)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _inner_folder(self, folder: int, name: str) -> int:
        mode = self._place.mode | (self._place.mode & 0o444) >> 2 | 0o700
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=folder)
            os.fsync(folder)
        try:
            return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise ValueError("a link leads out of the folder") from error
            raise

    def _put(self, folder: int, name: str, content: BinaryIO | bytes, mark: str) -> None:
        """Write `content` under a name of an open folder, whole or not at all."""
        # one name for each target and delivery: what a crash left is removed, what another one writes is not
        partial = f".{name[-180:]}.{mark}.part"
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(partial, flags, self._place.mode, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as out:
                if isinstance(content, bytes):
                    out.write(content)
                else:
                    while chunk := content.read(_CHUNK_BYTES):
                        out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(partial, dir_fd=folder)
            raise
        os.fsync(folder)


def _mark(shipment: Shipment) -> str:
    """What tells the delivery of a shipment from others that may write the same images just now."""
    return hashlib.sha256(f"{shipment.destination}:{shipment.workitem_uid}".encode()).hexdigest()[:12]


def _digest(content: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _holds(folder: int, name: str, size: int, digest: str) -> bool:
    """Whether a name of an open folder is a file with this content; a link is none, nor is a pipe."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return False
        raise
    with os.fdopen(descriptor, "rb") as content:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode) or known.st_size != size:
            return False
        return _digest(content) == (size, digest)
