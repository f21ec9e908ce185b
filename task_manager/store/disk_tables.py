# SPDX-License-Identifier: Apache-2.0
"""The tables of what the disk holds and may lose: checksums, removals by policy, what is to be kept, damage.

`path` is relative to the object store. An instance that was removed keeps its row; its path then begins with
:data:`task_manager.store.held.REMOVED`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field

from task_manager.store.patient_tables import PriorReportRow
from task_manager.store.tables import METADATA, Table, UtcText

MESSAGE_RECEIVED = Index("message_received", METADATA.tables["message"].c.received_at)
EXPLANATION_EVALUATED = Index("explanation_evaluated", METADATA.tables["explanation"].c.evaluated_at)
PRIOR_RECEIVED = Index("prior_received", METADATA.tables[PriorReportRow.__tablename__].c.received_at)
"""Retention looks for the oldest rows of each."""


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


def _size() -> Any:
    return Column(BigInteger, nullable=False)


class ChecksumRow(Table, table=True):
    """SHA-256 of an object as it was first read after its arrival: of its file meta, and of its data set."""

    __tablename__ = "object_checksum"

    path: str = Field(primary_key=True)
    size: int = Field(sa_column=_size())
    meta_sha256: str
    data_set_sha256: str
    summed_at: datetime = Field(sa_column=_time())


class DamageRow(Table, table=True):
    """A file that is not as its record says, until it is again: missing, changed, or without a record."""

    __tablename__ = "object_damage"

    path: str = Field(primary_key=True)
    kind: str
    study_instance_uid: str
    found_at: datetime = Field(sa_column=_time())


class RemovalRow(Table, table=True):
    """An instance whose file a policy removed; `path` is where it was.

    The file goes some time after the record (`unlinked_at`), so that who reads it can end. What came again
    has `restored_at`.
    """

    __tablename__ = "removal"
    __table_args__ = (
        Index("removal_study", "study_instance_uid"),
        Index(
            "removal_due",
            "removed_at",
            sqlite_where=text("unlinked_at IS NULL"),
            postgresql_where=text("unlinked_at IS NULL"),
        ),
    )

    sop_instance_uid: str = Field(primary_key=True, max_length=64)
    copy_number: int = Field(primary_key=True)
    study_instance_uid: str
    path: str
    size: int = Field(sa_column=_size())
    data_set_sha256: str
    policy: str
    removed_at: datetime = Field(sa_column=_time())
    unlinked_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    restored_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class KeepRow(Table, table=True):
    """Somebody needs a study: no policy removes anything of it. `owner` says who, `until` how long."""

    __tablename__ = "study_keep"
    __table_args__ = (Index("keep_owner", "owner"),)

    study_instance_uid: str = Field(primary_key=True, max_length=64)
    owner: str = Field(primary_key=True)
    reason: str
    until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
