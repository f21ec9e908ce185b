# SPDX-License-Identifier: Apache-2.0
"""The whole transaction: complete, closed in itself, the same every time, and valid R4."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from conformance.validators.fhir import model_faults, r4_faults
from profiles import codes
from profiles.air.model import ReportContent, ReportedEvaluation
from profiles.air.read import read_report
from profiles.dicom_json import DicomJson
from profiles.fhir.bundle import result_bundle
from profiles.fhir.identifiers import FhirIdentity
from tests.reported import FAILED, content, group, request_item, workitem

SITE = FhirIdentity(sid_base="https://hospital.example/sid", organization_name="Radiology", time_zone=UTC)
ABSENT = ReportedEvaluation(observation_uid="2.25.2101", name=codes.PRESENCE_OF_PROPERTY, value=codes.ABSENT)
RIGHT = group(
    observation_uid="2.25.3002",
    tracking_uid="2.25.4002",
    laterality=codes.RIGHT,
    measurements=(FAILED,),
    evaluations=(ABSENT,),
)
CASES = {
    "ordered": (content(groups=(group(), RIGHT)), workitem(request_item())),
    "no order": (content(accession_number=""), {}),
    "accession number only": (content(), {}),
    "names of three groups": (
        content(patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう"),
        workitem(request_item()),
    ),
    "hardly anything": (
        content(
            patient_id="",
            patient_name="",
            patient_sex="",
            patient_birth_date="19",
            accession_number="",
            study_date="",
            study_time="",
            study_description="",
            modality_of_sources="",
            procedure_reported=None,
            device_uid="",
            device_manufacturer="",
            device_name="",
            device_version="",
            algorithm_parameters=(),
            groups=(),
            referenced_instances=(),
        ),
        {},
    ),
}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for each in value.values():
            yield from references(each)


def types(bundle: dict[str, Any]) -> Counter[str]:
    return Counter(entry["resource"]["resourceType"] for entry in bundle["entry"])


def test_one_result_is_everything_a_reader_needs() -> None:
    bundle = result_bundle(*CASES["ordered"], settings=SITE)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
    assert types(bundle) == {
        "Patient": 1,
        "ServiceRequest": 1,
        "ImagingStudy": 1,
        "Device": 1,
        "Observation": 2 + 3 + 1 + 1,
        "DiagnosticReport": 1,
        "Provenance": 1,
    }


@pytest.mark.parametrize("name", ["no order", "accession number only", "hardly anything"])
def test_without_an_order_there_is_no_service_request(name: str) -> None:
    bundle = result_bundle(*CASES[name], settings=SITE)
    assert types(bundle)["ServiceRequest"] == 0


def test_an_unnamed_algorithm_leaves_no_device() -> None:
    bundle = result_bundle(*CASES["hardly anything"], settings=SITE)
    assert set(types(bundle)) == {"Patient", "ImagingStudy", "DiagnosticReport", "Provenance"}


@pytest.mark.parametrize(("report", "work"), CASES.values(), ids=CASES.keys())
def test_the_same_sr_gives_the_same_closed_bundle(report: ReportContent, work: DicomJson) -> None:
    bundle = result_bundle(report, work, settings=SITE)
    assert json.dumps(bundle) == json.dumps(result_bundle(report, work, settings=SITE))
    addresses = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(addresses)) == len(addresses)
    assert set(references(bundle)) <= set(addresses)
    assert all(entry["request"]["ifNoneExist"] for entry in bundle["entry"])


@pytest.mark.parametrize(("report", "work"), CASES.values(), ids=CASES.keys())
def test_bundle_fits_the_r4_models(report: ReportContent, work: DicomJson) -> None:
    assert model_faults(result_bundle(report, work, settings=SITE)) == []


@pytest.mark.peers
@pytest.mark.parametrize(("report", "work"), CASES.values(), ids=CASES.keys())
def test_bundle_passes_all_three_gates(report: ReportContent, work: DicomJson) -> None:
    assert r4_faults(result_bundle(report, work, settings=SITE)) == []


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "entries"),
    [("dcmqi", 28), ("highdicom/sr_document.dcm", 7), ("highdicom/sr_document_with_multiple_groups.dcm", 15)],
)
def test_reports_of_others_become_valid_r4(shared_data: Path, name: str, entries: int) -> None:
    place = shared_data / "seg-sr-rt-from-others" / name
    (path,) = [place] if place.is_file() else place.rglob("sr.dcm")
    bundle = result_bundle(read_report(dcmread(path)), {}, settings=SITE)
    assert len(bundle["entry"]) == entries
    assert r4_faults(bundle) == []
