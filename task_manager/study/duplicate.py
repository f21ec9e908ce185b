# SPDX-License-Identifier: Apache-2.0
"""Whether two Part 10 files hold the same data set, byte for byte.

The file meta information is ours or the sender's and may differ between two receipts of one object; the data
set may not. Reads files, decides nothing else.
"""

from __future__ import annotations

from pathlib import Path

from task_manager.study.header import data_set_offset

_CHUNK = 1 << 20


def same_data_set(one: Path, other: Path) -> bool:
    """Whether both files hold the same bytes after their file meta information."""
    start_one, start_other = data_set_offset(one), data_set_offset(other)
    if one.stat().st_size - start_one != other.stat().st_size - start_other:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        first.seek(start_one)
        second.seek(start_other)
        while True:
            chunk = first.read(_CHUNK)
            if chunk != second.read(_CHUNK):
                return False
            if not chunk:
                return True
