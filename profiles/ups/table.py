# SPDX-License-Identifier: Apache-2.0
"""What each attribute of a workitem needs: PS3.4 table CC.2.5-3 with macros CC.2.5-2a to 2g, entered once.

Only data lives here. Codes are those of PS3.4 5.4.2 and CC.2.5.1.1 in the order of the printed columns:
N-CREATE, N-SET (SCU/SCP), final state, N-GET (SCU/SCP), matching key, return key; ``attributes.py`` looks up.
Where the print errs (a wrong tag, N-SET 1/1 on conditional content items) the row follows the meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    """The conditions of type 1C that software can decide; the text completes "needed ..."."""

    CODE_NEEDED = "unless Long Code Value or URN Code Value is given"
    SCHEME_NEEDED = "with Code Value or Long Code Value"
    VERSION_NEEDS_SCHEME = "only with Coding Scheme Designator"
    IS_DATETIME = "if Value Type is DATETIME"
    IS_DATE = "if Value Type is DATE"
    IS_TIME = "if Value Type is TIME"
    IS_PNAME = "if Value Type is PNAME"
    IS_UIDREF = "if Value Type is UIDREF"
    IS_TEXT = "if Value Type is TEXT"
    IS_CODE = "if Value Type is CODE"
    IS_NUMERIC = "if Value Type is NUMERIC"
    HAS_STUDY = "if Type of Instances is DICOM and the instances belong to a study"
    HAS_SERIES = "if Type of Instances is DICOM and the instances belong to a series"
    IS_CDA = "if Type of Instances is CDA"
    RETRIEVAL_NEEDED = "unless another of the five retrieval sequences is given"
    NAMESPACE_NEEDED = "unless Universal Entity ID is given"
    ENTITY_TYPE_NEEDED = "with Universal Entity ID"
    STORAGE_NEEDED = "unless STOW-RS or XDS storage is given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    create, update, get
        Requirement codes ``SCU/SCP`` (PS3.4 5.4.2); ``NA`` is not allowed in that service.
    final
        R, RC, P, X or O (table CC.2.5-1).
    match
        U unique, R required, O optional, - never matched; ``*`` in a macro is the code of its sequence.
    returned
        1, 1C, 2, 2C, 3 or - (PS3.4 5.4.2, K.2.2).
    items
        Rows of the items, for a sequence whose items have requirements.
    max_items
        Most values or items allowed where PS3.3 or the remarks column says less than the dictionary.
    when
        Condition of a 1C code where software can decide it; other 1C codes are taken as optional.
    empty_at_create
        Must have no value in N-CREATE.
    """

    keyword: str
    create: str
    update: str
    final: str
    get: str
    match: str
    returned: str
    items: tuple[Row, ...] = ()
    max_items: int | None = None
    when: Condition | None = None
    empty_at_create: bool = False


def _row(
    keyword: str,
    codes: str,
    *,
    items: tuple[Row, ...] = (),
    max_items: int | None = None,
    when: Condition | None = None,
    empty_at_create: bool = False,
) -> Row:
    create, update, final, get, match, returned = codes.split()
    return Row(
        keyword=keyword,
        create=create,
        update=update,
        final=final,
        get=get,
        match=match,
        returned=returned,
        items=items,
        max_items=max_items,
        when=when,
        empty_at_create=empty_at_create,
    )


_CODE: tuple[Row, ...] = (  # UPS Code Sequence macro (CC.2.5-2a)
    _row("CodeValue", "1C/1C 1C/1C O -/1C * 1C", when=Condition.CODE_NEEDED),
    _row("CodingSchemeDesignator", "1C/1C 1C/1C O -/1C * 1C", when=Condition.SCHEME_NEEDED),
    _row("CodingSchemeVersion", "1C/1C 1C/1C O -/1C - 1C", when=Condition.VERSION_NEEDS_SCHEME),
    _row("CodeMeaning", "1/1 1/1 O -/1 - 1"),
    _row("LongCodeValue", "1C/1C 1C/1C O -/1C * 1C"),
    _row("URNCodeValue", "1C/1C 1C/1C O -/1C * 1C"),
    _row("MappingResource", "3/3 3/3 O -/3 - 3"),
    _row("MappingResourceUID", "3/3 3/3 O -/3 - 3"),
    _row("ContextGroupVersion", "3/3 3/3 O -/3 - 3"),
    _row("ContextGroupExtensionFlag", "3/3 3/3 O -/3 - 3"),
    _row("ContextGroupLocalVersion", "3/3 3/3 O -/3 - 3"),
    _row("ContextGroupExtensionCreatorUID", "3/3 3/3 O -/3 - 3"),
)

_ITEM: tuple[Row, ...] = (  # UPS Content Item macro (CC.2.5-2b)
    _row("ValueType", "1/1 1/1 O -/1 * 1"),
    _row("ConceptNameCodeSequence", "1/1 1/1 O -/1 * 1", max_items=1, items=_CODE),
    _row("DateTime", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_DATETIME),
    _row("Date", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_DATE),
    _row("Time", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_TIME),
    _row("PersonName", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_PNAME),
    _row("UID", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_UIDREF),
    _row("TextValue", "1C/1C 1/1 O -/1 * 1C", when=Condition.IS_TEXT),
    _row("ConceptCodeSequence", "1C/1C 1/1 O -/1 * 1C", max_items=1, when=Condition.IS_CODE, items=_CODE),
    _row("NumericValue", "1C/1C 1/1 O -/1 * 1C", max_items=1, when=Condition.IS_NUMERIC),
    _row(
        "MeasurementUnitsCodeSequence",
        "1C/1C 1/1 O -/1 * 1C",
        max_items=1,
        when=Condition.IS_NUMERIC,
        items=_CODE,
    ),
)

_PARAMETERS: tuple[Row, ...] = (  # Content Item macro with its optional modifiers (PS3.3 10.2, C.30.2)
    *_ITEM,
    _row("ContentItemModifierSequence", "3/3 3/3 O -/3 - -", items=_ITEM),
)

_INSTANCES: tuple[Row, ...] = (  # Referenced Instances and Access macro (CC.2.5-2c)
    _row("TypeOfInstances", "1/1 1/1 O -/1 O 1"),
    _row("StudyInstanceUID", "1C/1 1C/1 O -/1 O 1C", when=Condition.HAS_STUDY),
    _row("SeriesInstanceUID", "1C/1 1C/1 O -/1 O 1C", when=Condition.HAS_SERIES),
    _row(
        "ReferencedSOPSequence",
        "1/1 1/1 O -/1 O 1",
        items=(
            _row("ReferencedSOPClassUID", "1/1 1/1 O -/1 O 1"),
            _row("ReferencedSOPInstanceUID", "1/1 1/1 O -/1 O 1"),
            _row("HL7InstanceIdentifier", "1C/1 1C/1 O -/1 O 1C", when=Condition.IS_CDA),
            _row("ReferencedFrameNumber", "1C/1 1C/1 O -/2 O 1C"),
            _row("ReferencedSegmentNumber", "1C/1 1C/1 O -/2 O 1C"),
        ),
    ),
    _row(
        "DICOMRetrievalSequence",
        "1C/1 1C/1 O -/1 O 1C",
        when=Condition.RETRIEVAL_NEEDED,
        items=(_row("RetrieveAETitle", "1/1 1/1 O -/1 O 1"),),
    ),
    _row(
        "DICOMMediaRetrievalSequence",
        "1C/1 1C/1 O -/1 O 1C",
        items=(
            _row("StorageMediaFileSetID", "2/2 2/2 O -/2 O 2"),
            _row("StorageMediaFileSetUID", "1/1 1/1 O -/1 O 1"),
        ),
    ),
    _row("WADORetrievalSequence", "1C/1 1C/1 O -/1 O 1C", items=(_row("RetrieveURI", "1/1 1/1 O -/1 O 1"),)),
    _row(
        "XDSRetrievalSequence",
        "1C/1C 1C/1 O -/1 O 1C",
        items=(
            _row("RepositoryUniqueID", "1/1 1/1 O -/1 O 1"),
            _row("HomeCommunityID", "3/2 3/2 O 3/2 O 2"),
        ),
    ),
    _row(
        "WADORSRetrievalSequence", "1C/1 1C/1 O -/1 O 1C", items=(_row("RetrieveURL", "1/1 1/1 O -/1 O 1"),)
    ),
)

_DESIGNATOR: tuple[Row, ...] = (  # HL7v2 Hierarchic Designator macro (CC.2.5-2d)
    _row("LocalNamespaceEntityID", "1C/1 NA O -/1 * 1C", when=Condition.NAMESPACE_NEEDED),
    _row("UniversalEntityID", "1C/1 NA O -/1 * 1C"),
    _row("UniversalEntityIDType", "1C/1 NA O -/1 * 1C", when=Condition.ENTITY_TYPE_NEEDED),
)

_ISSUER: tuple[Row, ...] = (  # Issuer of Patient ID macro (CC.2.5-2e)
    _row("IssuerOfPatientID", "2/2 NA O 3/2 R 2"),
    _row(
        "IssuerOfPatientIDQualifiersSequence",
        "2/2 NA O 3/2 O 2",
        max_items=1,
        items=(
            _row("UniversalEntityID", "2/2 NA O 3/2 O 2"),
            _row("UniversalEntityIDType", "1C/1 NA O 3/2 O 1C", when=Condition.ENTITY_TYPE_NEEDED),
            _row("IdentifierTypeCode", "2/2 NA O 3/2 O 2"),
            _row("AssigningFacilitySequence", "2/2 NA O 3/2 O 2", max_items=1, items=_DESIGNATOR),
            _row("AssigningJurisdictionCodeSequence", "2/2 NA O 3/2 O 2", max_items=1, items=_CODE),
            _row("AssigningAgencyOrDepartmentCodeSequence", "2/2 NA O 3/2 O 2", max_items=1, items=_CODE),
        ),
    ),
)

_REFERENCE: tuple[Row, ...] = (  # SOP Instance Reference macro (CC.2.5-2f)
    _row("ReferencedSOPClassUID", "1/1 1/1 O -/1 * 1"),
    _row("ReferencedSOPInstanceUID", "1/1 1/1 O -/1 * 1"),
)

_STORAGE: tuple[Row, ...] = (  # Storage macro (CC.2.5-2g)
    _row("ReferencedSOPClassUID", "1C/1 1C/1 O -/1 O 1C"),
    _row(
        "DICOMStorageSequence",
        "1C/1 1C/1 O -/1 O 1C",
        when=Condition.STORAGE_NEEDED,
        items=(_row("DestinationAE", "1/1 1/1 O -/1 * 1"),),
    ),
    _row("STOWRSStorageSequence", "1C/1 1C/1 O -/1 O 1C", items=(_row("StorageURL", "1/1 1/1 O -/1 * 1"),)),
    _row(
        "XDSStorageSequence",
        "1C/1 1C/1 O -/1 O 1C",
        items=(
            _row("RepositoryUniqueID", "1/1 1/1 O -/1 * 1"),
            _row("HomeCommunityID", "3/2 3/2 O 3/2 * 2"),
        ),
    ),
)

_SOP_COMMON: tuple[Row, ...] = (  # Transaction UID and SOP Common
    _row("TransactionUID", "2/2 1C/- O NA - -", empty_at_create=True),
    _row("SpecificCharacterSet", "1C/1C 1C/1C RC 3/1 - 1C"),
    _row("SOPClassUID", "-/1 NA R NA O 1"),
    _row("SOPInstanceUID", "NA NA R NA U 1"),
)

_SCHEDULED: tuple[Row, ...] = (  # Scheduled Procedure Information (C.30.2)
    _row("ScheduledProcedureStepPriority", "1/1 3/1 R 3/1 R 1"),
    _row("ScheduledProcedureStepModificationDateTime", "-/1 -/1 R 3/1 O 3"),
    _row("ProcedureStepLabel", "1/1 3/1 O 3/1 R 1"),
    _row("WorklistLabel", "2/1 3/1 O 3/1 R 1"),
    _row("ScheduledProcessingParametersSequence", "2/2 3/2 O 3/2 - 2", items=_PARAMETERS),
    _row("ScheduledStationNameCodeSequence", "2/2 3/2 O 3/2 R 2", items=_CODE),
    _row("ScheduledStationClassCodeSequence", "2/2 3/2 O 3/2 R 2", items=_CODE),
    _row("ScheduledStationGeographicLocationCodeSequence", "2/2 3/2 O 3/2 R 2", items=_CODE),
    _row(
        "ScheduledHumanPerformersSequence",
        "2C/2C 3/2 O 3/2 R 2",
        items=(
            _row("HumanPerformerCodeSequence", "1/1 1/1 O -/1 R 1", max_items=1, items=_CODE),
            _row("HumanPerformerName", "1/1 1/1 O -/1 O 3"),
            _row("HumanPerformerOrganization", "1/1 1/1 O -/1 O 3"),
        ),
    ),
    _row("ScheduledProcedureStepStartDateTime", "1/1 3/1 R 3/1 R 1"),
    _row("ExpectedCompletionDateTime", "3/1 3/1 O 3/1 R 3"),
    _row("ScheduledProcedureStepExpirationDateTime", "3/3 3/3 O 3/3 O 3"),
    _row("ScheduledWorkitemCodeSequence", "2/2 3/1 O 3/1 R 2", max_items=1, items=_CODE),
    _row("CommentsOnTheScheduledProcedureStep", "2/2 3/1 O 3/1 O 3"),
    _row("InputReadinessState", "1/1 3/1 R 3/1 R 1"),
    _row("InputInformationSequence", "2/2 3/2 O 3/2 O 2", items=_INSTANCES),
    _row("StudyInstanceUID", "1C/2 3/2 O 3/2 O 2"),
    _row("OutputDestinationSequence", "3/3 3/3 O 3/3 O 3", items=_STORAGE),
)

_RELATIONSHIP: tuple[Row, ...] = (  # Relationship (C.30.4)
    _row("PatientName", "2/2 NA O 3/2 R 2"),
    _row("PatientID", "1C/2 NA O 3/2 R 2"),
    *_ISSUER,
    _row(
        "OtherPatientIDsSequence",
        "2/2 3/3 O 3/2 O 2",
        items=(
            _row("PatientID", "1/1 1/1 O -/1 O 1"),
            _row("TypeOfPatientID", "3/3 3/3 O 3/3 O 3"),
            *_ISSUER,
        ),
    ),
    _row("PatientBirthDate", "2/2 NA O 3/2 R 2"),
    _row("PatientSex", "2/2 NA O 3/2 R 2"),
    _row("ReferencedPatientPhotoSequence", "3/3 3/3 O 3/3 - 3", max_items=1, items=_INSTANCES),
    _row("AdmissionID", "2/2 NA O 3/2 R 2"),
    _row("IssuerOfAdmissionIDSequence", "2/2 NA O 3/2 R 2", max_items=1, items=_DESIGNATOR),
    _row("AdmittingDiagnosesDescription", "2/2 NA O 3/2 O 2"),
    _row("AdmittingDiagnosesCodeSequence", "2/2 NA O 3/2 O 2", items=_CODE),
    _row(
        "ReferencedRequestSequence",
        "2/2 NA O 3/2 R 2",
        items=(
            _row("StudyInstanceUID", "1/1 NA O -/1 O 1"),
            _row("AccessionNumber", "2/2 NA O -/2 R 2"),
            _row("IssuerOfAccessionNumberSequence", "2/2 NA O -/2 R 2", max_items=1, items=_DESIGNATOR),
            _row("PlacerOrderNumberImagingServiceRequest", "3/1 NA O -/1 O 1C"),
            _row("OrderPlacerIdentifierSequence", "2/2 NA O -/2 O 2", max_items=1, items=_DESIGNATOR),
            _row("FillerOrderNumberImagingServiceRequest", "3/1 NA O -/1 O 1C"),
            _row("OrderFillerIdentifierSequence", "2/2 NA O -/2 O 2", max_items=1, items=_DESIGNATOR),
            _row("RequestedProcedureID", "2/2 NA O -/2 R 2"),
            _row("RequestedProcedureDescription", "2/2 NA O -/2 O 2"),
            _row("RequestedProcedureCodeSequence", "2/2 NA O -/2 O 2", max_items=1, items=_CODE),
            _row("ReasonForTheRequestedProcedure", "3/3 3/3 O -/3 O 3"),
            _row("ReasonForRequestedProcedureCodeSequence", "3/3 3/3 O -/3 O 3", items=_CODE),
            _row("RequestedProcedureComments", "3/3 3/3 O -/3 O 1C"),
            _row("ConfidentialityCode", "3/3 3/3 O -/3 O 3"),
            _row("NamesOfIntendedRecipientsOfResults", "3/3 3/3 O -/3 O 3"),
            _row("ImagingServiceRequestComments", "3/3 3/3 O -/3 O 3"),
            _row("RequestingPhysician", "3/3 3/3 O -/3 O 3"),
            _row("RequestingService", "3/1 3/1 O -/3 R 3"),
            _row("RequestingServiceCodeSequence", "3/3 3/3 O -/3 O 3", items=_CODE),
            _row("IssueDateOfImagingServiceRequest", "3/3 3/3 O -/3 O 3"),
            _row("IssueTimeOfImagingServiceRequest", "3/3 3/3 O -/3 O 3"),
            _row("ReferringPhysicianName", "3/3 3/3 O -/3 O 3"),
        ),
    ),
    _row("ReplacedProcedureStepSequence", "1C/1C NA O 3/2 R 3", items=_REFERENCE),
)

_PATIENT_MEDICAL: tuple[Row, ...] = (  # Patient Demographic, Patient Medical, Visit modules
    _row("MedicalAlerts", "3/2 3/2 O 3/2 O 2C"),
    _row("PregnancyStatus", "3/2 3/2 O 3/2 O 2C"),
    _row("SpecialNeeds", "3/2 3/2 O 3/2 O 2C"),
)

_PROGRESS: tuple[Row, ...] = (  # Progress Information (C.30.1)
    _row("ProcedureStepState", "1/1 NA R 3/1 R 1"),
    _row(
        "ProcedureStepProgressInformationSequence",
        "2/2 3/2 X 3/2 - 2",
        empty_at_create=True,
        max_items=1,
        items=(
            _row("ProcedureStepProgress", "NA 3/1 O -/1 - -"),
            _row("ProcedureStepProgressDescription", "NA 3/1 O -/1 - -"),
            _row("ProcedureStepProgressParametersSequence", "NA 3/3 O -/3 - -", items=_PARAMETERS),
            _row(
                "ProcedureStepCommunicationsURISequence",
                "NA 3/1 O -/1 - -",
                items=(
                    _row("ContactURI", "NA 1/1 O -/1 - -"),
                    _row("ContactDisplayName", "NA 3/1 O -/1 - -"),
                ),
            ),
            _row("ProcedureStepCancellationDateTime", "NA 3/1 X -/1 - -"),
            _row("ReasonForCancellation", "NA 3/1 O -/1 - -"),
            _row("ProcedureStepDiscontinuationReasonCodeSequence", "NA 3/1 X -/1 - -", items=_CODE),
        ),
    ),
)

_PERFORMED: tuple[Row, ...] = (  # Performed Procedure Information (C.30.3)
    _row(
        "UnifiedProcedureStepPerformedProcedureSequence",
        "2/2 3/2 P 3/2 - -",
        empty_at_create=True,
        max_items=1,
        items=(
            _row(
                "ActualHumanPerformersSequence",
                "NA 3/1 RC -/1 O 1C",
                items=(
                    _row("HumanPerformerCodeSequence", "NA 3/1 RC -/1 - -", max_items=1, items=_CODE),
                    _row("HumanPerformerName", "NA 3/1 RC -/1 - -"),
                    _row("HumanPerformerOrganization", "NA 3/1 O -/1 - -"),
                ),
            ),
            _row("PerformedStationNameCodeSequence", "NA 3/2 P -/2 O 3", items=_CODE),
            _row("PerformedStationClassCodeSequence", "NA 3/2 O -/2 - -", items=_CODE),
            _row("PerformedStationGeographicLocationCodeSequence", "NA 3/2 O -/2 - -", items=_CODE),
            _row("PerformedProcedureStepStartDateTime", "NA 3/1 P -/1 - -"),
            _row("PerformedProcedureStepDescription", "NA 3/1 O -/1 - -"),
            _row("CommentsOnThePerformedProcedureStep", "NA 3/1 O -/1 - -"),
            _row("PerformedWorkitemCodeSequence", "NA 3/1 P -/1 - -", items=_CODE),
            _row("PerformedProcessingParametersSequence", "NA 3/1 O -/1 - -", items=_PARAMETERS),
            _row("PerformedProcedureStepEndDateTime", "NA 3/1 P -/1 O 1C"),
            _row("OutputInformationSequence", "NA 2/2 P -/2 - -", items=_INSTANCES),
        ),
    ),
)

MODULES: Mapping[str, tuple[Row, ...]] = {
    "SOP Common": _SOP_COMMON,
    "Scheduled Procedure Information": _SCHEDULED,
    "Relationship": _RELATIONSHIP,
    "Patient Medical": _PATIENT_MEDICAL,
    "Progress Information": _PROGRESS,
    "Performed Procedure Information": _PERFORMED,
}
"""Module of the UPS IOD (PS3.3 B.26.2) to its rows; attributes without a row are 3/3 throughout."""
