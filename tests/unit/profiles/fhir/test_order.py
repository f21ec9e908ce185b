# SPDX-License-Identifier: Apache-2.0
"""ServiceRequests from the workitem's Referenced Request Sequence."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.dicom_json import element, merged
from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.order import (
    accession_identifier,
    order_references,
    requested_procedures,
    service_request_entry,
)
from tests.reported import content, request_item, workitem

SITE = FhirIdentity(sid_base="https://h.example/sid")
PATIENT = {"reference": "urn:uuid:patient"}
NO_NUMBERS = {
    "AccessionNumber": "",
    "PlacerOrderNumberImagingServiceRequest": "",
    "FillerOrderNumberImagingServiceRequest": "",
}


def kinds(identifiers: list[dict[str, Any]]) -> list[str]:
    return [each["type"]["coding"][0]["code"] for each in identifiers]


def test_service_request_of_an_order() -> None:
    (procedure,) = requested_procedures(content(), workitem(request_item()), SITE)
    entry = service_request_entry(procedure, PATIENT, SITE)
    assert entry.if_none_exist == "identifier=https://h.example/sid/accession-number|ACC-77"
    resource = entry.resource
    assert kinds(resource["identifier"]) == ["ACSN", "FILL", "PLAC"]
    assert [each["value"] for each in resource["identifier"]] == ["ACC-77", "FIL-1", "PLC-1"]
    assert (resource["status"], resource["intent"], resource["subject"]) == ("active", "order", PATIENT)
    assert resource["category"][0]["coding"][0]["code"] == "363679005"
    assert resource["code"] == {"text": "CT Thorax"}


@pytest.mark.parametrize(
    ("changes", "accession", "expected"),
    [
        pytest.param({"AccessionNumber": ""}, "", ["FILL", "PLAC"], id="no accession number"),
        pytest.param(
            {"AccessionNumber": "", "FillerOrderNumberImagingServiceRequest": ""}, "", ["PLAC"], id="placer"
        ),
        pytest.param(
            {"AccessionNumber": ""}, "ACC-77", ["FILL", "PLAC"], id="accession number in the SR only"
        ),
        pytest.param({}, "", ["ACSN", "FILL", "PLAC"], id="accession number in the order only"),
    ],
)
def test_an_order_is_known_by_the_numbers_it_has(
    changes: dict[str, str], accession: str, expected: list[str]
) -> None:
    found = requested_procedures(content(accession_number=accession), workitem(request_item(**changes)), SITE)
    assert [kinds(list(each.identifiers)) for each in found] == [expected]


@pytest.mark.parametrize(
    "work",
    [
        pytest.param({}, id="no sequence"),
        pytest.param(workitem(), id="empty sequence"),
        pytest.param(workitem(request_item(**NO_NUMBERS)), id="item without numbers"),
        pytest.param(workitem(request_item(AccessionNumber="ACC-OTHER")), id="another accession number"),
    ],
)
def test_no_order_is_made_up(work: dict[str, Any]) -> None:
    assert requested_procedures(content(), work, SITE) == ()


def test_requests_of_one_accession_are_one_order() -> None:
    two = workitem(request_item(), request_item(RequestedProcedureID="RP-2"))
    assert len(requested_procedures(content(), two, SITE)) == 1


def test_issuers_and_procedure_code_are_read() -> None:
    item = merged(
        [
            request_item(),
            element("IssuerOfAccessionNumberSequence", element("UniversalEntityID", "1.2.3.4")),
            element("OrderPlacerIdentifierSequence", element("LocalNamespaceEntityID", "EPIC")),
            element(
                "RequestedProcedureCodeSequence",
                merged(
                    [
                        element("CodeValue", "24627-2"),
                        element("CodingSchemeDesignator", "LN"),
                        element("CodeMeaning", "CT Chest"),
                    ]
                ),
            ),
        ]
    )
    (procedure,) = requested_procedures(content(), workitem(item), SITE)
    assert [each["system"] for each in procedure.identifiers] == [
        "urn:oid:1.2.3.4",
        "https://h.example/sid/filler-order-number",
        "https://h.example/sid/placer-order-number/EPIC",
    ]
    code = service_request_entry(procedure, PATIENT, SITE).resource["code"]
    assert code == {
        "coding": [{"system": "http://loinc.org", "code": "24627-2"}],
        "text": "CT Thorax",
    }
    accession = accession_identifier(content(), [procedure], SITE)
    assert accession == procedure.identifiers[0]


def test_an_order_that_was_not_received_is_referred_to_by_accession_number() -> None:
    accession = accession_identifier(content(), [], SITE)
    assert accession is not None
    (reference,) = order_references([], accession)
    assert reference["type"] == "ServiceRequest"
    assert reference["identifier"]["value"] == "ACC-77"


def test_without_accession_number_there_is_no_reference() -> None:
    accession = accession_identifier(content(accession_number=""), [], SITE)
    assert accession is None
    assert order_references([], accession) == ()
