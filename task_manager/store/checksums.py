# SPDX-License-Identifier: Apache-2.0
"""Checksums of objects: read off a file in one pass, and the statements that keep them. None commits.

Two SHA-256 for each file: of the file meta information, which differs between two receipts of one object, and
of its data set, which does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, delete, func, select, tuple_

from task_manager.store.disk_tables import ChecksumRow, DamageRow
from task_manager.store.held import is_held
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.study.header import data_set_offset

_INSTANCE = METADATA.tables["instance"]
_CHECKSUM = METADATA.tables[ChecksumRow.__tablename__]
_DAMAGE = METADATA.tables[DamageRow.__tablename__]
_CHUNK = 1 << 20


class Damage(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """SHA-256, in hexadecimal, of the parts of a file of `size` bytes."""

    size: int
    meta_sha256: str
    data_set_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An object as its record has it, with its checksum if it was summed."""

    sop_instance_uid: str
    copy_number: int
    study_instance_uid: str
    path: str
    size: int
    received_at: datetime
    checksum: Checksum | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A file that is not as its record says."""

    path: str
    kind: Damage
    study_instance_uid: str
    found_at: datetime


def checksum_of(path: Path) -> Checksum:
    """The checksum of the file at `path`.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    offset = data_set_offset(path)
    with path.open("rb") as file:
        meta = hashlib.sha256(file.read(offset))
        content = hashlib.sha256()
        size = offset
        while chunk := file.read(_CHUNK):
            content.update(chunk)
            size += len(chunk)
    return Checksum(size=size, meta_sha256=meta.hexdigest(), data_set_sha256=content.hexdigest())


def put_checksums(connection: Connection, sums: Sequence[tuple[str, Checksum]], now: datetime) -> None:
    """Keep the checksums of (path, checksum); newer ones take the place of older."""
    if not sums:
        return
    statement = upsert(connection, _CHECKSUM)
    names = ("size", "meta_sha256", "data_set_sha256", "summed_at")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["path"], set_={name: statement.excluded[name] for name in names}
        ),
        [
            {
                "path": path,
                "size": one.size,
                "meta_sha256": one.meta_sha256,
                "data_set_sha256": one.data_set_sha256,
                "summed_at": now,
            }
            for path, one in sums
        ],
    )


def kept_checksum(connection: Connection, path: str) -> Checksum | None:
    """The checksum of the object at `path`; None if it was not summed yet."""
    row = connection.execute(select(_CHECKSUM).where(_CHECKSUM.c.path == path)).first()
    if row is None:
        return None
    return Checksum(size=row.size, meta_sha256=row.meta_sha256, data_set_sha256=row.data_set_sha256)


def recorded_objects(
    connection: Connection, *, after: tuple[str, int], limit: int, since: datetime | None = None
) -> list[Recorded]:
    """Objects on the disk by UID and copy number, after a position; `since` leaves out older arrivals."""
    key = tuple_(_INSTANCE.c.sop_instance_uid, _INSTANCE.c.copy_number)
    wanted = (
        select(
            _INSTANCE.c.sop_instance_uid,
            _INSTANCE.c.copy_number,
            _INSTANCE.c.study_instance_uid,
            _INSTANCE.c.path,
            _INSTANCE.c.size,
            _INSTANCE.c.received_at,
            _CHECKSUM.c.size.label("summed_size"),
            _CHECKSUM.c.meta_sha256,
            _CHECKSUM.c.data_set_sha256,
        )
        .outerjoin(_CHECKSUM, _CHECKSUM.c.path == _INSTANCE.c.path)
        .where(key > after, is_held())
        .order_by(_INSTANCE.c.sop_instance_uid, _INSTANCE.c.copy_number)
        .limit(limit)
    )
    if since is not None:
        wanted = wanted.where(_INSTANCE.c.received_at >= since)
    return [
        Recorded(
            sop_instance_uid=row.sop_instance_uid,
            copy_number=row.copy_number,
            study_instance_uid=row.study_instance_uid,
            path=row.path,
            size=row.size,
            received_at=row.received_at,
            checksum=None
            if row.meta_sha256 is None
            else Checksum(
                size=row.summed_size, meta_sha256=row.meta_sha256, data_set_sha256=row.data_set_sha256
            ),
        )
        for row in connection.execute(wanted)
    ]


def recorded_paths(connection: Connection, study_instance_uid: str) -> frozenset[str]:
    """The paths of all instance rows of a study, removed ones as they are written."""
    wanted = select(_INSTANCE.c.path).where(_INSTANCE.c.study_instance_uid == study_instance_uid)
    return frozenset(connection.execute(wanted).scalars())


def put_damage(connection: Connection, found: Sequence[Damaged]) -> None:
    """Keep what is wrong with files, from when it was found first."""
    if found:
        connection.execute(
            upsert(connection, _DAMAGE).on_conflict_do_nothing(index_elements=["path"]),
            [
                {
                    "path": one.path,
                    "kind": one.kind.value,
                    "study_instance_uid": one.study_instance_uid,
                    "found_at": one.found_at,
                }
                for one in found
            ],
        )


def clear_damage(connection: Connection, paths: Sequence[str]) -> None:
    """These files are as they should be, or are none any more."""
    connection.execute(delete(_DAMAGE).where(_DAMAGE.c.path.in_(list(paths))))


def damaged_among(connection: Connection, paths: Sequence[str]) -> list[str]:
    """Which of these files are known to be damaged."""
    wanted = select(_DAMAGE.c.path).where(_DAMAGE.c.path.in_(list(paths)))
    return list(connection.execute(wanted).scalars())


def damage(connection: Connection, *, study_instance_uid: str = "", limit: int = 1000) -> list[Damaged]:
    """What is wrong with files, oldest first."""
    wanted = select(_DAMAGE).order_by(_DAMAGE.c.found_at, _DAMAGE.c.path).limit(limit)
    if study_instance_uid:
        wanted = wanted.where(_DAMAGE.c.study_instance_uid == study_instance_uid)
    return [
        Damaged(
            path=row.path,
            kind=Damage(row.kind),
            study_instance_uid=row.study_instance_uid,
            found_at=row.found_at,
        )
        for row in connection.execute(wanted)
    ]


def count_damage(connection: Connection) -> dict[Damage, int]:
    """How many files are damaged, by kind."""
    counted = connection.execute(select(_DAMAGE.c.kind, func.count()).group_by(_DAMAGE.c.kind))
    return {Damage(kind): number for kind, number in counted}
