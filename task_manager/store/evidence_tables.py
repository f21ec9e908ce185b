# SPDX-License-Identifier: Apache-2.0
"""The tables of what tells that a study is complete, what it waits for, and what people decided about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from task_manager.store.tables import Table, UtcText


def _time() -> Any:
    return Column(UtcText(), nullable=False)


class StudyEvidenceRow(Table, table=True):
    """What one source says of one study; `series` is JSON of series to instances."""

    __tablename__ = "study_evidence"
    __table_args__ = (Index("study_evidence_told", "told_at"),)

    study_instance_uid: str = Field(primary_key=True, max_length=64)
    kind: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    series: str = Field(sa_column=Column(Text, nullable=False))
    expected_series: int | None = None
    expected_instances: int | None = None
    ended: bool
    first_told_at: datetime = Field(sa_column=_time())
    told_at: datetime = Field(sa_column=_time())


class StudyLookRow(Table, table=True):
    """What came of the last look at a study: why it is complete, or what it waits for (JSON).

    `ready` is JSON of the rules that have run before the whole study was complete, `instances` how many
    images there were then.
    """

    __tablename__ = "study_look"

    study_instance_uid: str = Field(primary_key=True, max_length=64)
    reason: str = ""
    waiting: str = Field(sa_column=Column(Text, nullable=False))
    ready: str = Field(sa_column=Column(Text, nullable=False))
    instances: int = 0
    looked_at: datetime = Field(sa_column=_time())


class StudyDecisionRow(Table, table=True):
    """What a person decided about a study, and who it was."""

    __tablename__ = "study_decision"
    __table_args__ = (Index("study_decision_study", "study_instance_uid", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_instance_uid: str
    action: str
    door: str
    actor: str = ""
    address: str = ""
    reason: str = ""
    decided_at: datetime = Field(sa_column=_time())


class SupersededResultRow(Table, table=True):
    """A completed workitem whose results a later run of its rule replaces; `superseded_by` may be none."""

    __tablename__ = "superseded_result"
    __table_args__ = (Index("superseded_study", "study_instance_uid"),)

    workitem_uid: str = Field(primary_key=True, max_length=64)
    study_instance_uid: str
    superseded_by: str = ""
    why: str = ""
    superseded_at: datetime = Field(sa_column=_time())
