# SPDX-License-Identifier: Apache-2.0
"""Data sets of DIMSE messages as the project's DICOM JSON (PS3.5 7, PS3.18 F.2).

The reading is our own, because a peer's bytes are hostile: depth and size are bounded, and whatever is wrong
is a fault with its path, never an exception. Values are taken as they stand; whether they are right for a
workitem is asked behind the ports. The way back is in ``ups_encoding.py``.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dimse.character_sets import (
    DEFAULT,
    CharacterSet,
    UndecodableTextError,
    character_set,
)
from profiles.dicom_json import DicomJson, tag_key
from profiles.ups.dataset import MAX_DEPTH, FaultList, entry, path_of
from profiles.ups.values import ALL_VRS, BINARY_VRS
from task_manager.outcome import RefusalCode, Refused

MAX_DATA_SET_BYTES = 8 * 2**20
"""Longest encoded data set that is read; the HTTP door has the same limit."""

TRANSFER_SYNTAXES = (
    str(ImplicitVRLittleEndian),
    str(ExplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
)
"""Transfer syntaxes that can be read and written."""

_UNDEFINED = 0xFFFFFFFF
CHARACTER_SET = tag_key("SpecificCharacterSet")
UTF_8 = "ISO_IR 192"
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ONE_VALUE_VRS = frozenset({"LT", "ST", "UR", "UT"})
_DECODED_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_FORMATS = {"FL": "f", "FD": "d", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_WORD_CODES = {2: "H", 4: "I", 8: "Q"}
NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_WHOLE = re.compile(r"[+-]?\d{1,11}", re.ASCII)
_LONGEST_DS = 16


@dataclass(frozen=True, slots=True)
class _Coding:
    """How elements are encoded."""

    implicit: bool
    little: bool

    @property
    def order(self) -> str:
        return "<" if self.little else ">"


_IMPLICIT = _Coding(implicit=True, little=True)
_CODINGS: Mapping[str, _Coding] = {
    str(ImplicitVRLittleEndian): _IMPLICIT,
    str(ExplicitVRLittleEndian): _Coding(implicit=False, little=True),
    str(ExplicitVRBigEndian): _Coding(implicit=False, little=False),
}


class _BrokenError(Exception):
    """The bytes do not hold together: nothing after this place can be read."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(message)


def read_data_set(encoded: bytes | bytearray | memoryview, transfer_syntax: str) -> DicomJson | Refused:
    """The attributes of an encoded data set in ascending tag order, or all that is wrong with it.

    Text becomes Unicode, and Specific Character Set that of DICOM JSON (ISO_IR 192) where it was given.
    Elements of unknown VR are read by the data dictionary. Refusals are MALFORMED, when the bytes do not hold
    together, and INVALID_ATTRIBUTES, when values cannot be read.
    """
    found = FaultList()
    coding = _CODINGS.get(transfer_syntax)
    if coding is None:
        found.add("", "is in a transfer syntax that is not supported")
        return Refused(RefusalCode.MALFORMED, found.listed())
    if len(encoded) > MAX_DATA_SET_BYTES:
        found.add("", f"takes {MAX_DATA_SET_BYTES} bytes at most")
        return Refused(RefusalCode.MALFORMED, found.listed())
    reading = _Reading(memoryview(bytes(encoded)), found)
    try:
        attributes, _ = reading.data_set(0, len(encoded), coding, DEFAULT, "", 0)
    except _BrokenError as broken:
        found.add(broken.path, broken.message)
        return Refused(RefusalCode.MALFORMED, found.listed())
    if found.faults:
        return Refused(RefusalCode.INVALID_ATTRIBUTES, found.listed())
    return attributes


@dataclass(frozen=True, slots=True)
class _Reading:
    data: memoryview
    faults: FaultList

    def _unpack(self, form: str, at: int, end: int, path: str) -> tuple[Any, ...]:
        if at + struct.calcsize(form) > end:
            raise _BrokenError(path, "breaks off inside an element")
        return struct.unpack_from(form, self.data, at)

    def _tag(self, at: int, end: int, coding: _Coding, path: str) -> int:
        group, number = self._unpack(f"{coding.order}HH", at, end, path)
        return int(group << 16 | number)

    def _header(self, at: int, end: int, coding: _Coding, path: str) -> tuple[str, int, int]:
        """VR (empty if not told), length, and where the value begins."""
        if coding.implicit:
            (length,) = self._unpack(f"{coding.order}I", at + 4, end, path)
            return "", length, at + 8
        (raw,) = self._unpack("2s", at + 4, end, path)
        vr = raw.decode("latin-1")
        if vr not in ALL_VRS:
            raise _BrokenError(path, "has a VR that does not exist")
        if vr in _LONG_VRS:
            (length,) = self._unpack(f"{coding.order}I", at + 8, end, path)
            return vr, length, at + 12
        (length,) = self._unpack(f"{coding.order}H", at + 6, end, path)
        return vr, length, at + 8

    def data_set(
        self, at: int, end: int, coding: _Coding, text: CharacterSet, prefix: str, depth: int
    ) -> tuple[DicomJson, int]:
        """The elements from `at` to `end`, or to an item delimiter, and where they end."""
        attributes: DicomJson = {}
        while at < end:
            tag = self._tag(at, end, coding, prefix.rstrip("."))
            if tag == _ITEM_END and depth:
                return self._ordered(attributes, prefix, depth), at + 8
            key = f"{tag:08X}"
            path = prefix + path_of(key)
            vr, length, at = self._header(at, end, coding, path)
            if not vr or vr == "UN":
                vr, inner = self._known(key, vr, length), coding if not vr else _IMPLICIT
            else:
                inner = coding
            if key in attributes:
                self.faults.add(path, "is given twice")
            if vr == "SQ":
                attributes[key], at = self._sequence(at, length, end, inner, text, path, depth)
                continue
            if length == _UNDEFINED or at + length > end:
                raise _BrokenError(path, "is longer than the data set")
            value = self.data[at : at + length]
            at += length
            if key == CHARACTER_SET:
                text = self._character_set(value, path)
                attributes[key] = {"vr": "CS", "Value": [UTF_8]} if length else {"vr": "CS"}
            elif key[4:] != "0000":
                attributes[key] = self._element(vr, value, inner, text, path)
        return self._ordered(attributes, prefix, depth), at

    def _ordered(self, attributes: DicomJson, prefix: str, depth: int) -> DicomJson:
        if depth:
            attributes.pop(CHARACTER_SET, None)  # DICOM JSON has one for the whole data set
        return dict(sorted(attributes.items()))

    @staticmethod
    def _known(key: str, told: str, length: int) -> str:
        """The VR of an element that does not tell it (PS3.5 6.2.2, 7.8)."""
        vrs = entry(key).vrs
        if length == _UNDEFINED:
            return "SQ"
        if vrs:
            return "OW" if "OW" in vrs else vrs[0]
        is_creator = int(key[3], 16) % 2 == 1 and 0x10 <= int(key[4:], 16) <= 0xFF
        return "LO" if is_creator and not told else "UN"

    def _character_set(self, value: memoryview, path: str) -> CharacterSet:
        text = character_set(bytes(value).decode("latin-1").rstrip("\0").split("\\"))
        if text is None:
            self.faults.add(path, "names a character set that is not supported")
            return DEFAULT
        return text

    def _sequence(
        self, at: int, length: int, end: int, coding: _Coding, text: CharacterSet, path: str, depth: int
    ) -> tuple[DicomJson, int]:
        if depth >= MAX_DEPTH:
            raise _BrokenError(path, f"is nested deeper than {MAX_DEPTH} sequences")
        if length != _UNDEFINED and at + length > end:
            raise _BrokenError(path, "is longer than the data set")
        stop = end if length == _UNDEFINED else at + length
        items: list[DicomJson] = []
        while at < stop:
            tag = self._tag(at, stop, coding, path)
            (size,) = self._unpack(f"{coding.order}I", at + 4, stop, path)
            at += 8
            if tag == _SEQUENCE_END and length == _UNDEFINED:
                return _sequence_element(items), at
            if tag != _ITEM:
                raise _BrokenError(path, "has something else where an item should begin")
            if size != _UNDEFINED and at + size > stop:
                raise _BrokenError(path, "has an item longer than the sequence")
            where = f"{path}[{len(items)}]."
            item, at = self.data_set(
                at, stop if size == _UNDEFINED else at + size, coding, text, where, depth + 1
            )
            items.append(item)
        if length == _UNDEFINED:
            raise _BrokenError(path, "breaks off before its end")
        return _sequence_element(items), at

    def _element(
        self, vr: str, value: memoryview, coding: _Coding, text: CharacterSet, path: str
    ) -> DicomJson:
        if not len(value):
            return {"vr": vr}
        if vr in BINARY_VRS:
            return {"vr": vr, "InlineBinary": base64.b64encode(_little(vr, value, coding)).decode("ascii")}
        try:
            values = _values(vr, value, coding, text)
        except UndecodableTextError as error:
            self.faults.add(path, str(error))
            return {"vr": vr}
        except struct.error:
            self.faults.add(path, f"has a length that VR {vr} cannot have")
            return {"vr": vr}
        return {"vr": vr, "Value": values} if any(one is not None for one in values) else {"vr": vr}


def _sequence_element(items: list[DicomJson]) -> DicomJson:
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _little(vr: str, value: memoryview, coding: _Coding) -> bytes:
    """Binary words in little endian order, as DICOM JSON has them (PS3.18 F.2.7)."""
    size = _WORD_BYTES.get(vr, 1)
    if coding.little or size == 1 or len(value) % size:
        return bytes(value)
    words = array(_WORD_CODES[size], bytes(value))
    words.byteswap()
    return words.tobytes()


def _values(vr: str, value: memoryview, coding: _Coding, text: CharacterSet) -> list[Any]:
    if vr in _FORMATS:
        size = struct.calcsize(_FORMATS[vr])
        return list(struct.unpack(f"{coding.order}{len(value) // size}{_FORMATS[vr]}", value))
    if vr == "AT":
        words = struct.unpack(f"{coding.order}{len(value) // 2}H", value)
        if len(words) % 2:
            raise struct.error
        return [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, len(words), 2)]
    decoded = (text if vr in _DECODED_VRS else DEFAULT).decode(bytes(value)).rstrip("\0")
    if vr in _ONE_VALUE_VRS:
        return [decoded.rstrip(" ") or None]
    return [_single(vr, one) for one in decoded.split("\\")]


def _single(vr: str, given: str) -> Any:
    """One value as DICOM JSON has it; None for one that is empty. What fits no number stays text."""
    if vr == "PN":
        groups = [group.strip(" ") for group in given.split("=")]
        if len(groups) > len(NAME_GROUPS):
            return given
        return {name: one for name, one in zip(NAME_GROUPS, groups, strict=False) if one} or None
    stripped = given.rstrip(" ") if vr == "UC" else given.strip(" \0")
    if vr == "IS" and _WHOLE.fullmatch(stripped):
        return int(stripped)
    return _decimal(stripped) if vr == "DS" and stripped else stripped or None


def _decimal(text: str) -> float | int | str:
    """The number of a decimal string, if it can be written again as one; else the text."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and len(repr(number)) <= _LONGEST_DS else text
