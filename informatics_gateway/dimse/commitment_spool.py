# SPDX-License-Identifier: Apache-2.0
"""Storage commitment that is owed: a small file for each request, from its answer until its report arrived.

Who asks twice under the same transaction is told once more; a process that died owes the same afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from informatics_gateway.dimse.commitment import CommitmentRequest
from task_manager.errors import StoreError


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

    Raises
    ------
    StoreError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("the folder of storage commitments cannot be made") from error

    def add(self, request: CommitmentRequest, asked_at: datetime) -> Owed:
        """Owe a report; durable on return.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        key = hashlib.sha256(f"{request.asker}\n{request.transaction_uid}".encode()).hexdigest()[:32]
        content = orjson.dumps(
            {
                "asker": request.asker,
                "transaction_uid": request.transaction_uid,
                "references": request.references,
                "asked_at": asked_at.isoformat(),
            }
        )
        partial = self._folder / f"{key}.part"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / f"{key}.json")
            _sync(self._folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError("a storage commitment cannot be written down") from error
        return Owed(key=key, request=request, asked_at=asked_at)

    def owed(self) -> Iterator[Owed]:
        """What is owed, oldest first; files that are none of ours are passed over."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                content = orjson.loads(path.read_bytes())
                request = CommitmentRequest(
                    asker=str(content["asker"]),
                    transaction_uid=str(content["transaction_uid"]),
                    references=tuple((str(one), str(other)) for one, other in content["references"]),
                )
                asked_at = datetime.fromisoformat(content["asked_at"]).astimezone(UTC)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found.append(Owed(key=path.stem, request=request, asked_at=asked_at))
        yield from sorted(found, key=lambda one: one.asked_at)

    def remove(self, owed: Owed) -> None:
        """Nothing is owed any more."""
        (self._folder / f"{owed.key}.json").unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
