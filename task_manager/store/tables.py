# SPDX-License-Identifier: Apache-2.0
"""The tables of the store, as SQLModel classes; statements live beside them, migrations follow them.

DICOM JSON is kept as text exactly as worked on; only values that are searched have columns. Times are stored
as aware UTC text (ISO 8601, fixed width), so that text order is time order on both databases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
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
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The aware UTC time of stored text."""
        del dialect
        return None if value is None else datetime.fromisoformat(value)


class Table(SQLModel):
    """Base of the tables: one metadata for the migrations to compare with."""

    metadata = METADATA


def _some(name: str, *columns: str, where: str) -> Index:
    """An index over few rows: cheap to keep, and no plan for other searches."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


def _text() -> Any:
    """A text column that a later release added: empty where the row is older."""
    return Column(Text, nullable=False, server_default="")


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


class StudyRow(Table, table=True):
    """A study, its state, and when to look next whether it is complete."""

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
    receiving_since: datetime | None = Field(default=None, sa_column=_time(nullable=True))


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


_WORKLIST_ORDER = ("priority_rank", "scheduled_start", "created_at", "uid")


class WorkitemRow(Table, table=True):
    """A workitem: DICOM JSON as text, searched values as columns. `version` guards every change.

    `attributes` holds state, progress and all that follows in tag order, `summary` what of it a search always
    returns; what precedes and seldom changes is in the row `content_number` of the contents.
    `claimed_by` to `lease_until` tell who performs it and until when they must be heard again; `tries`,
    `rejected_by` and `attention` what dispatch has tried and why a person has to decide.
    """

    __tablename__ = "workitem"
    __table_args__ = (
        Index("workitem_queue", "state", "code_value", *_WORKLIST_ORDER),
        Index("workitem_state", "state", *_WORKLIST_ORDER),
        _some("workitem_station", "station_name", "state", *_WORKLIST_ORDER, where="station_name <> ''"),
        Index("workitem_sorted", *_WORKLIST_ORDER),
        _some("workitem_class", "station_class", "state", *_WORKLIST_ORDER, where="station_class <> ''"),
        _some("workitem_organization", "organization", "state", *_WORKLIST_ORDER, where="organization <> ''"),
        _some("workitem_lease", "lease_until", where="lease_until IS NOT NULL"),
        _some("workitem_expiry", "expires_at", where="expires_at IS NOT NULL AND state = 'SCHEDULED'"),
        _some("workitem_unavailable", "created_at", where="readiness = 'UNAVAILABLE'"),
        _some("workitem_final", "final_at", where="final_at IS NOT NULL"),
        _some("workitem_attention", "created_at", where="attention <> ''"),
        Index("workitem_study", "study_instance_uid"),
        Index("workitem_patient", "patient_id"),
        Index("workitem_accession", "accession_number"),
        _some("workitem_order", "order_key", where="order_key <> ''"),
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
    station_class: str = Field(default="", sa_column=_text())
    organization: str = Field(default="", sa_column=_text())
    summary: str = Field(default="", sa_column=_text())
    content_number: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    rule: str = ""
    order_key: str = ""
    input_digest: str = ""
    order_digest: str = ""
    destinations: str = ""
    app: str = Field(default="", sa_column=_text())
    tries: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    rejected_by: str = Field(default="", sa_column=_text())
    attention: str = Field(default="", sa_column=_text())
    claimed_by: str = Field(default="", sa_column=_text())
    claimed_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    heard_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    lease_until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    expires_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    final_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    created_at: datetime = Field(sa_column=_time())
    modified_at: datetime = Field(sa_column=_time())


class WorkitemContentRow(Table, table=True):
    """What lasts of a workitem while it is performed: tags before (0074,1000), and what a search returns."""

    __tablename__ = "workitem_content"
    __table_args__ = {"sqlite_autoincrement": True}  # a number never names anything else

    number: int | None = Field(default=None, primary_key=True)
    attributes: str = Field(sa_column=Column(Text, nullable=False))
    summary: str = Field(sa_column=Column(Text, nullable=False))


class WorkitemReportRow(Table, table=True):
    """An event report of a workitem (PS3.4 CC.2.4): the journal that all watchers read from.

    Identifiers grow in the order of the commits. An empty `receiving_ae` means all who are subscribed when it
    is written; else only that one (the initial report of a subscription). Reports about the manager itself
    (event 4) stand under the UID of the global subscription.
    """

    __tablename__ = "workitem_report"
    __table_args__ = (Index("report_workitem", "workitem_uid", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    workitem_uid: str
    receiving_ae: str = Field(default="", sa_column=_text())
    event_type: int
    state: str
    content: str = Field(sa_column=Column(Text, nullable=False))
    actor: str
    reported_at: datetime = Field(sa_column=_time())


class SubscriptionRow(Table, table=True):
    """An AE that is Subscribed to a workitem (PS3.4 CC.2.3-1); no row means Not Subscribed.

    It is owed the reports of the workitem with a higher identifier than `from_report`. `filtered` tells that
    a filtered global subscription alone made it.
    """

    __tablename__ = "subscription"
    __table_args__ = (Index("subscription_ae", "receiving_ae"),)

    workitem_uid: str = Field(primary_key=True, max_length=64)
    receiving_ae: str = Field(primary_key=True, max_length=16)
    deletion_lock: bool
    filtered: bool
    from_report: int = Field(sa_column=Column(BigInteger, nullable=False))


class GlobalSubscriptionRow(Table, table=True):
    """An AE with a global (`filtered` false) or filtered global subscription; `matching` holds its keys."""

    __tablename__ = "global_subscription"

    receiving_ae: str = Field(primary_key=True, max_length=16)
    filtered: bool = Field(primary_key=True)
    deletion_lock: bool
    matching: str = Field(default="", sa_column=_text())


class ListenerRow(Table, table=True):
    """How an AE listens (`websocket` or `dimse`) and the last report it was given.

    `claimed_by` is the process that sends to a DIMSE listener, until `claimed_until`.
    """

    __tablename__ = "listener"

    receiving_ae: str = Field(primary_key=True, max_length=16)
    channel: str = Field(primary_key=True, max_length=16)
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempts: int = 0
    due_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    claimed_by: str = ""
    claimed_until: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    last_error: str = ""
    heard_at: datetime = Field(sa_column=_time())


class SubtaskRow(Table, table=True):
    """What a workitem was handed on as: pushed to a performer, or split into inference and verification.

    DICOM has no attribute for it (PS3.17 GGG.3.2), so the relation is kept here. `performer` names the
    configured performer that manages a pushed child; a child without one is a workitem of this store.
    """

    __tablename__ = "subtask"
    __table_args__ = (Index("subtask_child", "child_uid"),)

    parent_uid: str = Field(primary_key=True, max_length=64)
    child_uid: str = Field(primary_key=True, max_length=64)
    role: str
    performer: str = ""
    state: str
    created_at: datetime = Field(sa_column=_time())


class PurgedWorkitemRow(Table, table=True):
    """A workitem that was here and has been deleted: asked for, it is gone and not unknown."""

    __tablename__ = "purged_workitem"

    uid: str = Field(primary_key=True, max_length=64)
    purged_at: datetime = Field(sa_column=_time())


class AvailabilityRow(Table, table=True):
    """Where an instance is available, as told by an Instance Availability Notification or an archive."""

    __tablename__ = "availability"
    __table_args__ = (Index("availability_told", "told_at"),)

    sop_instance_uid: str = Field(primary_key=True, max_length=64)
    source: str = Field(primary_key=True)
    availability: str
    retrieve_ae_title: str = ""
    retrieve_url: str = Field(default="", sa_column=_text())
    told_at: datetime = Field(sa_column=_time())


class EventRow(Table, table=True):
    """An operational (SOLE) event, written in the transaction of what it tells."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("key", name="event_key"),
        Index("event_study", "study_instance_uid", "id"),
        _some("event_accession", "accession_number", "id", where="study_instance_uid = ''"),
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
        _some("job_due", "lane", "state", "due_at", "id", where="event_id IS NULL"),
        Index("job_order", "lane", "state", "id"),
        _some("job_workitem", "workitem_uid", where="workitem_uid <> ''"),
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


OF_A_WORKITEM = METADATA.tables["job"].c.workitem_uid != literal_column("''")
"""Has to be said where jobs of a workitem are looked for, as their index holds only such."""
