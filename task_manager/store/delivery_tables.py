# SPDX-License-Identifier: Apache-2.0
"""The tables of how destinations fare, what they were asked to commit, and what persons decided about jobs.

Jobs themselves are in ``tables.py``. No row holds anything of a patient but UIDs, and what a person gave as a
reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from task_manager.store.tables import Table, UtcText


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


def _long() -> Any:
    return Column(Text, nullable=False)


class DestinationHealthRow(Table, table=True):
    """How a destination fares that was not reached lately; one that answers has no row."""

    __tablename__ = "destination_health"

    name: str = Field(primary_key=True)
    failures: int
    openings: int = 0
    open_until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    probe_until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    reason: str = ""
    changed_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class CommitmentRow(Table, table=True):
    """One storage commitment that a destination was asked for, for the instances of one job.

    `instances` and `failed` are JSON lists of pairs: SOP Class and Instance UID, and SOP Instance UID and
    Failure Reason.
    """

    __tablename__ = "commitment"
    __table_args__ = (Index("commitment_job", "job_key", "asked_at"),)

    transaction_uid: str = Field(primary_key=True, max_length=64)
    job_key: str
    instances: str = Field(sa_column=_long())
    failed: str = Field(sa_column=_long())
    asked_at: datetime = Field(sa_column=_time())
    accepted_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    answered_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class JobDecisionRow(Table, table=True):
    """What a person decided about a job: to have it tried again, or to drop it."""

    __tablename__ = "job_decision"
    __table_args__ = (Index("job_decision_job", "job_key", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    job_key: str
    decision: str
    decided_by: str = ""
    reason: str = Field(sa_column=_long())
    decided_at: datetime = Field(sa_column=_time())
