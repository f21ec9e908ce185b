# SPDX-License-Identifier: Apache-2.0
"""A FHIR R4 Task to the request it is: fulfil an order that is here, or analyse a study.

Pure. ``Task.code`` is ``fulfill``; ``focus`` (or ``basedOn``) names the ServiceRequest or, by its identifier,
the ImagingStudy; ``for`` the patient; ``input`` the app, and study or accession number where no focus does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from profiles.fhir.identifiers import Json
from profiles.fhir.reading import (
    Issue,
    Issues,
    RequestReading,
    concept_text,
    identifier_type,
    identifier_value,
    list_of,
    object_of,
    references,
    structure_issues,
    study_uid,
    text_of,
    tokens_of,
)
from profiles.fhir.service_request import ORDERS, PRIORITIES, patient_of, requester_of
from profiles.order import OrderControl, Priority
from profiles.request import Request, RequestKind, Trigger, blank_order
from profiles.uids import is_uid

TYPE = "Task"
FULFILL = "fulfill"
APP, ACCESSION_NUMBER, STUDY_INSTANCE_UID = "app", "accession-number", "study-instance-uid"
INPUTS = (APP, ACCESSION_NUMBER, STUDY_INSTANCE_UID)
"""Codes of ``input.type`` that are understood, of any code system."""

_CONTROLS: Mapping[str, tuple[OrderControl, str]] = {
    **dict.fromkeys(("requested", "received", "accepted", "ready", "in-progress"), (OrderControl.NEW, "")),
    "on-hold": (OrderControl.HOLD, "HD"),
    **dict.fromkeys(("cancelled", "rejected", "failed", "entered-in-error"), (OrderControl.CANCEL, "CA")),
    "completed": (OrderControl.STATUS_CHANGED, "CM"),
}
_OURS = re.compile(r"(?:.*/)?ServiceRequest/([A-Za-z0-9.-]{1,64})(?:/_history/\w+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRead:
    """A task: its request, and the logical id of the ServiceRequest it fulfils (empty for none)."""

    request: Request
    service_request_id: str


def read_task(
    content: object, *, name: str, source: str, document: str, reading: RequestReading
) -> TaskRead | tuple[Issue, ...]:
    """The request that a Task is, or all that keeps it from being taken; see ``read_service_request``."""
    found = structure_issues(content, TYPE)
    if found or not isinstance(content, dict):
        return tuple(found)
    issues = Issues()
    control, order_status = _control(content, issues)
    _check_kind(content, issues)
    priority = text_of(content, "priority")
    if priority not in PRIORITIES:
        known = ", ".join(one for one in PRIORITIES if one)
        issues.add(f"{TYPE}.priority", f"has to be one of {known}", "code-invalid")
    inputs = _inputs(content, issues)
    study = inputs[STUDY_INSTANCE_UID] or next(_studies(content), "")
    accession = inputs[ACCESSION_NUMBER] or _accession(content, issues)
    ordered = _service_request(content)
    if not study and not accession and not ordered:
        issues.add(
            f"{TYPE}.focus",
            "has to name a ServiceRequest that is here, or a study by the identifier of its UID",
            "required",
        )
    patient = patient_of(content, object_of(content, "for"), f"{TYPE}.for", reading, issues)
    tokens = tokens_of(content, issues)
    if issues.found:
        return tuple(issues.found)
    asked = replace(
        blank_order(
            study_instance_uid=study,
            accession_number=accession,
            patient_id=patient.patient_id,
            priority=PRIORITIES.get(priority, Priority.MEDIUM),
        ),
        control=control,
        order_status=order_status,
        issuer_of_patient_id=patient.issuer,
        reason=concept_text(object_of(content, "reasonCode")),
        comments=text_of(content, "description"),
    )
    trigger = Trigger(
        kind=RequestKind.TASK,
        source=source,
        requester=requester_of(content),
        app=inputs[APP],
        priority=asked.priority if priority else None,
    )
    request = Request(name=name, trigger=trigger, asked=asked, document=document, tokens=tokens)
    return TaskRead(request=request, service_request_id=ordered)


def _control(resource: Json, issues: Issues) -> tuple[OrderControl, str]:
    status = text_of(resource, "status")
    if status not in _CONTROLS:
        issues.add(f"{TYPE}.status", f"what is done here is {', '.join(_CONTROLS)}", "business-rule")
    return _CONTROLS.get(status, (OrderControl.NEW, ""))


def _check_kind(resource: Json, issues: Issues) -> None:
    if text_of(resource, "intent") not in ORDERS:
        issues.add(f"{TYPE}.intent", f"only what is asked for is done: {', '.join(ORDERS)}", "business-rule")
    codes = [text_of(one, "code") for one in list_of(object_of(resource, "code"), "coding")]
    if codes and FULFILL not in codes:
        issues.add(f"{TYPE}.code", f"only {FULFILL} is done here", "not-supported")


def _inputs(resource: Json, issues: Issues) -> dict[str, str]:
    """The inputs that are understood; others are the performer's business and left alone."""
    found = dict.fromkeys(INPUTS, "")
    for index, one in enumerate(list_of(resource, "input")):
        kind = object_of(one, "type")
        codes = [text_of(coding, "code") for coding in list_of(kind, "coding")] or [text_of(kind, "text")]
        name = next((code for code in codes if code in INPUTS), "")
        if not name:
            continue
        expression = f"{TYPE}.input[{index}]"
        value = next(filter(None, (text_of(one, key) for key in ("valueString", "valueCode", "valueId"))), "")
        identifier = object_of(one, "valueIdentifier")
        value = value or study_uid(identifier) or identifier_value(identifier, expression, issues)
        if not value or len(value) > 64 or "\\" in value:
            issues.add(f"{expression}.value", "has to be a text of 1 to 64 characters", "value")
        elif name == STUDY_INSTANCE_UID and not is_uid(value):
            issues.add(f"{expression}.value", "is no well-formed UID", "value")
        else:
            found[name] = value
    return found


def _named(resource: Json) -> Iterator[Json]:
    yield object_of(resource, "focus")
    yield from list_of(resource, "basedOn")


def _studies(resource: Json) -> Iterator[str]:
    for reference in _named(resource):
        yield from filter(None, (study_uid(one) for one in references(resource, reference)))


def _accession(resource: Json, issues: Issues) -> str:
    for reference in _named(resource):
        for identifier in references(resource, reference):
            if identifier_type(identifier) == "ACSN":
                return identifier_value(identifier, f"{TYPE}.focus.identifier", issues)
    return ""


def _service_request(resource: Json) -> str:
    for reference in _named(resource):
        found = _OURS.fullmatch(text_of(reference, "reference"))
        if found:
            return found.group(1)
    return ""
