# SPDX-License-Identifier: Apache-2.0
"""A FHIR R4 ServiceRequest to the order it is: the same value that an ORM or OMI becomes.

Pure: a resource in, an order or all its faults out. Which choices are made is told in the guide
"What starts work".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from profiles.fhir.identifiers import Json
from profiles.fhir.reading import (
    Issue,
    Issues,
    RequestReading,
    code_of,
    concept_text,
    contained,
    identifier_type,
    identifier_value,
    list_of,
    object_of,
    person_name,
    references,
    structure_issues,
    study_uid,
    text_of,
    tokens_of,
)
from profiles.order import Order, OrderControl, Priority
from profiles.request import Request, RequestKind, Trigger, blank_order

TYPE = "ServiceRequest"
PRIORITIES: Mapping[str, Priority] = {
    "": Priority.MEDIUM,
    "routine": Priority.MEDIUM,
    "urgent": Priority.HIGH,
    "asap": Priority.HIGH,
    "stat": Priority.HIGH,
}
ORDERS = ("order", "original-order", "reflex-order", "filler-order", "instance-order")
"""Intents that ask for something to be done."""

_CONTROLS: Mapping[str, tuple[OrderControl, str]] = {
    "active": (OrderControl.NEW, ""),
    "on-hold": (OrderControl.HOLD, "HD"),
    "revoked": (OrderControl.CANCEL, "CA"),
    "entered-in-error": (OrderControl.CANCEL, "CA"),
    "completed": (OrderControl.STATUS_CHANGED, "CM"),
}
_SEXES = {"male": "M", "female": "F", "other": "O"}
_PATIENT_ID_TYPES = ("MR", "PI")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSaid:
    """What a reference says of a patient, in DICOM form."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


def read_service_request(
    content: object, *, name: str, source: str, document: str, reading: RequestReading
) -> Request | tuple[Issue, ...]:
    """The request that a ServiceRequest is, or all that keeps it from being taken.

    Parameters
    ----------
    content
        The decoded JSON.
    name
        Its logical id.
    source
        Who sent it.
    document
        As it is read back.
    """
    found = structure_issues(content, TYPE)
    if found or not isinstance(content, dict):
        return tuple(found)
    issues = Issues()
    order = _order(content, reading, issues)
    tokens = tokens_of(content, issues)
    if issues.found:
        return tuple(issues.found)
    told = "priority" in content
    trigger = Trigger(
        kind=RequestKind.SERVICE_REQUEST,
        source=source,
        requester=requester_of(content),
        priority=order.priority if told else None,
    )
    return Request(name=name, trigger=trigger, asked=order, document=document, tokens=tokens)


def _order(resource: Json, reading: RequestReading, issues: Issues) -> Order:
    control, order_status = _control(resource, issues)
    if text_of(resource, "intent") not in ORDERS:
        issues.add(f"{TYPE}.intent", f"only what is asked for is done: {', '.join(ORDERS)}", "business-rule")
    if resource.get("doNotPerform"):
        issues.add(f"{TYPE}.doNotPerform", "nothing is done here that would have to be left", "business-rule")
    priority = text_of(resource, "priority")
    if priority not in PRIORITIES:
        known = ", ".join(one for one in PRIORITIES if one)
        issues.add(f"{TYPE}.priority", f"has to be one of {known}", "code-invalid")
    numbers = _numbers(resource, reading, issues)
    patient = patient_of(resource, object_of(resource, "subject"), f"{TYPE}.subject", reading, issues)
    if not patient.patient_id:
        issues.add(
            f"{TYPE}.subject",
            "has to carry an identifier of the patient, itself or in a contained Patient",
            "required",
        )
    code = object_of(resource, "code")
    detail = next(iter(list_of(resource, "orderDetail")), {})
    requester = contained(resource, object_of(resource, "requester"))
    encounter = next(references(resource, object_of(resource, "encounter")), {})
    return replace(
        numbers,
        control=control,
        order_status=order_status,
        priority=PRIORITIES.get(priority, Priority.MEDIUM),
        patient_id=patient.patient_id,
        issuer_of_patient_id=patient.issuer,
        patient_name=patient.name,
        patient_birth_date=patient.birth_date,
        patient_sex=patient.sex,
        requested_procedure_code=code_of(code, reading),
        requested_procedure_description=concept_text(code),
        protocol_code=code_of(detail, reading),
        reason="; ".join(filter(None, (concept_text(one) for one in list_of(resource, "reasonCode")))),
        comments="; ".join(filter(None, (text_of(one, "text") for one in list_of(resource, "note")))),
        requesting_physician_name=person_name(list_of(requester, "name")),
        admission_id=text_of(encounter, "value")[:64],
        scheduled_at=_time(text_of(resource, "occurrenceDateTime")),
    )


def _control(resource: Json, issues: Issues) -> tuple[OrderControl, str]:
    status = text_of(resource, "status")
    if status not in _CONTROLS:
        issues.add(f"{TYPE}.status", f"what is done here is {', '.join(_CONTROLS)}", "business-rule")
    return _CONTROLS.get(status, (OrderControl.NEW, ""))


def _numbers(resource: Json, reading: RequestReading, issues: Issues) -> Order:
    """The order's numbers: by the type of the identifier, else by its system, else the placer's."""
    found: dict[str, tuple[str, str]] = {}
    untyped: list[tuple[str, str]] = []
    study = ""
    for index, identifier in enumerate(list_of(resource, "identifier")):
        if study_uid(identifier):
            study = study or study_uid(identifier)
            continue
        system = text_of(identifier, "system")
        value = identifier_value(identifier, f"{TYPE}.identifier[{index}]", issues)
        kind = identifier_type(identifier) or _kind_of(system, reading)
        number = (value, reading.issuer(system))
        if kind in ("ACSN", "PLAC", "FILL"):
            found.setdefault(kind, number)
        elif value and not kind:
            untyped.append(number)
    if "PLAC" not in found and untyped:
        found["PLAC"] = untyped[0]
    for reference in list_of(resource, "supportingInfo"):
        study = study or next((study_uid(one) for one in references(resource, reference)), "")
    if not found and not study:
        issues.add(
            f"{TYPE}.identifier",
            "has to hold an accession number (ACSN), a placer or filler order number, or a study's UID",
            "required",
        )
    nothing = ("", "")
    accession, placer, filler = (found.get(kind, nothing) for kind in ("ACSN", "PLAC", "FILL"))
    return replace(
        blank_order(study_instance_uid=study, accession_number=accession[0]),
        issuer_of_accession_number=accession[1],
        placer_order_number=placer[0],
        placer_issuer=placer[1],
        filler_order_number=filler[0],
        filler_issuer=filler[1],
    )


def _kind_of(system: str, reading: RequestReading) -> str:
    kinds = (
        ("ACSN", reading.accession_systems),
        ("PLAC", reading.placer_systems),
        ("FILL", reading.filler_systems),
    )
    return next((kind for kind, systems in kinds if system in systems), "")


def patient_of(
    resource: Json, reference: Json, expression: str, reading: RequestReading, issues: Issues
) -> PatientSaid:
    """What a reference to a patient says: a medical record number before other identifiers."""
    found = [one for one in references(resource, reference) if text_of(one, "value")]
    chosen = next(
        (one for one in found if identifier_type(one) in _PATIENT_ID_TYPES), found[0] if found else {}
    )
    patient = contained(resource, reference)
    return PatientSaid(
        patient_id=identifier_value(chosen, f"{expression}.identifier", issues),
        issuer=reading.issuer(text_of(chosen, "system")),
        name=person_name(list_of(patient, "name")),
        birth_date=text_of(patient, "birthDate").replace("-", "")
        if len(text_of(patient, "birthDate")) == 10
        else "",
        sex=_SEXES.get(text_of(patient, "gender"), ""),
    )


def requester_of(resource: Json) -> str:
    """Who stands behind a request, as far as it tells."""
    reference = object_of(resource, "requester")
    identifier = next(references(resource, reference), {})
    name = person_name(list_of(contained(resource, reference), "name"))
    told = (
        name,
        text_of(reference, "display"),
        text_of(identifier, "value"),
        text_of(reference, "reference"),
    )
    return next((one for one in told if one), "")[:64]


def _time(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
