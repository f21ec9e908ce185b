# SPDX-License-Identifier: Apache-2.0
"""Add what asks for the analysis of studies: requests, their identifiers, and performed procedure steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ORDERS_KNOWN = """
INSERT INTO request (request_key, kind, source, requester, app, priority, order_key, study_instance_uid,
    digest, version, document, received_at, changed_at)
SELECT 'hl7:' || order_key, 'hl7', '', '', '', '', order_key, '', '', 1, '', received_at, changed_at
FROM imaging_order
"""


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, primary_key=key)


def _time(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=27), nullable=False)


def upgrade() -> None:
    """Apply this revision; orders that are there came by HL7, from whom is not known."""
    op.create_table(
        "request",
        _text("request_key", key=True),
        *(_text(name) for name in ("kind", "source", "requester", "app", "priority", "order_key")),
        _text("study_instance_uid"),
        _text("digest"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        _time("received_at"),
        _time("changed_at"),
    )
    op.create_index("request_order", "request", ["order_key"], unique=False)
    op.create_index("request_study", "request", ["study_instance_uid"], unique=False)
    op.create_table(
        "request_token",
        *(_text(name, key=True) for name in ("kind", "token", "request_key")),
    )
    op.create_index("request_token_key", "request_token", ["request_key"], unique=False)
    op.create_table(
        "performed_step",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False, primary_key=True),
        *(_text(name) for name in ("study_instance_uid", "status", "source")),
        sa.Column("content", sa.Text(), nullable=False),
        _time("created_at"),
        _time("changed_at"),
    )
    op.create_index("performed_step_changed", "performed_step", ["changed_at"], unique=False)
    op.execute(_ORDERS_KNOWN)
