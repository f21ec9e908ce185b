# SPDX-License-Identifier: Apache-2.0
"""The tables of what is fetched from archives, and of rules that wait for what is fetched."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from task_manager.store.tables import Table, UtcText


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


class FetchRow(Table, table=True):
    """One study or accession number asked of archives; its jobs are in the outbox."""

    __tablename__ = "study_fetch"
    __table_args__ = (
        Index("fetch_study", "study_instance_uid"),
        Index("fetch_parent", "parent_key"),
        Index("fetch_asked", "asked_at", "fetch_key"),
        Index("fetch_ended", "ended_at"),
    )

    fetch_key: str = Field(primary_key=True)
    study_instance_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""
    archive: str = ""
    purpose: str
    state: str
    parent_key: str = ""
    round: int = 1
    source: str = ""
    expected: int = 0
    refused: int = 0
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    asked_by: str = ""
    asked_at: datetime = Field(sa_column=_time())
    changed_at: datetime = Field(sa_column=_time())
    ended_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class PriorWaitRow(Table, table=True):
    """A rule of one revision of a study that waits for earlier studies; `content` holds what was decided."""

    __tablename__ = "prior_wait"
    __table_args__ = (Index("prior_wait_changed", "changed_at"),)

    study_instance_uid: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    rule: str = Field(primary_key=True)
    state: str
    until: datetime = Field(sa_column=_time())
    content: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=_time())
    changed_at: datetime = Field(sa_column=_time())
