# SPDX-License-Identifier: Apache-2.0
"""The Patient from the header of an SR."""

from __future__ import annotations

import pytest

from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.patient import patient_entry
from tests.reported import STUDY_UID, content

SITE = FhirIdentity(sid_base="https://hospital.example/sid")


def test_patient_has_identity_name_sex_and_birth_date() -> None:
    entry = patient_entry(content(issuer_of_patient_id="1.2.840.99"), SITE)
    assert entry.resource == {
        "resourceType": "Patient",
        "identifier": [
            {
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]
                },
                "system": "urn:oid:1.2.840.99",
                "value": "PAT-0001",
            }
        ],
        "name": [{"text": "Jane Doe", "family": "Doe", "given": ["Jane"]}],
        "gender": "female",
        "birthDate": "1961-02-14",
    }
    assert entry.if_none_exist == "identifier=urn:oid:1.2.840.99|PAT-0001"


@pytest.mark.parametrize(
    ("sex", "gender"),
    [
        ("M", "male"),
        ("F", "female"),
        ("O", "other"),
        ("f ", "female"),
        ("U", "unknown"),
        ("", None),
        ("X", None),
    ],
)
def test_gender(sex: str, gender: str | None) -> None:
    assert patient_entry(content(patient_sex=sex), SITE).resource.get("gender") == gender


def test_what_is_not_known_is_left_out() -> None:
    resource = patient_entry(content(patient_name="", patient_sex="", patient_birth_date=""), SITE).resource
    assert set(resource) == {"resourceType", "identifier"}


def test_a_patient_without_id_is_identified_by_the_study() -> None:
    entry = patient_entry(content(patient_id=" "), SITE)
    assert entry.resource["identifier"] == [
        {"system": "https://hospital.example/sid/unidentified-patient-of-study", "value": STUDY_UID}
    ]


def test_one_id_of_two_issuers_is_two_patients() -> None:
    one, other = (patient_entry(content(issuer_of_patient_id=each), SITE) for each in ("A", "B"))
    assert one.full_url != other.full_url
