# SPDX-License-Identifier: Apache-2.0
"""Reading the results back from the archive and the EMR, and checking them against the source.

The demonstration succeeds only if every check here passes; what Airway says about itself counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from informatics_gateway.demo.scenario import DemoStudy
from profiles.air.check import check_results
from profiles.air.model import ReportContent
from profiles.air.read import read_report
from profiles.air.segments import place_segments
from profiles.codes import VOLUME
from task_manager.errors import FinalDeliveryError

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
_SAME_SOURCE = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate")
_VOLUME_TOLERANCE = 0.02
_LEAST_DICE = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at, whether it is as it should be, and what was seen."""

    what: str
    good: bool
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What archive and EMR gave back."""

    segmentation: Dataset
    report: Dataset
    content: ReportContent
    observations: tuple[dict[str, Any], ...]
    bundle: dict[str, Any]
    sources: tuple[Dataset, ...]


def fetch_results(study: DemoStudy, archive_web: str, emr: str) -> Results:
    """Retrieve SEG and SR from the archive by WADO-RS, and the resources of the study from the EMR.

    Raises
    ------
    FinalDeliveryError
        If something that should be there is not.
    """
    found = DICOMwebClient(archive_web).retrieve_study(study.study_instance_uid)
    by_class: dict[str, list[Dataset]] = {}
    for dataset in found:
        by_class.setdefault(str(dataset.SOPClassUID), []).append(dataset)
    if len(by_class.get(SEGMENTATION, ())) != 1 or len(by_class.get(REPORT, ())) != 1:
        raise FinalDeliveryError("the archive does not hold exactly one SEG and one SR of the study")
    report = by_class[REPORT][0]
    content = read_report(report)
    bundle = _emr_bundle(emr, content)
    observations = tuple(
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"
    )
    analysed = {uid for _, _, uid in content.referenced_instances}
    sources = tuple(
        dataset
        for dataset in (dcmread(path, stop_before_pixels=True) for path in study.paths)
        if str(dataset.SOPInstanceUID) in analysed
    )
    return Results(
        segmentation=by_class[SEGMENTATION][0],
        report=report,
        content=content,
        observations=observations,
        bundle=bundle,
        sources=sources,
    )


def check(study: DemoStudy, results: Results) -> list[Check]:
    """Everything that must hold of the results, each as one check."""
    checks = [
        *_check_objects(results),
        *_check_against_source(study, results),
        *_check_observations(results),
    ]
    if study.truth:
        checks.extend(_check_truth(study, results))
    return checks


def _check_objects(results: Results) -> list[Check]:
    faults = check_results(results.sources, results.segmentation, results.report)
    seen = (
        "; ".join(str(fault) for fault in faults) or "references, tracking, equipment, volume from the mask"
    )
    return [Check(what="SEG and SR agree with each other and with the images", good=not faults, seen=seen)]


def _check_against_source(study: DemoStudy, results: Results) -> list[Check]:
    source = dcmread(study.paths[0], stop_before_pixels=True)
    other = [
        f"{keyword} of {name}"
        for keyword in _SAME_SOURCE
        for name, result in (("SEG", results.segmentation), ("SR", results.report))
        if str(source.get(keyword, "") or "") != str(result.get(keyword, "") or "")
    ]
    return [
        Check(
            what="patient and study of SEG and SR are the source's",
            good=not other,
            seen=", ".join(other) or f"{len(_SAME_SOURCE)} attributes compared",
        )
    ]


def _volumes(content: ReportContent) -> dict[str, float]:
    return {
        group.tracking_identifier: measurement.value
        for group in content.groups
        for measurement in group.measurements
        if measurement.name.same_concept(VOLUME) and measurement.value is not None
    }


def _check_observations(results: Results) -> list[Check]:
    told = sorted(
        float(observation["valueQuantity"]["value"])
        for observation in results.observations
        if observation.get("valueQuantity", {}).get("code") == "mL"
    )
    measured = sorted(_volumes(results.content).values())
    agree = len(told) == len(measured) and bool(np.allclose(told, measured, rtol=1e-9))
    seen = f"{_list(measured)} mL in the SR, {_list(told)} mL in the EMR"
    return [Check(what="volumes in SR and Observations agree", good=agree and bool(told), seen=seen)]


def _check_truth(study: DemoStudy, results: Results) -> list[Check]:
    checks = []
    volumes = _volumes(results.content)
    for label, truth in study.truth.items():
        value = next((volume for name, volume in volumes.items() if name.startswith(label)), None)
        good = value is not None and abs(value - truth) <= _VOLUME_TOLERANCE * truth
        seen = (
            "not reported"
            if value is None
            else f"{value:.1f} mL, truth {truth:.1f} mL ({value / truth - 1:+.2%})"
        )
        checks.append(Check(what=f"{label}: volume within 2 % of the phantom's truth", good=good, seen=seen))
    dice = _dice(study, results)
    return [
        *checks,
        Check(
            what="SEG decodes to the lungs of the phantom", good=dice >= _LEAST_DICE, seen=f"Dice {dice:.4f}"
        ),
    ]


def _dice(study: DemoStudy, results: Results) -> float:
    if study.truth_masks is None:
        return 0.0
    with np.load(study.truth_masks) as stored:
        truth = stored["lungs"]
        position = {str(uid): index for index, uid in enumerate(stored["sop_instance_uids"])}
    masks = place_segments(results.segmentation, results.sources)
    union = np.logical_or.reduce(list(masks.values()))
    expected = truth[[position[str(source.SOPInstanceUID)] for source in results.sources]]
    return float(2 * np.logical_and(union, expected).sum() / (union.sum() + expected.sum()))


def _emr_bundle(emr: str, content: ReportContent) -> dict[str, Any]:
    """All resources about the patient of the report, as one searchset-like collection."""
    resources: list[dict[str, Any]] = []
    with httpx.Client(base_url=emr, timeout=30) as client:
        patients = _search(client, "Patient", {"identifier": content.patient_id})
        if len(patients) != 1:
            raise FinalDeliveryError(f"the EMR holds {len(patients)} patients with the study's patient id")
        subject = f"Patient/{patients[0]['id']}"
        resources.extend(patients)
        for kind in ("ServiceRequest", "ImagingStudy", "Observation", "DiagnosticReport"):
            resources.extend(_search(client, kind, {"subject": subject}))
        for kind in ("Device", "Provenance"):
            resources.extend(_search(client, kind, {}))
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": f"{emr}/{resource['resourceType']}/{resource['id']}", "resource": resource}
            for resource in resources
        ],
    }


def _search(client: httpx.Client, kind: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
    answer = client.get(kind, params={**parameters, "_count": "200"})
    if answer.status_code != 200:
        raise FinalDeliveryError(f"the EMR answered {answer.status_code} to a search for {kind}")
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values) or "none"
