# SPDX-License-Identifier: Apache-2.0
"""Whether two Part 10 files hold the same data set, byte for byte.

The file meta information is ours or the sender's and may differ between two receipts of one object; the data
set may not. Reads files, decides nothing else.
"""

from __future__ import annotations

import struct
from pathlib import Path

_CHUNK = 1 << 20
_PREAMBLE = 132
_GROUP_LENGTH_ELEMENT = 12


def data_set_offset(path: Path) -> int:
    """Where the data set begins: after preamble and file meta group (PS3.10 7.1), else 0."""
    with path.open("rb") as file:
        head = file.read(_PREAMBLE + _GROUP_LENGTH_ELEMENT)
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return 0
    (length,) = struct.unpack_from("<I", head, 140)
    return _PREAMBLE + _GROUP_LENGTH_ELEMENT + int(length)


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
