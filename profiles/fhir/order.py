# SPDX-License-Identifier: Apache-2.0
"""The orders a result answers, from the workitem's Referenced Request Sequence (0040,A370).

An order without any number cannot be found again by the receiver and is not made up: the result then refers
to it by accession number alone, or to no order at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiles.air.model import ReportContent
from profiles.answered_orders import answered_requests
from profiles.codes import IMAGING_PROCEDURE, Code
from profiles.dicom_json import DicomJson
from profiles.fhir.datatypes import concept
from profiles.fhir.entry import Entry
from profiles.fhir.identifiers import FhirIdentity, Json, order_identifier, token_query


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedProcedure:
    """One item of the Referenced Request Sequence, as far as FHIR needs it.

    Attributes
    ----------
    identifiers
        Accession, filler and placer numbers as FHIR identifiers, the one that identifies the order first.
    code, description
        The requested procedure.
    """

    identifiers: tuple[Json, ...]
    code: Code | None
    description: str


def requested_procedures(
    content: ReportContent, workitem: DicomJson, settings: FhirIdentity
) -> tuple[RequestedProcedure, ...]:
    """The orders of the workitem that agree with the SR.

    An item with another accession number than the SR's is left out: the SR is what was stored.
    """
    found: dict[str, RequestedProcedure] = {}
    for request in answered_requests(workitem, content.accession_number):
        kinds = (("ACSN", request.accession), ("FILL", request.filler), ("PLAC", request.placer))
        identifiers = tuple(
            order_identifier(kind, number.value, settings.order_system(kind, number.issuer))
            for kind, number in kinds
            if number.value
        )
        procedure = RequestedProcedure(
            identifiers=identifiers, code=request.procedure, description=request.description
        )
        found.setdefault(token_query(identifiers[0]), procedure)
    return tuple(found.values())


def service_request_entry(procedure: RequestedProcedure, patient: Json, settings: FhirIdentity) -> Entry:
    """The ServiceRequest of one requested procedure, created only if the receiver does not know it."""
    resource: Json = {
        "resourceType": "ServiceRequest",
        "identifier": list(procedure.identifiers),
        "status": "active",
        "intent": "order",
        "category": [concept(IMAGING_PROCEDURE, settings)],
    }
    if procedure.code is not None:
        resource["code"] = concept(procedure.code, settings, text=procedure.description)
    elif procedure.description:
        resource["code"] = {"text": procedure.description}
    resource["subject"] = patient
    return Entry(resource=resource, if_none_exist=token_query(procedure.identifiers[0]))


def accession_identifier(
    content: ReportContent, procedures: Sequence[RequestedProcedure], settings: FhirIdentity
) -> Json | None:
    """The SR's accession number as identifier, with the issuer the order gives it; None without one."""
    if not content.accession_number:
        return None
    for procedure in procedures:
        for identifier in procedure.identifiers:
            if identifier["type"]["coding"][0]["code"] == "ACSN":
                return identifier
    return order_identifier("ACSN", content.accession_number, settings.order_system("ACSN"))


def order_references(entries: Sequence[Entry], accession: Json | None) -> tuple[Json, ...]:
    """References to the orders; without an order, to the one that bears the accession number, if any."""
    if entries:
        return tuple(entry.reference for entry in entries)
    return ({"type": "ServiceRequest", "identifier": accession},) if accession else ()
