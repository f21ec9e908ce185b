# SPDX-License-Identifier: Apache-2.0
"""Encoded data sets to DICOM JSON, without pixels and without values over a limit (1 KiB on arrival).

One pass over the bytes, no pydicom dataset: this runs once for each instance that arrives. Structure that
cannot be followed (an element beyond the end, a sequence that does not end) is an error; a value that cannot
be read is kept as text or left out. What is limited is limited here: nesting, elements, sizes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from mmap import mmap

from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR

from profiles.dicom_json import DicomJson
from task_manager.study.values import codecs_of, json_value, plain_text

MAX_VALUE_BYTES = 1024
MAX_SEQUENCE_BYTES = 64 * 1024
MAX_KEPT_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 24
MAX_ELEMENTS = 2_000_000

Buffer = bytes | mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes over which values are left out.

    Attributes
    ----------
    value, binary
        Of one value; of one of a binary VR (OB, OD, OF, OL, OV, OW, UN).
    sequence
        Of one sequence.
    kept
        Of all that is kept of a data set.
    """

    value: int = MAX_VALUE_BYTES
    binary: int = MAX_VALUE_BYTES
    sequence: int = MAX_SEQUENCE_BYTES
    kept: int = MAX_KEPT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A value that was left out for its size, or as it is pixel data.

    Attributes
    ----------
    path
        Where it is: tags and, within sequences, item numbers from 1, joined by slashes.
    start, end
        Of the value in the buffer, half-open; the items of an encapsulated value, delimiter included.
    encapsulated
        Whether it is fragments in items (PS3.5 A.4).
    little_endian
        Byte order of its words.
    """

    path: str
    vr: str
    start: int
    end: int
    encapsulated: bool
    little_endian: bool


HEADER_LIMITS = Limits()
KnownElements = dict[tuple[tuple[str, ...], bytes], tuple[str, DicomJson]]
"""Character sets and encoded bytes of an element, to its key and value in DICOM JSON."""
Mark = tuple[int, tuple[str, ...]]
"""Where an element of the data set itself begins, and the character sets that hold there."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MOST_KNOWN = 20_000
_KEPT_OVERHEAD = 64  # bytes that any kept element costs beside its value
_PIXEL_GROUP = 0x7FE0
_SPECIFIC_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_TRAILING_PADDING = 0xFFFCFFFC
_OF_OTHERS = frozenset((_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION))

# PS3.5 7.1.2: tables 7.1-1 (reserved bytes and 32-bit length) and 7.1-2 (16-bit length)
_LONG = {
    vr.encode(): vr for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
}
_SHORT = {
    vr.encode(): vr
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
}
_BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


class EncodingError(ValueError):
    """The bytes do not follow PS3.5; `where` is the attribute at fault or empty."""

    def __init__(self, message: str, tag: int | None = None) -> None:
        self.where = "" if tag is None else keyword_for_tag(tag) or f"{tag:08X}"
        super().__init__(message)


@lru_cache(maxsize=8192)
def _dictionary_vr(tag: int) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


@lru_cache(maxsize=8192)
def _private_vr(tag: int, creator: str) -> str:
    try:
        return str(private_dictionary_VR(tag, creator))
    except KeyError:
        return "UN"


def decides(tag: int) -> bool:
    """Whether an element says how others are to be read, and has to be looked at each time."""
    if tag < 0x00030000:
        return True  # allowed in some places only
    return tag in _OF_OTHERS or bool(tag & 0x10000 and 0x10 <= tag & 0xFFFF <= 0xFF)


class ElementReader:
    """Reads the data sets of one buffer.

    Parameters
    ----------
    data
        The encoded bytes; a memory map does, so that pixels are never loaded.
    explicit
        Explicit VR (else implicit).
    little_endian
        Byte order.
    limits
        What is left out.
    stand_in
        Makes what stands in the place of a value that was left out; None leaves the attribute out.
    known
        Elements met before, shared by readers of similar data sets; nobody may change one.
    """

    def __init__(
        self,
        data: Buffer,
        *,
        explicit: bool,
        little_endian: bool,
        limits: Limits = HEADER_LIMITS,
        stand_in: Callable[[LeftOut], DicomJson | None] | None = None,
        known: KnownElements | None = None,
    ) -> None:
        order = "<" if little_endian else ">"
        self._data = data
        self._explicit = explicit
        self._order = order
        self._tag_and_short = struct.Struct(f"{order}HH2sH").unpack_from
        self._tag_and_long = struct.Struct(f"{order}HHL").unpack_from
        self._long = struct.Struct(f"{order}L").unpack_from
        self._limits = limits
        self._stand_in = stand_in
        # only an explicit VR makes an element the same whatever stands around it
        self._known = known if explicit and little_endian else None
        self._path = ""
        self._signed_pixels = False
        self._count = 0
        self._kept = 0
        self._marks: list[Mark] | None = None

    def read(self, start: int, end: int | None = None, marks: list[Mark] | None = None) -> DicomJson:
        """The data set that fills the buffer from `start`; no more is kept than the limits allow.

        Parameters
        ----------
        end
            Where the data set ends, if that is beyond the buffer: enough where only pixels are.
        marks
            Where its elements begin is added to this.

        Raises
        ------
        EncodingError
            If an element, sequence or encapsulated value does not end within the data set, or a limit is met.
        struct.error
            If `end` was given and what is beyond the buffer must be looked at.
        """
        last = len(self._data) if end is None else end
        self._marks = marks
        attributes, _ = self._data_set(start, last, delimited=False, depth=0, codecs=(), keep=True)
        return attributes

    def value(self, vr: str, raw: bytes, codecs: tuple[str, ...]) -> DicomJson:
        """An element in DICOM JSON of which VR and encoded value are known."""
        return self._json(vr, raw, codecs)

    def sequence(
        self, at: int, codecs: tuple[str, ...], *, signed_pixels: bool
    ) -> tuple[DicomJson | None, int]:
        """The sequence of explicit VR that begins at `at`, if it is to be kept, and where it ends.

        Raises
        ------
        EncodingError, struct.error
            If it cannot be followed within the buffer.
        """
        self._signed_pixels = signed_pixels
        tag = self._tag(at)
        length, end = self._long(self._data, at + 8)[0], len(self._data)
        if not length:
            return {"vr": "SQ"}, at + 12
        return self._open_value(tag, "SQ", b"SQ", at + 12, length, end, depth=0, codecs=codecs, keep=True)

    def _tag(self, at: int) -> int:
        group, number, _, _ = self._tag_and_short(self._data, at)
        return int(group << 16 | number)

    @staticmethod
    def is_short(vr: bytes) -> bool:
        """Whether elements of an explicit VR have a length of 16 bits (PS3.5 7.1.2)."""
        return vr in _SHORT

    def _data_set(
        self, at: int, end: int, *, delimited: bool, depth: int, codecs: tuple[str, ...], keep: bool
    ) -> tuple[DicomJson, int]:
        data, explicit, limits, met = self._data, self._explicit, self._limits, self._known
        marks = self._marks
        found: DicomJson = {}
        creators: dict[int, str] = {}
        there = len(data)
        # an item longer than a sequence may be is not kept in the end: nor may it fill the memory until then
        last_kept = at + limits.sequence if depth else end + 1
        while at < end:
            if at + 8 > end:
                if end > there:
                    raise struct.error("what follows is not in the buffer")
                if depth == 0 and not any(data[at:end]):
                    break
                raise EncodingError("the data set ends inside an element")
            self._count += 1
            group, number, vr_bytes, length = self._tag_and_short(data, at)
            begin = at
            if marks is not None and depth == 0:
                marks.append((at, codecs))
            if met is not None and keep and vr_bytes in _SHORT:
                again = met.get((codecs, data[at : at + 8 + length]))
                if again is not None and at + 8 + length <= end:
                    found[again[0]] = again[1]
                    at += 8 + length
                    keep = at < last_kept and self._has_room(depth, length)
                    continue
            tag = group << 16 | number
            vr = ""
            value_at = at + 8
            if group == 0xFFFE:
                if delimited and tag == _ITEM_END:
                    return found, value_at
                raise EncodingError("a delimiter where an element is due", tag)
            if not explicit:
                length = self._long(data, at + 4)[0]
            elif vr_bytes in _SHORT:
                vr = _SHORT[vr_bytes]
            elif vr_bytes in _LONG or (length == 0 and vr_bytes.isalpha() and vr_bytes.isupper()):
                # PS3.5 6.2.2: a VR of a later edition has the long form and is read as UN
                vr = _LONG.get(vr_bytes, "UN")
                if at + 12 > end:
                    raise EncodingError("the data set ends inside an element", tag)
                length = self._long(data, at + 8)[0]
                value_at = at + 12
            elif not (vr_bytes.isalpha() and vr_bytes.isupper()):
                # some writers leave elements in implicit form inside an explicit data set
                length = self._long(data, at + 4)[0]
            if depth == 0 and group in (0x0000, 0x0002):
                if group == 0 and end > there:
                    raise struct.error("what follows is not in the buffer")
                if group == 0 and not any(data[at : at + 65536]):
                    break  # zero bytes after the last element: padding of the medium
                raise EncodingError("an element of this group cannot be in a data set", tag)
            if self._count > MAX_ELEMENTS:
                raise EncodingError(f"more than {MAX_ELEMENTS} elements", tag)
            if vr == "UN" and length == _UNDEFINED:
                vr = "SQ"
            elif not vr or vr == "UN":
                known = self._known_vr(tag, creators)
                vr = "UN" if vr and known == "SQ" else known
            if length == _UNDEFINED or (vr == "SQ" and length):
                value, at = self._open_value(
                    tag, vr, vr_bytes, value_at, length, end, depth=depth, codecs=codecs, keep=keep
                )
                if value is None and keep and length == _UNDEFINED and vr != "SQ":
                    self._leave_out(found, tag, vr, value_at, at, encapsulated=True)
                if value is not None and keep:
                    found[f"{tag:08X}"] = value
                    keep = at < last_kept and self._has_room(depth, at - value_at)
                continue
            at = value_at + length
            if at > end:
                raise EncodingError("the data set ends inside an element", tag)
            if at > there and (at < end or group != _PIXEL_GROUP):
                raise struct.error("what follows is not in the buffer")
            if tag == _SPECIFIC_CHARACTER_SET:
                codecs = codecs_of(data[value_at:at])
            if not keep or number == 0 or tag == _TRAILING_PADDING:
                continue
            if length > (limits.binary if vr in _BINARY else limits.value) or group == _PIXEL_GROUP:
                self._leave_out(found, tag, vr, value_at, at)
                continue
            raw = data[value_at:at]
            if tag == _PIXEL_REPRESENTATION and length == 2:
                self._signed_pixels = raw[0] + raw[1] == 1
            elif group & 1 and 0x10 <= number <= 0xFF:
                creators[number] = plain_text(raw, codecs)
                vr = "LO"
            key, element = f"{tag:08X}", self._json(vr, raw, codecs)
            found[key] = element
            if (
                met is not None
                and vr_bytes in _SHORT
                and length <= MAX_VALUE_BYTES
                and len(met) < _MOST_KNOWN
                and not decides(tag)
            ):
                met[codecs, data[begin:at]] = key, element
            keep = at < last_kept and self._has_room(depth, length)
        if delimited:
            raise EncodingError("an item does not end")
        return found, at

    def _has_room(self, depth: int, size: int) -> bool:
        """Whether more may be kept after a value of `size` bytes; sequences count as a whole."""
        if depth == 0:
            self._kept += size + _KEPT_OVERHEAD
        return self._kept < self._limits.kept

    def _leave_out(
        self, found: DicomJson, tag: int, vr: str, start: int, end: int, *, encapsulated: bool = False
    ) -> None:
        """Put what stands in for a value that is left out into `found`."""
        if self._stand_in is None:
            return
        key = f"{tag:08X}"
        left_out = LeftOut(
            path=f"{self._path}{key}",
            vr=vr,
            start=start,
            end=end,
            encapsulated=encapsulated,
            little_endian=self._order == "<",
        )
        element = self._stand_in(left_out)
        if element is not None:
            found[key] = element

    def _known_vr(self, tag: int, creators: dict[int, str]) -> str:
        number = tag & 0xFFFF
        if tag >> 16 & 1:
            if 0x10 <= number <= 0xFF:
                return "LO"
            creator = creators.get(number >> 8, "")
            return _private_vr(tag, creator).split(" or ")[0] if creator else "UN"
        if number == 0:
            return "UL"
        vr = _dictionary_vr(tag)
        if " or " not in vr:
            return vr if len(vr) == 2 else "UN"
        if "OW" in vr:
            return "OW"
        return "SS" if self._signed_pixels else "US"

    def _open_value(
        self,
        tag: int,
        vr: str,
        vr_bytes: bytes,
        at: int,
        length: int,
        end: int,
        *,
        depth: int,
        codecs: tuple[str, ...],
        keep: bool,
    ) -> tuple[DicomJson | None, int]:
        """A sequence, or an encapsulated value (which is skipped)."""
        if tag >> 16 == _PIXEL_GROUP or (vr in _BINARY and vr != "UN"):
            return None, self._skip_fragments(tag, at, end)
        if vr not in ("SQ", "UN"):
            raise EncodingError(f"undefined length is not allowed for {vr}", tag)
        if depth >= MAX_DEPTH:
            raise EncodingError(f"more than {MAX_DEPTH} sequences in each other", tag)
        reader = self
        if self._explicit and vr_bytes not in (b"SQ", b"UN") and vr == "SQ":
            vr_bytes = b"UN"  # an element in implicit form: so are its items
        if self._explicit and vr_bytes == b"UN":
            # PS3.5 6.2.2 note 4: the items of such a value are implicit VR little endian
            reader = ElementReader(
                self._data,
                explicit=False,
                little_endian=True,
                limits=self._limits,
                stand_in=self._stand_in,
            )
            reader._count, reader._signed_pixels = self._count, self._signed_pixels
        outside, reader._path = self._path, f"{self._path}{tag:08X}/"
        items, at = reader._items(tag, at, length, end, depth=depth, codecs=codecs, keep=keep)
        self._count, self._path = reader._count, outside
        if items is None:
            return None, at
        return ({"vr": "SQ", "Value": items} if items else {"vr": "SQ"}), at

    def _items(
        self, tag: int, at: int, length: int, end: int, *, depth: int, codecs: tuple[str, ...], keep: bool
    ) -> tuple[list[DicomJson] | None, int]:
        start, path = at, self._path
        if length != _UNDEFINED:
            if at + length > end:
                raise EncodingError("the data set ends inside a sequence", tag)
            if not keep or length > self._limits.sequence:
                return None, at + length
            end = at + length
        items: list[DicomJson] = []
        while at < end:
            if at + 8 > end:
                raise EncodingError("the data set ends inside a sequence", tag)
            self._count += 1
            group, number, item_length = self._tag_and_long(self._data, at)
            mark = group << 16 | number
            at += 8
            if mark == _SEQUENCE_END and length == _UNDEFINED:
                return (items if keep else None), at
            if mark != _ITEM:
                raise EncodingError("something else than an item in a sequence", tag)
            open_item = item_length == _UNDEFINED
            item_end = end if open_item else at + item_length
            if item_end > end:
                raise EncodingError("an item is longer than its sequence", tag)
            if self._stand_in is not None:
                self._path = f"{path}{len(items) + 1}/"
            item, at = self._data_set(
                at, item_end, delimited=open_item, depth=depth + 1, codecs=codecs, keep=keep
            )
            items.append(item)
            if at - start > self._limits.sequence:
                keep, items = False, []
        if length == _UNDEFINED:
            raise EncodingError("a sequence does not end", tag)
        return (items if keep else None), at

    def _skip_fragments(self, tag: int, at: int, end: int) -> int:
        """The position after an encapsulated value (PS3.5 A.4)."""
        while at + 8 <= end:
            self._count += 1
            group, number, length = self._tag_and_long(self._data, at)
            mark = group << 16 | number
            at += 8
            if mark == _SEQUENCE_END:
                return at
            if mark != _ITEM or at + length > end or self._count > MAX_ELEMENTS:
                break
            at += length
        raise EncodingError("the encapsulated value does not end", tag)

    def _json(self, vr: str, raw: bytes, codecs: tuple[str, ...]) -> DicomJson:
        if not raw:
            return {"vr": vr}
        if vr in _BINARY:
            width = _WORD_BYTES.get(vr, 1)
            if self._order == ">" and width > 1 and len(raw) % width == 0:
                raw = b"".join(raw[i : i + width][::-1] for i in range(0, len(raw), width))
            return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")}
        content = json_value(vr, raw, self._order, codecs)
        return {"vr": vr, "Value": content} if content else {"vr": vr}
