# SPDX-License-Identifier: Apache-2.0
"""Create the tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", name="event_key"),
    )
    op.create_index("event_study", "event", ["study_instance_uid", "id"], unique=False)
    op.create_index("event_accession", "event", ["accession_number", "id"], unique=False)

    op.create_table(
        "explanation",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("rule_set_version", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("evaluated_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "revision", "position"),
    )
    op.create_table(
        "imaging_order",
        sa.Column("order_key", sa.String(), nullable=False),
        sa.Column("placer_order_number", sa.String(), nullable=False),
        sa.Column("filler_order_number", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("changed_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("order_key"),
    )
    op.create_index("order_accession", "imaging_order", ["accession_number", "patient_id"], unique=False)
    op.create_index("order_study", "imaging_order", ["study_instance_uid"], unique=False)
    op.create_index("order_placer", "imaging_order", ["placer_order_number"], unique=False)
    op.create_index("order_filler", "imaging_order", ["filler_order_number"], unique=False)

    op.create_table(
        "instance",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("copy_number", sa.Integer(), nullable=False),
        sa.Column("sop_class_uid", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", "copy_number"),
    )
    op.create_index(
        "instance_study",
        "instance",
        ["study_instance_uid", "series_instance_uid", "instance_number"],
        unique=False,
    )

    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("workitem_uid", sa.String(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(length=27), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("claimed_until", sa.String(length=27), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("done_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", name="job_key"),
    )
    op.create_index("job_due", "job", ["lane", "state", "due_at", "id"], unique=False)
    op.create_index("job_order", "job", ["lane", "state", "id"], unique=False)
    op.create_index("job_workitem", "job", ["workitem_uid"], unique=False)

    op.create_table(
        "message",
        sa.Column("sending_application", sa.String(), nullable=False),
        sa.Column("sending_facility", sa.String(), nullable=False),
        sa.Column("control_id", sa.String(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("sending_application", "sending_facility", "control_id"),
    )
    op.create_table(
        "series",
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("series_instance_uid", "study_instance_uid"),
    )
    op.create_index("series_study", "series", ["study_instance_uid"], unique=False)

    op.create_table(
        "study",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("first_received_at", sa.String(length=27), nullable=False),
        sa.Column("last_received_at", sa.String(length=27), nullable=False),
        sa.Column("deadline_at", sa.String(length=27), nullable=True),
        sa.Column("completed_at", sa.String(length=27), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    op.create_index("study_accession", "study", ["accession_number"], unique=False)
    op.create_index("study_deadline", "study", ["state", "deadline_at"], unique=False)
    op.create_index("study_patient", "study", ["patient_id"], unique=False)
    op.create_index("study_received", "study", ["first_received_at"], unique=False)

    op.create_table(
        "workitem",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.String(), nullable=False),
        sa.Column("priority_rank", sa.Integer(), nullable=False),
        sa.Column("readiness", sa.String(), nullable=False),
        sa.Column("scheduled_start", sa.String(), nullable=False),
        sa.Column("code_value", sa.String(), nullable=False),
        sa.Column("code_scheme", sa.String(), nullable=False),
        sa.Column("station_name", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("worklist_label", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("accession_number", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("order_key", sa.String(), nullable=False),
        sa.Column("input_digest", sa.String(), nullable=False),
        sa.Column("order_digest", sa.String(), nullable=False),
        sa.Column("destinations", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("workitem_accession", "workitem", ["accession_number"], unique=False)
    op.create_index("workitem_order", "workitem", ["order_key"], unique=False)
    op.create_index("workitem_patient", "workitem", ["patient_id"], unique=False)
    op.create_index(
        "workitem_queue",
        "workitem",
        ["state", "code_value", "priority_rank", "scheduled_start", "created_at"],
        unique=False,
    )
    op.create_index("workitem_study", "workitem", ["study_instance_uid"], unique=False)

    op.create_table(
        "workitem_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workitem_uid", sa.String(), nullable=False),
        sa.Column("event_type", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reported_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("report_workitem", "workitem_report", ["workitem_uid", "id"], unique=False)
