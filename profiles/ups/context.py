# SPDX-License-Identifier: Apache-2.0
"""A workitem as its performer sees it: what to copy to results, and what to tell on the way.

Readers and builders of DICOM JSON only. Values are copied, never invented: what the workitem does not say
stays empty (IHE AIW-I TF-3 Appendix V, source copy).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from profiles.air.model import ResultContext
from profiles.codes import IMAGE_PROCESSING, Code
from profiles.dicom_json import DicomJson, element, first, items, merged, text
from profiles.ups.references import InstanceReference, information_items
from profiles.ups.times import dicom_datetime

LOCAL_SCHEME = "L"
"""Coding scheme of station names: the code value is the AE title (IHE AIW-I 4.80.4.1.2.1)."""

PARAMETER_SCHEME = "99AIRWAY"
_LONGEST_CODE = 16


def _person_name(attributes: DicomJson, keyword: str) -> str:
    """A person name with all its component groups, as DICOM writes it (PS3.5 6.2.1.1)."""
    name = first(attributes, keyword)
    if not isinstance(name, dict):
        return str(name or "")
    groups = (str(name.get(group) or "") for group in ("Alphabetic", "Ideographic", "Phonetic"))
    return "=".join(groups).rstrip("=")


def code_in(item: DicomJson) -> Code:
    """The code of a code item, whichever of the three value attributes it uses (PS3.3 8.8)."""
    value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
    return Code(value, text(item, "CodingSchemeDesignator"), text(item, "CodeMeaning"))


def code_of(attributes: DicomJson, keyword: str) -> Code | None:
    """The first code of a code sequence, or None if it is absent, empty or without a value."""
    found = items(attributes, keyword)
    code = code_in(found[0]) if found else None
    return code if code is not None and code.value else None


def code_item(code: Code) -> DicomJson:
    """The item of a code sequence; a value too long for Code Value stands in Long Code Value."""
    if len(code.value) <= _LONGEST_CODE:
        return code.to_json()
    return merged(
        [
            element("LongCodeValue", code.value),
            element("CodingSchemeDesignator", code.scheme),
            element("CodeMeaning", code.meaning),
        ]
    )


def station_code(ae_title: str) -> Code:
    """The code of a station by its AE title."""
    return Code(ae_title, LOCAL_SCHEME, ae_title)


def parameter_item(name: str, value: str) -> DicomJson:
    """A processing parameter as a TEXT content item named by a local code (PS3.3 10.2)."""
    concept = Code(name, PARAMETER_SCHEME, name)
    return merged(
        [
            element("ValueType", "TEXT"),
            element("ConceptNameCodeSequence", code_item(concept)),
            element("TextValue", value),
        ]
    )


def run_parameters(workitem: DicomJson) -> dict[str, str]:
    """Name to value of the textual and numeric Scheduled Processing Parameters."""
    found: dict[str, str] = {}
    for item in items(workitem, "ScheduledProcessingParametersSequence"):
        name = code_of(item, "ConceptNameCodeSequence")
        value = first(item, "TextValue")
        if value is None:
            value = first(item, "NumericValue")
        if name is not None and value is not None:
            found[name.value] = str(value)
    return found


def result_context(workitem: DicomJson, *, performed_at: datetime, station_name: str) -> ResultContext:
    """What results copy from a retrieved workitem (IHE AIW-I table V-1).

    `performed_at` is the aware start of the analysis and `station_name` the performing station; all else is
    the workitem's, of the first item of its Referenced Request Sequence.
    """
    requests = items(workitem, "ReferencedRequestSequence")
    request: DicomJson = requests[0] if requests else {}
    return ResultContext(
        workitem_uid=text(workitem, "SOPInstanceUID"),
        performed_at=performed_at,
        station_name=station_name,
        accession_number=text(request, "AccessionNumber"),
        requested_procedure_id=text(request, "RequestedProcedureID"),
        requested_procedure_description=text(request, "RequestedProcedureDescription"),
        requested_procedure_code=code_of(request, "RequestedProcedureCodeSequence"),
        reason_for_requested_procedure=text(request, "ReasonForTheRequestedProcedure"),
        referring_physician_name=_person_name(request, "ReferringPhysicianName"),
        scheduled_workitem_code=code_of(workitem, "ScheduledWorkitemCodeSequence"),
        placer_order_number=text(request, "PlacerOrderNumberImagingServiceRequest"),
        filler_order_number=text(request, "FillerOrderNumberImagingServiceRequest"),
    )


def progress_update(percent: int, description: str) -> DicomJson:
    """Changes that tell progress: percent done (0-100) and a short text (PS3.3 C.30.1).

    The sequence is replaced as a whole, so contact or reason told before have to be told again.
    """
    item = merged(
        [
            element("ProcedureStepProgress", str(percent)),
            element("ProcedureStepProgressDescription", description),
        ]
    )
    return element("ProcedureStepProgressInformationSequence", item)


def performed_update(
    workitem: DicomJson,
    *,
    outputs: Iterable[tuple[str, str, str]],
    station_name: str,
    started_at: datetime,
    ended_at: datetime,
    retrieve_base_url: str,
) -> DicomJson:
    """Changes that satisfy every final-state rule of COMPLETED (PS3.4 CC.2.5-3, code P).

    Parameters
    ----------
    workitem
        As retrieved; its study and workitem code are those of the outputs and of what was done. Without a
        code, Image Processing (CID 9231) was done.
    outputs
        (Series Instance UID, SOP Class UID, SOP Instance UID) of every object made; none is legal.
    station_name
        AE title of the performing station.
    started_at, ended_at
        Aware times of the analysis.
    retrieve_base_url
        DICOMweb root under which the outputs can be retrieved; a trailing ``/studies`` is understood.
    """
    study_uid = text(workitem, "StudyInstanceUID")
    references = [
        InstanceReference(
            study_instance_uid=study_uid,
            series_instance_uid=series_uid,
            sop_class_uid=class_uid,
            sop_instance_uid=instance_uid,
        )
        for series_uid, class_uid, instance_uid in outputs
    ]
    base = retrieve_base_url.rstrip("/").removesuffix("/studies")
    done = code_of(workitem, "ScheduledWorkitemCodeSequence") or IMAGE_PROCESSING
    item = merged(
        [
            element("PerformedStationNameCodeSequence", station_code(station_name).to_json()),
            element("PerformedProcedureStepStartDateTime", dicom_datetime(started_at)),
            element("PerformedProcedureStepEndDateTime", dicom_datetime(ended_at)),
            element("PerformedWorkitemCodeSequence", code_item(done)),
            element("OutputInformationSequence", *information_items(references, base)),
        ]
    )
    return element("UnifiedProcedureStepPerformedProcedureSequence", item)


def cancellation_update(*, reason: Code, text: str) -> DicomJson:
    """Changes that say why a workitem is about to be canceled (PS3.4 CC.2.5-3, code X).

    `reason` is of CID 9300; `text` names no patient. The manager fills in the time.
    """
    item = merged(
        [
            element("ReasonForCancellation", text[:10240]),
            element("ProcedureStepDiscontinuationReasonCodeSequence", reason.to_json()),
        ]
    )
    return element("ProcedureStepProgressInformationSequence", item)
