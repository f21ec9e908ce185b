# SPDX-License-Identifier: Apache-2.0
"""The encoding rules of HL7 v2: bytes to header and segments, whoever sent them.

A message is split flat here, in linear time. hl7apy checks what we write; it does not read what others
send: it drops Z segments, its ORM^O01 demands every member of a choice, and its time grows with the square
of the repetitions (3 s for 16 kB of ``~``, version 1.3.5). What a segment means lives in ``order.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from profiles.hl7.characters import CharacterSet, declared_set, decoded_text

SUPPORTED_VERSIONS = frozenset({"2.3.1", "2.4", "2.5", "2.5.1"})
MAX_SEGMENTS = 5000
MAX_REPETITIONS = 64
_MAX_COMPONENTS = 64
_MAX_FIELDS = 1000  # more than a field path can name; a message of separators would take its size many times


class ErrorCode(StrEnum):
    """HL7 table 0357, message error condition codes."""

    SEGMENT_SEQUENCE = "100"
    REQUIRED_FIELD_MISSING = "101"
    DATA_TYPE = "102"
    TABLE_VALUE = "103"
    TOO_LONG = "104"
    CARDINALITY = "198"
    OTHER = "199"
    MESSAGE_TYPE = "200"
    EVENT = "201"
    PROCESSING_ID = "202"
    VERSION = "203"
    UNKNOWN_KEY = "204"
    DUPLICATE_KEY = "205"
    RECORD_LOCKED = "206"
    APPLICATION = "207"


@dataclass(frozen=True, slots=True)
class Location:
    """Where in a message: the content of ERR-2 (ERL). Zero means that level is not told."""

    segment: str = ""
    sequence: int = 1
    field: int = 0
    repetition: int = 1
    component: int = 0

    def __str__(self) -> str:
        text = self.segment + (f"[{self.sequence}]" if self.sequence > 1 else "")
        if self.field:
            text += f"-{self.field}"
        if self.repetition > 1:
            text += f"[{self.repetition}]"
        if self.component:
            text += f".{self.component}"
        return text


_PATH = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d{1,4})\])?(?:-(\d{1,3})(?:\[(\d{1,4})\])?(?:\.(\d{1,2}))?)?")


def location_of(path: str) -> Location:
    """The location that `path` (``OBR[2]-4.1``) spells; an empty one if it is no HL7 path."""
    match = _PATH.fullmatch(path)
    if match is None:
        return Location()
    segment, sequence, number, repetition, component = match.groups()
    return Location(segment, int(sequence or 1), int(number or 0), int(repetition or 1), int(component or 0))


_FIELD_PATH = re.compile(r"([A-Z][A-Z0-9]{2})-([1-9]\d{0,2})(?:\.([1-9]\d?))?(?:\.([1-9]\d?))?")


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Where a value stands: segment, field, component and subcomponent, each from 1."""

    segment: str
    field: int
    component: int = 1
    subcomponent: int = 1

    @classmethod
    def parsed(cls, text: str) -> FieldPath:
        """The path that `text` spells (``ZDS-1``, ``PID-3.4.2``).

        Raises
        ------
        ValueError
            If it spells none.
        """
        match = _FIELD_PATH.fullmatch(text)
        if match is None:
            raise ValueError("is no place of HL7, such as OBR-18 or PID-3.4.2")
        segment, *numbers = match.groups()
        return cls(segment, *(int(number or 1) for number in numbers))

    @property
    def location(self) -> Location:
        """The place as an ERR tells it."""
        return Location(self.segment, 1, self.field, 1, self.component)


@dataclass(frozen=True, slots=True)
class Hl7Fault:
    """One thing wrong in a message. `text` never repeats a value of it."""

    code: ErrorCode
    location: Location
    text: str

    def __str__(self) -> str:
        return f"{self.location}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Separators and character set of one message (MSH-1, MSH-2, MSH-18)."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    codec: str = "utf-8"

    @property
    def delimiters(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent

    def decoded(self, text: str) -> str:
        """`text` without escape sequences; a line break is ``\\n``, highlighting is dropped (chapter 2.7).

        What cannot be read becomes U+FFFD: a set that was not declared, bytes that are not of the set.
        """
        if self.escape not in text:
            return text
        mark = re.escape(self.escape)
        return re.sub(f"{mark}([^{mark}]{{1,400}}){mark}", self._replacement, text)

    def encoded(self, text: str) -> str:
        """`text` with every separator escaped; line ends become spaces."""
        table = {
            self.escape: "E",
            self.field: "F",
            self.component: "S",
            self.repetition: "R",
            self.subcomponent: "T",
        }
        escaped = "".join(f"{self.escape}{table[c]}{self.escape}" if c in table else c for c in text)
        return re.sub(r"[\x00-\x1f\x7f]+", " ", escaped)

    def _replacement(self, match: re.Match[str]) -> str:
        name = match.group(1)
        single = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
            "H": "",
            "N": "",
        }
        if name in single:
            return single[name]
        if name[0] == "X" and len(name) > 1:
            try:
                return bytes.fromhex(name[1:]).decode(self.codec, "replace")
            except ValueError:
                return match.group(0)
        if name[0] == ".":
            return "\n"
        if name[0] in "CM":
            return "\ufffd"
        if name[0] == "Z":
            return ""
        return match.group(0)


STANDARD_ENCODING = Encoding()


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of a field."""

    raw: str
    encoding: Encoding

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """The decoded component (from 1); absent, empty and ``""`` (delete) are all empty."""
        parts = self.raw.split(self.encoding.component, _MAX_COMPONENTS)
        if component > len(parts):
            return ""
        inner = parts[component - 1].split(self.encoding.subcomponent, _MAX_COMPONENTS)
        if subcomponent > len(inner):
            return ""
        value = inner[subcomponent - 1].strip(" ")
        return "" if value == '""' else self.encoding.decoded(value).strip(" ")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `fields[n]` is field n as sent (``fields[0]`` is the name), MSH included.

    `sequence` counts the segments of this name from 1.
    """

    name: str
    sequence: int
    fields: tuple[str, ...]
    encoding: Encoding

    def raw(self, number: int) -> str:
        """Field `number` as sent; empty if it is absent."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> tuple[Repetition, ...]:
        """The repetitions of a field that hold anything, at most `MAX_REPETITIONS`."""
        parts = self.raw(number).split(self.encoding.repetition, MAX_REPETITIONS)[:MAX_REPETITIONS]
        return tuple(Repetition(part, self.encoding) for part in parts if part)

    def text(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """The decoded component of the first repetition."""
        first = self.raw(number).split(self.encoding.repetition, 1)[0]
        return Repetition(first, self.encoding).text(component, subcomponent)

    def at(self, number: int, component: int = 0) -> Location:
        """The location of a field of this segment."""
        return Location(self.name, self.sequence, number, 1, component)

    def deletes(self, number: int) -> bool:
        """Whether the sender deletes what was known of a field (chapter 2.5.3.2)."""
        return self.raw(number).strip(" ") == '""'

    @property
    def text_as_sent(self) -> str:
        """The whole segment with its escapes."""
        parts = self.fields[:1] + self.fields[2:] if self.name == "MSH" else self.fields
        return self.encoding.field.join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """MSH, as an acknowledgement needs it. Fields are kept as sent, with their escapes."""

    encoding: Encoding
    sending_application: str = ""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    message_type: str = ""
    trigger: str = ""
    control_id: str = ""
    processing_id: str = ""
    version: str = ""
    accept_acknowledgement: str = ""
    application_acknowledgement: str = ""
    character_set: str = ""

    @property
    def enhanced(self) -> bool:
        """Whether the sender asks for enhanced acknowledgement (MSH-15 or MSH-16 valued; chapter 2.9.3)."""
        return bool(self.accept_acknowledgement or self.application_acknowledgement)

    def first_component(self, text: str) -> str:
        """The decoded first component of a field of this header."""
        return Repetition(text, self.encoding).text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that could be split: header and segments in order (MSH first)."""

    header: Header
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Bytes that are no message we can split; without a header no answer can be written."""

    header: Header | None
    faults: tuple[Hl7Fault, ...] = field(default=())


UNDECLARED = ("utf-8", "iso8859-1")
"""Codecs tried in turn when MSH-18 is empty."""


def read_message(
    raw: bytes, *, undeclared: Sequence[str] | Callable[[Header], Sequence[str]] = UNDECLARED
) -> Message | Unreadable:
    """Decode and split `raw` (one message, no MLLP frame).

    Parameters
    ----------
    raw
        CR ends a segment; a message without any CR may use LF, and CRLF is taken as CR.
    undeclared
        Codecs tried in turn when MSH-18 is empty, or what tells them for a header. A declared set is never
        second-guessed.

    References
    ----------
    HL7 v2.5.1 chapter 2.5 to 2.7, tables 0211 and 0357.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n \t")
    header = _header(raw[:8192].decode("iso8859-1"), "iso8859-1")
    if header is None:
        fault = Hl7Fault(ErrorCode.SEGMENT_SEQUENCE, Location("MSH"), "no usable MSH segment")
        return Unreadable(header=None, faults=(fault,))
    declared = declared_set(header.character_set.split(header.encoding.repetition, 8)[:8])
    if declared is None:
        fault = Hl7Fault(ErrorCode.TABLE_VALUE, Location("MSH", 1, 18), "character set is not supported")
        return Unreadable(header=header, faults=(fault,))
    tried = [declared]
    if declared == declared_set([]):
        codecs = undeclared if not callable(undeclared) else undeclared(header)
        tried = [CharacterSet(codec=codec, base=codec) for codec in codecs]
    for one in tried:
        try:
            text = decoded_text(raw, one, header.encoding.escape.encode("ascii"))
        except UnicodeDecodeError:
            continue
        return _split(_header(text[:8192], one.codec) or header, text)
    fault = Hl7Fault(ErrorCode.DATA_TYPE, Location("MSH", 1, 18), "bytes are not of this set")
    return Unreadable(header=header, faults=(fault,))


def _header(text: str, codec: str) -> Header | None:
    line = re.split(r"[\r\n]", text, maxsplit=1)[0]
    if not line.startswith("MSH") or len(line) < 8:
        return None
    separator = line[3]
    delimiters = line[4:].split(separator, 1)[0]
    marks = separator + delimiters[:4]
    if len(set(marks)) != 5 or any(mark.isalnum() or not 33 <= ord(mark) <= 126 for mark in marks):
        return None
    encoding = Encoding(
        field=separator,
        component=delimiters[0],
        repetition=delimiters[1],
        escape=delimiters[2],
        subcomponent=delimiters[3],
        codec=codec,
    )
    fields = ["MSH", separator, *line[4:].split(separator, 40)]
    fields += [""] * (22 - len(fields))
    segment = Segment("MSH", 1, tuple(fields), encoding)
    return Header(
        encoding=encoding,
        sending_application=fields[3],
        sending_facility=fields[4],
        receiving_application=fields[5],
        receiving_facility=fields[6],
        message_type=segment.text(9, 1),
        trigger=segment.text(9, 2),
        control_id=fields[10],
        processing_id=segment.text(11),
        version=segment.text(12),
        accept_acknowledgement=segment.text(15),
        application_acknowledgement=segment.text(16),
        character_set=fields[18],
    )


_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")


def _split(header: Header, text: str) -> Message | Unreadable:
    encoding = header.encoding
    lines = text.replace("\r\n", "\r").split("\r") if "\r" in text else text.split("\n")
    lines = [line for line in lines if line.strip(" \n\t\x00")]
    if len(lines) > MAX_SEGMENTS:
        fault = Hl7Fault(ErrorCode.CARDINALITY, Location(), f"more than {MAX_SEGMENTS} segments")
        return Unreadable(header=header, faults=(fault,))
    segments: list[Segment] = []
    faults: list[Hl7Fault] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        stripped = line.lstrip("\n")
        name, _, rest = stripped.partition(encoding.field)
        if not _NAME.fullmatch(name) or (name == "MSH") != (number == 1):
            faults.append(Hl7Fault(ErrorCode.SEGMENT_SEQUENCE, Location(), f"line {number} is no segment"))
            continue
        counts[name] = counts.get(name, 0) + 1
        fields = (name, encoding.field) if name == "MSH" else (name,)
        segments.append(
            Segment(name, counts[name], (*fields, *rest.split(encoding.field, _MAX_FIELDS)), encoding)
        )
    if faults:
        return Unreadable(header=header, faults=tuple(faults))
    return Message(header=header, segments=tuple(segments))
