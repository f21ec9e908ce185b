# SPDX-License-Identifier: Apache-2.0
"""The orders a result answers, as values: from the workitem's Referenced Request Sequence (0040,A370).

Read once here for every receiver: FHIR and HL7 v2 answer the same orders. The stored SR decides which.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiles.codes import Code
from profiles.dicom_json import DicomJson, items, text


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNumber:
    """A number of an order and who gave it out: a universal id, else a local namespace, else empty."""

    value: str
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One item of the Referenced Request Sequence; what it does not tell is empty."""

    accession: OrderNumber
    filler: OrderNumber
    placer: OrderNumber
    procedure: Code | None
    description: str
    procedure_id: str
    requesting_physician_name: str

    @property
    def numbers(self) -> tuple[OrderNumber, ...]:
        """The numbers that are told, the one that identifies the order first."""
        return tuple(number for number in (self.accession, self.filler, self.placer) if number.value)


def answered_requests(workitem: DicomJson, accession_number: str) -> tuple[Request, ...]:
    """The orders of the workitem that agree with the SR's accession number, each once.

    An item with another accession number is left out: the SR is what was stored. One without any number
    cannot be found again by a receiver. Several orders may share an accession number.
    """
    found: dict[tuple[OrderNumber, ...], Request] = {}
    for item in items(workitem, "ReferencedRequestSequence"):
        request = _request(item)
        if request.accession.value and accession_number not in ("", request.accession.value):
            continue
        if request.numbers:
            found.setdefault(request.numbers, request)
    return tuple(found.values())


def _request(item: DicomJson) -> Request:
    def number(keyword: str, issuer: str) -> OrderNumber:
        return OrderNumber(value=text(item, keyword).strip(), issuer=_issuer(item, issuer))

    return Request(
        accession=number("AccessionNumber", "IssuerOfAccessionNumberSequence"),
        filler=number("FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence"),
        placer=number("PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"),
        procedure=_procedure_code(item),
        description=text(item, "RequestedProcedureDescription").strip(),
        procedure_id=text(item, "RequestedProcedureID").strip(),
        requesting_physician_name=text(item, "RequestingPhysician").strip(),
    )


def _issuer(item: DicomJson, keyword: str) -> str:
    """Universal id, else local namespace, of a Hierarchic Designator macro (PS3.3 10.17)."""
    for designator in items(item, keyword):
        issuer = text(designator, "UniversalEntityID") or text(designator, "LocalNamespaceEntityID")
        if issuer:
            return issuer.strip()
    return ""


def _procedure_code(item: DicomJson) -> Code | None:
    for code in items(item, "RequestedProcedureCodeSequence"):
        value, scheme = text(code, "CodeValue"), text(code, "CodingSchemeDesignator")
        if value and scheme:
            return Code(value, scheme, text(code, "CodeMeaning"))
    return None
