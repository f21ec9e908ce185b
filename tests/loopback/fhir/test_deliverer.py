# SPDX-License-Identifier: Apache-2.0
"""From the stored SR on disk to the FHIR server, and what cannot be delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from conformance.peers.fhir_server import FhirServer
from conformance.validators.fhir import r4_faults
from informatics_gateway.fhir.client import FhirDeliverer, FhirEndpoint, shipment_bundle
from profiles.fhir.identifiers import FhirIdentity
from profiles.patient import PatientIdentity
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Deliverer
from tests.loopback.fhir.stored_report import NOW, shipment, write_report
from tests.reported import COMPREHENSIVE_3D_SR_STORAGE, SEGMENTATION_STORAGE, request_item, workitem

SITE = FhirIdentity(sid_base="https://hospital.example/sid")
ORDERED = workitem(request_item())


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, Path], ...]:
    """SOP class and file of a segmentation and of the report on it."""
    segmentation, report = write_report(tmp_path_factory.mktemp("objects"))
    return (SEGMENTATION_STORAGE, segmentation), (COMPREHENSIVE_3D_SR_STORAGE, report)


@pytest.fixture
def deliverer(receiver: FhirServer) -> Iterator[FhirDeliverer]:
    """A deliverer to the receiver."""
    opened = FhirDeliverer(FhirEndpoint(base_url=receiver.base_url), SITE, clock=lambda: NOW)
    yield opened
    opened.close()


def test_the_fhir_result_is_the_stored_report(
    deliverer: Deliverer, receiver: FhirServer, stored: tuple[tuple[str, Path], ...]
) -> None:
    receipt = deliverer.deliver(shipment(ORDERED, *stored))
    assert receipt.sent_at == NOW
    assert receipt.summary.endswith("created, 0 already there")
    sr = pydicom.dcmread(stored[1][1])
    (report,) = receiver.search("DiagnosticReport")
    assert report["identifier"][0]["value"] == f"urn:oid:{sr.SOPInstanceUID}"
    (volume,) = receiver.search("Observation", code="http://snomed.info/sct|118565006")
    assert volume["valueQuantity"]["value"] == 2310.257
    (failed,) = (each for each in receiver.search("Observation") if "dataAbsentReason" in each)
    assert failed["dataAbsentReason"]["text"] == "Calculation failure"
    (absent,) = (each for each in receiver.search("Observation") if "interpretation" in each)
    assert absent["code"]["text"] == "Lung"
    assert absent["valueCodeableConcept"]["text"] == "Absent"
    assert absent["component"][0]["valueCodeableConcept"]["text"] == "Right"
    (patient,) = receiver.search("Patient")
    assert patient["name"][0]["text"] == "Jörg Müller"
    assert patient["identifier"][0]["value"] == sr.PatientID
    (device,) = receiver.search("Device")
    assert "not for clinical use" in device["note"][0]["text"]


def test_the_result_of_a_merged_patient_is_the_survivors(stored: tuple[tuple[str, Path], ...]) -> None:
    merged = PatientIdentity(patient_id="P9", issuer="HOSP", name="Roe^Jane")
    bundle = shipment_bundle(replace(shipment(ORDERED, *stored), patient=merged), SITE)
    (patient,) = (
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient"
    )
    assert patient["identifier"][0]["value"] == "P9"
    assert patient["name"][0]["family"] == "Roe"
    assert "birthDate" in patient


def test_a_crash_between_sending_and_recording_is_harmless(
    deliverer: Deliverer, receiver: FhirServer, stored: tuple[tuple[str, Path], ...]
) -> None:
    deliverer.deliver(shipment(ORDERED, *stored))
    before = {kind: receiver.search(kind) for kind in ("Patient", "Observation", "Provenance", "Device")}
    restarted = FhirDeliverer(FhirEndpoint(base_url=receiver.base_url), SITE, clock=lambda: NOW)
    receipt = restarted.deliver(shipment(ORDERED, *stored))
    restarted.close()
    assert receipt.summary.startswith("FHIR transaction: 0 created")
    assert {kind: receiver.search(kind) for kind in before} == before


@pytest.mark.peers
def test_the_bundle_of_a_real_report_is_valid_r4(stored: tuple[tuple[str, Path], ...]) -> None:
    assert r4_faults(shipment_bundle(shipment(ORDERED, *stored), SITE)) == []


def test_the_last_report_is_the_root(stored: tuple[tuple[str, Path], ...], tmp_path: Path) -> None:
    earlier = (COMPREHENSIVE_3D_SR_STORAGE, tmp_path / "never-read.dcm")
    bundle = shipment_bundle(shipment(ORDERED, earlier, *stored), SITE)
    assert bundle["entry"][-2]["resource"]["resourceType"] == "DiagnosticReport"


def test_without_a_report_nothing_can_be_told(stored: tuple[tuple[str, Path], ...]) -> None:
    for files in ((), stored[:1]):
        with pytest.raises(FinalDeliveryError, match="no structured report"):
            shipment_bundle(shipment(ORDERED, *files), SITE)


def test_a_report_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    missing = shipment(ORDERED, (COMPREHENSIVE_3D_SR_STORAGE, tmp_path / "missing.dcm"))
    with pytest.raises(RetryableDeliveryError, match="disk"):
        shipment_bundle(missing, SITE)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="text"),
        pytest.param(b"\x00" * 128 + b"DICM" + b"\xff" * 64, id="broken meta"),
    ],
)
def test_bytes_that_are_no_report_are_final(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(content)
    with pytest.raises(FinalDeliveryError):
        shipment_bundle(shipment(ORDERED, (COMPREHENSIVE_3D_SR_STORAGE, path)), SITE)


def test_a_report_cut_short_on_disk_is_final(tmp_path: Path, stored: tuple[tuple[str, Path], ...]) -> None:
    whole = stored[1][1].read_bytes()
    path = tmp_path / "sr.dcm"
    path.write_bytes(whole)
    stored_whole = shipment(ORDERED, (COMPREHENSIVE_3D_SR_STORAGE, path))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FinalDeliveryError, match="not as long"):
        shipment_bundle(stored_whole, SITE)


def test_an_object_that_is_no_report_is_final_with_its_faults(stored: tuple[tuple[str, Path], ...]) -> None:
    disguised = shipment(ORDERED, (COMPREHENSIVE_3D_SR_STORAGE, stored[0][1]))
    with pytest.raises(FinalDeliveryError, match="SOPClassUID"):
        shipment_bundle(disguised, SITE)
