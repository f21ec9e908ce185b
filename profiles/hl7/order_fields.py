# SPDX-License-Identifier: Apache-2.0
"""One group of an order message to one order: where each field stands, and where a site has it instead.

OMI has imaging identifiers in IPC, ORM and OMG in OBR-18 to OBR-20 and ZDS; whichever a sender uses is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from profiles.codes import Code
from profiles.hl7 import datatypes
from profiles.hl7.message import ErrorCode, FieldPath, Location, Repetition, Segment
from profiles.hl7.options import DETAIL, ReadingOptions
from profiles.hl7.reading import Faults
from profiles.order import WHOLE, Order, OrderAction, OrderControl, Priority
from profiles.patient import PatientIdentity
from profiles.uids import is_uid

MAX_DETAILS = 200
MAX_COMMENT = 1024
_DEFAULTS: Mapping[str, tuple[FieldPath, ...]] = {
    "placer_order_number": (FieldPath("ORC", 2), FieldPath("OBR", 2)),
    "filler_order_number": (FieldPath("ORC", 3), FieldPath("OBR", 3)),
    "accession_number": (FieldPath("IPC", 1), FieldPath("OBR", 18)),
    "requested_procedure_id": (FieldPath("IPC", 2), FieldPath("OBR", 19)),
    "scheduled_procedure_step_id": (FieldPath("IPC", 4), FieldPath("OBR", 20)),
    "study_instance_uid": (FieldPath("IPC", 3), FieldPath("ZDS", 1)),
    "modality": (FieldPath("IPC", 5), FieldPath("OBR", 24)),
    "station_name": (FieldPath("IPC", 9), FieldPath("IPC", 7)),
    "admission_id": (FieldPath("PV1", 19), FieldPath("PID", 18)),
    "order_status": (FieldPath("ORC", 5),),
    "reason": (FieldPath("OBR", 31, 2), FieldPath("OBR", 31, 1)),
    "priority": (FieldPath("TQ1", 9), FieldPath("ORC", 7, 6), FieldPath("OBR", 27, 6), FieldPath("OBR", 5)),
    "scheduled_at": (
        FieldPath("TQ1", 7),
        FieldPath("ORC", 7, 4),
        FieldPath("OBR", 27, 4),
        FieldPath("OBR", 6),
    ),
    "expected_at": (FieldPath("TQ1", 8),),
    "requested_procedure_code": (FieldPath("OBR", 44), FieldPath("OBR", 4)),
    "protocol_code": (FieldPath("IPC", 6), FieldPath("OBR", 4, 4)),
}
_LIMITS = {"accession_number": 16, "requested_procedure_id": 16, "scheduled_procedure_step_id": 64}
_CLEARABLE = {
    "requested_procedure_id": (19,),
    "modality": (24,),
    "reason": (31,),
    "scheduled_at": (6,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The segments of one order, with those of the whole message before the first ORC.

    `steps_expected` tells that IPC is where the identifiers belong.
    """

    control: OrderControl
    segments: Mapping[str, Sequence[Segment]]
    extra: tuple[str, ...]
    patient: PatientIdentity
    steps_expected: bool

    def first(self, name: str) -> Segment | None:
        """The first segment of a name."""
        found = self.segments.get(name)
        return found[0] if found else None

    @property
    def sequence(self) -> int:
        """Which ORC of the message this is."""
        orc = self.first("ORC")
        return orc.sequence if orc else 1


@dataclass(frozen=True, slots=True)
class _Found:
    """A value and where it stands."""

    value: Repetition
    path: FieldPath
    at: Location

    @property
    def text(self) -> str:
        return self.value.text(self.path.component, self.path.subcomponent)


class _Source:
    """Fields of a group, where the site has them."""

    def __init__(self, group: Group, options: ReadingOptions) -> None:
        self._group = group
        self._places = options.fields

    def is_mapped(self, name: str) -> bool:
        return name in self._places

    def find(self, name: str) -> _Found | None:
        """The first place of a field that holds anything."""
        return next(self._found(self._places.get(name) or _DEFAULTS.get(name, ())), None)

    def segment(self, name: str) -> Segment | None:
        return self._group.first(name)

    def text(self, name: str) -> str:
        found = self.find(name)
        return found.text if found else ""

    def details(self) -> Iterable[tuple[str, str]]:
        """(name, value) of the site's own fields, every repetition of every segment."""
        for name, paths in self._places.items():
            if not name.startswith(DETAIL):
                continue
            for path in paths:
                for segment in self._group.segments.get(path.segment, ()):
                    for value in segment.repetitions(path.field):
                        text = datatypes.line_of(value.text(path.component, path.subcomponent))
                        if text:
                            yield name.removeprefix(DETAIL), text

    def _found(self, paths: Iterable[FieldPath]) -> Iterator[_Found]:
        for path in paths:
            segment = self._group.first(path.segment)
            values = segment.repetitions(path.field)[:1] if segment else ()
            for value in values:
                if segment and value.text(path.component, path.subcomponent):
                    yield _Found(value, path, segment.at(path.field, path.component))


def read_order(group: Group, options: ReadingOptions, faults: Faults) -> Order:
    """The order of one group; its faults are added."""
    source = _Source(group, options)
    obr, orc = group.first("OBR"), group.first("ORC")
    whole = group.control in WHOLE
    if whole and obr is None:
        at = Location("OBR", group.sequence)
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, "an OBR is required with this order control")
    order = Order(
        control=group.control,
        placer_order_number=_identifier(source, "placer_order_number", faults),
        filler_order_number=_identifier(source, "filler_order_number", faults),
        accession_number=_identifier(source, "accession_number", faults),
        patient_id=_identifier(source, "patient_id", faults) or group.patient.patient_id,
        issuer_of_patient_id=_identifier(source, "issuer_of_patient_id", faults) or group.patient.issuer,
        patient_name=group.patient.name,
        patient_birth_date=group.patient.birth_date,
        patient_sex=group.patient.sex,
        requested_procedure_id=_identifier(source, "requested_procedure_id", faults),
        scheduled_procedure_step_id=_identifier(source, "scheduled_procedure_step_id", faults),
        requested_procedure_description=_description(source),
        requested_procedure_code=_code(source, "requested_procedure_code"),
        protocol_code=_code(source, "protocol_code"),
        study_instance_uid=_study_uid(source, group, faults),
        modality=_modality(source),
        station_name=datatypes.line_of(source.text("station_name"), 16),
        priority=_priority(source, options),
        reason=datatypes.line_of(source.text("reason")),
        comments=_comments(source, group),
        referring_physician_name=_physician((group.first("PV1"), 8), faults=faults),
        requesting_physician_name=_physician((orc, 12), (obr, 16), faults=faults),
        admission_id=_identifier(source, "admission_id", faults),
        scheduled_at=_time(source, "scheduled_at", options, faults),
        expected_at=_time(source, "expected_at", options, faults),
        order_status=datatypes.line_of(source.text("order_status").upper(), 2),
        placer_issuer=_issuer(source, "placer_order_number"),
        filler_issuer=_issuer(source, "filler_order_number"),
        issuer_of_accession_number=_issuer(source, "accession_number"),
        details=tuple(pair for pair, _ in zip(source.details(), range(MAX_DETAILS), strict=False)),
        extra_segments=group.extra,
    )
    _require(order, group, source, faults)
    return order if order.action is OrderAction.CANCEL else replace(order, cleared=_cleared(group))


def _require(order: Order, group: Group, source: _Source, faults: Faults) -> None:
    obr, orc = group.first("OBR"), group.first("ORC")
    assert orc is not None
    if not (order.placer_order_number or order.filler_order_number) and not (
        source.text("placer_order_number") or source.text("filler_order_number")
    ):
        text = "a placer (ORC-2) or filler (ORC-3) order number is required"
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, orc.at(2), text)
    if group.control not in WHOLE or obr is None:
        return
    if not (source.text("accession_number") or source.text("study_instance_uid") or group.first("ZDS")):
        if group.steps_expected:
            at = Location("IPC", group.sequence, 1)
            text = "an accession number (IPC-1) or a Study Instance UID (IPC-3) is required"
        else:
            at = obr.at(18)
            text = "an accession number (OBR-18) or a Study Instance UID (ZDS-1) is required"
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, at, text)
    if order.requested_procedure_code is None and not order.requested_procedure_description:
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, obr.at(4), "a procedure is required")


def _identifier(source: _Source, name: str, faults: Faults) -> str:
    found = source.find(name)
    return faults.identifier(found.text, found.at, _LIMITS.get(name, 64)) if found else ""


def _issuer(source: _Source, name: str) -> str:
    """Universal id, else namespace, of an EI; only where it stands in the standard's own place."""
    found = None if source.is_mapped(name) else source.find(name)
    if found is None:
        return ""
    universal, namespace = found.value.text(3), found.value.text(2)
    return universal if is_uid(universal) else datatypes.line_of(namespace)


def _study_uid(source: _Source, group: Group, faults: Faults) -> str:
    found = source.find("study_instance_uid")
    if found is None:
        zds = group.first("ZDS")
        if zds is not None and not source.is_mapped("study_instance_uid"):
            faults.add(ErrorCode.REQUIRED_FIELD_MISSING, zds.at(1), "a Study Instance UID is required")
        return ""
    if not is_uid(found.text):
        faults.add(ErrorCode.DATA_TYPE, found.at, "a Study Instance UID is required here")
        return ""
    if found.path == FieldPath("IPC", 3) and any(
        step.text(3) not in ("", found.text) for step in group.segments.get("IPC", ())
    ):
        faults.add(ErrorCode.CARDINALITY, found.at, "the steps of one order belong to one study")
    return found.text


def _code(source: _Source, name: str) -> Code | None:
    found = source.find(name)
    return datatypes.code_of(found.value, first=found.path.component) if found else None


def _description(source: _Source) -> str:
    if source.is_mapped("requested_procedure_description"):
        return datatypes.line_of(source.text("requested_procedure_description"))
    found = source.find("requested_procedure_code")
    if found is not None:
        first = found.path.component
        return datatypes.line_of(found.value.text(first + 1) or found.text)
    obr = source.segment("OBR")
    return datatypes.line_of(obr.text(4, 2)) if obr else ""


def _modality(source: _Source) -> str:
    text = source.text("modality").upper()
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else ""


def _priority(source: _Source, options: ReadingOptions) -> Priority:
    text = source.text("priority")
    found = datatypes.priority_of(text, routine=options.routine_priority) if text else None
    return found or Priority.MEDIUM


def _comments(source: _Source, group: Group) -> str:
    """The notes of the order on one line."""
    if source.is_mapped("comments"):
        return datatypes.line_of(source.text("comments"), MAX_COMMENT)
    notes = (value.text() for note in group.segments.get("NTE", ()) for value in note.repetitions(3))
    return datatypes.line_of(" ".join(notes), MAX_COMMENT)


def _physician(*places: tuple[Segment | None, int], faults: Faults) -> str:
    for segment, number in places:
        for value in segment.repetitions(number) if segment else ():
            name = datatypes.person_name_of(value, first=2)
            if name and segment:
                return faults.name(name, segment.at(number))
    return ""


def _time(source: _Source, name: str, options: ReadingOptions, faults: Faults) -> datetime | None:
    found = source.find(name)
    if found is None:
        return None
    moment = datatypes.time_of(found.text, options.time_zone)
    if moment is None:
        faults.add(ErrorCode.DATA_TYPE, found.at, "a date and time is required here")
    return moment


def _cleared(group: Group) -> tuple[str, ...]:
    obr, patient = group.first("OBR"), group.patient
    names = [f"patient_{name}" for name in patient.cleared]
    if obr is not None:
        names += [name for name, numbers in _CLEARABLE.items() if any(obr.deletes(n) for n in numbers)]
    return tuple(names)
