# SPDX-License-Identifier: Apache-2.0
"""Workitems to measure with: 63 attributes and about 6.7 kB each, as a department would send them."""

from __future__ import annotations

from typing import Any

import orjson

from profiles.dicom_json import DicomJson, element, items, merged

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
CODE = ("AW1001", "99AIRWAY", "Lung CT quantification")
STATIONS = 20
PATIENTS = 500
_EMPTY = (
    "TransactionUID",
    "ScheduledStationGeographicLocationCodeSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)
_IMAGES = 30
ATTRIBUTES = 63


def workitem_uid(run: int, number: int) -> str:
    """The UID of workitem `number` of a run."""
    return f"2.25.9{run:03d}{number:08d}"


def lock_of(uid: str) -> str:
    """The Transaction UID it is claimed with."""
    return f"{uid}.7"


def make_workitem(number: int) -> DicomJson:
    """A create with everything that must be sent and much that may be; `number` varies what is searched."""
    study = f"1.2.826.0.1.3680043.10.1700.{number}"
    parts = [element(keyword) for keyword in _EMPTY]
    parts += [
        element("ScheduledProcedureStepPriority", ("HIGH", "MEDIUM", "MEDIUM", "LOW")[number % 4]),
        element("ProcedureStepLabel", "Lung CT quantification"),
        element("WorklistLabel", "AI"),
        element("ScheduledProcedureStepStartDateTime", f"20260301{number % 24:02d}{number % 60:02d}00+0000"),
        element("InputReadinessState", "READY"),
        element("ProcedureStepState", "SCHEDULED"),
        element("CommentsOnTheScheduledProcedureStep", "Please compare with the examination of last year."),
        element("ScheduledWorkitemCodeSequence", _code(*CODE)),
        element("ScheduledStationNameCodeSequence", _code(f"STATION{number % STATIONS}", "L", "Workstation")),
        element("ScheduledStationClassCodeSequence", _code("INFERENCE", "L", "Inference server")),
        element("ScheduledProcessingParametersSequence", *(_parameter(name) for name in ("Kernel", "Lobe"))),
        element("InputInformationSequence", _input(study)),
        element("PatientName", {"Alphabetic": f"Phantom^Number{number % PATIENTS}"}),
        element("PatientID", f"P{number % PATIENTS}"),
        element("PatientBirthDate", "19700101"),
        element("PatientSex", "O"),
        element("StudyInstanceUID", study),
        element("ReferencedRequestSequence", _request(study, number)),
    ]
    return merged(parts)


def count_attributes(data_set: DicomJson) -> int:
    """Data elements at all levels, each attribute of each sequence once."""
    found = set()

    def walk(inner: DicomJson, path: tuple[str, ...]) -> None:
        for tag, attribute in inner.items():
            found.add((*path, tag))
            for item in attribute.get("Value", ()):
                if attribute.get("vr") == "SQ":
                    walk(item, (*path, tag))

    walk(data_set, ())
    return len(found)


def progress(percent: int) -> DicomJson:
    """An update of the progress: what a performer sends most."""
    item = merged(
        [
            element("ProcedureStepProgress", str(percent)),
            element("ProcedureStepProgressDescription", "segmenting"),
        ]
    )
    return element("ProcedureStepProgressInformationSequence", item)


def performed(workitem: DicomJson) -> DicomJson:
    """The update that makes a workitem ready to be COMPLETED."""
    (source,) = items(workitem, "InputInformationSequence")
    item = merged(
        [
            element("PerformedStationNameCodeSequence", _code("BENCH", "L", "Benchmark")),
            element("PerformedProcedureStepStartDateTime", "20260301120100+0000"),
            element("PerformedProcedureStepEndDateTime", "20260301120200+0000"),
            element("PerformedWorkitemCodeSequence", _code(*CODE)),
            element("OutputInformationSequence", source),
        ]
    )
    return element("UnifiedProcedureStepPerformedProcedureSequence", item)


def size_of(data_set: DicomJson) -> int:
    """Bytes of its DICOM JSON."""
    return len(orjson.dumps(data_set))


def _code(value: str, scheme: str, meaning: str) -> DicomJson:
    return merged(
        [
            element("CodeValue", value),
            element("CodingSchemeDesignator", scheme),
            element("CodeMeaning", meaning),
        ]
    )


def _parameter(name: str) -> DicomJson:
    return merged(
        [
            element("ValueType", "TEXT"),
            element("ConceptNameCodeSequence", _code(name.upper(), "99AIRWAY", name)),
            element("TextValue", "standard"),
        ]
    )


def _input(study: str) -> DicomJson:
    series = f"{study}.1"
    references = (_reference(f"{series}.{number}") for number in range(1, _IMAGES + 1))
    return merged(
        [
            element("TypeOfInstances", "DICOM"),
            element("StudyInstanceUID", study),
            element("SeriesInstanceUID", series),
            element("ReferencedSOPSequence", *references),
            element(
                "WADORSRetrievalSequence", element("RetrieveURL", f"http://archive.test/studies/{study}")
            ),
        ]
    )


def _reference(uid: str) -> DicomJson:
    return merged(
        [element("ReferencedSOPClassUID", CT_IMAGE_STORAGE), element("ReferencedSOPInstanceUID", uid)]
    )


def _request(study: str, number: int) -> DicomJson:
    values: dict[str, Any] = {
        "StudyInstanceUID": study,
        "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"RP{number}",
        "RequestedProcedureDescription": "CT chest without contrast",
    }
    parts = [element(keyword, value) for keyword, value in values.items()]
    parts += [
        element(keyword) for keyword in ("IssuerOfAccessionNumberSequence", "OrderPlacerIdentifierSequence")
    ]
    parts += [element("OrderFillerIdentifierSequence")]
    parts += [element("RequestedProcedureCodeSequence", _code("24627-2", "LN", "CT Chest"))]
    return merged(parts)
