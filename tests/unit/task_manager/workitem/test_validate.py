# SPDX-License-Identifier: Apache-2.0
"""N-CREATE and N-SET requirements case by case: PS3.4 table CC.2.5-3."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, tag_key
from profiles.ups.dataset import MAX_FAULTS
from task_manager.outcome import RefusalCode, Refused
from task_manager.workitem.validate import checked_create, checked_details, checked_update
from tests.contract.workitems import code, instances, minimal, progress, request

UID = "2.25.100"
INVALID, MISSING, EMPTY = (
    RefusalCode.INVALID_ATTRIBUTES,
    RefusalCode.MISSING_ATTRIBUTE,
    RefusalCode.MISSING_VALUE,
)


def sequence(keyword: str, **given: Any) -> dict[str, Any]:
    """One item of `keyword` with `given` by keyword."""
    return {keyword: merged(element(k, *(v if isinstance(v, tuple) else (v,))) for k, v in given.items())}


def without(item: DicomJson, keyword: str) -> DicomJson:
    return {tag: value for tag, value in item.items() if tag != tag_key(keyword)}


def parameter(value_type: str, **given: Any) -> dict[str, Any]:
    return sequence(
        "ScheduledProcessingParametersSequence",
        ValueType=value_type,
        ConceptNameCodeSequence=code("P1", "99AIRWAY", "Parameter"),
        **given,
    )


def faults(outcome: object) -> tuple[RefusalCode | None, list[str]]:
    if isinstance(outcome, Refused):
        return outcome.code, sorted(fault.path for fault in outcome.faults)
    return None, []


CREATE_CASES: list[tuple[str, dict[str, Any], RefusalCode | None, list[str]]] = [
    ("minimum is legal", {}, None, []),
    # Type 1
    *[
        (f"1/1 {keyword} missing", {keyword: None}, MISSING, [keyword])
        for keyword in (
            "ScheduledProcedureStepPriority",
            "ProcedureStepLabel",
            "ScheduledProcedureStepStartDateTime",
            "InputReadinessState",
            "ProcedureStepState",
        )
    ],
    *[
        (f"1/1 {keyword} without value", {keyword: ()}, EMPTY, [keyword])
        for keyword in (
            "ScheduledProcedureStepPriority",
            "ProcedureStepLabel",
            "ScheduledProcedureStepStartDateTime",
            "InputReadinessState",
            "ProcedureStepState",
        )
    ],
    (
        "all at once, gravest code",
        {"ProcedureStepLabel": None, "InputReadinessState": (), "ScheduledProcedureStepPriority": "URGENT"},
        INVALID,
        ["InputReadinessState", "ProcedureStepLabel", "ScheduledProcedureStepPriority"],
    ),
    # State
    *[
        (
            f"C309 created {state}",
            {"ProcedureStepState": state},
            RefusalCode.NOT_SCHEDULED,
            ["ProcedureStepState"],
        )
        for state in ("IN PROGRESS", "COMPLETED", "CANCELED")
    ],
    (
        "C309 with other faults",
        {"ProcedureStepState": "COMPLETED", "ProcedureStepLabel": None},
        RefusalCode.NOT_SCHEDULED,
        ["ProcedureStepLabel", "ProcedureStepState"],
    ),
    # Must be empty
    ("2/2 empty TransactionUID", {"TransactionUID": "2.25.1"}, INVALID, ["TransactionUID"]),
    (
        "2/2 empty progress",
        sequence("ProcedureStepProgressInformationSequence", ProcedureStepProgress="1"),
        INVALID,
        ["ProcedureStepProgressInformationSequence"],
    ),
    (
        "2/2 empty performed",
        sequence("UnifiedProcedureStepPerformedProcedureSequence", PerformedProcedureStepDescription="x"),
        INVALID,
        ["UnifiedProcedureStepPerformedProcedureSequence"],
    ),
    # Identity
    ("SOPInstanceUID of the request", {"SOPInstanceUID": UID}, None, []),
    ("SOPInstanceUID of another", {"SOPInstanceUID": "2.25.9"}, INVALID, ["SOPInstanceUID"]),
    ("SOPClassUID of UPS Pull", {"SOPClassUID": "1.2.840.10008.5.1.4.34.6.3"}, None, []),
    ("SOPClassUID of no UPS", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, INVALID, ["SOPClassUID"]),
    ("command set", {"MessageID": 1}, INVALID, ["MessageID"]),
    # Enumerated values
    ("readiness", {"InputReadinessState": "SOON"}, INVALID, ["InputReadinessState"]),
    ("sex", {"PatientSex": "X"}, INVALID, ["PatientSex"]),
    (
        "type of patient ID",
        sequence("OtherPatientIDsSequence", PatientID="2", TypeOfPatientID="TATTOO", IssuerOfPatientID=()),
        INVALID,
        ["OtherPatientIDsSequence[0].TypeOfPatientID"],
    ),
    # Values
    (
        "dates that are none",
        {"PatientBirthDate": "19700230", "ScheduledProcedureStepStartDateTime": "tomorrow"},
        INVALID,
        ["PatientBirthDate", "ScheduledProcedureStepStartDateTime"],
    ),
    ("two values of one", {"PatientID": ("1", "2")}, INVALID, ["PatientID"]),
    # Code macro
    (
        "code without anything",
        {"ScheduledWorkitemCodeSequence": {}},
        MISSING,
        ["ScheduledWorkitemCodeSequence[0].CodeMeaning", "ScheduledWorkitemCodeSequence[0].CodeValue"],
    ),
    (
        "code without scheme",
        {"ScheduledWorkitemCodeSequence": without(code(), "CodingSchemeDesignator")},
        MISSING,
        ["ScheduledWorkitemCodeSequence[0].CodingSchemeDesignator"],
    ),
    (
        "code without meaning",
        {"ScheduledStationNameCodeSequence": without(code(), "CodeMeaning")},
        MISSING,
        ["ScheduledStationNameCodeSequence[0].CodeMeaning"],
    ),
    (
        "URN code needs no scheme",
        sequence("ScheduledStationClassCodeSequence", URNCodeValue="urn:oid:1.2.3", CodeMeaning="Class"),
        None,
        [],
    ),
    (
        "scheme version without scheme",
        sequence(
            "ScheduledStationClassCodeSequence",
            URNCodeValue="urn:oid:1.2.3",
            CodeMeaning="Class",
            CodingSchemeVersion="1",
        ),
        INVALID,
        ["ScheduledStationClassCodeSequence[0].CodingSchemeVersion"],
    ),
    (
        "one workitem code",
        {"ScheduledWorkitemCodeSequence": (code(), code())},
        INVALID,
        ["ScheduledWorkitemCodeSequence"],
    ),
    # Human performers
    (
        "performer without code and name",
        sequence("ScheduledHumanPerformersSequence", HumanPerformerOrganization="Radiology"),
        MISSING,
        [
            "ScheduledHumanPerformersSequence[0].HumanPerformerCodeSequence",
            "ScheduledHumanPerformersSequence[0].HumanPerformerName",
        ],
    ),
    # Content items
    *[
        (
            f"content item {value_type} needs {keyword}",
            parameter(value_type),
            MISSING,
            sorted(f"ScheduledProcessingParametersSequence[0].{k}" for k in keyword.split()),
        )
        for value_type, keyword in (
            ("DATETIME", "DateTime"),
            ("DATE", "Date"),
            ("TIME", "Time"),
            ("PNAME", "PersonName"),
            ("UIDREF", "UID"),
            ("TEXT", "TextValue"),
            ("CODE", "ConceptCodeSequence"),
            ("NUMERIC", "NumericValue MeasurementUnitsCodeSequence"),
        )
    ],
    ("content item TEXT", parameter("TEXT", TextValue="0.5"), None, []),
    (
        "content item of no type",
        parameter("BLOB"),
        INVALID,
        ["ScheduledProcessingParametersSequence[0].ValueType"],
    ),
    (
        "content item with two numbers",
        parameter(
            "NUMERIC", NumericValue=("1", "2"), MeasurementUnitsCodeSequence=code("1", "UCUM", "no units")
        ),
        INVALID,
        ["ScheduledProcessingParametersSequence[0].NumericValue"],
    ),
    # Referenced instances
    ("inputs", {"InputInformationSequence": (instances(), instances(series="1.2.3.5"))}, None, []),
    (
        "inputs without study and series",
        {"InputInformationSequence": instances(StudyInstanceUID=None, SeriesInstanceUID=None)},
        MISSING,
        ["InputInformationSequence[0].SeriesInstanceUID", "InputInformationSequence[0].StudyInstanceUID"],
    ),
    (
        "inputs of a class without study need none",
        {
            "InputInformationSequence": instances(
                StudyInstanceUID=None,
                SeriesInstanceUID=None,
                ReferencedSOPSequence=merged(
                    [
                        element("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.38.1"),
                        element("ReferencedSOPInstanceUID", "1.2.3.7"),
                    ]
                ),
            )
        },
        None,
        [],
    ),
    (
        "inputs without address",
        {"InputInformationSequence": instances(WADORSRetrievalSequence=None)},
        MISSING,
        ["InputInformationSequence[0].DICOMRetrievalSequence"],
    ),
    (
        "inputs from an AE",
        {
            "InputInformationSequence": instances(
                WADORSRetrievalSequence=None, DICOMRetrievalSequence=element("RetrieveAETitle", "PACS")
            )
        },
        None,
        [],
    ),
    (
        "address without URL",
        {"InputInformationSequence": instances(WADORSRetrievalSequence={})},
        MISSING,
        ["InputInformationSequence[0].WADORSRetrievalSequence[0].RetrieveURL"],
    ),
    (
        "reference without instance, in the second item",
        {
            "InputInformationSequence": (
                instances(),
                instances(
                    ReferencedSOPSequence=element("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.2")
                ),
            )
        },
        MISSING,
        ["InputInformationSequence[1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID"],
    ),
    (
        "CDA needs an HL7 identifier and no study",
        {
            "InputInformationSequence": instances(
                count=1, TypeOfInstances="CDA", StudyInstanceUID=None, SeriesInstanceUID=None
            )
        },
        MISSING,
        ["InputInformationSequence[0].ReferencedSOPSequence[0].HL7InstanceIdentifier"],
    ),
    # Hierarchic designator
    (
        "designator without namespace",
        {"IssuerOfAdmissionIDSequence": {}},
        MISSING,
        ["IssuerOfAdmissionIDSequence[0].LocalNamespaceEntityID"],
    ),
    (
        "universal entity without type",
        sequence("IssuerOfAdmissionIDSequence", UniversalEntityID="1.2.3"),
        MISSING,
        ["IssuerOfAdmissionIDSequence[0].UniversalEntityIDType"],
    ),
    (
        "universal entity of no type",
        sequence("IssuerOfAdmissionIDSequence", UniversalEntityID="1.2.3", UniversalEntityIDType="OID"),
        INVALID,
        ["IssuerOfAdmissionIDSequence[0].UniversalEntityIDType"],
    ),
    # Request
    ("request", {"ReferencedRequestSequence": request()}, None, []),
    (
        "request without study",
        {"ReferencedRequestSequence": request(StudyInstanceUID=None)},
        MISSING,
        ["ReferencedRequestSequence[0].StudyInstanceUID"],
    ),
    (
        "request with two procedures",
        {"ReferencedRequestSequence": request(RequestedProcedureCodeSequence=(code(), code()))},
        INVALID,
        ["ReferencedRequestSequence[0].RequestedProcedureCodeSequence"],
    ),
    (
        "replaced step without instance",
        sequence("ReplacedProcedureStepSequence", ReferencedSOPClassUID="1.2.840.10008.5.1.4.34.6.1"),
        MISSING,
        ["ReplacedProcedureStepSequence[0].ReferencedSOPInstanceUID"],
    ),
    # Storage
    (
        "storage without place",
        {"OutputDestinationSequence": {}},
        MISSING,
        ["OutputDestinationSequence[0].DICOMStorageSequence"],
    ),
    (
        "storage at an AE",
        sequence("OutputDestinationSequence", DICOMStorageSequence=element("DestinationAE", "PACS")),
        None,
        [],
    ),
    (
        "storage without URL",
        sequence("OutputDestinationSequence", STOWRSStorageSequence={}),
        MISSING,
        ["OutputDestinationSequence[0].STOWRSStorageSequence[0].StorageURL"],
    ),
]


@pytest.mark.parametrize(
    ("given", "code", "paths"), [case[1:] for case in CREATE_CASES], ids=[case[0] for case in CREATE_CASES]
)
def test_create(given: dict[str, Any], code: RefusalCode | None, paths: list[str]) -> None:
    assert faults(checked_create(UID, minimal(**given))) == (code, paths)


@pytest.mark.parametrize("empty", sorted(tag for tag, e in minimal().items() if "Value" not in e))
def test_a_type_2_attribute_missing_at_create_is_added_empty(empty: str) -> None:
    given = minimal()
    whole = checked_create(UID, dict(given))
    del given[empty]
    outcome = checked_create(UID, given)
    assert not isinstance(outcome, Refused)
    assert not isinstance(whole, Refused)
    assert outcome[0] == whole[0]
    assert outcome[1] is (empty != tag_key("TransactionUID"))


UPDATE_CASES: list[tuple[str, DicomJson, RefusalCode | None, list[str]]] = [
    ("nothing", {}, None, []),
    *[
        (f"NA {keyword}", element(keyword, value), INVALID, [keyword])
        for keyword, value in (
            ("SOPClassUID", "1.2.840.10008.5.1.4.34.6.1"),
            ("SOPInstanceUID", UID),
            ("PatientName", "Doe"),
            ("PatientID", "P2"),
            ("IssuerOfPatientID", "SITE"),
            ("PatientBirthDate", "19700101"),
            ("PatientSex", "F"),
            ("AdmissionID", "V1"),
            ("AdmittingDiagnosesDescription", "x"),
            ("AdmittingDiagnosesCodeSequence", code()),
            ("ReferencedRequestSequence", request()),
            ("ReplacedProcedureStepSequence", {}),
            ("ProcedureStepState", "IN PROGRESS"),
        )
    ],
    ("NA even when empty", element("PatientID"), INVALID, ["PatientID"]),
    *[
        (f"3/1 {keyword} without value", element(keyword), EMPTY, [keyword])
        for keyword in (
            "ScheduledProcedureStepPriority",
            "ProcedureStepLabel",
            "WorklistLabel",
            "ScheduledProcedureStepStartDateTime",
            "ScheduledWorkitemCodeSequence",
            "InputReadinessState",
        )
    ],
    *[
        (f"3/2 {keyword} without value", element(keyword), None, [])
        for keyword in (
            "ScheduledStationNameCodeSequence",
            "InputInformationSequence",
            "StudyInstanceUID",
            "ProcedureStepProgressInformationSequence",
        )
    ],
    ("3/3 without value", element("OutputDestinationSequence"), None, []),
    (
        "enumerated",
        element("ScheduledProcedureStepPriority", "STAT"),
        INVALID,
        ["ScheduledProcedureStepPriority"],
    ),
    (
        "two progress items",
        element(
            "ProcedureStepProgressInformationSequence",
            element("ProcedureStepProgress", "1"),
            element("ProcedureStepProgress", "2"),
        ),
        INVALID,
        ["ProcedureStepProgressInformationSequence"],
    ),
    (
        "contact without URI",
        progress(ProcedureStepCommunicationsURISequence=element("ContactDisplayName", "Ward")),
        MISSING,
        ["ProcedureStepProgressInformationSequence[0].ProcedureStepCommunicationsURISequence[0].ContactURI"],
    ),
    (
        "progress that is no number",
        progress(ProcedureStepProgress="half"),
        INVALID,
        ["ProcedureStepProgressInformationSequence[0].ProcedureStepProgress"],
    ),
    (
        "the Transaction UID is the door's",
        merged([element("TransactionUID", "2.25.1"), element("ProcedureStepLabel", "x")]),
        None,
        [],
    ),
]


@pytest.mark.parametrize(
    ("changes", "code", "paths"), [case[1:] for case in UPDATE_CASES], ids=[case[0] for case in UPDATE_CASES]
)
def test_update(changes: DicomJson, code: RefusalCode | None, paths: list[str]) -> None:
    assert faults(checked_update(changes)) == (code, paths)


def test_any_number_of_faults_is_counted_and_some_are_listed() -> None:
    outcome = checked_create(UID, minimal(ScheduledStationNameCodeSequence=({},) * 5000))
    assert isinstance(outcome, Refused)
    assert len(outcome.faults) == MAX_FAULTS + 1
    assert outcome.faults[-1].message == f"{2 * 5000 - MAX_FAULTS} more faults are not listed"


def test_an_update_leaves_missing_type_2_attributes_missing() -> None:
    item = element("PerformedProcedureStepStartDateTime", "20260301120000+0000")
    changes = checked_update(element("UnifiedProcedureStepPerformedProcedureSequence", item))
    assert not isinstance(changes, Refused)
    assert items(changes, "UnifiedProcedureStepPerformedProcedureSequence") == [item]


def test_details_are_the_four_of_the_table() -> None:
    given = merged([element("ReasonForCancellation", "x"), element("ContactURI"), element("PatientID", "P1")])
    assert checked_details(given, ("ReasonForCancellation", "ContactURI")) == (
        element("ReasonForCancellation", "x"),
        True,
    )
