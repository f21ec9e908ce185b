# SPDX-License-Identifier: Apache-2.0
"""Headers of images whose series is known: only what differs from the images before is read.

Images of a series share most of their header byte for byte. What is the same is compared as a whole and not
read again; what was seen to differ is read alone. Whatever does not fit is left to the full reading.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from profiles.dicom_json import DicomJson
from task_manager.study.elements import HEADER_LIMITS, ElementReader, EncodingError, Mark, decides

_SERIES_INSTANCE_UID = b"\x20\x00\x0e\x00"
_PIXEL_REPRESENTATION = "00280103"
_SIGNED = {"vr": "US", "Value": [1]}
_KEY_BYTES = 72
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_MOST_SERIES = 256
_MOST_REBUILDS = 40
_UNREADABLE = (EncodingError, struct.error, ValueError, IndexError)
_SHORT_LENGTH = struct.Struct("<H").unpack_from
_LONG_LENGTH = struct.Struct("<L").unpack_from
_TAG = struct.Struct("<HH").unpack_from


@dataclass(frozen=True, slots=True)
class _Same:
    """Elements that were the same in all images: their bytes, and what they say."""

    encoded: bytes
    found: DicomJson


@dataclass(frozen=True, slots=True)
class _Other:
    """An element whose value differs: the bytes it begins with, its VR, and how its text is encoded."""

    begin: bytes
    key: str
    vr: str
    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Element:
    encoded: bytes
    tag: int
    key: str
    kept: Any
    codecs: tuple[str, ...]
    differs: bool


@dataclass(frozen=True, slots=True)
class _Likeness:
    """What the images of one series have in common so far; no steps where that is not worth comparing."""

    elements: Sequence[_Element]
    steps: Sequence[_Same | _Other]
    rebuilds: int


class FamiliarHeaders:
    """Reads the beginnings of little endian data sets; may be shared by threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, bytes], _Likeness] = {}

    def read(self, data: bytes, start: int, size: int, *, explicit: bool) -> DicomJson:
        """The attributes of the data set from `start`, of which nothing but plain pixels is beyond `data`.

        Parameters
        ----------
        size
            Where the data set ends.

        Raises
        ------
        EncodingError, struct.error, ValueError, IndexError
            If the data set cannot be followed, or more than pixels is beyond `data`.
        """
        named = data.find(_SERIES_INSTANCE_UID, start)
        key = (explicit, data[named : named + _KEY_BYTES] if named >= 0 else b"")
        likeness = self._known.get(key)
        if likeness is not None and likeness.steps:
            with suppress(*_UNREADABLE):  # the full reading tells
                found = _compared(likeness, data, start, size, explicit)
                if found is not None:
                    return found
        reader = ElementReader(data, explicit=explicit, little_endian=True)
        if likeness is not None and likeness.rebuilds >= _MOST_REBUILDS:
            return reader.read(start, size)
        marks: list[Mark] = []
        attributes = reader.read(start, size, marks)
        if named >= 0:
            if len(self._known) >= _MOST_SERIES:
                self._known.clear()
            self._known[key] = _likeness(data, start, attributes, marks, likeness, explicit)
        return attributes


def _compared(likeness: _Likeness, data: bytes, at: int, size: int, explicit: bool) -> DicomJson | None:
    """The attributes, if all that should be the same is, and plain pixels or nothing follow."""
    found: DicomJson = {}
    there = len(data)
    reader = None
    length_at = 6 if explicit else 4
    for step in likeness.steps:
        if isinstance(step, _Same):
            if not data.startswith(step.encoded, at):
                return None
            found.update(step.found)
            at += len(step.encoded)
            continue
        if not data.startswith(step.begin, at) or at + 12 > there:
            return None
        if step.vr == "SQ":
            reader = reader or ElementReader(data, explicit=explicit, little_endian=True)
            signed = found.get(_PIXEL_REPRESENTATION)
            value, at = reader.sequence(at, step.codecs, signed_pixels=signed == _SIGNED)
            if value is not None:
                found[step.key] = value
            continue
        length = (_SHORT_LENGTH if explicit else _LONG_LENGTH)(data, at + length_at)[0]
        value_at, at = at + 8, at + 8 + length
        if at > there:
            return None
        if length <= HEADER_LIMITS.value:
            reader = reader or ElementReader(data, explicit=explicit, little_endian=True)
            found[step.key] = reader.value(step.vr, data[value_at:at], step.codecs)
    if at == size:
        return found
    if not data.startswith(_PIXEL_DATA, at) or at + 12 > there:
        return None
    if not explicit:
        return found if at + 8 + _LONG_LENGTH(data, at + 4)[0] == size else None
    plain = data[at + 4 : at + 6] in (b"OW", b"OB")
    return found if plain and at + 12 + _LONG_LENGTH(data, at + 8)[0] == size else None


def _likeness(
    data: bytes,
    start: int,
    attributes: DicomJson,
    marks: Sequence[Mark],
    before: _Likeness | None,
    explicit: bool,
) -> _Likeness:
    """What this image and those before have in common."""
    elements = _elements(data, start, attributes, marks)
    rebuilds = before.rebuilds + 1 if before is not None else 0
    if before is None or [one.tag for one in elements] != [one.tag for one in before.elements]:
        return _Likeness(elements, _steps(elements, explicit), rebuilds)
    merged = [
        one
        if one.encoded == old.encoded and not old.differs
        else _Element(one.encoded, one.tag, one.key, one.kept, one.codecs, True)
        for one, old in zip(elements, before.elements, strict=True)
    ]
    return _Likeness(merged, _steps(merged, explicit), rebuilds)


def _elements(data: bytes, start: int, attributes: DicomJson, marks: Sequence[Mark]) -> list[_Element]:
    """The elements before pixel data."""
    found = []
    for number, (at, codecs) in enumerate(marks):
        end = marks[number + 1][0] if number + 1 < len(marks) else len(data)
        if data.startswith(_PIXEL_DATA, at):
            break
        group, element = _TAG(data, at)
        tag = group << 16 | element
        key = f"{tag:08X}"
        found.append(_Element(data[at:end], tag, key, attributes.get(key), codecs, False))
    return found


def _steps(elements: Sequence[_Element], explicit: bool) -> list[_Same | _Other]:
    """What to compare, in order; nothing where that does not tell what each element says."""
    if any(one.tag >= other.tag for one, other in pairwise(elements)):
        return []  # what is there twice has no value of its own
    steps: list[_Same | _Other] = []
    encoded: list[bytes] = []
    kept: DicomJson = {}
    for one in elements:
        if not one.differs:
            encoded.append(one.encoded)
            if one.kept is not None:
                kept[one.key] = one.kept
            continue
        if not _is_readable_alone(one, explicit):
            return []
        if encoded:
            steps.append(_Same(b"".join(encoded), kept))
            encoded, kept = [], {}
        steps.append(_Other(one.encoded[: 6 if explicit else 4], one.key, one.kept["vr"], one.codecs))
    if encoded:
        steps.append(_Same(b"".join(encoded), kept))
    return steps


def _is_readable_alone(one: _Element, explicit: bool) -> bool:
    """Whether an element says nothing about how others are to be read, and how it begins is known."""
    if one.kept is None or decides(one.tag) or one.tag & 0xFFFF == 0:
        return False
    vr = one.kept["vr"]
    if not explicit:
        return bool(vr != "SQ")
    encoded = one.encoded[4:6]
    return bool(encoded == vr.encode() and (vr == "SQ" or ElementReader.is_short(encoded)))
