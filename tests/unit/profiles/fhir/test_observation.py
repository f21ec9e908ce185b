# SPDX-License-Identifier: Apache-2.0
"""Observations of measurement groups, numbers and statements."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from pydicom.sr.codedict import codes as dictionary

from profiles import codes
from profiles.air.model import ReportedEvaluation, ReportedMeasurement
from profiles.fhir.entry import Links
from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.observation import ABSENT_REASONS, GroupEntries, ObservationWriter
from tests.reported import DENSITY, EMPHYSEMA, FAILED, SEG_UID, VOLUME, content, group

LINKS = Links(
    patient={"reference": "urn:uuid:patient"},
    study={"reference": "urn:uuid:study"},
    device={"reference": "urn:uuid:device"},
    orders=({"reference": "urn:uuid:order"},),
)
ABSENT = ReportedEvaluation(observation_uid="2.25.2101", name=codes.PRESENCE_OF_PROPERTY, value=codes.ABSENT)


def written(**changes: Any) -> GroupEntries:
    writer = ObservationWriter(
        content=content(groups=(group(**changes),)), links=LINKS, settings=FhirIdentity()
    )
    (entries,) = writer.groups()
    return entries


def measured(measurement: ReportedMeasurement) -> dict[str, Any]:
    (member,) = written(measurements=(measurement,)).members
    return member.resource


def coded(code_concept: dict[str, Any]) -> str:
    return str(code_concept["coding"][0]["code"])


def test_grouper_names_category_finding_and_members() -> None:
    entries = written()
    grouper = entries.grouper.resource
    assert coded(grouper["code"]) == codes.ANATOMICAL_STRUCTURE.value
    assert coded(grouper["valueCodeableConcept"]) == codes.LUNG.value
    assert [coded(each) for each in grouper["category"]] == ["imaging", codes.MEASUREMENT_GROUP.value]
    assert grouper["hasMember"] == [member.reference for member in entries.members]
    assert grouper["bodySite"]["text"] == "Lung, left"
    assert [each.get("system", "") + each["value"] for each in grouper["identifier"]] == [
        "urn:dicom:uidurn:oid:2.25.3001",
        "urn:dicom:uidurn:oid:2.25.4001",
        "lung-left",
    ]


def test_group_without_category_is_coded_as_group_once() -> None:
    grouper = written(finding_category=None).grouper.resource
    assert coded(grouper["code"]) == codes.MEASUREMENT_GROUP.value
    assert [coded(each) for each in grouper["category"]] == ["imaging"]


def test_group_without_anything_is_still_well_formed() -> None:
    entries = written(
        finding=None,
        finding_category=None,
        finding_site=None,
        laterality=None,
        tracking_uid="",
        tracking_identifier="",
        segmentation_sop_instance_uid="",
        measurements=(),
    )
    grouper = entries.grouper.resource
    assert not {"valueCodeableConcept", "bodySite", "component", "hasMember"} & set(grouper)
    assert grouper["derivedFrom"] == [LINKS.study]
    assert len(grouper["identifier"]) == 1


@pytest.mark.parametrize("measurement", [VOLUME, DENSITY, EMPHYSEMA], ids=lambda each: each.name.meaning)
def test_measurement_says_exactly_the_number_of_the_sr(measurement: ReportedMeasurement) -> None:
    resource = measured(measurement)
    assert coded(resource["code"]) == measurement.name.value
    assert resource["valueQuantity"]["value"] == measurement.value
    assert resource["valueQuantity"]["code"] == measurement.unit.value
    assert resource["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert resource["identifier"][0]["value"] == f"urn:oid:{measurement.observation_uid}"
    assert "dataAbsentReason" not in resource


def test_every_observation_says_whose_of_what_by_what_and_that_nobody_verified() -> None:
    entries = written(evaluations=(ABSENT,))
    for entry in (entries.grouper, *entries.members):
        resource = entry.resource
        assert resource["status"] == "preliminary"
        assert resource["subject"] == LINKS.patient
        assert resource["partOf"] == [LINKS.study]
        assert resource["basedOn"] == list(LINKS.orders)
        assert resource["device"] == LINKS.device
        assert resource["derivedFrom"][0] == LINKS.study
        assert resource["effectiveDateTime"] == "2026-05-04"
        assert resource["issued"] == "2026-05-04T09:15:27Z"
        assert "not verified" in resource["note"][0]["text"]
        assert "performer" not in resource


def test_observations_of_a_verified_report_are_final_without_the_note() -> None:
    writer = ObservationWriter(content=content(is_verified=True), links=LINKS, settings=FhirIdentity())
    (entries,) = writer.groups()
    for entry in (entries.grouper, *entries.members):
        assert entry.resource["status"] == "final"
        assert "note" not in entry.resource


def test_derivation_and_side_are_components() -> None:
    resource = measured(DENSITY)
    assert [(coded(each["code"]), coded(each["valueCodeableConcept"])) for each in resource["component"]] == [
        (codes.LATERALITY.value, codes.LEFT.value),
        (codes.DERIVATION.value, codes.MEAN.value),
    ]
    assert resource["code"]["text"] == "Attenuation Coefficient (Mean)"


def test_method_is_told() -> None:
    method = codes.Code("126030", "DCM", "Sum of segmented voxel volumes")
    resource = measured(
        ReportedMeasurement(
            observation_uid="2.25.9", name=codes.VOLUME, value=1.0, unit=codes.MILLILITRE, method=method
        )
    )
    assert coded(resource["method"]) == "126030"


def test_segment_is_referred_to_by_identifier() -> None:
    assert written().grouper.resource["derivedFrom"][1] == {
        "type": "DocumentReference",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{SEG_UID}"},
        "display": "Segment 1 of the segmentation",
    }


def test_failed_measurement_has_a_reason_and_no_value() -> None:
    resource = measured(FAILED)
    assert "valueQuantity" not in resource
    assert [each["code"] for each in resource["dataAbsentReason"]["coding"]] == [
        "error",
        codes.CALCULATION_FAILURE.value,
    ]


@pytest.mark.parametrize(
    ("value", "failure", "reason"),
    [
        pytest.param(None, codes.MEASUREMENT_NOT_ATTEMPTED, "not-performed", id="not attempted"),
        pytest.param(None, codes.VALUE_UNKNOWN, "unknown", id="unknown"),
        pytest.param(None, codes.Code("X", "99OTHER", "Motion"), "error", id="private reason"),
        pytest.param(None, None, "unknown", id="no reason given"),
        pytest.param(math.nan, None, "not-a-number", id="nan"),
        pytest.param(math.inf, None, "not-a-number", id="infinite"),
    ],
)
def test_absent_reason(value: float | None, failure: codes.Code | None, reason: str) -> None:
    resource = measured(
        ReportedMeasurement(
            observation_uid="2.25.9", name=codes.VOLUME, value=value, unit=codes.MILLILITRE, failure=failure
        )
    )
    assert "valueQuantity" not in resource
    assert coded(resource["dataAbsentReason"]) == reason


def test_all_of_cid_42_has_a_reason() -> None:
    expected = {(each.value, each.scheme_designator) for each in dictionary.cid42.concepts.values()}
    assert {(code.value, code.scheme) for code in ABSENT_REASONS} == expected


def test_evaluation_is_a_member() -> None:
    statement = ReportedEvaluation(observation_uid="2.25.2100", name=codes.LATERALITY, value=codes.LEFT)
    entries = written(measurements=(), evaluations=(statement,))
    (member,) = entries.members
    assert coded(member.resource["valueCodeableConcept"]) == codes.LEFT.value
    assert coded(member.resource["category"][1]) == codes.QUALITATIVE_EVALUATIONS.value
    assert coded(entries.grouper.resource["valueCodeableConcept"]) == codes.LUNG.value


@pytest.mark.parametrize(
    ("stated", "interpretation"),
    [(codes.ABSENT, "NEG"), (codes.UNDETERMINED, "IND")],
    ids=lambda each: str(each),
)
def test_a_finding_that_is_not_there_is_never_the_value(stated: codes.Code, interpretation: str) -> None:
    statement = replace(ABSENT, value=stated)
    grouper = written(measurements=(), evaluations=(statement,)).grouper.resource
    assert coded(grouper["code"]) == codes.LUNG.value
    assert coded(grouper["valueCodeableConcept"]) == stated.value
    assert coded(grouper["interpretation"][0]) == interpretation


def test_a_finding_said_to_be_present_is_the_value() -> None:
    statement = replace(ABSENT, value=codes.PRESENT)
    grouper = written(measurements=(), evaluations=(statement,)).grouper.resource
    assert coded(grouper["valueCodeableConcept"]) == codes.LUNG.value
    assert "interpretation" not in grouper


def test_an_unnamed_finding_that_is_absent_is_stated_by_its_member() -> None:
    entries = written(finding=None, measurements=(), evaluations=(ABSENT,))
    assert "valueCodeableConcept" not in entries.grouper.resource
    assert coded(entries.members[0].resource["valueCodeableConcept"]) == codes.ABSENT.value


def test_items_without_uid_get_one_that_stays_the_same() -> None:
    bare = ReportedMeasurement(observation_uid="", name=codes.VOLUME, value=1.0, unit=codes.MILLILITRE)
    first = written(observation_uid="", measurements=(bare, bare))
    second = written(observation_uid="", measurements=(bare, bare))
    urls = [entry.full_url for entry in (first.grouper, *first.members)]
    assert urls == [entry.full_url for entry in (second.grouper, *second.members)]
    assert len(set(urls)) == 3
