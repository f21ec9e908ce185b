# SPDX-License-Identifier: Apache-2.0
"""The FHIR client against two independent servers: what is sent is there, once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from conformance.peers.fhir_server import FhirServer
from informatics_gateway.fhir.client import FhirClient, FhirEndpoint
from profiles.fhir.bundle import result_bundle
from profiles.fhir.identifiers import FhirIdentity
from task_manager.errors import FinalDeliveryError
from tests.reported import (
    DENSITY,
    FAILED,
    SR_UID,
    STUDY_UID,
    VOLUME,
    content,
    group,
    request_item,
    workitem,
)

SITE = FhirIdentity(sid_base="https://hospital.example/sid")
TYPES = (
    "Patient",
    "ServiceRequest",
    "ImagingStudy",
    "Device",
    "Observation",
    "DiagnosticReport",
    "Provenance",
)
ORDERED = workitem(request_item())
RESULT = content(
    groups=(group(measurements=(VOLUME, DENSITY, FAILED)),), patient_name="Müller^Jörg=山田^太郎"
)


@pytest.fixture
def client(receiver: FhirServer) -> Iterator[FhirClient]:
    """A client of the receiver."""
    opened = FhirClient(FhirEndpoint(base_url=receiver.base_url, timeout_s=20))
    yield opened
    opened.close()


def counts(server: FhirServer) -> dict[str, int]:
    return {kind: len(server.search(kind)) for kind in TYPES}


def one(server: FhirServer, kind: str, **parameters: str) -> dict[str, Any]:
    (found,) = server.search(kind, **parameters)
    return found


def address(resource: dict[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def test_result_is_there_and_hangs_together(client: FhirClient, receiver: FhirServer) -> None:
    sent = client.transact(result_bundle(RESULT, ORDERED, settings=SITE))
    assert (sent.created, sent.found) == (10, 0)
    patient = one(receiver, "Patient", identifier="https://hospital.example/sid/patient-id|PAT-0001")
    assert [name["text"] for name in patient["name"]] == ["Jörg Müller", "太郎 山田"]
    order = one(receiver, "ServiceRequest", identifier="https://hospital.example/sid/accession-number|ACC-77")
    study = one(receiver, "ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{STUDY_UID}")
    report = one(receiver, "DiagnosticReport", identifier=f"urn:dicom:uid|urn:oid:{SR_UID}")
    assert order["subject"] == {"reference": address(patient)}
    assert report["basedOn"] == [{"reference": address(order)}]
    assert report["imagingStudy"] == [{"reference": address(study)}]
    grouper = receiver.read(report["result"][0]["reference"])
    members = [receiver.read(member["reference"]) for member in grouper["hasMember"]]
    assert [member.get("valueQuantity", {}).get("value") for member in members] == [2310.25, -812.4, None]
    device = receiver.read(members[0]["device"]["reference"])
    assert device["note"] == [{"text": "label=demonstration, not for clinical use"}]


@pytest.mark.parametrize(
    ("kind", "parameter", "expected"),
    [
        ("Observation", "patient", 4),
        ("Observation", "based-on", 4),
        ("DiagnosticReport", "based-on", 1),
        ("ImagingStudy", "patient", 1),
    ],
)
def test_results_are_found_by_reference(
    client: FhirClient, receiver: FhirServer, kind: str, parameter: str, expected: int
) -> None:
    client.transact(result_bundle(RESULT, ORDERED, settings=SITE))
    target = one(receiver, "ServiceRequest" if parameter == "based-on" else "Patient")
    assert len(receiver.search(kind, **{parameter: address(target)})) == expected


def test_results_are_found_by_code(client: FhirClient, receiver: FhirServer) -> None:
    client.transact(result_bundle(RESULT, ORDERED, settings=SITE))
    found = one(receiver, "Observation", code="http://snomed.info/sct|118565006")
    assert found["valueQuantity"]["value"] == 2310.25
    assert receiver.search("Observation", code="http://snomed.info/sct|0") == []


def test_a_second_sending_changes_nothing(client: FhirClient, receiver: FhirServer) -> None:
    bundle = result_bundle(RESULT, ORDERED, settings=SITE)
    client.transact(bundle)
    before = {kind: receiver.search(kind) for kind in TYPES}
    again = client.transact(bundle)
    assert (again.created, again.found) == (0, 10)
    assert {kind: receiver.search(kind) for kind in TYPES} == before


def test_an_interrupted_sending_is_completed(client: FhirClient, receiver: FhirServer) -> None:
    bundle = result_bundle(RESULT, ORDERED, settings=SITE)
    partly = copy.deepcopy(bundle)
    partly["entry"] = [entry for entry in bundle["entry"] if entry["request"]["url"] in ("Patient", "Device")]
    client.transact(partly)
    sent = client.transact(bundle)
    assert (sent.created, sent.found) == (8, 2)
    assert counts(receiver)["Patient"] == 1


def test_a_second_result_of_the_study_shares_patient_order_and_study(
    client: FhirClient, receiver: FhirServer
) -> None:
    client.transact(result_bundle(RESULT, ORDERED, settings=SITE))
    other_volume = replace(VOLUME, observation_uid="2.25.8001")
    other = replace(
        RESULT,
        sop_instance_uid="2.25.8000",
        groups=(group(observation_uid="2.25.8002", measurements=(other_volume,)),),
    )
    sent = client.transact(result_bundle(other, ORDERED, settings=SITE))
    assert (sent.created, sent.found) == (4, 4)
    assert counts(receiver) == {
        "Patient": 1,
        "ServiceRequest": 1,
        "ImagingStudy": 1,
        "Device": 1,
        "Observation": 6,
        "DiagnosticReport": 2,
        "Provenance": 2,
    }


def test_a_result_without_order_refers_to_no_service_request(
    client: FhirClient, receiver: FhirServer
) -> None:
    client.transact(result_bundle(replace(RESULT, accession_number=""), {}, settings=SITE))
    assert counts(receiver)["ServiceRequest"] == 0
    assert "basedOn" not in one(receiver, "DiagnosticReport")


def test_a_patient_id_of_url_characters_is_found_again(client: FhirClient, receiver: FhirServer) -> None:
    bundle = result_bundle(replace(RESULT, patient_id="a b&c=d#e+%/é"), ORDERED, settings=SITE)
    client.transact(bundle)
    assert client.transact(bundle).created == 0
    assert counts(receiver)["Patient"] == 1


def test_what_is_not_well_formed_is_refused_for_good(client: FhirClient, receiver: FhirServer) -> None:
    bundle = result_bundle(RESULT, ORDERED, settings=SITE)
    del bundle["entry"][-2]["resource"]["code"]
    with pytest.raises(FinalDeliveryError, match=r"^HTTP 400 \(structure at DiagnosticReport\.code\)$"):
        client.transact(bundle)
    assert set(counts(receiver).values()) == {0}


def test_an_ambiguous_patient_is_refused_for_good(client: FhirClient, receiver: FhirServer) -> None:
    bundle = result_bundle(RESULT, ORDERED, settings=SITE)
    patient = copy.deepcopy(bundle["entry"][0])
    del patient["request"]["ifNoneExist"]
    for number in ("1", "2"):
        twin = {**patient, "fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{number}"}
        client.transact({"resourceType": "Bundle", "type": "transaction", "entry": [twin]})
    with pytest.raises(FinalDeliveryError, match="412"):
        client.transact(bundle)


def test_two_senders_at_once_create_once(emr: FhirServer) -> None:
    emr.clear()
    bundle = result_bundle(RESULT, ORDERED, settings=SITE)
    client = FhirClient(FhirEndpoint(base_url=emr.base_url))
    with ThreadPoolExecutor(4) as senders:
        results = list(senders.map(client.transact, [bundle] * 4))
    client.close()
    assert sorted(result.created for result in results) == [0, 0, 0, 10]
    assert counts(emr)["Patient"] == 1
