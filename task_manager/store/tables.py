# SPDX-License-Identifier: Apache-2.0
"""The tables of the store, as SQLModel classes; statements live beside them, migrations follow them.

DICOM JSON is kept as text exactly as worked on; only values that are searched have columns. Times are stored
as aware UTC text (ISO 8601, fixed width), so that text order is time order on both databases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Index, MetaData, String, Text, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

METADATA = MetaData()


class UtcText(TypeDecorator[datetime]):
    """An aware datetime as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Text of an aware time.

        Raises
        ------
        ValueError
            If the time is naive.
        """
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("only aware times are stored")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The aware UTC time of stored text."""
        del dialect
        return None if value is None else datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z")


class Table(SQLModel):
    """Base of the tables: one metadata for the migrations to compare with."""

    metadata = METADATA


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


class StudyRow(Table, table=True):
    """A study, its state and the deadline at which it counts as complete."""

    __tablename__ = "study"
    __table_args__ = (
        Index("study_deadline", "state", "deadline_at"),
        Index("study_accession", "accession_number"),
        Index("study_patient", "patient_id"),
        Index("study_received", "first_received_at"),
    )

    study_instance_uid: str = Field(primary_key=True, max_length=64)
    state: str
    revision: int = 0
    patient_id: str = ""
    accession_number: str = ""
    attributes: str = Field(sa_column=Column(Text, nullable=False))
    first_received_at: datetime = Field(sa_column=_time())
    last_received_at: datetime = Field(sa_column=_time())
    deadline_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    completed_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    evidence: str = ""


class SeriesRow(Table, table=True):
    """A series: the header of its first instance, for rules and QIDO-RS."""

    __tablename__ = "series"
    __table_args__ = (Index("series_study", "study_instance_uid"),)

    series_instance_uid: str = Field(primary_key=True, max_length=64)
    study_instance_uid: str = Field(primary_key=True, max_length=64)
    attributes: str = Field(sa_column=Column(Text, nullable=False))


class InstanceRow(Table, table=True):
    """A stored instance; the first under its UID has copy 0, other bytes under that UID are kept apart."""

    __tablename__ = "instance"
    __table_args__ = (
        Index("instance_study", "study_instance_uid", "series_instance_uid", "instance_number"),
    )

    sop_instance_uid: str = Field(primary_key=True, max_length=64)
    copy_number: int = Field(default=0, primary_key=True)
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None = None
    path: str
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    received_at: datetime = Field(sa_column=_time())
    source: str = ""
    attributes: str = Field(sa_column=Column(Text, nullable=False))


class MessageRow(Table, table=True):
    """An HL7 message that was acknowledged; the same key again changes nothing."""

    __tablename__ = "message"

    sending_application: str = Field(primary_key=True)
    sending_facility: str = Field(primary_key=True)
    control_id: str = Field(primary_key=True)
    raw: bytes
    received_at: datetime = Field(sa_column=_time())


class OrderRow(Table, table=True):
    """An imaging order; `content` is the whole order as JSON."""

    __tablename__ = "imaging_order"
    __table_args__ = (
        Index("order_accession", "accession_number", "patient_id"),
        Index("order_study", "study_instance_uid"),
        Index("order_placer", "placer_order_number"),
        Index("order_filler", "filler_order_number"),
    )

    order_key: str = Field(primary_key=True)
    placer_order_number: str
    filler_order_number: str
    accession_number: str
    patient_id: str
    study_instance_uid: str
    status: str
    content: str = Field(sa_column=Column(Text, nullable=False))
    received_at: datetime = Field(sa_column=_time())
    changed_at: datetime = Field(sa_column=_time())


class ExplanationRow(Table, table=True):
    """Why a rule did or did not run for one revision of a study."""

    __tablename__ = "explanation"

    study_instance_uid: str = Field(primary_key=True, max_length=64)
    revision: int = Field(primary_key=True)
    position: int = Field(primary_key=True)
    rule: str
    rule_set_version: str
    content: str = Field(sa_column=Column(Text, nullable=False))
    evaluated_at: datetime = Field(sa_column=_time())


class WorkitemRow(Table, table=True):
    """A workitem: DICOM JSON as text, searched values as columns. `version` guards every change."""

    __tablename__ = "workitem"
    __table_args__ = (
        Index("workitem_queue", "state", "code_value", "priority_rank", "scheduled_start", "created_at"),
        Index("workitem_study", "study_instance_uid"),
        Index("workitem_patient", "patient_id"),
        Index("workitem_accession", "accession_number"),
        Index("workitem_order", "order_key"),
    )

    uid: str = Field(primary_key=True, max_length=64)
    version: int
    state: str
    transaction_uid: str
    attributes: str = Field(sa_column=Column(Text, nullable=False))
    cancel_requested: str = ""
    priority_rank: int
    readiness: str
    scheduled_start: str
    code_value: str
    code_scheme: str
    station_name: str
    label: str
    worklist_label: str
    patient_id: str
    accession_number: str
    study_instance_uid: str
    rule: str = ""
    order_key: str = ""
    input_digest: str = ""
    order_digest: str = ""
    destinations: str = ""
    created_at: datetime = Field(sa_column=_time())
    modified_at: datetime = Field(sa_column=_time())


class WorkitemReportRow(Table, table=True):
    """An event report of a workitem (PS3.4 CC.2.4), in the order they happened."""

    __tablename__ = "workitem_report"
    __table_args__ = (Index("report_workitem", "workitem_uid", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    workitem_uid: str
    event_type: int
    state: str
    content: str = Field(sa_column=Column(Text, nullable=False))
    actor: str
    reported_at: datetime = Field(sa_column=_time())


class EventRow(Table, table=True):
    """An operational (SOLE) event, written in the transaction of what it tells."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("key", name="event_key"),
        Index("event_study", "study_instance_uid", "id"),
        Index("event_accession", "accession_number", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    key: str
    type: str
    study_instance_uid: str = ""
    accession_number: str = ""
    content: str = Field(sa_column=Column(Text, nullable=False))
    occurred_at: datetime = Field(sa_column=_time())


class JobRow(Table, table=True):
    """An outbox row: one thing to tell or send to one destination, until done or a person decides.

    `lane` is the destination or event repository, worked on by one thread so that a dead one delays no other.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("key", name="job_key"),
        Index("job_due", "lane", "state", "due_at", "id"),
        Index("job_order", "lane", "state", "id"),
        Index("job_workitem", "workitem_uid"),
    )

    id: int | None = Field(default=None, primary_key=True)
    key: str
    lane: str
    kind: str
    state: str
    workitem_uid: str = ""
    event_id: int | None = None
    attempts: int = 0
    due_at: datetime = Field(sa_column=_time())
    claimed_by: str = ""
    claimed_until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    last_error: str = ""
    summary: str = ""
    created_at: datetime = Field(sa_column=_time())
    done_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
