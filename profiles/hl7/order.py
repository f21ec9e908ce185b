# SPDX-License-Identifier: Apache-2.0
"""ORM^O01 to orders: what each field means, what is required, and every fault of a message at once.

Reading is pure: bytes in, a value out, never an exception. Descriptive fields are taken as far as they can
be understood; identifiers are taken exactly or refused, since a shortened identifier is another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from profiles.codes import Code
from profiles.hl7 import datatypes
from profiles.hl7.message import (
    SUPPORTED_VERSIONS,
    ErrorCode,
    Header,
    Hl7Fault,
    Location,
    Message,
    Segment,
    Unreadable,
    read_message,
)
from profiles.order import MessageKey, Order, OrderControl, Priority
from profiles.uids import is_uid

MAX_ORDERS = 500
MAX_CONTROL_ID = 199
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOptions:
    """How one site's messages are read.

    Attributes
    ----------
    routine_priority
        What R (routine) becomes: LOW by the letter of PS3.3 C.30.2, MEDIUM where LOW is for batch work.
    time_zone
        Zone of times that name none.
    patient_id_authority
        Namespace or universal id (CX.4.1, CX.4.2) of the PID-3 repetition to take.
    undeclared_codecs
        Codecs tried in turn when MSH-18 is empty.
    processing_ids
        Accepted MSH-11 values (table 0103); an empty field is read as production.
    """

    routine_priority: Priority = Priority.MEDIUM
    time_zone: tzinfo = UTC
    patient_id_authority: str = ""
    undeclared_codecs: tuple[str, ...] = ("utf-8", "iso8859-1")
    processing_ids: frozenset[str] = frozenset({"P", "T", "D"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOrderMessage:
    """A message that asks for something: its identity, its orders and the basis of its answer."""

    header: Header
    key: MessageKey
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefusal:
    """A message that cannot be taken, with every fault; without a header no answer can be written."""

    header: Header | None
    faults: tuple[Hl7Fault, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    order: Segment
    detail: Segment | None
    timing: Segment | None
    study: Segment | None


@dataclass(slots=True)
class _Faults:
    found: list[Hl7Fault] = field(default_factory=list)

    def add(self, code: ErrorCode, at: Location, text: str) -> None:
        self.found.append(Hl7Fault(code, at, text))

    def identifier(self, text: str, at: Location, limit: int) -> str:
        """`text` if a DICOM value of at most `limit` characters can hold it; a fault otherwise."""
        if len(text) > limit:
            self.add(ErrorCode.TOO_LONG, at, f"at most {limit} characters are allowed")
            return ""
        if _UNSAFE.search(text):
            self.add(ErrorCode.DATA_TYPE, at, "control characters and backslash are not allowed")
            return ""
        return text

    def name(self, text: str, at: Location) -> str:
        """`text` if every group of a DICOM PN can hold it; a fault otherwise."""
        if any(len(group) > 64 for group in text.split("=")):
            self.add(ErrorCode.TOO_LONG, at, "a name has at most 64 characters")
            return ""
        return text


def parse_order_message(raw: bytes, options: OrderOptions | None = None) -> ParsedOrderMessage | OrderRefusal:
    """The orders of one ORM^O01 (without MLLP frame), or all that keeps it from being taken.

    References
    ----------
    HL7 v2.5.1 chapter 4.4.1, 4.5.1 (ORC), 4.5.3 (OBR); IHE RAD TF-2 4.4 and 4.13 (ZDS, OBR-18 to OBR-20).
    """
    options = options or OrderOptions()
    message = read_message(raw, undeclared=options.undeclared_codecs)
    if isinstance(message, Unreadable):
        return OrderRefusal(header=message.header, faults=message.faults)
    header = message.header
    faults = _Faults()
    _check_type(header, options, faults)
    if faults.found:
        return OrderRefusal(header=header, faults=tuple(faults.found))
    key = _key(message, faults)
    patient, visit, groups = _grouped(message, faults)
    orders = tuple(_order(group, patient, visit, options, faults) for group in groups)
    if faults.found:
        unique = dict.fromkeys(faults.found)
        return OrderRefusal(header=header, faults=tuple(unique))
    return ParsedOrderMessage(header=header, key=key, orders=orders)


def _check_type(header: Header, options: OrderOptions, faults: _Faults) -> None:
    at = Location("MSH")
    if header.message_type != "ORM":
        faults.add(ErrorCode.MESSAGE_TYPE, Location("MSH", 1, 9, 1, 1), "only ORM^O01 is taken here")
    elif header.trigger != "O01":
        faults.add(ErrorCode.EVENT, Location("MSH", 1, 9, 1, 2), "only ORM^O01 is taken here")
    if header.version not in SUPPORTED_VERSIONS:
        known = ", ".join(sorted(SUPPORTED_VERSIONS))
        faults.add(ErrorCode.VERSION, Location(at.segment, 1, 12), f"supported versions: {known}")
    if (header.processing_id or "P") not in options.processing_ids:
        allowed = ", ".join(sorted(options.processing_ids))
        faults.add(ErrorCode.PROCESSING_ID, Location(at.segment, 1, 11), f"accepted here: {allowed}")


def _key(message: Message, faults: _Faults) -> MessageKey:
    header, at = message.header, Location("MSH", 1, 10)
    if not header.control_id.strip():
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, "a message control id is required")
    if len(header.control_id) > MAX_CONTROL_ID:
        faults.add(ErrorCode.TOO_LONG, at, f"at most {MAX_CONTROL_ID} characters are allowed")
    for number, text in ((3, header.sending_application), (4, header.sending_facility)):
        if len(text) > 227:
            faults.add(ErrorCode.TOO_LONG, Location("MSH", 1, number), "at most 227 characters are allowed")
    decoded = header.encoding.decoded
    return MessageKey(
        sending_application=decoded(header.sending_application),
        sending_facility=decoded(header.sending_facility),
        control_id=decoded(header.control_id),
    )


def _grouped(message: Message, faults: _Faults) -> tuple[Segment | None, Segment | None, Sequence[_Group]]:
    """PID, PV1 and one group per ORC, in the order of the ORM^O01 structure."""
    single: dict[str, Segment] = {}
    groups: list[dict[str, Segment]] = []
    for segment in message.segments:
        name = segment.name
        if name == "ORC":
            groups.append({name: segment})
        elif name in ("PID", "PV1"):
            if groups or name in single:
                faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "one before the first ORC is allowed")
            single.setdefault(name, segment)
        elif name in ("OBR", "TQ1", "ZDS"):
            if not groups:
                faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "an ORC has to come first")
            elif name == "OBR" and name in groups[-1]:
                faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "each OBR needs its own ORC")
            else:
                groups[-1].setdefault(name, segment)
    if not groups:
        faults.add(ErrorCode.SEGMENT_SEQUENCE, Location("ORC"), "at least one ORC is required")
    if len(groups) > MAX_ORDERS:
        faults.add(ErrorCode.CARDINALITY, Location("ORC"), f"more than {MAX_ORDERS} orders in one message")
        groups = []
    return (
        single.get("PID"),
        single.get("PV1"),
        [_Group(g["ORC"], g.get("OBR"), g.get("TQ1"), g.get("ZDS")) for g in groups],
    )


def _order(
    group: _Group, patient: Segment | None, visit: Segment | None, options: OrderOptions, faults: _Faults
) -> Order:
    orc, obr = group.order, group.detail
    control = _control(orc, faults)
    active = control in (OrderControl.NEW, OrderControl.CHANGE)
    sequence = orc.sequence
    if active and obr is None:
        at = Location("OBR", sequence)
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, "an OBR is required with this order control")

    def either(number: int) -> str:
        own = faults.identifier(orc.text(number), orc.at(number, 1), 64)
        other = faults.identifier(obr.text(number), obr.at(number, 1), 64) if obr else ""
        return own or other

    placer, filler = either(2), either(3)
    accession = faults.identifier(obr.text(18), obr.at(18), 16) if obr else ""
    study_uid = _study_uid(group, faults)
    if not (placer or filler):
        text = "a placer (ORC-2) or filler (ORC-3) order number is required"
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, orc.at(2), text)
    if active and obr is not None and not (obr.text(18) or group.study):
        text = "an accession number (OBR-18) or a Study Instance UID (ZDS-1) is required"
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, obr.at(18), text)
    patient_id, issuer = _patient_id(patient, options, faults, required=active)
    code = _procedure(obr)
    if active and obr is not None and code is None and not _description(obr):
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, obr.at(4), "a procedure is required")
    return Order(
        control=control or OrderControl.NEW,
        placer_order_number=placer,
        filler_order_number=filler,
        accession_number=accession,
        patient_id=patient_id,
        issuer_of_patient_id=issuer,
        patient_name=_patient_name(patient, faults),
        patient_birth_date=_birth_date(patient, faults),
        patient_sex=_SEXES.get(patient.text(8).upper(), "") if patient else "",
        requested_procedure_id=faults.identifier(obr.text(19), obr.at(19), 16) if obr else "",
        requested_procedure_description=_description(obr),
        requested_procedure_code=code,
        study_instance_uid=study_uid,
        modality=_modality(obr),
        priority=_priority(group, options),
        reason=_reason(obr),
        referring_physician_name=_physician((visit, 8), faults=faults),
        requesting_physician_name=_physician((orc, 12), (obr, 16), faults=faults),
        admission_id=_admission_id(patient, visit, faults),
        scheduled_at=_scheduled_at(group, options, faults),
    )


def _control(orc: Segment, faults: _Faults) -> OrderControl | None:
    text = orc.text(1)
    if not text:
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, orc.at(1), "an order control is required")
        return None
    try:
        return OrderControl(text)
    except ValueError:
        known = ", ".join(control.value for control in OrderControl)
        faults.add(ErrorCode.TABLE_VALUE, orc.at(1), f"order controls acted on here: {known}")
        return None


def _study_uid(group: _Group, faults: _Faults) -> str:
    if group.study is None:
        return ""
    text = group.study.text(1)
    if text and not is_uid(text):
        faults.add(ErrorCode.DATA_TYPE, group.study.at(1, 1), "a Study Instance UID is required here")
        return ""
    if not text:
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, group.study.at(1), "a Study Instance UID is required")
    return text


def _patient_id(
    patient: Segment | None, options: OrderOptions, faults: _Faults, *, required: bool
) -> tuple[str, str]:
    """Id and issuer: the configured authority first, then types MR and PI, then the first one with an id."""
    values = [value for value in patient.repetitions(3) if value.text(1)] if patient else []
    if patient is None or not values:
        if required:
            faults.add(ErrorCode.REQUIRED_FIELD_MISSING, Location("PID", 1, 3), "a patient id is required")
        return "", ""
    wanted = options.patient_id_authority
    ranked = [value for value in values if wanted and wanted in (value.text(4, 1), value.text(4, 2))]
    for kind in ("MR", "PI"):
        ranked += [value for value in values if value.text(5) == kind]
    chosen = (ranked + values)[0]
    issuer = chosen.text(4, 1) or chosen.text(4, 2)
    return (
        faults.identifier(chosen.text(1), patient.at(3, 1), 64),
        faults.identifier(issuer, patient.at(3, 4), 64),
    )


def _patient_name(patient: Segment | None, faults: _Faults) -> str:
    if patient is None:
        return ""
    return faults.name(datatypes.patient_name_of(patient.repetitions(5)), patient.at(5))


def _birth_date(patient: Segment | None, faults: _Faults) -> str:
    text = patient.text(7) if patient else ""
    if patient is None or not text:
        return ""
    date = datatypes.date_of(text)
    if date is None:
        faults.add(ErrorCode.DATA_TYPE, patient.at(7), "a date (YYYYMMDD) is required here")
    return date or ""


def _procedure_field(obr: Segment | None) -> int:
    """OBR-44 names the requested procedure where it is valued, otherwise OBR-4 does."""
    return 44 if obr and obr.text(44) else 4


def _procedure(obr: Segment | None) -> Code | None:
    values = obr.repetitions(_procedure_field(obr)) if obr else ()
    return datatypes.code_of(values[0]) if values else None


def _description(obr: Segment | None) -> str:
    if obr is None:
        return ""
    number = _procedure_field(obr)
    return datatypes.line_of(obr.text(number, 2) or obr.text(number, 1))


def _modality(obr: Segment | None) -> str:
    text = obr.text(24).upper() if obr else ""
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else ""


def _priority(group: _Group, options: OrderOptions) -> Priority:
    places: list[tuple[Segment | None, int, int]] = [
        (group.timing, 9, 1),
        (group.order, 7, 6),
        (group.detail, 27, 6),
        (group.detail, 5, 1),
    ]
    for segment, number, component in places:
        text = segment.text(number, component) if segment else ""
        if text:
            found = datatypes.priority_of(text, routine=options.routine_priority)
            return found or Priority.MEDIUM
    return Priority.MEDIUM


def _reason(obr: Segment | None) -> str:
    if obr is None:
        return ""
    return datatypes.line_of(obr.text(31, 2) or obr.text(31, 1))


def _physician(*places: tuple[Segment | None, int], faults: _Faults) -> str:
    for segment, number in places:
        values = segment.repetitions(number) if segment else ()
        for value in values:
            name = datatypes.person_name_of(value, first=2)
            if name and segment:
                return faults.name(name, segment.at(number))
    return ""


def _admission_id(patient: Segment | None, visit: Segment | None, faults: _Faults) -> str:
    for segment, number in ((visit, 19), (patient, 18)):
        text = segment.text(number) if segment else ""
        if segment and text:
            return faults.identifier(text, segment.at(number, 1), 64)
    return ""


def _scheduled_at(group: _Group, options: OrderOptions, faults: _Faults) -> datetime | None:
    places: list[tuple[Segment | None, int, int]] = [
        (group.timing, 7, 1),
        (group.order, 7, 4),
        (group.detail, 27, 4),
        (group.detail, 6, 1),
    ]
    for segment, number, component in places:
        text = segment.text(number, component) if segment else ""
        if segment is None or not text:
            continue
        found = datatypes.time_of(text, options.time_zone)
        if found is None:
            faults.add(ErrorCode.DATA_TYPE, segment.at(number, component), "a date and time is required here")
        return found
    return None
