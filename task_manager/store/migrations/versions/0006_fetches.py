# SPDX-License-Identifier: Apache-2.0
"""Add what is fetched from archives, and rules that wait for earlier studies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, primary_key=key)


def _time(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=nullable)


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, primary_key=key)


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "study_fetch",
        _text("fetch_key", key=True),
        *(_text(name) for name in ("study_instance_uid", "accession_number", "patient_id", "archive")),
        *(_text(name) for name in ("purpose", "state", "parent_key")),
        _number("round"),
        _text("source"),
        _number("expected"),
        _number("refused"),
        sa.Column("error", sa.Text(), nullable=False),
        _text("asked_by"),
        _time("asked_at"),
        _time("changed_at"),
        _time("ended_at", nullable=True),
    )
    op.create_index("fetch_study", "study_fetch", ["study_instance_uid"], unique=False)
    op.create_index("fetch_parent", "study_fetch", ["parent_key"], unique=False)
    op.create_index("fetch_asked", "study_fetch", ["asked_at", "fetch_key"], unique=False)
    op.create_index("fetch_ended", "study_fetch", ["ended_at"], unique=False)
    op.create_table(
        "prior_wait",
        _text("study_instance_uid", key=True),
        _number("revision", key=True),
        _text("rule", key=True),
        _text("state"),
        _time("until"),
        sa.Column("content", sa.Text(), nullable=False),
        _time("created_at"),
        _time("changed_at"),
    )
    op.create_index("prior_wait_changed", "prior_wait", ["changed_at"], unique=False)
