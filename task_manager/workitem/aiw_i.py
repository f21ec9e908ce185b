# SPDX-License-Identifier: Apache-2.0
"""The workitem that asks for one AI inference, as IHE AIW-I (TF-1:50.4, TF-2:4.80) and PS3.4 CC.2.5 want it.

A pure builder: from a study, its order and an app to the attributes of a complete create. What results copy
from the workitem (Appendix V) is put where ``profiles.ups.context`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text, values
from profiles.order import Order, Priority
from profiles.uids import is_uid
from profiles.ups.attributes import ENUMERATED_VALUES
from profiles.ups.context import LOCAL_SCHEME, code_item, parameter_item, station_code
from profiles.ups.dataset import entry
from profiles.ups.references import InstanceReference, information_items
from profiles.ups.states import InputReadinessState, ProcedureStepState
from profiles.ups.times import dicom_datetime
from profiles.ups.values import checked, fits
from task_manager.study.model import Instance, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """One inference wanted.

    Attributes
    ----------
    label, worklist_label
        Procedure Step Label for a pick list, and the (logical) worklist it belongs to.
    code
        The task (Scheduled Workitem Code).
    station_ae
        AE title of the performer it is for; empty leaves it open to all.
    study, order
        The study to analyse, and its order if one is known. Patient identity is the study's, the order's
        where the study says nothing.
    instances
        The inputs, in any order.
    wado_base_url, output_stow_url
        DICOMweb root to retrieve inputs from, and the address results are stored at.
    parameters
        Name to value of the app's parameters.
    scheduled_at
        Aware time from which it may be performed.
    station_class
        Class of stations it is for; empty for any.
    expected_at, expires_at
        Aware times by which it is expected to be completed, and after which it is of no use; None tells none.
    """

    label: str
    worklist_label: str
    code: Code
    station_ae: str
    priority: Priority
    study: Study
    order: Order | None
    instances: Sequence[Instance]
    wado_base_url: str
    output_stow_url: str
    scheduled_at: datetime
    parameters: Mapping[str, str] = field(default_factory=dict)
    station_class: str = ""
    expected_at: datetime | None = None
    expires_at: datetime | None = None


_LIMITS = {"LO": 64, "SH": 16, "LT": 10240}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def _identity(keyword: str, *candidates: object) -> DicomJson:
    """`keyword` with the first candidate that is a legal value; empty if none is.

    An identifier or name is never cut: a wrong identity is worse than none.
    """
    tag = tag_key(keyword)
    vr, allowed = entry(tag).vrs[0], ENUMERATED_VALUES.get(tag)
    for value in candidates:
        if value and fits(vr, value) and (allowed is None or value in allowed):
            return element(keyword, checked(vr, value))
    return element(keyword)


def _procedure_code(code: Code | None) -> list[DicomJson]:
    """The item of a code as a sender gave it; HL7 allows one without text or system, a code item does not."""
    if code is None or not code.value.strip():
        return []
    whole = Code(code.value, code.scheme or LOCAL_SCHEME, (code.meaning or code.value)[: _LIMITS["LO"]])
    legal = fits("UC", whole.value) and fits("SH", whole.scheme) and fits("LO", whole.meaning)
    return [code_item(whole)] if legal else []


def _description(keyword: str, value: str) -> DicomJson:
    """`keyword` with text for people, made to fit: no control characters or backslashes, cut to length."""
    clean = _UNPRINTABLE.sub(" ", value).replace("\\", "/").strip()
    return element(keyword, clean[: _LIMITS[entry(tag_key(keyword)).vrs[0]]])


def _optional(parts: Sequence[DicomJson]) -> list[DicomJson]:
    """Those of `parts` that have a value: type 3 attributes are left out rather than sent empty."""
    return [part for part in parts if all(each.get("Value") for each in part.values())]


def _first(attributes: DicomJson, keyword: str) -> object:
    found = values(attributes, keyword)
    return found[0] if found else None


def inference_workitem(request: InferenceRequest) -> DicomJson:
    """The complete attributes of a create, in ascending tag order."""
    references = [
        InstanceReference(
            study_instance_uid=instance.study_instance_uid,
            series_instance_uid=instance.series_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
        )
        for instance in request.instances
    ]
    stations = [code_item(station_code(request.station_ae))] if request.station_ae else []
    classes = [code_item(Code(request.station_class, LOCAL_SCHEME, request.station_class))]
    return merged(
        [
            element("TransactionUID"),
            *_patient(request.study.attributes, request.order),
            *_empty(
                "AdmittingDiagnosesDescription",
                "AdmittingDiagnosesCodeSequence",
                "IssuerOfAdmissionIDSequence",
                "ScheduledStationGeographicLocationCodeSequence",
                "ProcedureStepProgressInformationSequence",
                "UnifiedProcedureStepPerformedProcedureSequence",
            ),
            element("ReferencedRequestSequence", _request_item(request.study, request.order)),
            _description(
                "CommentsOnTheScheduledProcedureStep", request.order.comments if request.order else ""
            ),
            element("StudyInstanceUID", request.study.study_instance_uid),
            element("ScheduledProcedureStepPriority", request.priority.value),
            _description("ProcedureStepLabel", request.label),
            _description("WorklistLabel", request.worklist_label),
            element("ScheduledProcedureStepStartDateTime", dicom_datetime(request.scheduled_at)),
            element("ScheduledStationNameCodeSequence", *stations),
            element("ScheduledStationClassCodeSequence", *(classes if request.station_class else ())),
            *_time(
                "ExpectedCompletionDateTime",
                request.expected_at or (request.order.expected_at if request.order else None),
            ),
            *_time("ScheduledProcedureStepExpirationDateTime", request.expires_at),
            element("ScheduledWorkitemCodeSequence", code_item(request.code)),
            element(
                "ScheduledProcessingParametersSequence",
                *(parameter_item(name, value) for name, value in request.parameters.items()),
            ),
            element("InputReadinessState", InputReadinessState.READY.value),
            element("InputInformationSequence", *information_items(references, request.wado_base_url)),
            element(
                "OutputDestinationSequence",
                element("STOWRSStorageSequence", element("StorageURL", request.output_stow_url)),
            ),
            element("ProcedureStepState", ProcedureStepState.SCHEDULED.value),
        ]
    )


def _time(keyword: str, moment: datetime | None) -> list[DicomJson]:
    return [] if moment is None else [element(keyword, dicom_datetime(moment))]


def _empty(*keywords: str) -> list[DicomJson]:
    return [element(keyword) for keyword in keywords]


def _patient(study: DicomJson, order: Order | None) -> list[DicomJson]:
    """Patient identity: all of one source, since a name of one and an identifier of another name nobody.

    The study's if it has a patient ID or no order is known; single attributes it lacks come from the order
    only when both have the same patient ID.
    """
    study_id = text(study, "PatientID")
    use_study = order is None or bool(study_id)
    use_order = order is not None and (not study_id or order.patient_id == study_id)
    told = study if use_study else {}
    return [
        _identity(
            "PatientName", _first(told, "PatientName"), order.patient_name if order and use_order else ""
        ),
        _identity("PatientID", _first(told, "PatientID"), order.patient_id if order and use_order else ""),
        _identity(
            "IssuerOfPatientID",
            _first(told, "IssuerOfPatientID"),
            order.issuer_of_patient_id if order and use_order else "",
        ),
        *_empty("IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence"),
        _identity(
            "PatientBirthDate",
            _first(told, "PatientBirthDate"),
            order.patient_birth_date if order and use_order else "",
        ),
        _identity("PatientSex", _first(told, "PatientSex"), order.patient_sex if order and use_order else ""),
        _identity("AdmissionID", order.admission_id if order and use_order else ""),
    ]


def corrected_requests(workitem: DicomJson, former_accession_number: str, order: Order) -> DicomJson:
    """The change that gives the requests of a workitem the new accession number of their order; or nothing.

    A request with another number than the former one is another order's and stays.
    """
    requests = items(workitem, "ReferencedRequestSequence")
    number = _identity("AccessionNumber", order.accession_number)
    mine = [text(request, "AccessionNumber") == former_accession_number for request in requests]
    if not any(mine) or not values(number, "AccessionNumber"):
        return {}
    corrected = (
        merged([request, number, *_issuers(order)]) if is_mine else request
        for request, is_mine in zip(requests, mine, strict=True)
    )
    return element("ReferencedRequestSequence", *corrected)


def _issuers(order: Order | None) -> list[DicomJson]:
    """Who issued the numbers of an order (PS3.3 10.17, Hierarchic Designator)."""
    told = (
        ("IssuerOfAccessionNumberSequence", order.issuer_of_accession_number if order else ""),
        ("OrderPlacerIdentifierSequence", order.placer_issuer if order else ""),
        ("OrderFillerIdentifierSequence", order.filler_issuer if order else ""),
    )
    return [element(keyword, *_designator(issuer)) for keyword, issuer in told]


def _designator(issuer: str) -> list[DicomJson]:
    if is_uid(issuer):
        return [merged([element("UniversalEntityID", issuer), element("UniversalEntityIDType", "ISO")])]
    clean = _optional([_identity("LocalNamespaceEntityID", issuer)])
    return clean[:1]


def _request_item(study: Study, order: Order | None) -> DicomJson:
    """The one item of Referenced Request Sequence: the order's words, else what the images say."""
    attributes = study.attributes
    ordered_study = order.study_instance_uid if order and is_uid(order.study_instance_uid) else ""
    always = [
        element("StudyInstanceUID", ordered_study or study.study_instance_uid),
        _identity(
            "AccessionNumber", order.accession_number if order else "", _first(attributes, "AccessionNumber")
        ),
        *_issuers(order),
        _identity("RequestedProcedureID", order.requested_procedure_id if order else ""),
        _description("RequestedProcedureDescription", order.requested_procedure_description if order else ""),
        element(
            "RequestedProcedureCodeSequence",
            *_procedure_code(order.requested_procedure_code if order else None),
        ),
    ]
    told = [
        _identity("PlacerOrderNumberImagingServiceRequest", order.placer_order_number if order else ""),
        _identity("FillerOrderNumberImagingServiceRequest", order.filler_order_number if order else ""),
        _description("ReasonForTheRequestedProcedure", order.reason if order else ""),
        _identity("RequestingPhysician", order.requesting_physician_name if order else ""),
        _identity(
            "ReferringPhysicianName",
            order.referring_physician_name if order else "",
            _first(attributes, "ReferringPhysicianName"),
        ),
    ]
    return merged([*always, *_optional(told)])
