# SPDX-License-Identifier: Apache-2.0
"""Command sets of C-STORE read and written by hand (PS3.7 6.3, 9.3.1): implicit VR little endian, fixed tags.

One pass over few bytes, for the one message that comes thousands of times; all others are the library's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

C_STORE_RQ = 0x0001
NO_DATA_SET = 0x0101

_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_C_STORE_RSP = 0x8001

_ELEMENT = struct.Struct("<HHL")
_SHORT_ELEMENT = struct.Struct("<HHLH")
_SHORT = struct.Struct("<H")
_PDU_AND_ITEM = struct.Struct(">BxLLBB")
_ITEM_OVERHEAD = 6
_COMMAND, _LAST = 0x01, 0x02


class CommandError(ValueError):
    """The bytes are no command set."""


def elements_of(command: bytes) -> Mapping[int, bytes]:
    """The values of a command set by element number.

    Raises
    ------
    CommandError
        If elements are of another group or do not end.
    """
    found: dict[int, bytes] = {}
    at, end = 0, len(command)
    while at < end:
        if at + _ELEMENT.size > end:
            raise CommandError("the command set ends inside an element")
        group, number, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group or at + length > end:
            raise CommandError("the command set has an element of another group, or one that does not end")
        found[number] = command[at : at + length]
        at += length
    return found


def command_field(elements: Mapping[int, bytes]) -> int:
    """Command Field (0000,0100); -1 without one."""
    return _number(elements, _COMMAND_FIELD)


def has_data_set(elements: Mapping[int, bytes]) -> bool:
    """Whether a data set follows (0000,0800)."""
    return _number(elements, _DATA_SET_TYPE) != NO_DATA_SET


def message_id(elements: Mapping[int, bytes]) -> int:
    """Message ID (0000,0110); -1 without one."""
    return _number(elements, _MESSAGE_ID)


def affected_uids(elements: Mapping[int, bytes]) -> tuple[str, str]:
    """Affected SOP Class UID and Instance UID as they stand there, empty where they do not."""
    sop_class, instance = (
        elements.get(number, b"").rstrip(b"\0 ").decode("ascii", "replace")
        for number in (_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID)
    )
    return sop_class, instance


def store_response(request: Mapping[int, bytes], status: int, comment: str = "") -> bytes:
    """The C-STORE-RSP to `request` (PS3.7 9.3.1.2), naming what the request named."""
    parts = [
        _text(_AFFECTED_SOP_CLASS_UID, request[_AFFECTED_SOP_CLASS_UID])
        if _AFFECTED_SOP_CLASS_UID in request
        else b"",
        _short(_COMMAND_FIELD, _C_STORE_RSP),
        _short(_MESSAGE_ID_RESPONDED_TO, message_id(request) & 0xFFFF),
        _short(_DATA_SET_TYPE, NO_DATA_SET),
        _short(_STATUS, status),
    ]
    if comment:
        text = comment.encode("ascii", "replace")
        parts.append(_text(_ERROR_COMMENT, text + b" " * (len(text) % 2)))
    if _AFFECTED_SOP_INSTANCE_UID in request:
        parts.append(_text(_AFFECTED_SOP_INSTANCE_UID, request[_AFFECTED_SOP_INSTANCE_UID]))
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def data_pdus(context_id: int, command: bytes, largest: int) -> bytes:
    """P-DATA-TF PDUs that carry `command`; `largest` is the length the peer takes, 0 any (PS3.8 D.1)."""
    room = max(1, largest - _ITEM_OVERHEAD) if largest else len(command)
    pdus: list[bytes] = []
    for at in range(0, len(command), room):
        fragment = command[at : at + room]
        control = _COMMAND | (_LAST if at + room >= len(command) else 0)
        pdus.append(
            _PDU_AND_ITEM.pack(0x04, len(fragment) + _ITEM_OVERHEAD, len(fragment) + 2, context_id, control)
        )
        pdus.append(fragment)
    return b"".join(pdus)


def joined(fragments: Sequence[bytes]) -> bytes:
    """The command set of its fragments, which are one as a rule."""
    return fragments[0] if len(fragments) == 1 else b"".join(fragments)


def _number(elements: Mapping[int, bytes], number: int) -> int:
    value = elements.get(number, b"")
    return int(_SHORT.unpack(value)[0]) if len(value) == _SHORT.size else -1


def _short(number: int, value: int) -> bytes:
    return _SHORT_ELEMENT.pack(0, number, 2, value)


def _text(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value
