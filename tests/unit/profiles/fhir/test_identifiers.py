# SPDX-License-Identifier: Apache-2.0
"""Identifier systems and the searches that find resources again."""

from __future__ import annotations

import pytest

from profiles import codes
from profiles.fhir.identifiers import (
    FhirIdentity,
    observation_identifier,
    order_identifier,
    token_query,
    uid_identifier,
)

SITE = FhirIdentity(
    sid_base="https://hospital.example/sid",
    patient_id_systems={"WARD^X": "https://hospital.example/ward-x"},
    accession_system="urn:oid:1.2.3.7",
    code_systems={"99SITE": "https://hospital.example/codes"},
)


@pytest.mark.parametrize(
    ("issuer", "system"),
    [
        pytest.param("", "https://hospital.example/sid/patient-id", id="no issuer"),
        pytest.param("1.2.840.113", "urn:oid:1.2.840.113", id="universal id"),
        pytest.param("urn:oid:1.2.3", "urn:oid:1.2.3", id="urn"),
        pytest.param("https://x.example/ids", "https://x.example/ids", id="uri"),
        pytest.param("WARD^X", "https://hospital.example/ward-x", id="configured"),
        pytest.param("Ward/7 ä", "https://hospital.example/sid/patient-id/Ward%2F7%20%C3%A4", id="namespace"),
        pytest.param("7", "https://hospital.example/sid/patient-id/7", id="a number is no oid"),
    ],
)
def test_patient_system_follows_the_issuer(issuer: str, system: str) -> None:
    assert SITE.patient_system(issuer) == system


def test_configured_systems_stand_before_formed_ones() -> None:
    assert SITE.order_system("ACSN") == "urn:oid:1.2.3.7"
    assert SITE.order_system("ACSN", "1.9.9") == "urn:oid:1.9.9"
    assert SITE.order_system("PLAC") == "https://hospital.example/sid/placer-order-number"
    assert SITE.order_system("FILL", "RIS") == "https://hospital.example/sid/filler-order-number/RIS"
    assert FhirIdentity(patient_id_system="urn:x:p").patient_system("") == "urn:x:p"


@pytest.mark.parametrize(
    ("scheme", "system"),
    [
        ("SCT", "http://snomed.info/sct"),
        ("99SITE", "https://hospital.example/codes"),
        ("99AIRWAY", "https://hospital.example/sid/CodeSystem/99AIRWAY"),
        ("99OTHER", ""),
    ],
)
def test_code_system(scheme: str, system: str) -> None:
    assert SITE.code_system(scheme) == system


def test_uid_identifiers_have_the_oid_prefix() -> None:
    assert uid_identifier("1.2.3") == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    typed = uid_identifier("1.2.3", type_code=codes.TRACKING_UNIQUE_IDENTIFIER, settings=SITE)
    assert typed["type"]["coding"][0]["code"] == "112040"
    assert observation_identifier("1.2.3")["value"] == "urn:oid:1.2.3"
    assert observation_identifier("1.2.3")["type"]["coding"][0]["code"] == "observation-uid"


def test_order_identifier_is_typed() -> None:
    identifier = order_identifier("ACSN", "A1", "urn:oid:1.2")
    assert identifier["type"]["coding"] == [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
    ]
    assert (identifier["system"], identifier["value"]) == ("urn:oid:1.2", "A1")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        pytest.param("PAT-1", "PAT-1", id="plain"),
        pytest.param("a b&c=d#e+%", "a%20b%26c%3Dd%23e%2B%25", id="url characters"),
        pytest.param("Müller", "M%C3%BCller", id="not ascii"),
        pytest.param("a,b|c$d\\e", "a%5C%2Cb%5C%7Cc%5C%24d%5C%5Ce", id="search separators escaped"),
    ],
)
def test_token_query_encodes_the_value(value: str, encoded: str) -> None:
    query = token_query({"system": "https://x.example/s", "value": value})
    assert query == f"identifier=https://x.example/s|{encoded}"
