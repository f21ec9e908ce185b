# SPDX-License-Identifier: Apache-2.0
"""The FHIR peer stores, searches and refuses as an R4 server does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conformance.peers.fhir_server import FhirServer

pytestmark = pytest.mark.peers


@pytest.fixture
def client(fhir_server: FhirServer) -> Iterator[httpx.Client]:
    fhir_server.clear()
    with httpx.Client(base_url=fhir_server.base_url, trust_env=False) as opened:
        yield opened


def patient(**more: Any) -> dict[str, Any]:
    identifier = {"system": "urn:example:mrn", "value": "P1"}
    return {"resourceType": "Patient", "identifier": [identifier], **more}


def observation_bundle() -> dict[str, Any]:
    observation = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:2.25.7"}],
        "status": "preliminary",
        "code": {"text": "Volume"},
        "subject": {"reference": "urn:uuid:11111111-1111-4111-8111-111111111111"},
        "valueQuantity": {"value": 4200, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL"},
    }
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:11111111-1111-4111-8111-111111111111",
                "resource": patient(),
                "request": {
                    "method": "POST",
                    "url": "Patient",
                    "ifNoneExist": "identifier=urn:example:mrn|P1",
                },
            },
            {
                "fullUrl": "urn:uuid:22222222-2222-4222-8222-222222222222",
                "resource": observation,
                "request": {
                    "method": "POST",
                    "url": "Observation",
                    "ifNoneExist": "identifier=urn:dicom:uid|urn:oid:2.25.7",
                },
            },
        ],
    }


def test_capability_statement_declares_r4_and_transactions(client: httpx.Client) -> None:
    statement = client.get("/metadata").json()

    assert statement["fhirVersion"] == "4.0.1"
    assert {"code": "transaction"} in statement["rest"][0]["interaction"]


def test_created_resource_has_location_and_version_and_is_read_back(
    client: httpx.Client, fhir_server: FhirServer
) -> None:
    created = client.post("/Patient", json=patient(birthDate="1970-01-31"))

    assert created.status_code == 201
    assert created.headers["etag"].startswith('W/"')
    path = created.headers["location"].removeprefix(fhir_server.base_url + "/").partition("/_history")[0]
    assert fhir_server.read(path)["birthDate"] == "1970-01-31"


def test_transaction_rewrites_references_and_is_idempotent_by_conditional_create(
    client: httpx.Client, fhir_server: FhirServer
) -> None:
    first = client.post("", json=observation_bundle()).json()
    second = client.post("", json=observation_bundle()).json()

    assert [entry["response"]["status"][:3] for entry in first["entry"]] == ["201", "201"]
    assert [entry["response"]["status"][:3] for entry in second["entry"]] == ["200", "200"]
    [stored] = fhir_server.search("Observation", identifier="urn:dicom:uid|urn:oid:2.25.7")
    [subject] = fhir_server.search("Patient", identifier="urn:example:mrn|P1")
    assert stored["subject"]["reference"] == f"Patient/{subject['id']}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "no JSON", id="broken-json"),
        pytest.param(b'{"resourceType":"Patient","birthDate":"yesterday"}', "Invalid date", id="bad-date"),
        pytest.param(b'{"resourceType":"Patient","colour":"red"}', "colour", id="unknown-element"),
        pytest.param(b'{"resourceType":"Observation","code":{"text":"x"}}', "status", id="required-missing"),
        pytest.param(b"", "resource", id="empty"),
    ],
)
def test_bad_resource_is_refused_with_an_outcome(client: httpx.Client, body: bytes, words: str) -> None:
    resource_type = "Observation" if b"Observation" in body else "Patient"

    answer = client.post(f"/{resource_type}", content=body, headers={"Content-Type": "application/fhir+json"})

    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert words in answer.text


def test_paths_outside_the_base_are_not_found(client: httpx.Client, fhir_server: FhirServer) -> None:
    assert client.get(f"http://127.0.0.1:{fhir_server.port}/elsewhere").status_code == 404


def test_clear_forgets_everything(client: httpx.Client, fhir_server: FhirServer) -> None:
    client.post("/Patient", json=patient())
    assert len(fhir_server.search("Patient")) == 1

    fhir_server.clear()

    assert fhir_server.search("Patient") == []
