# SPDX-License-Identifier: Apache-2.0
"""What reading any HL7 v2 message takes: its type, its key, its patient, and a list of all its faults.

Descriptive fields are taken as far as they can be understood; identifiers are taken exactly or refused, since
a shortened identifier is another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from profiles.hl7 import datatypes
from profiles.hl7.message import (
    SUPPORTED_VERSIONS,
    ErrorCode,
    Header,
    Hl7Fault,
    Location,
    Message,
    Repetition,
    Segment,
)
from profiles.hl7.options import ReadingOptions
from profiles.order import MessageKey
from profiles.patient import PatientIdentity

MAX_CONTROL_ID = 199
MAX_EXTRA_SEGMENTS = 50
MAX_EXTRA_CHARACTERS = 8192
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd]")
_OF_NO_SET = re.compile(r"[\x1b\x80-\x9f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefusal:
    """A message that cannot be taken, with every fault; without a header no answer can be written."""

    header: Header | None
    faults: tuple[Hl7Fault, ...]


@dataclass(slots=True)
class Faults:
    """All that is wrong with a message."""

    found: list[Hl7Fault] = field(default_factory=list)

    def add(self, code: ErrorCode, at: Location, text: str) -> None:
        """Add a fault."""
        self.found.append(Hl7Fault(code, at, text))

    def identifier(self, text: str, at: Location, limit: int = 64) -> str:
        """`text` if a DICOM value of at most `limit` characters can hold it; a fault otherwise."""
        if len(text) > limit:
            self.add(ErrorCode.TOO_LONG, at, f"at most {limit} characters are allowed")
            return ""
        if _UNSAFE.search(text):
            self.add(
                ErrorCode.DATA_TYPE,
                at,
                "control characters and backslash are not allowed, nor unreadable ones",
            )
            return ""
        return text

    def name(self, text: str, at: Location) -> str:
        """`text` if every group of a DICOM PN can hold it; a fault otherwise."""
        if any(len(group) > 64 for group in text.split("=")):
            self.add(ErrorCode.TOO_LONG, at, "a name has at most 64 characters")
            return ""
        return text

    def legible(self, segment: Segment, number: int) -> None:
        """A fault if a field has characters of no set that was declared: what is left of it names another."""
        raw = segment.raw(number)
        text = segment.encoding.decoded(raw)
        if _OF_NO_SET.search(text) or text.count("\ufffd") > raw.count("\ufffd"):
            self.add(ErrorCode.DATA_TYPE, segment.at(number), "characters are not of the declared set")

    def refusal(self, header: Header) -> MessageRefusal:
        """The refusal with every fault once."""
        return MessageRefusal(header=header, faults=tuple(dict.fromkeys(self.found)))


def check_type(
    header: Header, accepted: Mapping[str, frozenset[str]], options: ReadingOptions, faults: Faults
) -> None:
    """Faults of MSH-9, MSH-11 and MSH-12; `accepted` maps message types to their events."""
    events = accepted.get(header.message_type)
    if events is None:
        known = ", ".join(sorted(accepted))
        at = Location("MSH", 1, 9, 1, 1)
        faults.add(ErrorCode.MESSAGE_TYPE, at, f"message types taken here: {known}")
    elif header.trigger not in events:
        known = ", ".join(sorted(events))
        faults.add(ErrorCode.EVENT, Location("MSH", 1, 9, 1, 2), f"events taken here: {known}")
    if header.version not in SUPPORTED_VERSIONS:
        known = ", ".join(sorted(SUPPORTED_VERSIONS))
        faults.add(ErrorCode.VERSION, Location("MSH", 1, 12), f"supported versions: {known}")
    if (header.processing_id or "P") not in options.processing_ids:
        allowed = ", ".join(sorted(options.processing_ids))
        faults.add(ErrorCode.PROCESSING_ID, Location("MSH", 1, 11), f"accepted here: {allowed}")


def message_key(message: Message, faults: Faults) -> MessageKey:
    """The identity of a message; a fault without a control id, or with one too long."""
    header, at = message.header, Location("MSH", 1, 10)
    if not header.control_id.strip():
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, "a message control id is required")
    if len(header.control_id) > MAX_CONTROL_ID:
        faults.add(ErrorCode.TOO_LONG, at, f"at most {MAX_CONTROL_ID} characters are allowed")
    for number, text in ((3, header.sending_application), (4, header.sending_facility)):
        if len(text) > 227:
            faults.add(ErrorCode.TOO_LONG, Location("MSH", 1, number), "at most 227 characters are allowed")
    decoded = header.encoding.decoded
    key = MessageKey(
        sending_application=decoded(header.sending_application),
        sending_facility=decoded(header.sending_facility),
        control_id=decoded(header.control_id),
    )
    for number, text in ((3, key.sending_application), (4, key.sending_facility), (10, key.control_id)):
        if _CONTROL.search(text):
            at = Location("MSH", 1, number)
            faults.add(ErrorCode.DATA_TYPE, at, "control characters are not allowed")
    return key


def extra_segments(segments: Sequence[Segment]) -> tuple[str, ...]:
    """The Z segments among `segments` but ZDS, as sent; of very long ones the beginning."""
    found = (s.text_as_sent for s in segments if s.name.startswith("Z") and s.name != "ZDS")
    return tuple(
        text[:MAX_EXTRA_CHARACTERS] for text, _ in zip(found, range(MAX_EXTRA_SEGMENTS), strict=False)
    )


def patient_identity(
    patient: Segment | None, options: ReadingOptions, faults: Faults, *, required: bool
) -> PatientIdentity:
    """Who PID is about; empty without it."""
    patient_id, issuer = _identifier(patient, 3, options, faults, required=required)
    if patient is None:
        return PatientIdentity(patient_id=patient_id, issuer=issuer)
    faults.legible(patient, 5)
    deleted = {"name": patient.deletes(5), "birth_date": patient.deletes(7), "sex": patient.deletes(8)}
    return PatientIdentity(
        patient_id=patient_id,
        issuer=issuer,
        name=faults.name(datatypes.patient_name_of(patient.repetitions(5)), patient.at(5)),
        birth_date=_birth_date(patient, faults),
        sex=_SEXES.get(patient.text(8).upper(), ""),
        cleared=tuple(name for name, gone in deleted.items() if gone),
    )


def former_identifier(
    merge: Segment | None, issuer: str, options: ReadingOptions, faults: Faults
) -> tuple[str, str]:
    """Id and issuer of MRG-1: that of the issuer of the surviving id first, then as for PID-3."""
    if merge is None:
        faults.add(ErrorCode.SEGMENT_SEQUENCE, Location("MRG"), "an MRG is required with this event")
        return "", ""
    return _identifier(merge, 1, options, faults, required=True, preferred=issuer)


def _identifier(
    segment: Segment | None,
    number: int,
    options: ReadingOptions,
    faults: Faults,
    *,
    required: bool,
    preferred: str = "",
) -> tuple[str, str]:
    """Id and issuer: the wanted authority first, then types MR and PI, then the first one with an id."""
    values = [value for value in segment.repetitions(number) if value.text(1)] if segment else []
    if segment is None or not values:
        if required:
            at = Location(segment.name if segment else "PID", segment.sequence if segment else 1, number)
            faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, "a patient id is required")
        return "", ""
    ranked: list[Repetition] = []
    for wanted in (options.patient_id_authority, preferred):
        ranked += [value for value in values if wanted and wanted in (value.text(4, 1), value.text(4, 2))]
    for kind in ("MR", "PI"):
        ranked += [value for value in values if value.text(5) == kind]
    chosen = (ranked + values)[0]
    issuer = chosen.text(4, 1) or chosen.text(4, 2)
    return (
        faults.identifier(chosen.text(1), segment.at(number, 1)),
        faults.identifier(issuer, segment.at(number, 4)),
    )


def _birth_date(patient: Segment, faults: Faults) -> str:
    text = patient.text(7)
    if not text:
        return ""
    date = datatypes.date_of(text)
    if date is None:
        faults.add(ErrorCode.DATA_TYPE, patient.at(7), "a date (YYYYMMDD) is required here")
    return date or ""
