# SPDX-License-Identifier: Apache-2.0
"""Add how destinations fare, what they were asked to commit, and what persons decided about jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, primary_key=key)


def _long(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=nullable)


def upgrade() -> None:
    """Apply this revision; what was delivered before has no history."""
    op.create_table(
        "destination_health",
        _text("name", key=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False),
        _time("open_until", nullable=True),
        _time("probe_until", nullable=True),
        _text("reason"),
        _time("changed_at", nullable=True),
    )
    op.create_table(
        "commitment",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False, primary_key=True),
        _text("job_key"),
        _long("instances"),
        _long("failed"),
        _time("asked_at"),
        _time("accepted_at", nullable=True),
        _time("answered_at", nullable=True),
    )
    op.create_index("commitment_job", "commitment", ["job_key", "asked_at"], unique=False)
    op.create_table(
        "job_decision",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        *(_text(name) for name in ("job_key", "decision", "decided_by")),
        _long("reason"),
        _time("decided_at"),
    )
    op.create_index("job_decision_job", "job_decision", ["job_key", "id"], unique=False)
