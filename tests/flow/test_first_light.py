# SPDX-License-Identifier: Apache-2.0
"""The whole path against real peers: DCMTK, Orthanc by both protocols, a FHIR R4 server, rsyslog over TLS.

One study runs once for the module; each test looks at one of its ends.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from conformance.peers.fhir_server import FhirServer
from conformance.peers.orthanc import Orthanc
from conformance.peers.rsyslog import ReceivedMessage, Rsyslog
from conformance.validators.audit import audit_message_faults
from conformance.validators.dicom import check_iod, check_structured_report
from conformance.validators.fhir import r4_faults
from profiles.air.check import check_results
from profiles.codes import Code
from profiles.order import Order, OrderControl, Priority
from tests.flow.airway import RunningAirway, is_delivered

pytestmark = pytest.mark.peers

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
NAME = "Müller^Jörg"
EVENTS = ["RID45895", "RID45835", "RID45834", "RID45833", "RID45871", "RID45864", "RID45864", "RID45864"]


class Light:
    """What the study left behind at every end."""

    def __init__(
        self, folder: Path, airway: RunningAirway, truth: dict[str, Any], story: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.airway = airway
        self.truth = truth
        self.story = story
        self.study = str(truth["study_instance_uid"])
        self.sources = [dcmread(path, stop_before_pixels=True) for path in sorted(folder.rglob("*.dcm"))]


def order(truth: dict[str, Any]) -> Order:
    return Order(
        control=OrderControl.NEW,
        placer_order_number="PL-77",
        filler_order_number="FI-77",
        accession_number="ACC-77",
        patient_id="PAT-77",
        issuer_of_patient_id="HOSP",
        patient_name=NAME,
        patient_birth_date="19611104",
        patient_sex="F",
        requested_procedure_id="RP-77",
        requested_procedure_description="CT chest",
        requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
        study_instance_uid=truth["study_instance_uid"],
        priority=Priority.HIGH,
    )


@pytest.fixture(scope="module")
def light(
    tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, fhir_server: FhirServer, rsyslog: Rsyslog
) -> Iterator[Light]:
    orthanc.clear()
    fhir_server.clear()
    rsyslog.clear()
    folder = tmp_path_factory.mktemp("light")
    phantom = [sys.executable, "-m", "conformance.phantoms", "ct-chest", "--out", str(folder / "ct")]
    phantom += [
        "--slices",
        "40",
        "--size",
        "128",
        "--seed",
        "7",
        "--patient-id",
        "PAT-77",
        "--issuer",
        "HOSP",
    ]
    phantom += ["--patient-name", NAME, "--birth-date", "19611104", "--sex", "F", "--accession", "ACC-77"]
    truth = json.loads(subprocess.run(phantom, check=True, capture_output=True, text=True).stdout)
    config = {
        "destinations": [
            {
                "name": "pacs",
                "kind": "dicom",
                "host": orthanc.host,
                "port": orthanc.dicom_port,
                "ae_title": orthanc.ae_title,
            },
            {"name": "pacs-web", "kind": "dicomweb", "url": orthanc.dicom_web_url},
            {"name": "emr", "kind": "fhir", "url": fhir_server.base_url},
        ],
        "events": [
            {"name": "repository", "kind": "tls", "host": "127.0.0.1", "port": rsyslog.tls_port}
            | {"ca_file": str(rsyslog.ca_path)}
        ],
    }
    airway = RunningAirway(folder, config)
    airway.start()
    try:
        assert "MSA|AA" in airway.send_order(order(truth), "M77")
        assert airway.send_images(folder / "ct").succeeded
        story = airway.wait_story(truth["study_instance_uid"], is_delivered)
        yield Light(folder / "ct", airway, truth, story)
    finally:
        airway.stop()


@pytest.fixture(scope="module")
def results(light: Light, orthanc: Orthanc) -> dict[str, Dataset]:
    """SEG and SR as Orthanc gives them back, by SOP class."""
    stored = [dcmread(io.BytesIO(content)) for content in orthanc.files_of_study(light.study)]
    found = {str(dataset.SOPClassUID): dataset for dataset in stored}
    assert sorted(found) == [SEG, SR]
    assert len(stored) == 2
    return found


def test_the_order_and_its_study_are_told_with_evidence(light: Light) -> None:
    assert light.story["order"]["accession_number"] == "ACC-77"
    assert light.story["evidence"] == "quiet-period"
    assert [explanation["verdict"] for explanation in light.story["explanations"]] == ["matched"]
    (workitem,) = light.story["workitems"]
    assert [state["state"] for state in workitem["states"]] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_results_pass_the_independent_validators(results: dict[str, Dataset], tmp_path: Path) -> None:
    for sop_class, dataset in results.items():
        path = tmp_path / f"{sop_class}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        assert check_iod(path).errors == ()
        if sop_class == SR:
            assert check_structured_report(path).errors == ()


def test_results_agree_with_each_other_and_with_the_images(light: Light, results: dict[str, Dataset]) -> None:
    assert check_results(light.sources, results[SEG], results[SR]) == []


@pytest.mark.parametrize(
    "keyword", ["PatientName", "PatientID", "IssuerOfPatientID", "StudyDate", "AccessionNumber"]
)
@pytest.mark.parametrize("sop_class", [SEG, SR])
def test_results_carry_patient_and_study_of_the_source(
    light: Light, results: dict[str, Dataset], keyword: str, sop_class: str
) -> None:
    assert str(results[sop_class][keyword].value) == str(light.sources[0][keyword].value)


def test_the_ordered_procedure_is_in_the_results(results: dict[str, Dataset]) -> None:
    for dataset in results.values():
        request = (dataset.get("RequestAttributesSequence") or dataset.get("ReferencedRequestSequence"))[0]
        assert request.RequestedProcedureID == "RP-77"


def test_the_archive_serves_the_results_by_dicomweb(light: Light, orthanc: Orthanc) -> None:
    found = DICOMwebClient(orthanc.dicom_web_url).search_for_instances(light.study)
    assert {instance["00080016"]["Value"][0] for instance in found} == {SEG, SR}


def test_volumes_are_within_two_percent_of_the_truth(light: Light, fhir_server: FhirServer) -> None:
    told = sorted(
        observation["valueQuantity"]["value"]
        for observation in fhir_server.search("Observation")
        if observation.get("valueQuantity", {}).get("code") == "mL"
    )
    truth = sorted([light.truth["left_ml"], light.truth["right_ml"], light.truth["total_ml"]])
    assert told == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize(
    "kind", ["Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport", "Provenance"]
)
def test_the_emr_holds_one_valid_resource_of_each_kind(
    light: Light, fhir_server: FhirServer, kind: str
) -> None:
    (resource,) = fhir_server.search(kind)
    assert r4_faults(resource) == []
    assert light.study


def test_the_emr_knows_patient_and_order(light: Light, fhir_server: FhirServer) -> None:
    (patient,) = fhir_server.search("Patient", identifier="PAT-77")
    assert patient["name"][0]["family"] == "Müller"
    (request,) = fhir_server.search("ServiceRequest", subject=f"Patient/{patient['id']}")
    assert "ACC-77" in {identifier["value"] for identifier in request["identifier"]}
    assert light.study


def test_every_step_reaches_the_event_repository(light: Light, rsyslog: Rsyslog) -> None:
    messages: list[ReceivedMessage] = rsyslog.wait_for_messages(len(EVENTS))
    assert [message.message_id for message in messages] == EVENTS
    for message in messages:
        assert message.app_name == "IHE+SOLE"
        assert message.transport == "imtcp"
        assert audit_message_faults(message.message) == []
        assert "Müller" not in message.message
    assert light.study in messages[-1].message


def test_explain_tells_the_story_while_the_server_runs(light: Light) -> None:
    command = [
        sys.executable,
        "-m",
        "informatics_gateway",
        "explain",
        light.study,
        "--data",
        str(light.airway.data),
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for expected in ("ACC-77", "quiet-period", "Modality equals 'CT'", "COMPLETED", "deliver/emr DONE"):
        assert expected in told
    assert "Müller" not in told


def test_the_images_are_served_back_untouched(light: Light) -> None:
    client = DICOMwebClient(f"{light.airway.http}/dicom-web")
    series = str(light.sources[0].SeriesInstanceUID)
    served = {str(one.SOPInstanceUID): one for one in client.retrieve_series(light.study, series)}
    assert len(served) == len(light.sources)
    for path in light.folder.rglob("*.dcm"):
        sent = dcmread(path)
        assert served[str(sent.SOPInstanceUID)] == sent
