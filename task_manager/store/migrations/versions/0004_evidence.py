# SPDX-License-Identifier: Apache-2.0
"""The tables for what tells that a study is complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def _long(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _uid(name: str, *, key: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=64), nullable=False, primary_key=key)


def _time(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=False)


def upgrade() -> None:
    """Add the tables; a study that is open waits from its first image on."""
    op.add_column("study", sa.Column("receiving_since", sa.String(length=27), nullable=True))
    op.create_table(
        "study_evidence",
        _uid("study_instance_uid"),
        sa.Column("kind", sa.String(), nullable=False, primary_key=True),
        sa.Column("source", sa.String(), nullable=False, primary_key=True),
        _long("series"),
        sa.Column("expected_series", sa.Integer(), nullable=True),
        sa.Column("expected_instances", sa.Integer(), nullable=True),
        sa.Column("ended", sa.Boolean(), nullable=False),
        _time("first_told_at"),
        _time("told_at"),
    )
    op.create_index("study_evidence_told", "study_evidence", ["told_at"], unique=False)
    op.create_table(
        "study_look",
        _uid("study_instance_uid"),
        _text("reason"),
        _long("waiting"),
        _long("ready"),
        sa.Column("instances", sa.Integer(), nullable=False),
        _time("looked_at"),
    )
    op.create_table(
        "study_decision",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        *(_text(name) for name in ("study_instance_uid", "action", "door", "actor", "address", "reason")),
        _time("decided_at"),
    )
    op.create_index("study_decision_study", "study_decision", ["study_instance_uid", "id"], unique=False)
    op.create_table(
        "superseded_result",
        _uid("workitem_uid"),
        *(_text(name) for name in ("study_instance_uid", "superseded_by", "why")),
        _time("superseded_at"),
    )
    op.create_index("superseded_study", "superseded_result", ["study_instance_uid"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    for table in ("superseded_result", "study_decision", "study_look", "study_evidence"):
        op.drop_table(table)
    op.drop_column("study", "receiving_since")
