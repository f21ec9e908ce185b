# SPDX-License-Identifier: Apache-2.0
"""The first bytes of a DICOM file: preamble and file meta information before a data set from the network.

The data set that follows is written as it came; nothing here reads or changes it.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from profiles.uids import derived_uid

IMPLEMENTATION_CLASS_UID = derived_uid("airway", "implementation class")
IMPLEMENTATION_VERSION_NAME = "AIRWAY_0_1"

_PREAMBLE = bytes(128) + b"DICM"
_GROUP_LENGTH = struct.Struct("<HH2sHL")
_VERSION = struct.pack("<HH2sHL2s", 0x0002, 0x0001, b"OB", 0, 2, b"\0\1")


def file_meta(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str
) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1).

    Characters that a UID or an AE title cannot hold are replaced, so that whatever a peer announces stays
    one readable element.
    """
    before, after = _around(sop_class_uid, transfer_syntax_uid, source_ae_title[:16])
    instance = _text(0x0003, b"UI", sop_instance_uid)
    length = len(before) + len(instance) + len(after)
    return b"".join(
        (_PREAMBLE, _GROUP_LENGTH.pack(0x0002, 0x0000, b"UL", 4, length), before, instance, after)
    )


@lru_cache(maxsize=256)
def _around(sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> tuple[bytes, bytes]:
    """What comes before and after the SOP Instance UID: the same for all instances of an association."""
    before = _VERSION + _text(0x0002, b"UI", sop_class_uid)
    after = b"".join(
        (
            _text(0x0010, b"UI", transfer_syntax_uid),
            _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _text(0x0016, b"AE", source_ae_title),
        )
    )
    return before, after


def _text(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")[:64]
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
