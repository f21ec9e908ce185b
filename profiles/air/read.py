# SPDX-License-Identifier: Apache-2.0
"""What a stored TID 1500 report says, whoever wrote it.

Strict about what FHIR and HL7 results are made of: identity, time, and for every number its name and unit.
Tolerant of the rest: retired codes, missing observation UIDs, either place of a laterality, absent equipment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.groups import GroupReader
from profiles.air.items import (
    child_code,
    child_text,
    child_texts,
    child_uid,
    children,
    code,
    items,
    moment,
    offset_of,
    text,
)
from profiles.air.model import ReportContent
from profiles.air.segments import place_segments
from profiles.faults import Fault
from profiles.uids import is_uid

__all__ = ["REPORT_SOP_CLASSES", "ReportError", "algorithm_equipment", "place_segments", "read_report"]

REPORT_SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.35",
)
"""Enhanced, Comprehensive, Comprehensive 3D and Extensible SR."""

_MODALITY_BY_SOP_CLASS = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
}


class ReportError(ValueError):
    """A dataset is no TID 1500 report, or lacks what results are made of.

    Attributes
    ----------
    faults
        Everything found wrong, with the path of the content item.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, faults)))


def read_report(dataset: Dataset, zone: tzinfo = UTC) -> ReportContent:
    """What the report says.

    A statement of the Qualitative Evaluations container about presence, (thing) = (Absent), becomes a group
    with that finding and an evaluation (Presence of property) = (Absent). The unit of a number that could not
    be made is (1, UCUM) if the report gives none. Observation UIDs that the report lacks are empty.
    Evaluations in free text are left out.

    Parameters
    ----------
    dataset
        A stored SR; pixel data and file meta information are not needed.
    zone
        Zone of its times if neither they nor TimezoneOffsetFromUTC name one.

    Raises
    ------
    ReportError
        With every fault found.

    References
    ----------
    PS3.16 TID 1500, 1410, 1411, 1420, 1501, 1419, 300, 4019; PS3.3 C.17.
    """
    faults = _document_faults(dataset)
    performed_at = _performed_at(dataset, zone)
    if performed_at is None:
        faults.append(Fault("ContentDate", "must give, with ContentTime, the time of the report"))
    reader = GroupReader(faults)
    groups = tuple(reader.groups(dataset))
    if faults or performed_at is None:
        raise ReportError(faults)
    device = _device(dataset)
    return ReportContent(
        sop_class_uid=text(dataset, "SOPClassUID"),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        patient_id=text(dataset, "PatientID"),
        issuer_of_patient_id=text(dataset, "IssuerOfPatientID"),
        patient_name=text(dataset, "PatientName"),
        patient_birth_date=text(dataset, "PatientBirthDate"),
        patient_sex=text(dataset, "PatientSex"),
        accession_number=text(dataset, "AccessionNumber"),
        study_date=text(dataset, "StudyDate"),
        study_time=text(dataset, "StudyTime"),
        study_description=text(dataset, "StudyDescription"),
        modality_of_sources=_modality(dataset),
        performed_at=performed_at,
        title=code(dataset, "ConceptNameCodeSequence") or codes.IMAGING_MEASUREMENT_REPORT,
        procedure_reported=child_code(dataset, codes.PROCEDURE_REPORTED),
        device_uid=device.uid,
        device_manufacturer=device.manufacturer,
        device_name=device.name,
        device_version=device.version,
        algorithm_parameters=device.parameters,
        groups=groups,
        referenced_instances=tuple(_evidence(dataset)),
        is_verified=text(dataset, "VerificationFlag") == "VERIFIED"
        and text(dataset, "CompletionFlag") == "COMPLETE"
        and text(dataset, "PreliminaryFlag") != "PRELIMINARY",
        predecessors=tuple(
            text(instance, "ReferencedSOPInstanceUID")
            for study in items(dataset, "PredecessorDocumentsSequence")
            for series in items(study, "ReferencedSeriesSequence")
            for instance in items(series, "ReferencedSOPSequence")
        ),
    )


def algorithm_equipment(dataset: Dataset) -> list[Dataset]:
    """Contributing Equipment of algorithms: with a device UID, or else all that process (AIR 6.5.3.1)."""
    processing = [
        item
        for item in items(dataset, "ContributingEquipmentSequence")
        for purpose in [code(item, "PurposeOfReferenceCodeSequence")]
        if purpose is not None
        and any(
            purpose.same_concept(known)
            for known in (codes.PROCESSING_EQUIPMENT, codes.PROCESSING_ALGORITHM_PROVISIONAL)
        )
    ]
    return [item for item in processing if text(item, "DeviceUID")] or processing


def _document_faults(dataset: Dataset) -> list[Fault]:
    faults = []
    if text(dataset, "SOPClassUID") not in REPORT_SOP_CLASSES:
        faults.append(
            Fault("SOPClassUID", "must be Enhanced, Comprehensive, Comprehensive 3D or Extensible SR")
        )
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not is_uid(text(dataset, keyword)):
            faults.append(Fault(keyword, "must be a UID"))
    templates = [text(item, "TemplateIdentifier") for item in items(dataset, "ContentTemplateSequence")]
    title = code(dataset, "ConceptNameCodeSequence")
    titled = title is not None and any(title.same_concept(known) for known in codes.MEASUREMENT_REPORT_TITLES)
    if templates != ["1500"] and (templates or not titled):
        faults.append(Fault("ContentTemplateSequence[0].TemplateIdentifier", "must be 1500"))
    if not items(dataset, "ContentSequence"):
        faults.append(Fault("ContentSequence", "must have items"))
    return faults


def _performed_at(dataset: Dataset, zone: tzinfo) -> datetime | None:
    zone = offset_of(text(dataset, "TimezoneOffsetFromUTC")) or zone
    content = text(dataset, "ContentDate") + text(dataset, "ContentTime").replace(":", "")
    return moment(text(dataset, "ObservationDateTime"), zone) or moment(content, zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    uid: str
    manufacturer: str
    name: str
    version: str
    parameters: tuple[str, ...]


def _device(dataset: Dataset) -> _Device:
    """Who computed: from TID 4019, Contributing Equipment, TID 1004 and General Equipment, in this order."""
    containers = [
        item for item in items(dataset, "ContentSequence") if text(item, "ValueType") == "CONTAINER"
    ]
    groups = [
        group
        for container in containers
        for group in children(container, codes.MEASUREMENT_GROUP, "CONTAINER")
    ]
    numbers = [
        item
        for group in groups
        for item in items(group, "ContentSequence")
        if text(item, "ValueType") == "NUM"
    ]
    identified = next(
        (holder for holder in (*containers, *groups, *numbers) if child_text(holder, codes.ALGORITHM_NAME)),
        Dataset(),
    )
    name = child_text(identified, codes.ALGORITHM_NAME)
    equipment = algorithm_equipment(dataset)
    same_name = [item for item in equipment if text(item, "ManufacturerModelName") == name]
    contributor = next(iter(same_name or equipment), Dataset())
    return _Device(
        uid=text(contributor, "DeviceUID") or child_uid(dataset, codes.DEVICE_OBSERVER_UID),
        manufacturer=text(contributor, "Manufacturer")
        or child_text(dataset, codes.DEVICE_OBSERVER_MANUFACTURER)
        or text(dataset, "Manufacturer"),
        name=name
        or text(contributor, "ManufacturerModelName")
        or child_text(dataset, codes.DEVICE_OBSERVER_MODEL_NAME)
        or text(dataset, "ManufacturerModelName"),
        version=child_text(identified, codes.ALGORITHM_VERSION)
        or text(contributor, "SoftwareVersions")
        or text(dataset, "SoftwareVersions"),
        parameters=tuple(child_texts(identified, codes.ALGORITHM_PARAMETERS)),
    )


def _modality(dataset: Dataset) -> str:
    for library in children(dataset, codes.IMAGE_LIBRARY, "CONTAINER"):
        groups = [library, *children(library, codes.IMAGE_LIBRARY_GROUP, "CONTAINER")]
        images = [item for group in groups for item in items(group, "ContentSequence")]
        for holder in (*groups, *images):
            modality = child_code(holder, codes.MODALITY)
            if modality is not None:
                return modality.value
    found = (_MODALITY_BY_SOP_CLASS.get(sop_class) for _, sop_class, _ in _evidence(dataset))
    return next((modality for modality in found if modality), "")


def _evidence(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in items(dataset, keyword):
            for series in items(study, "ReferencedSeriesSequence"):
                for instance in items(series, "ReferencedSOPSequence"):
                    yield (
                        text(series, "SeriesInstanceUID"),
                        text(instance, "ReferencedSOPClassUID"),
                        text(instance, "ReferencedSOPInstanceUID"),
                    )
