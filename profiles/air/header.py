# SPDX-License-Identifier: Apache-2.0
"""What every result object has in common: identity, patient, study, request, equipment, times, characters.

Patient and study attributes are copied from a source image as they are, never normalised. Times come from the
context; nothing here reads a clock or makes a random identifier.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from importlib.metadata import version

from highdicom.sr import CodedConcept
from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from profiles import codes
from profiles.air.items import offset_of, text
from profiles.air.model import AlgorithmIdentity, Analysis, ResultContext
from profiles.codes import Code
from profiles.uids import derived_uid

MANUFACTURER = "Airway project"
MODEL_NAME = "Airway"
SOFTWARE_VERSION = version("airway")

PATIENT_ATTRIBUTES = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames",
    "EthnicGroup", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
)  # fmt: skip
STUDY_ATTRIBUTES = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "ProcedureCodeSequence",
    "PatientAge", "PatientSize", "PatientWeight", "TimezoneOffsetFromUTC", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)  # fmt: skip
"""Copied from the source as they are (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3, C.12.1)."""

_REQUIRED_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
)  # fmt: skip
_TRIAL_REQUIRED_EMPTY = ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName")
_BY_CODE_ALONE = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def concept(code: Code) -> CodedConcept:
    """The code as highdicom wants it."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def result_uid(context: ResultContext, algorithm: AlgorithmIdentity, *role: str) -> str:
    """The UID of a thing of one run, equal in every repetition of that run by that model."""
    return derived_uid(context.workitem_uid, algorithm.device_uid, *role)


def tracking_uid(context: ResultContext, algorithm: AlgorithmIdentity, label: str) -> str:
    """The tracking UID of a region, the same in segmentation and report."""
    return result_uid(context, algorithm, "tracking", label)


def zone_of(source: Dataset) -> tzinfo | None:
    """The zone that TimezoneOffsetFromUTC gives to times without one; None if absent (PS3.3 C.12.1)."""
    return offset_of(text(source, "TimezoneOffsetFromUTC"))


def dicom_datetime(moment: datetime) -> str:
    """DT with fraction where there is one, and with offset (PS3.5 6.2)."""
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment:%Y%m%d%H%M%S}{fraction}{moment:%z}"


def complete(
    built: Dataset, analysis: Analysis, context: ResultContext, source: Dataset, *, kind: str, purpose: Code
) -> Dataset:
    """The finished object: `built` with everything that this module writes, free of clock and chance.

    Parameters
    ----------
    built
        What highdicom made.
    source
        First source image; gives patient and study.
    kind
        ``SEG`` or ``SR``, told in the series description.
    purpose
        Told in the series description's code, a query key of RAD-137.
    """
    result = Dataset(built)
    moment = context.performed_at.astimezone(zone_of(source) or context.performed_at.tzinfo)
    _write_patient_and_study(result, source, context)
    _write_times(result, moment)
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = MODEL_NAME
    result.SoftwareVersions = SOFTWARE_VERSION
    result.DeviceSerialNumber = context.device_serial_number
    if context.station_name:
        result.StationName = context.station_name[:16]
    algorithm = analysis.algorithm
    result.SeriesDescription = f"AI {algorithm.name} {kind} {algorithm.version}"[:64].strip()
    result.SeriesDescriptionCodeSequence = [concept(purpose)]
    result.ContributingEquipmentSequence = [
        *_acquisition_equipment(source),
        _algorithm_equipment(algorithm, context, moment),
    ]
    schemes = sorted({e.value for e in _elements(result, skip=()) if e.keyword == "CodingSchemeDesignator"})
    private = [scheme for scheme in schemes if scheme.startswith("99")]
    if private:
        result.CodingSchemeIdentificationSequence = [_coding_scheme(scheme) for scheme in private]
    _write_character_set(result, source)
    result.file_meta = FileMetaDataset()
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def series_number(context: ResultContext, algorithm: AlgorithmIdentity, kind: int) -> int:
    """A series number no scanner uses, of this run and this kind (0-9) of object."""
    seed = int(result_uid(context, algorithm, "series-number").rsplit(".", 1)[1])
    return 90_000 + seed % 90_000 * 10 + kind


def request_item(context: ResultContext, source: Dataset) -> Dataset | None:
    """What the order asked for, as in the workitem, else as in the source; None if no order is known.

    References
    ----------
    IHE RAD AIW-I appendix V, table V-1.
    """
    given = next(iter(source.get("RequestAttributesSequence") or ()), Dataset())
    procedure_id = context.requested_procedure_id or given.get("RequestedProcedureID")
    description = context.requested_procedure_description or given.get("RequestedProcedureDescription")
    known = (
        procedure_id,
        description,
        context.requested_procedure_code,
        context.accession_number,
        context.placer_order_number,
        context.filler_order_number,
    )
    if not any(known):
        return None
    item = Dataset()
    item.AccessionNumber = context.accession_number or source.get("AccessionNumber")
    item.RequestedProcedureID = procedure_id or None
    item.RequestedProcedureDescription = description or None
    if context.requested_procedure_code is not None:
        item.RequestedProcedureCodeSequence = [concept(context.requested_procedure_code)]
    if context.reason_for_requested_procedure:
        item.ReasonForTheRequestedProcedure = context.reason_for_requested_procedure
    return item


def _write_patient_and_study(result: Dataset, source: Dataset, context: ResultContext) -> None:
    for keyword in (*PATIENT_ATTRIBUTES, *STUDY_ATTRIBUTES):
        if keyword in source and not (source[keyword].VR == "SQ" and not source[keyword].value):
            result.add(copy.deepcopy(source[keyword]))
        elif keyword in _REQUIRED_EMPTY:
            setattr(result, keyword, None)
    if "ClinicalTrialProtocolID" in result:
        for keyword in _TRIAL_REQUIRED_EMPTY:
            if keyword not in result:
                setattr(result, keyword, None)
    asked = {
        "AccessionNumber": context.accession_number,
        "ReferringPhysicianName": context.referring_physician_name,
    }
    for keyword, value in asked.items():
        if value or keyword not in source:
            setattr(result, keyword, value or None)
        else:
            result.add(copy.deepcopy(source[keyword]))


def _write_times(result: Dataset, moment: datetime) -> None:
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    for prefix in ("InstanceCreation", "Series", "Content"):
        setattr(result, f"{prefix}Date", f"{moment:%Y%m%d}")
        setattr(result, f"{prefix}Time", f"{moment:%H%M%S}{fraction}")


def _acquisition_equipment(source: Dataset) -> Iterator[Dataset]:
    if not source.get("Manufacturer"):
        return
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [concept(codes.ACQUISITION_EQUIPMENT)]
    for keyword in ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber",
                    "SoftwareVersions", "InstitutionName"):  # fmt: skip
        if source.get(keyword):
            item.add(copy.deepcopy(source[keyword]))
    yield item


def _algorithm_equipment(algorithm: AlgorithmIdentity, context: ResultContext, moment: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [concept(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = algorithm.manufacturer
    item.ManufacturerModelName = algorithm.name
    item.SoftwareVersions = algorithm.version
    item.DeviceUID = algorithm.device_uid
    if context.station_name:
        item.StationName = context.station_name[:16]
    item.ContributionDateTime = dicom_datetime(moment)
    item.ContributionDescription = "AI analysis of the source images"
    return item


def _coding_scheme(designator: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = designator
    item.CodingSchemeName = f"Private codes {designator}"
    if designator == codes.WORKITEM_LUNG_CT.scheme:
        item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def _elements(dataset: Dataset, skip: Iterable[str] = _BY_CODE_ALONE) -> Iterator[DataElement]:
    for element in dataset:
        if element.keyword in skip:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item, skip)
        else:
            yield element


def _write_character_set(result: Dataset, source: Dataset) -> None:
    """Keep the source's character set, so that its texts keep their bytes; UTF-8 if our texts do not fit."""
    declared = source.get("SpecificCharacterSet")
    terms = [] if not declared else [declared] if isinstance(declared, str) else list(declared)
    encodings = [python_encoding.get(term, "") for term in terms] or ["iso8859"]
    if not terms or terms == ["ISO_IR 6"]:
        encodings = ["ascii"]
    own = _texts(result) - _texts(source)
    characters = {character for each in own for character in each if not character.isascii()}
    if any(not any(_encodes(character, encoding) for encoding in encodings) for character in characters):
        result.SpecificCharacterSet = "ISO_IR 192"
    elif terms:
        result.SpecificCharacterSet = copy.deepcopy(source["SpecificCharacterSet"].value)
    elif "SpecificCharacterSet" in result:
        del result.SpecificCharacterSet


def _texts(dataset: Dataset) -> set[str]:
    return {
        str(value)
        for element in _elements(dataset)
        if element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
        for value in (element.value if element.VM > 1 else [element.value])
        if value is not None
    }


def _encodes(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
