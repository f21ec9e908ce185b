# SPDX-License-Identifier: Apache-2.0
"""Storage commitment that is owed: a small file for each request, from its answer until its report arrived.

Who asks twice under the same transaction is told once more; a process that died owes the same afterwards.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from informatics_gateway.dimse.commitment import CommitmentRequest
from task_manager.errors import StoreError
from task_manager.store.room import store_error

_MOST_OWED = 10_000
_MOST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A request whose report is owed since `asked_at`."""

    key: str
    request: CommitmentRequest
    asked_at: datetime


class CommitmentSpool:
    """The folder of what is owed.

    Parameters
    ----------
    folder
        Made if it is missing.
    most_owed, most_bytes
        More requests, or more bytes of them, are not taken: a peer that asks and is never there when it is
        told must not fill the disk.

    Raises
    ------
    StoreError
        If it cannot be made.
    """

    def __init__(self, folder: Path, *, most_owed: int = _MOST_OWED, most_bytes: int = _MOST_BYTES) -> None:
        self._folder = folder
        self._most_owed = most_owed
        self._most_bytes = most_bytes
        self._changing = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("the folder of storage commitments cannot be made") from error

    def add(self, request: CommitmentRequest, asked_at: datetime) -> Owed:
        """Owe a report; durable on return.

        Raises
        ------
        StoreError
            If it cannot be written, or too much is owed already.
        """
        key = key_of(request)
        content = orjson.dumps(
            {
                "asker": request.asker,
                "transaction_uid": request.transaction_uid,
                "references": request.references,
                "asked_at": asked_at.isoformat(),
            }
        )
        partial = self._folder / f"{key}.part"
        with self._changing:  # the same may be asked on two associations at once
            try:
                self._check_room(len(content))
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.utime(file.fileno(), (asked_at.timestamp(), asked_at.timestamp()))
                    os.fsync(file.fileno())
                partial.replace(self._folder / f"{key}.json")
                _sync(self._folder)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise store_error("a storage commitment cannot be written down", error) from error
        return Owed(key=key, request=request, asked_at=asked_at)

    def sweep(self) -> None:
        """Remove what a process that died had begun to write; to be called before anything is asked."""
        for partial in self._folder.glob("*.part"):
            partial.unlink(missing_ok=True)

    def owed(self, is_due: Callable[[str], bool] = lambda _: True) -> Iterator[Owed]:
        """What is owed and whose key `is_due`, oldest first, one at a time; other files are passed over."""
        for _, _, path in self._files():
            owed = _read(path) if is_due(path.stem) else None
            if owed is not None:
                yield owed

    def remove(self, owed: Owed) -> None:
        """Nothing is owed any more, unless the same was asked again since."""
        path = self._folder / f"{owed.key}.json"
        with self._changing:
            if _read(path) == owed:
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, int, Path]]:
        """Time, size and path of what is owed, oldest first."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                known = path.stat()
            except FileNotFoundError:  # reported meanwhile
                continue
            found.append((known.st_mtime_ns, known.st_size, path))
        return sorted(found)

    def _check_room(self, size: int) -> None:
        sizes = [one for _, one, _ in self._files()]
        if len(sizes) >= self._most_owed or size + sum(sizes) > self._most_bytes:
            raise StoreError("too many storage commitments are owed")


def _read(path: Path) -> Owed | None:
    try:
        content = orjson.loads(path.read_bytes())
        request = CommitmentRequest(
            asker=str(content["asker"]),
            transaction_uid=str(content["transaction_uid"]),
            references=tuple((str(one), str(other)) for one, other in content["references"]),
        )
        asked_at = datetime.fromisoformat(content["asked_at"]).astimezone(UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Owed(key=path.stem, request=request, asked_at=asked_at)


def key_of(request: CommitmentRequest) -> str:
    """What a request is known by: the same asker and transaction, the same key."""
    return hashlib.sha256(f"{request.asker}\n{request.transaction_uid}".encode()).hexdigest()[:32]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
