# SPDX-License-Identifier: Apache-2.0
"""Workitems for tests: a create with exactly what must be sent, and the updates that finish one."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from profiles.dicom_json import DicomJson, element, merged, tag_key

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

_CREATED_EMPTY = (
    "TransactionUID",
    "WorklistLabel",
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "CommentsOnTheScheduledProcedureStep",
    "InputInformationSequence",
    "PatientName",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "ReferencedRequestSequence",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)


def minimal(**given: Any) -> DicomJson:
    """A create with every type 1 and type 2 attribute, the worklist label filled; `given` by keyword.

    A value of None leaves the attribute out, a tuple gives several values, an empty tuple none.
    """
    parts = [element(keyword) for keyword in _CREATED_EMPTY]
    parts += [
        element("ScheduledProcedureStepPriority", "MEDIUM"),
        element("ProcedureStepLabel", "Lung analysis"),
        element("WorklistLabel", "AI"),
        element("ScheduledProcedureStepStartDateTime", "20260301120000+0000"),
        element("InputReadinessState", "READY"),
        element("ProcedureStepState", "SCHEDULED"),
    ]
    attributes = merged(parts)
    for keyword, value in given.items():
        if value is None:
            attributes.pop(tag_key(keyword), None)
        else:
            attributes.update(element(keyword, *(value if isinstance(value, tuple) else (value,))))
    return copy.deepcopy(merged([attributes]))


def code(
    value: str = "AW1001", scheme: str = "99AIRWAY", meaning: str = "Lung CT quantification"
) -> DicomJson:
    """A code item."""
    return merged(
        [
            element("CodeValue", value),
            element("CodingSchemeDesignator", scheme),
            element("CodeMeaning", meaning),
        ]
    )


def instances(*, study: str = "1.2.3", series: str = "1.2.3.4", count: int = 2, **given: Any) -> DicomJson:
    """An item of Input or Output Information Sequence with a WADO-RS address."""
    item = merged(
        [
            element("TypeOfInstances", "DICOM"),
            element("StudyInstanceUID", study),
            element("SeriesInstanceUID", series),
            element(
                "ReferencedSOPSequence",
                *(
                    merged(
                        [
                            element("ReferencedSOPClassUID", CT_IMAGE_STORAGE),
                            element("ReferencedSOPInstanceUID", f"{series}.{number}"),
                        ]
                    )
                    for number in range(1, count + 1)
                ),
            ),
            element("WADORSRetrievalSequence", element("RetrieveURL", "http://archive.test/studies/1.2.3")),
        ]
    )
    for keyword, value in given.items():
        if value is None:
            item.pop(tag_key(keyword))
        else:
            item.update(element(keyword, *(value if isinstance(value, tuple) else (value,))))
    return item


def request(**given: Any) -> DicomJson:
    """An item of Referenced Request Sequence with everything it must have."""
    values = {
        "StudyInstanceUID": "1.2.3",
        "AccessionNumber": "A1",
        "IssuerOfAccessionNumberSequence": (),
        "OrderPlacerIdentifierSequence": (),
        "OrderFillerIdentifierSequence": (),
        "RequestedProcedureID": "RP1",
        "RequestedProcedureDescription": "CT chest",
        "RequestedProcedureCodeSequence": (),
        **given,
    }
    return merged(
        element(keyword, *(value if isinstance(value, tuple) else (value,)))
        for keyword, value in values.items()
        if value is not None
    )


def performed(**given: Any) -> DicomJson:
    """An update with a performed sequence that satisfies COMPLETED; `given` replaces, None leaves out."""
    values = {
        "PerformedStationNameCodeSequence": code("PERF1", "L", "Performer 1"),
        "PerformedProcedureStepStartDateTime": "20260301120100+0000",
        "PerformedProcedureStepEndDateTime": "20260301120200+0000",
        "PerformedWorkitemCodeSequence": code(),
        "OutputInformationSequence": instances(series="1.2.3.9"),
        **given,
    }
    item = merged(
        element(keyword, *(value if isinstance(value, tuple) else (value,)))
        for keyword, value in values.items()
        if value is not None
    )
    return element("UnifiedProcedureStepPerformedProcedureSequence", item)


def progress(**given: Any) -> DicomJson:
    """An update of the progress sequence with one item."""
    item = merged(element(keyword, *(v if isinstance(v, tuple) else (v,))) for keyword, v in given.items())
    return element("ProcedureStepProgressInformationSequence", item)
