# SPDX-License-Identifier: Apache-2.0
"""What must hold at the ends of a study that ran: one result in Airway, archive and EMR, each event told."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydicom import Dataset, dcmread

from conformance.peers.fhir_server import FhirServer
from conformance.peers.orthanc import Orthanc
from tests.flow.remains import Remains
from tests.flow.studies import SentStudy

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
_ONCE = {"ORDER_RECEIVED": 1, "PROCESSING_STARTED": 1, "PROCESSING_COMPLETED": 1, "RESULTS_STORED": 1}


def archive_config(orthanc: Orthanc) -> list[dict[str, Any]]:
    """Both ways to an archive as destinations."""
    return [
        {
            "name": "pacs",
            "kind": "dicom",
            "host": orthanc.host,
            "port": orthanc.dicom_port,
            "ae_title": orthanc.ae_title,
        },
        {"name": "pacs-web", "kind": "dicomweb", "url": orthanc.dicom_web_url},
    ]


def emr_config(fhir_base_url: str) -> dict[str, Any]:
    """An EMR as destination."""
    return {"name": "emr", "kind": "fhir", "url": fhir_base_url}


def results_in_store(remains: Remains, story: Mapping[str, Any]) -> dict[str, Dataset]:
    """The outputs of the study's completed workitem as Airway stores them, by SOP class: one SEG, one SR."""
    (workitem,) = [one for one in story["workitems"] if one["state"] == "COMPLETED"]
    results = {
        output["sop_class_uid"]: dcmread(remains.object_of(output["sop_instance_uid"]))
        for output in workitem["outputs"]
    }
    assert sorted(results) == [SEG, SR]
    assert len(workitem["outputs"]) == 2
    return results


def check_archive(orthanc: Orthanc, study: SentStudy, results: Mapping[str, Dataset]) -> None:
    """The archive holds exactly the results, equal to those in Airway's store."""
    archived = [dcmread(io.BytesIO(content)) for content in orthanc.files_of_study(study.study_instance_uid)]
    assert sorted(str(dataset.SOPClassUID) for dataset in archived) == [SEG, SR]
    for dataset in archived:
        assert dataset == results[str(dataset.SOPClassUID)]
        assert dataset.AccessionNumber == study.accession_number
        assert dataset.PatientName == study.order.patient_name


def check_emr(fhir_server: FhirServer, study: SentStudy) -> dict[str, Any]:
    """The EMR holds the order, the study, its report and each observation once; the patient."""
    (patient,) = fhir_server.search("Patient", identifier=study.patient_id)
    subject = f"Patient/{patient['id']}"
    (request,) = _about(fhir_server.search("ServiceRequest", subject=subject), study.accession_number)
    (imaging_study,) = _about(fhir_server.search("ImagingStudy", subject=subject), study.accession_number)
    assert study.study_instance_uid in json.dumps(imaging_study)
    order = f"ServiceRequest/{request['id']}"
    (report,) = _about(fhir_server.search("DiagnosticReport", subject=subject), order)
    observations = _about(fhir_server.search("Observation", subject=subject), order)
    identifiers = [json.dumps(observation["identifier"]) for observation in observations]
    assert len(set(identifiers)) == len(identifiers)
    reported = {reference["reference"] for reference in report["result"]}
    assert reported
    assert reported <= {f"Observation/{observation['id']}" for observation in observations}
    return patient


def _about(resources: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Those that hold `text` as a whole value."""
    return [resource for resource in resources if f'"{text}"' in json.dumps(resource, ensure_ascii=False)]


def check_events(remains: Remains, story: Mapping[str, Any], destinations: list[str]) -> None:
    """Every step has one event, and the event log tells each at least once."""
    found = Counter(event["name"] for event in story["events"])
    assert found == _ONCE | {"STUDY_COMPLETE": story["revision"], "EXPORTED": len(destinations)}
    exported = sorted(event["destination"] for event in story["events"] if event["name"] == "EXPORTED")
    assert exported == sorted(destinations)
    lines = remains.events_log()
    for event in story["events"]:
        wanted = (
            f" {event['code']} - ",
            f'EventDateTime="{event["occurred_at"].removesuffix("+00:00")}Z"',
            f'UserID="{event["destination"]}"' if event["destination"] else "",
            story["study_instance_uid"] if event["name"] != "ORDER_RECEIVED" else "",
        )
        assert any(all(part in line for part in wanted) for line in lines), f"not told: {event}"
