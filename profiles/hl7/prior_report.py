# SPDX-License-Identifier: Apache-2.0
"""ORU^R01 to reports of other examinations: text, findings and what they belong to.

Kept is what a rule or a person can use; documents inside a message are named, not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from profiles.hl7 import datatypes
from profiles.hl7.message import ErrorCode, Header, Location, Message, Segment
from profiles.hl7.options import ReadingOptions
from profiles.hl7.reading import Faults, MessageRefusal, extra_segments, message_key, patient_identity
from profiles.order import MessageKey
from profiles.patient import PatientIdentity, PriorReport
from profiles.uids import is_uid

EVENTS: Mapping[str, frozenset[str]] = {"ORU": frozenset({"R01"})}
"""The message type with reports and its events."""

MAX_REPORTS = 500
MAX_TEXT = 65_536
MAX_FINDINGS = 500
_STUDY_UID_CODES = frozenset({"113014", "110180"})
_TEXTS = frozenset({"TX", "FT", "ST", ""})
_DOCUMENTS = frozenset({"ED", "RP"})
_WITHDRAWN = frozenset({"D", "W", "X"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReportMessage:
    """A message with reports, and the basis of its answer."""

    header: Header
    key: MessageKey
    reports: tuple[PriorReport, ...]


@dataclass(slots=True)
class _Group:
    """One OBR with its patient, its order and its observations."""

    request: Segment
    patient: Segment | None
    order: Segment | None
    observations: list[Segment] = field(default_factory=list)
    others: list[Segment] = field(default_factory=list)


def read_reports(message: Message, options: ReadingOptions) -> ParsedReportMessage | MessageRefusal:
    """The reports of a message whose type was checked.

    References
    ----------
    HL7 v2.5.1 chapter 7.3.1 (ORU^R01), 7.4.1 (OBR), 7.4.2 (OBX); tables 0085 and 0123.
    """
    faults = Faults()
    key = message_key(message, faults)
    groups = _groups(message)
    if not groups:
        faults.add(ErrorCode.SEGMENT_SEQUENCE, Location("OBR"), "at least one OBR is required")
    if len(groups) > MAX_REPORTS:
        faults.add(ErrorCode.CARDINALITY, Location("OBR"), f"more than {MAX_REPORTS} reports in one message")
        groups = []
    patients: dict[int, PatientIdentity] = {}
    for group in groups:
        number = group.patient.sequence if group.patient else 0
        if number not in patients:
            patients[number] = patient_identity(group.patient, options, faults, required=True)
    reports = tuple(
        _report(group, patients[group.patient.sequence if group.patient else 0], options, faults)
        for group in groups
    )
    if faults.found:
        return faults.refusal(message.header)
    return ParsedReportMessage(header=message.header, key=key, reports=reports)


def _groups(message: Message) -> list[_Group]:
    patient: Segment | None = None
    order: Segment | None = None
    found: list[_Group] = []
    for segment in message.segments:
        if segment.name == "PID":
            patient, order = segment, None
        elif segment.name == "ORC":
            order = segment
        elif segment.name == "OBR":
            found.append(_Group(segment, patient, order))
            order = None
        elif segment.name == "OBX" and found:
            found[-1].observations.append(segment)
        elif found:
            found[-1].others.append(segment)
    return found


def _report(group: _Group, patient: PatientIdentity, options: ReadingOptions, faults: Faults) -> PriorReport:
    obr = group.request
    placer, filler = (_number(group, field_number, faults) for field_number in (2, 3))
    accession = faults.identifier(obr.text(18), obr.at(18), 16)
    if not (placer or filler or accession):
        text = "a filler (OBR-3), placer (OBR-2) or accession number (OBR-18) is required"
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, obr.at(3), text)
    used = [one for one in group.observations if one.text(11).upper() not in _WITHDRAWN]
    procedure = obr.repetitions(4)
    return PriorReport(
        report_number=filler or placer or accession,
        patient_id=patient.patient_id,
        issuer_of_patient_id=patient.issuer,
        placer_order_number=placer,
        filler_order_number=filler,
        accession_number=accession,
        study_instance_uid=_study_uid(group),
        procedure=datatypes.code_of(procedure[0]) if procedure else None,
        description=datatypes.line_of(obr.text(4, 2) or obr.text(4, 1)),
        status=datatypes.line_of(obr.text(25).upper(), 2),
        observed_at=datatypes.time_of(obr.text(7), options.time_zone),
        reported_at=datatypes.time_of(obr.text(22), options.time_zone),
        text=_narrative(used),
        findings=tuple(pair for pair, _ in zip(_findings(used), range(MAX_FINDINGS), strict=False)),
        attachments=tuple(dict.fromkeys(_attachments(used))),
        extra_segments=extra_segments(group.others),
    )


def _number(group: _Group, number: int, faults: Faults) -> str:
    own = faults.identifier(group.request.text(number), group.request.at(number, 1))
    other = faults.identifier(group.order.text(number), group.order.at(number, 1)) if group.order else ""
    return own or other


def _study_uid(group: _Group) -> str:
    """The study the report is about: ZDS-1, else an observation that names it (113014, 110180 DCM)."""
    for segment in group.others:
        if segment.name == "ZDS" and is_uid(segment.text(1)):
            return segment.text(1)
    for one in group.observations:
        if one.text(3) in _STUDY_UID_CODES and is_uid(one.text(5)):
            return one.text(5)
    return ""


def _narrative(observations: Sequence[Segment]) -> str:
    lines: list[str] = []
    left = MAX_TEXT
    for one in observations:
        if one.text(2) not in _TEXTS or one.text(3) in _STUDY_UID_CODES:
            continue
        for value in one.repetitions(5):
            line = value.encoding.decoded(value.raw).rstrip(" ")[:left]
            left -= len(line) + 1
            lines.append(line)
            if left <= 0:
                return "\n".join(lines)
    return "\n".join(lines)


def _findings(observations: Sequence[Segment]) -> Iterable[tuple[str, str]]:
    for one in observations:
        kind = one.text(2)
        if kind in _TEXTS or kind in _DOCUMENTS:
            continue
        name = datatypes.line_of(one.text(3, 2) or one.text(3, 1))
        for value in one.repetitions(5):
            parts = (
                [value.text(n) for n in (1, 2, 3, 4)] if kind == "SN" else [value.text(2) or value.text(1)]
            )
            unit = one.text(6, 1) if kind in ("NM", "SN") else ""
            text = datatypes.line_of(" ".join(part for part in (*parts, unit) if part))
            if name and text:
                yield name, text


def _attachments(observations: Sequence[Segment]) -> Iterable[str]:
    for one in observations:
        if one.text(2) in _DOCUMENTS and one.text(3) not in _STUDY_UID_CODES:
            kind, subtype = one.text(5, 2), one.text(5, 3)
            yield datatypes.line_of(f"{kind}/{subtype}".lower() if kind and subtype else kind or "document")
