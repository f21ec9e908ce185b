# SPDX-License-Identifier: Apache-2.0
"""The Provenance of a result."""

from __future__ import annotations

from profiles.fhir.entry import Entry, Links
from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.provenance import provenance_entry
from tests.reported import SR_UID, content

TARGET = Entry(resource={"resourceType": "DiagnosticReport"}, if_none_exist="identifier=a|b")
SITE = FhirIdentity(sid_base="https://h.example/sid", assembler_name="Airway at Hospital")


def links(device: dict[str, str] | None) -> Links:
    return Links(patient={}, study={"reference": "urn:uuid:study"}, device=device, orders=())


def test_the_model_is_author_and_we_assemble() -> None:
    device = {"reference": "urn:uuid:device"}
    entry = provenance_entry(content(), links=links(device), targets=[TARGET], settings=SITE)
    assert [each["who"] for each in entry.resource["agent"]] == [
        device,
        {"type": "Device", "display": "Airway at Hospital"},
    ]
    assert entry.resource["target"] == [TARGET.reference]
    assert entry.resource["recorded"] == "2026-05-04T09:15:27Z"


def test_the_sr_is_the_identity() -> None:
    entry = provenance_entry(content(), links=links(None), targets=[TARGET], settings=SITE)
    assert entry.if_none_exist == f"_tag=https://h.example/sid/source-sr|urn:oid:{SR_UID}"
    assert entry.resource["meta"]["tag"] == [
        {"system": "https://h.example/sid/source-sr", "code": f"urn:oid:{SR_UID}"}
    ]
    assert entry.resource["agent"][0]["who"]["display"] == "Unnamed algorithm"
