# SPDX-License-Identifier: Apache-2.0
"""The tables for what the disk holds and may lose, and indexes to find the oldest rows of others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _text(name: str, *, key: bool = False, length: int | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False, primary_key=key)


def _time(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=nullable)


def _size() -> sa.Column[int]:
    return sa.Column("size", sa.BigInteger(), nullable=False)


def upgrade() -> None:
    """Add tables and indexes; objects that are there are summed by the next passes."""
    op.create_index("message_received", "message", ["received_at"], unique=False)
    op.create_index("explanation_evaluated", "explanation", ["evaluated_at"], unique=False)
    op.create_index("prior_received", "prior_report", ["received_at"], unique=False)
    op.create_table(
        "object_checksum",
        _text("path", key=True),
        _size(),
        *(_text(name) for name in ("meta_sha256", "data_set_sha256")),
        _time("summed_at"),
    )
    op.create_table(
        "object_damage",
        _text("path", key=True),
        *(_text(name) for name in ("kind", "study_instance_uid")),
        _time("found_at"),
    )
    op.create_table(
        "removal",
        _text("sop_instance_uid", key=True, length=64),
        sa.Column("copy_number", sa.Integer(), nullable=False, primary_key=True),
        *(_text(name) for name in ("study_instance_uid", "path")),
        _size(),
        *(_text(name) for name in ("data_set_sha256", "policy")),
        _time("removed_at"),
        *(_time(name, nullable=True) for name in ("unlinked_at", "restored_at")),
    )
    op.create_index("removal_study", "removal", ["study_instance_uid"], unique=False)
    op.create_index(
        "removal_due",
        "removal",
        ["removed_at"],
        unique=False,
        sqlite_where=sa.text("unlinked_at IS NULL"),
        postgresql_where=sa.text("unlinked_at IS NULL"),
    )
    op.create_table(
        "study_keep",
        _text("study_instance_uid", key=True, length=64),
        _text("owner", key=True),
        _text("reason"),
        _time("until", nullable=True),
    )
    op.create_index("keep_owner", "study_keep", ["owner"], unique=False)


def downgrade() -> None:
    """Drop tables and indexes; removed instances stay removed."""
    for table in ("study_keep", "removal", "object_damage", "object_checksum"):
        op.drop_table(table)
    op.drop_index("prior_received", "prior_report")
    op.drop_index("explanation_evaluated", "explanation")
    op.drop_index("message_received", "message")
