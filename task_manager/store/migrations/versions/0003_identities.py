# SPDX-License-Identifier: Apache-2.0
"""Add what HL7 tells beside orders: patient identities and their changes, order changes, prior reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, primary_key=key)


def _time(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=nullable)


def upgrade() -> None:
    """Apply this revision; orders that are there begin their history with their next message."""
    op.create_index("order_patient", "imaging_order", ["patient_id"], unique=False)
    op.create_table(
        "patient_identity",
        _text("patient_id", key=True),
        _text("issuer", key=True),
        *(_text(name) for name in ("patient_name", "birth_date", "sex", "survivor_id", "survivor_issuer")),
        _time("changed_at"),
    )
    op.create_index("patient_survivor", "patient_identity", ["survivor_id"], unique=False)
    op.create_table(
        "identity_change",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        *(_text(name) for name in ("kind", "patient_id", "issuer", "former_id", "former_issuer")),
        *(_text(name) for name in ("fields", "sender", "control_id")),
        _time("changed_at"),
    )
    op.create_index("identity_patient", "identity_change", ["patient_id", "id"], unique=False)
    op.create_index("identity_former", "identity_change", ["former_id", "id"], unique=False)
    op.create_table(
        "order_change",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        *(_text(name) for name in ("order_key", "control", "order_status", "fields", "effect")),
        *(_text(name) for name in ("sender", "control_id")),
        _time("changed_at"),
    )
    op.create_index("order_change_order", "order_change", ["order_key", "id"], unique=False)
    op.create_table(
        "prior_report",
        _text("report_key", key=True),
        *(_text(name) for name in ("patient_id", "issuer", "accession_number", "study_instance_uid")),
        *(_text(name) for name in ("order_number", "status")),
        sa.Column("content", sa.Text(), nullable=False),
        _time("observed_at", nullable=True),
        _time("received_at"),
    )
    op.create_index("prior_patient", "prior_report", ["patient_id", "observed_at"], unique=False)
    op.create_index("prior_accession", "prior_report", ["accession_number"], unique=False)
