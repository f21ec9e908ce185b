# SPDX-License-Identifier: Apache-2.0
"""Add what the whole worklist needs: subscriptions, listeners, leases, sub-tasks, retention, availability."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXTS = ("station_class", "organization", "summary", "app", "rejected_by", "attention", "claimed_by")
_TIMES = ("claimed_at", "heard_at", "lease_until", "expires_at", "final_at")
_ORDER = ["priority_rank", "scheduled_start", "created_at", "uid"]
_INDEXES = {
    "workitem_queue": ["state", "code_value", *_ORDER],
    "workitem_state": ["state", *_ORDER],
    "workitem_station": ["station_name", "state", *_ORDER],
    "workitem_sorted": _ORDER,
}
_PARTIAL = {
    "workitem_class": (["station_class", "state", *_ORDER], "station_class <> ''"),
    "workitem_organization": (["organization", "state", *_ORDER], "organization <> ''"),
    "workitem_lease": (["lease_until"], "lease_until IS NOT NULL"),
    "workitem_expiry": (["expires_at"], "expires_at IS NOT NULL AND state = 'SCHEDULED'"),
    "workitem_unavailable": (["created_at"], "readiness = 'UNAVAILABLE'"),
    "workitem_final": (["final_at"], "final_at IS NOT NULL"),
    "workitem_attention": (["modified_at"], "attention <> ''"),
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
    op.drop_index("workitem_queue", table_name="workitem")  # made anew with the whole order
    for name, columns in _INDEXES.items():
        op.create_index(name, "workitem", columns, unique=False)
    for name, (columns, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "workitem", columns, unique=False, sqlite_where=where, postgresql_where=where)
    op.execute("UPDATE workitem SET final_at = modified_at WHERE state IN ('COMPLETED', 'CANCELED')")
    op.execute(
        "UPDATE workitem SET claimed_at = modified_at, heard_at = modified_at WHERE state = 'IN PROGRESS'"
    )
    op.add_column("workitem_report", sa.Column("receiving_ae", sa.Text(), nullable=False, server_default=""))
    op.create_index("report_time", "workitem_report", ["reported_at"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        _prepare_postgresql()
    _create_tables()


def _prepare_postgresql() -> None:
    """Let text be packed and unpacked quickly (LZ4, where the server has it; from release 14 on)."""
    known = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    if op.get_bind().exec_driver_sql(known).scalar():
        for name in ("attributes", "summary"):
            op.execute(f"ALTER TABLE workitem ALTER COLUMN {name} SET COMPRESSION lz4")


def _create_tables() -> None:
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
