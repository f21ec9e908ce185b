# SPDX-License-Identifier: Apache-2.0
"""Performed procedure steps: what a modality may tell of one, and what follows (PS3.4 F.7, IHE RAD-6, RAD-7).

Pure. Strict about what identifies the step and what it made (type 1); a type 2 attribute that is missing is
taken as empty, as many modalities leave them out. All faults are told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from profiles.codes import Code
from profiles.dicom_json import DicomJson, first, items, merged, tag_key, text, values
from profiles.order import Order
from profiles.request import Request, RequestKind, Trigger, blank_order
from profiles.uids import is_uid
from profiles.ups.context import code_in
from profiles.ups.dataset import read_dataset
from task_manager.outcome import RefusalCode, Refused
from task_manager.study.evidence import MOST_INSTANCES, StudyEvidence
from task_manager.study.model import Evidence
from task_manager.workitem.validate import Findings

_INVALID, _MISSING = RefusalCode.INVALID_ATTRIBUTES, RefusalCode.MISSING_ATTRIBUTE
_STATUS = "PerformedProcedureStepStatus"
_SCHEDULED = "ScheduledStepAttributesSequence"
_SERIES = "PerformedSeriesSequence"
_NEEDED_AT_CREATE = (
    *("PerformedProcedureStepID", "PerformedStationAETitle", "PerformedProcedureStepStartDate"),
    *("PerformedProcedureStepStartTime", _STATUS, "Modality"),
)
_NEEDED_AT_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")
_NEVER_CHANGED = (
    *(_SCHEDULED, "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PerformedProcedureStepID", "PerformedStationAETitle", "PerformedStationName", "PerformedLocation"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality", "StudyID"),
)
_REFERENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more may be told of the step."""
        return self is not StepStatus.IN_PROGRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A step as told last; `source` is the AE title of who told it."""

    sop_instance_uid: str
    source: str
    attributes: DicomJson

    @property
    def status(self) -> StepStatus:
        """How far it is."""
        return StepStatus(text(self.attributes, _STATUS))

    @property
    def study_instance_uid(self) -> str:
        """The study it makes images for."""
        return text(items(self.attributes, _SCHEDULED)[0], "StudyInstanceUID")


def created_step(uid: str, told: DicomJson, *, source: str) -> PerformedStep | Refused:
    """The step that an N-CREATE begins, or all that is wrong with it.

    References
    ----------
    PS3.4 F.7.2.1 and table F.7.2-1, column N-CREATE.
    """
    findings = Findings()
    attributes = _read(told, findings)
    for keyword in _NEEDED_AT_CREATE:
        _needed(attributes, keyword, "", findings)
    if text(attributes, _STATUS) not in ("", StepStatus.IN_PROGRESS):
        findings.add(_INVALID, _STATUS, f"must be {StepStatus.IN_PROGRESS} when a step is created")
    scheduled = items(attributes, _SCHEDULED)
    if not scheduled:
        findings.add(_missing(attributes, _SCHEDULED), _SCHEDULED, "needs at least one item")
    for index, item in enumerate(scheduled):
        _needed_uid(item, "StudyInstanceUID", f"{_SCHEDULED}[{index}].", findings)
    if len({text(item, "StudyInstanceUID") for item in scheduled}) > 1:
        findings.add(_INVALID, f"{_SCHEDULED}[1].StudyInstanceUID", "must be the same in all items")
    _check_series(attributes, findings, ended=False)
    return findings.refusal() or PerformedStep(sop_instance_uid=uid, source=source, attributes=attributes)


def changed_step(before: PerformedStep, told: DicomJson, *, source: str) -> PerformedStep | Refused:
    """The step after an N-SET, or all that is wrong with it. The same told again is no change.

    References
    ----------
    PS3.4 F.7.2.2 and table F.7.2-1, columns N-SET and final state.
    """
    findings = Findings()
    changes = _read(told, findings)
    attributes = merged([before.attributes, changes])
    if not findings.codes and attributes == before.attributes:
        return before
    if before.status.is_final:
        findings.codes.clear()
        findings.add(_INVALID, _STATUS, "the step is over and may no longer be updated")
        found = findings.refusal()
        return Refused(RefusalCode.MAY_NOT_BE_UPDATED, found.faults if found else ())
    for keyword in _NEVER_CHANGED:
        key = tag_key(keyword)
        if key in changes and changes[key].get("Value") != before.attributes.get(key, {}).get("Value"):
            findings.add(_INVALID, keyword, "may not be changed after the step was created")
    status = text(attributes, _STATUS)
    if status not in set(StepStatus):
        findings.add(_INVALID, _STATUS, f"must be one of {', '.join(StepStatus)}")
    ended = status in (StepStatus.COMPLETED, StepStatus.DISCONTINUED)
    for keyword in _NEEDED_AT_END if ended else ():
        _needed(attributes, keyword, "", findings)
    if status == StepStatus.COMPLETED and not items(attributes, _SERIES):
        findings.add(_missing(attributes, _SERIES), _SERIES, "needs at least one item when it is COMPLETED")
    _check_series(attributes, findings, ended=ended)
    return findings.refusal() or replace(before, source=source, attributes=attributes)


def step_evidence(step: PerformedStep, now: datetime) -> StudyEvidence:
    """What a step says of its study: which series and instances it made, and whether more are to come."""
    series: dict[str, frozenset[str]] = {}
    for item in items(step.attributes, _SERIES):
        uids = [
            text(one, "ReferencedSOPInstanceUID") for keyword in _REFERENCES for one in items(item, keyword)
        ]
        uid = text(item, "SeriesInstanceUID")
        series[uid] = series.get(uid, frozenset()) | (frozenset(uids) - {""})
    return StudyEvidence(
        kind=Evidence.MPPS,
        study_instance_uid=step.study_instance_uid,
        source=step.sop_instance_uid,
        told_at=now,
        series=series,
        ended=step.status.is_final,
    )


def step_request(step: PerformedStep) -> Request:
    """What a completed step asks for: that its study is looked at, with what was scheduled and performed."""
    attributes = step.attributes
    scheduled = items(attributes, _SCHEDULED)[0]
    asked: Order = replace(
        blank_order(
            study_instance_uid=step.study_instance_uid,
            accession_number=text(scheduled, "AccessionNumber"),
            patient_id=text(attributes, "PatientID"),
        ),
        issuer_of_patient_id=text(attributes, "IssuerOfPatientID"),
        patient_name=_name(attributes),
        patient_birth_date=text(attributes, "PatientBirthDate"),
        patient_sex=text(attributes, "PatientSex"),
        requested_procedure_id=text(scheduled, "RequestedProcedureID"),
        requested_procedure_description=text(scheduled, "RequestedProcedureDescription")
        or text(attributes, "PerformedProcedureStepDescription"),
        requested_procedure_code=_code(scheduled, "RequestedProcedureCodeSequence")
        or _code(attributes, "ProcedureCodeSequence"),
        protocol_code=_code(scheduled, "ScheduledProtocolCodeSequence")
        or _code(attributes, "PerformedProtocolCodeSequence"),
        scheduled_procedure_step_id=text(scheduled, "ScheduledProcedureStepID"),
        modality=text(attributes, "Modality"),
        station_name=text(attributes, "PerformedStationAETitle"),
    )
    return Request(
        name=step.sop_instance_uid,
        trigger=Trigger(kind=RequestKind.PERFORMED, source=step.source),
        asked=asked,
    )


def _read(told: DicomJson, findings: Findings) -> DicomJson:
    read = read_dataset(told)
    for fault in read.faults:
        findings.add(_INVALID, fault.path, fault.message)
    return read.attributes


def _check_series(attributes: DicomJson, findings: Findings, *, ended: bool) -> None:
    number = 0
    for index, item in enumerate(items(attributes, _SERIES)):
        prefix = f"{_SERIES}[{index}]."
        _needed_uid(item, "SeriesInstanceUID", prefix, findings)
        if ended:
            _needed(item, "ProtocolName", prefix, findings)
        for keyword in _REFERENCES:
            references = items(item, keyword)
            number += len(references)
            for at, reference in enumerate(references):
                for name in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"):
                    _needed_uid(reference, name, f"{prefix}{keyword}[{at}].", findings)
    if number > MOST_INSTANCES:
        findings.add(_INVALID, _SERIES, f"names more than {MOST_INSTANCES} instances")


def _missing(item: DicomJson, keyword: str) -> RefusalCode:
    return RefusalCode.MISSING_VALUE if tag_key(keyword) in item else _MISSING


def _needed(item: DicomJson, keyword: str, prefix: str, findings: Findings) -> str:
    value = text(item, keyword).strip(" ")
    if not value:
        findings.add(_missing(item, keyword), f"{prefix}{keyword}", "needs a value")
    return value


def _needed_uid(item: DicomJson, keyword: str, prefix: str, findings: Findings) -> None:
    value = _needed(item, keyword, prefix, findings)
    if value and not is_uid(value):
        findings.add(_INVALID, f"{prefix}{keyword}", "is no well-formed UID")


def _code(item: DicomJson, keyword: str) -> Code | None:
    found: Sequence[Code] = [code_in(one) for one in items(item, keyword)]
    return next((code for code in found if code.value), None)


def _name(attributes: DicomJson) -> str:
    name: Any = first(attributes, "PatientName") if values(attributes, "PatientName") else ""
    return str(name.get("Alphabetic", "")) if isinstance(name, dict) else str(name or "")
