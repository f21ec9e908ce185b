# SPDX-License-Identifier: Apache-2.0
"""Add what the whole worklist needs: subscriptions, listeners, leases, sub-tasks, retention, availability."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

from profiles.dicom_json import DicomJson
from task_manager.workitem.parts import lasting_part, lasting_summary, moving_part, moving_summary

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WORKITEM = sa.table(
    "workitem", sa.column("uid"), sa.column("attributes"), sa.column("summary"), sa.column("content_number")
)
_CONTENT = sa.table("workitem_content", sa.column("attributes"), sa.column("summary"))
_TEXTS = ("station_class", "organization", "summary", "app", "rejected_by", "attention", "claimed_by")
_TIMES = ("claimed_at", "heard_at", "lease_until", "expires_at", "final_at")
_ORDER = ["priority_rank", "scheduled_start", "created_at", "uid"]
_INDEXES = {
    "workitem_queue": ["state", "code_value", *_ORDER],
    "workitem_state": ["state", *_ORDER],
    "workitem_sorted": _ORDER,
}
_PARTIAL = {
    "workitem_station": (["station_name", "state", *_ORDER], "station_name <> ''"),
    "workitem_class": (["station_class", "state", *_ORDER], "station_class <> ''"),
    "workitem_organization": (["organization", "state", *_ORDER], "organization <> ''"),
    "workitem_lease": (["lease_until"], "lease_until IS NOT NULL"),
    "workitem_expiry": (["expires_at"], "expires_at IS NOT NULL AND state = 'SCHEDULED'"),
    "workitem_unavailable": (["created_at"], "readiness = 'UNAVAILABLE'"),
    "workitem_final": (["final_at"], "final_at IS NOT NULL"),
    "workitem_attention": (["created_at"], "attention <> ''"),
    "workitem_order": (["order_key"], "order_key <> ''"),
}
_NARROWED = {
    "event_accession": ("event", ["accession_number", "id"], "study_instance_uid = ''"),
    "job_due": ("job", ["lane", "state", "due_at", "id"], "event_id IS NULL"),
    "job_workitem": ("job", ["workitem_uid"], "workitem_uid <> ''"),
}


def upgrade() -> None:
    """Apply this revision.

    Workitems of the first release keep their content. Final ones count their retention from their last
    change; those IN PROGRESS get a lease when their performer is heard next, or at the next start.
    """
    for name in _TEXTS:
        op.add_column("workitem", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("workitem", sa.Column("tries", sa.Integer(), nullable=False, server_default="1"))
    for name in _TIMES:
        op.add_column("workitem", sa.Column(name, sa.String(length=27), nullable=True))
    op.add_column("workitem", sa.Column("content_number", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("workitem_queue", table_name="workitem")  # made anew with the whole order
    op.drop_index("workitem_order", table_name="workitem")  # made anew without workitems of no order
    for name, columns in _INDEXES.items():
        op.create_index(name, "workitem", _sortable(columns), unique=False)
    for name, (columns, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(
            name, "workitem", _sortable(columns), unique=False, sqlite_where=where, postgresql_where=where
        )
    op.execute("UPDATE workitem SET final_at = modified_at WHERE state IN ('COMPLETED', 'CANCELED')")
    op.execute(
        "UPDATE workitem SET claimed_at = modified_at, heard_at = modified_at WHERE state = 'IN PROGRESS'"
    )
    op.add_column("workitem_report", sa.Column("receiving_ae", sa.Text(), nullable=False, server_default=""))
    _narrow_indexes()
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _prepare_postgresql()
    _divide_workitems()


def _sortable(columns: list[str]) -> list[Any]:
    """Columns of an index in the order that searches ask for: UIDs by their characters, in any locale."""
    if op.get_bind().dialect.name == "sqlite" or columns[-1] != "uid":
        return list(columns)
    return [*columns[:-1], sa.text('uid COLLATE "C"')]


def _narrow_indexes() -> None:
    """Leave out of indexes the rows that nobody looks for by them."""
    for name, (table, columns, condition) in _NARROWED.items():
        where = sa.text(condition)
        op.drop_index(name, table_name=table)
        op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def _prepare_postgresql() -> None:
    """Let a step of a performer write little: room for it in the page, and text that packs quickly (LZ4)."""
    op.execute("ALTER TABLE workitem SET (fillfactor = 60)")
    known = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    if op.get_bind().exec_driver_sql(known).scalar():
        for name in ("attributes", "summary"):
            op.execute(f"ALTER TABLE workitem_content ALTER COLUMN {name} SET COMPRESSION lz4")


def _divide_workitems() -> None:
    """Move what lasts of each workitem into a row of content, and say what a search returns of it."""
    connection = op.get_bind()
    uids = list(connection.execute(sa.select(_WORKITEM.c.uid)).scalars())
    for number, uid in enumerate(uids, start=1):
        here = _WORKITEM.c.uid == uid
        attributes = orjson.loads(
            connection.execute(sa.select(_WORKITEM.c.attributes).where(here)).scalar_one()
        )
        content = {
            "attributes": _text(lasting_part(attributes)),
            "summary": _text(lasting_summary(attributes)),
        }
        connection.execute(sa.insert(_CONTENT).values(content))
        changed = {
            "attributes": _text(moving_part(attributes)),
            "summary": _text(moving_summary(attributes)),
            "content_number": number,
        }
        connection.execute(sa.update(_WORKITEM).where(here).values(changed))


def _text(attributes: DicomJson) -> str:
    return orjson.dumps(attributes).decode()


def _create_tables() -> None:
    op.create_table(
        "workitem_content",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscription",
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("receiving_ae", sa.String(length=16), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("filtered", sa.Boolean(), nullable=False),
        sa.Column("from_report", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workitem_uid", "receiving_ae"),
    )
    op.create_index("subscription_ae", "subscription", ["receiving_ae"], unique=False)
    op.create_table(
        "global_subscription",
        sa.Column("receiving_ae", sa.String(length=16), nullable=False),
        sa.Column("filtered", sa.Boolean(), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("matching", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("receiving_ae", "filtered"),
    )
    op.create_table(
        "listener",
        sa.Column("receiving_ae", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=True),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("claimed_until", sa.String(length=27), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("heard_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("receiving_ae", "channel"),
    )
    op.create_table(
        "subtask",
        sa.Column("parent_uid", sa.String(length=64), nullable=False),
        sa.Column("child_uid", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("performer", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("parent_uid", "child_uid"),
    )
    op.create_index("subtask_child", "subtask", ["child_uid"], unique=False)
    op.create_table(
        "purged_workitem",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("purged_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_table(
        "availability",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("availability", sa.String(), nullable=False),
        sa.Column("retrieve_ae_title", sa.String(), nullable=False),
        sa.Column("retrieve_url", sa.Text(), nullable=False, server_default=""),
        sa.Column("told_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", "source"),
    )
    op.create_index("availability_told", "availability", ["told_at"], unique=False)
