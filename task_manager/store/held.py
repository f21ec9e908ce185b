# SPDX-License-Identifier: Apache-2.0
"""How an instance whose file was removed is told from one that is here: by its path alone."""

from __future__ import annotations

from sqlalchemy import ColumnElement

from task_manager.store.tables import METADATA

REMOVED = "removed/"
"""What the path of a removed instance begins with; the rest is where it was."""

_PATH = METADATA.tables["instance"].c.path


def is_held() -> ColumnElement[bool]:
    """Whether the file of an instance row is here."""
    return ~_PATH.startswith(REMOVED)


def was_removed(path: str) -> bool:
    """Whether an instance with this path was removed by policy."""
    return path.startswith(REMOVED)
