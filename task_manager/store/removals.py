# SPDX-License-Identifier: Apache-2.0
"""Statements that remove instances by policy, and take back what comes again.

Each takes a connection; none commits. A removed instance keeps its row: whoever sends it again is recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, literal, select, tuple_, update

from task_manager.disk import HeldObject
from task_manager.store.disk_tables import ChecksumRow, RemovalRow
from task_manager.store.held import REMOVED, is_held
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_STUDY = METADATA.tables["study"]
_INSTANCE = METADATA.tables["instance"]
_REMOVAL = METADATA.tables[RemovalRow.__tablename__]
_CHECKSUM = METADATA.tables[ChecksumRow.__tablename__]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An instance whose file was removed, and what became of it since."""

    sop_instance_uid: str
    copy_number: int
    path: str
    size: int
    data_set_sha256: str
    policy: str
    removed_at: datetime
    unlinked_at: datetime | None
    restored_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedObjects:
    """What one policy removed of a study at one time and is not here again."""

    policy: str
    removed_at: datetime
    number: int
    size: int


def old_studies(
    connection: Connection, before: datetime, *, after: tuple[datetime, str] | None, limit: int
) -> list[tuple[datetime, str]]:
    """(first arrival, UID) of studies that began to arrive before `before`, in order, after a position."""
    begun, uid = _STUDY.c.first_received_at, _STUDY.c.study_instance_uid
    wanted = select(begun, uid).where(begun < before).order_by(begun, uid).limit(limit)
    if after is not None:
        wanted = wanted.where(tuple_(begun, uid) > tuple_(literal(after[0], begun.type), literal(after[1])))
    return [(at, found) for at, found in connection.execute(wanted)]


def held_objects(connection: Connection, study_instance_uid: str) -> list[HeldObject]:
    """What is on the disk of a study."""
    wanted = (
        select(
            _INSTANCE.c.sop_instance_uid,
            _INSTANCE.c.copy_number,
            _INSTANCE.c.sop_class_uid,
            _INSTANCE.c.path,
            _INSTANCE.c.size,
        )
        .where(_INSTANCE.c.study_instance_uid == study_instance_uid, is_held())
        .order_by(_INSTANCE.c.series_instance_uid, _INSTANCE.c.instance_number, _INSTANCE.c.sop_instance_uid)
    )
    return [
        HeldObject(sop_instance_uid=uid, copy_number=copy, sop_class_uid=sop_class, path=path, size=size)
        for uid, copy, sop_class, path, size in connection.execute(wanted)
    ]


def remove_instances(
    connection: Connection,
    study_instance_uid: str,
    objects: Sequence[tuple[HeldObject, str]],
    *,
    policy: str,
    now: datetime,
) -> None:
    """Record that (object, checksum of its data set) are removed; their files go later."""
    gone = (
        update(_INSTANCE)
        .where(_INSTANCE.c.sop_instance_uid == bindparam("sop"), _INSTANCE.c.copy_number == bindparam("copy"))
        .values(path=bindparam("new_path"))
    )
    connection.execute(
        gone,
        [
            {"sop": one.sop_instance_uid, "copy": one.copy_number, "new_path": f"{REMOVED}{one.path}"}
            for one, _ in objects
        ],
    )
    statement = upsert(connection, _REMOVAL)
    replaced = {
        name: statement.excluded[name]
        for name in ("path", "size", "data_set_sha256", "policy", "removed_at", "unlinked_at", "restored_at")
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=["sop_instance_uid", "copy_number"], set_=replaced),
        [
            {
                "sop_instance_uid": one.sop_instance_uid,
                "copy_number": one.copy_number,
                "study_instance_uid": study_instance_uid,
                "path": one.path,
                "size": one.size,
                "data_set_sha256": checksum,
                "policy": policy,
                "removed_at": now,
                "unlinked_at": None,
                "restored_at": None,
            }
            for one, checksum in objects
        ],
    )
    connection.execute(delete(_CHECKSUM).where(_CHECKSUM.c.path.in_([one.path for one, _ in objects])))


def removals_to_finish(
    connection: Connection, before: datetime, *, limit: int, lock: bool = False
) -> list[Removal]:
    """Removals of before `before` whose file is still there, oldest first.

    With `lock`, none that another transaction has locked.
    """
    wanted = (
        select(_REMOVAL)
        .where(_REMOVAL.c.unlinked_at.is_(None), _REMOVAL.c.removed_at < before)
        .order_by(_REMOVAL.c.removed_at)
        .limit(limit)
    )
    wanted = wanted.with_for_update(skip_locked=True) if lock else wanted
    return [_removal(row) for row in connection.execute(wanted)]


def unfinished_paths(connection: Connection, study_instance_uid: str) -> frozenset[str]:
    """Where files of a study are that were removed and not unlinked yet, also if the instances came again."""
    wanted = select(_REMOVAL.c.path).where(
        _REMOVAL.c.study_instance_uid == study_instance_uid, _REMOVAL.c.unlinked_at.is_(None)
    )
    return frozenset(connection.execute(wanted).scalars())


def finish_removals(connection: Connection, done: Sequence[Removal], now: datetime) -> None:
    """The files of these removals are gone."""
    for one in done:
        connection.execute(
            update(_REMOVAL)
            .where(
                _REMOVAL.c.sop_instance_uid == one.sop_instance_uid,
                _REMOVAL.c.copy_number == one.copy_number,
                _REMOVAL.c.path == one.path,
            )
            .values(unlinked_at=now)
        )


def stands_for(connection: Connection, removal: Removal) -> bool:
    """Whether an instance is recorded where the file of a removal was: it came again under the same name."""
    wanted = select(_INSTANCE.c.path).where(
        _INSTANCE.c.sop_instance_uid == removal.sop_instance_uid, _INSTANCE.c.path == removal.path
    )
    return connection.execute(wanted).first() is not None


def removal_of(connection: Connection, sop_instance_uid: str, copy_number: int) -> Removal | None:
    """The removal of an instance; None if there was none."""
    row = connection.execute(
        select(_REMOVAL).where(
            _REMOVAL.c.sop_instance_uid == sop_instance_uid, _REMOVAL.c.copy_number == copy_number
        )
    ).first()
    return None if row is None else _removal(row)


def restore_instance(
    connection: Connection, removal: Removal, *, path: str, size: int, now: datetime
) -> bool:
    """Let a removed instance stand for the file at `path`; False if it is here again already."""
    changed = connection.execute(
        update(_INSTANCE)
        .where(
            _INSTANCE.c.sop_instance_uid == removal.sop_instance_uid,
            _INSTANCE.c.copy_number == removal.copy_number,
            _INSTANCE.c.path == f"{REMOVED}{removal.path}",
        )
        .values(path=path, size=size, received_at=now)
    )
    if changed.rowcount != 1:
        return False
    study = select(_REMOVAL.c.study_instance_uid).where(
        _REMOVAL.c.sop_instance_uid == removal.sop_instance_uid,
        _REMOVAL.c.copy_number == removal.copy_number,
    )
    connection.execute(
        update(_REMOVAL)
        .where(
            _REMOVAL.c.sop_instance_uid == removal.sop_instance_uid,
            _REMOVAL.c.copy_number == removal.copy_number,
        )
        .values(restored_at=now)
    )
    connection.execute(  # what came again is as old as its last arrival
        update(_STUDY)
        .where(_STUDY.c.study_instance_uid == study.scalar_subquery(), _STUDY.c.last_received_at < now)
        .values(last_received_at=now)
    )
    return True


def count_removed(connection: Connection, sop_instance_uids: Sequence[str]) -> int:
    """How many of these instances were removed and are not here again."""
    if not sop_instance_uids:
        return 0
    wanted = select(func.count()).where(
        _INSTANCE.c.sop_instance_uid.in_(list(sop_instance_uids)), _INSTANCE.c.copy_number == 0, ~is_held()
    )
    return int(connection.execute(wanted).scalar_one())


def removed_of_study(connection: Connection, study_instance_uid: str) -> list[RemovedObjects]:
    """What policies removed of a study and is not here again, oldest first."""
    wanted = (
        select(_REMOVAL.c.policy, _REMOVAL.c.removed_at, func.count(), func.sum(_REMOVAL.c.size))
        .where(_REMOVAL.c.study_instance_uid == study_instance_uid, _REMOVAL.c.restored_at.is_(None))
        .group_by(_REMOVAL.c.policy, _REMOVAL.c.removed_at)
        .order_by(_REMOVAL.c.removed_at, _REMOVAL.c.policy)
    )
    return [
        RemovedObjects(policy=policy, removed_at=at, number=number, size=int(size))
        for policy, at, number, size in connection.execute(wanted)
    ]


def _removal(row: Any) -> Removal:
    return Removal(
        sop_instance_uid=row.sop_instance_uid,
        copy_number=row.copy_number,
        path=row.path,
        size=row.size,
        data_set_sha256=row.data_set_sha256,
        policy=row.policy,
        removed_at=row.removed_at,
        unlinked_at=row.unlinked_at,
        restored_at=row.restored_at,
    )
