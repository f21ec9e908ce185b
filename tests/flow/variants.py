# SPDX-License-Identifier: Apache-2.0
"""Variants of a good object that no modality would make: cut, flipped, mislabelled, absurdly long, hostile.

Which variant a number makes never changes, so that one that did harm can be made again.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.instances import ct_data_set, data_set_bytes, part10

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
_ROOT = "1.2.826.0.1.3680043.8.498.77"
_FIRST = 1_000_000
_PLACEHOLDER = f"{_ROOT}.1.{_FIRST}"
_HOSTILE_UIDS = (
    "../../../../../../tmp/airway-was-here",
    "/etc/cron.d/airway-was-here",
    "..\\..\\airway-was-here",
    "1.2.3/../../airway-was-here",
    "1.2.3\0/airway-was-here",
    "con",
    ".",
    "..",
    "",
    "1.2.3;DROP TABLE instance",
    "%2e%2e%2fairway-was-here",
    "1" * 300,
    "~root/airway-was-here",
    "1.2.3\n1.2.4",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """An object to send: its UID as the request names it, and the bytes of its data set."""

    kind: str
    sop_instance_uid: str
    transfer_syntax: str
    data_set: bytes

    def part10(self) -> bytes:
        """A Part 10 file of it, whose file meta information is good (PS3.10 7.1)."""
        uid = self.sop_instance_uid.encode()
        uid += b"\0" * (len(uid) % 2)
        syntax = self.transfer_syntax.encode()
        syntax += b"\0" * (len(syntax) % 2)
        meta = b"".join(
            (
                struct.pack("<HH2sxxL2s", 2, 1, b"OB", 2, b"\0\1"),
                struct.pack("<HH2sH", 2, 2, b"UI", 26) + b"1.2.840.10008.5.1.4.1.1.2\0",
                struct.pack("<HH2sH", 2, 3, b"UI", len(uid)) + uid,
                struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax,
            )
        )
        return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta)) + meta + self.data_set


def make_variant(number: int) -> Variant:
    """The variant with this number, counted from 0."""
    chance = random.Random(number)
    kind = _KINDS[number % len(_KINDS)]
    syntax, content, name = kind(chance, number)
    return Variant(kind=kind.__name__[1:], sop_instance_uid=name, transfer_syntax=syntax, data_set=content)


def _good() -> bytes:
    image = ct_data_set(_FIRST, study=_ROOT)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24627-2", "LN", "CT Chest"
    image.ProcedureCodeSequence = Sequence([code])
    image.add(DataElement(0x00090010, "LO", "AIRWAY TEST"))
    image.add(DataElement(0x00091001, "UN", b"private"))
    return data_set_bytes(part10(image))


_WHOLE = _good()
_ELEMENTS = [
    at
    for at in range(0, _WHOLE.index(b"\xe0\x7f\x10\x00"), 2)
    if _WHOLE[at + 4 : at + 6] in (b"UI", b"CS", b"LO", b"SH", b"DA", b"PN", b"IS", b"DS", b"US", b"SQ")
]


def _named(number: int) -> tuple[bytes, str]:
    """The good data set with a UID of its own, and that UID."""
    name = f"{_ROOT}.1.{_FIRST + number}"
    return _WHOLE.replace(_PLACEHOLDER.encode(), name.encode()), name


def _cut(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    return EXPLICIT, content[: chance.randrange(len(content))], name


def _flipped(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    changed = bytearray(content)
    end = chance.choice((400, len(changed)))
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return EXPLICIT, bytes(changed), name


def _of_other_vr(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    at = chance.choice(_ELEMENTS) + 4
    vr = chance.choice((b"SQ", b"OB", b"UN", b"UT", b"FD", b"AT", b"US", b"ZZ", b"\0\0", b"PN", b"OW"))
    return EXPLICIT, content[:at] + vr + content[at + 2 :], name


def _absurdly_long(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    at = chance.choice(_ELEMENTS) + 6
    length = chance.choice((b"\xff\xff", b"\xfe\xff", b"\x01\x00", b"\x00\x80", b"\xff\x7f"))
    if chance.random() < 0.5:  # in four bytes, up to 4 GB, under a VR that has them
        at -= 2
        length = b"UN\0\0" + chance.choice((b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff"))
    return EXPLICIT, content[:at] + length + content[at + len(length) :], name


def _under_another_syntax(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    return chance.choice((IMPLICIT, DEFLATED)), content, name


def _named_like_a_path(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    image = ct_data_set(1, study=_ROOT)
    hostile = chance.choice(_HOSTILE_UIDS)
    encoded = hostile.encode() + b"\0" * (len(hostile) % 2)
    keyword = chance.choice(("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
    uid = str(image[keyword].value).replace(".1.1", f".1.{_FIRST + number}")
    del content
    image.SOPInstanceUID = name
    whole = data_set_bytes(part10(image))
    kept = name if keyword == "SOPInstanceUID" else uid
    old = kept.encode() + b"\0" * (len(kept) % 2)
    element = (
        struct.pack("<HH2sH", image[keyword].tag.group, image[keyword].tag.element, b"UI", len(old)) + old
    )
    assert element in whole
    new = (
        struct.pack("<HH2sH", image[keyword].tag.group, image[keyword].tag.element, b"UI", len(encoded))
        + encoded
    )
    named = hostile if keyword == "SOPInstanceUID" and chance.random() < 0.8 else name
    return EXPLICIT, whole.replace(element, new), named


def _deeply_nested(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    depth = chance.choice((3, 60, 2_000))
    opened = struct.pack("<HH2sxxL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closed = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    nested = opened * depth + closed * chance.choice((depth, depth - 1, 0))
    at = content.index(b"\xe0\x7f\x10\x00")
    return EXPLICIT, content[:at] + nested + content[at:], name


def _shuffled(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    content, name = _named(number)
    middle = sorted(chance.sample(_ELEMENTS[:-1], 3))
    first, second, third = middle
    return EXPLICIT, content[:first] + content[second:third] + content[first:second] + content[third:], name


def _noise(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    _, name = _named(number)
    return chance.choice((EXPLICIT, IMPLICIT, DEFLATED)), chance.randbytes(chance.randrange(0, 3000)), name


def _deflated(chance: random.Random, number: int) -> tuple[str, bytes, str]:
    """Good and deflated, cut within the stream, or one that inflates a thousandfold (PS3.5 A.5)."""
    content, name = _named(number)
    if number % 1000 == len(_KINDS) - 1:
        return DEFLATED, _bomb(), name
    stream = _squeezed(content)
    return DEFLATED, stream if chance.random() < 0.5 else stream[: chance.randrange(len(stream))], name


@cache
def _bomb() -> bytes:
    size = 400 * 1024**2
    return _squeezed(struct.pack("<HH2sxxL", 0x0009, 0x1002, b"OB", size) + bytes(size))


def _squeezed(content: bytes) -> bytes:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return squeeze.compress(content) + squeeze.flush()


_KINDS: tuple[Callable[[random.Random, int], tuple[str, bytes, str]], ...] = (
    _cut,
    _flipped,
    _of_other_vr,
    _absurdly_long,
    _under_another_syntax,
    _named_like_a_path,
    _deeply_nested,
    _shuffled,
    _noise,
    _deflated,
)
KINDS = tuple(kind.__name__[1:] for kind in _KINDS)
"""Names of the kinds, in turn."""
