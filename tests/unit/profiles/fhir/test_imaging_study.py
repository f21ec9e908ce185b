# SPDX-License-Identifier: Apache-2.0
"""The ImagingStudy as far as an SR tells it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.imaging_study import imaging_study_entry
from tests.reported import SERIES_UID, SR_UID, STUDY_UID, content

PATIENT = {"reference": "urn:uuid:patient"}


def study(settings: FhirIdentity | None = None, **changes: Any) -> dict[str, Any]:
    entry = imaging_study_entry(
        content(**changes), patient=PATIENT, orders=(), accession=None, settings=settings or FhirIdentity()
    )
    assert entry.if_none_exist == f"identifier=urn:dicom:uid|urn:oid:{STUDY_UID}"
    return entry.resource


def test_series_of_sources_and_results() -> None:
    series = study()["series"]
    assert [(each["uid"], each["modality"]["code"]) for each in series] == [
        (SERIES_UID, "CT"),
        ("2.25.1003", "SEG"),
        ("2.25.1000", "SR"),
    ]
    assert "instance" not in series[0]
    assert series[2]["instance"] == [
        {
            "uid": SR_UID,
            "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.88.34"},
        }
    ]


def test_no_counts_are_claimed() -> None:
    assert not {"numberOfSeries", "numberOfInstances"} & set(study())


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("CT", ["CT"]), ("PT\\CT", ["PT", "CT"]), ("CT, CT", ["CT"]), ("", [])],
)
def test_modalities(modality: str, expected: list[str]) -> None:
    assert [each["code"] for each in study(modality_of_sources=modality).get("modality", [])] == expected


def test_series_of_unknown_modality_are_left_out() -> None:
    assert [each["modality"]["code"] for each in study(modality_of_sources="")["series"]] == ["SEG", "SR"]


def test_start_has_a_time_only_with_a_zone() -> None:
    assert study()["started"] == "2026-05-04"
    assert study(FhirIdentity(time_zone=UTC))["started"] == "2026-05-04T09:10:00+00:00"
    assert "started" not in study(study_date="")


def test_order_and_accession_are_carried() -> None:
    order, accession = {"reference": "urn:uuid:order"}, {"system": "s", "value": "A"}
    resource = imaging_study_entry(
        content(), patient=PATIENT, orders=(order,), accession=accession, settings=FhirIdentity()
    ).resource
    assert resource["basedOn"] == [order]
    assert resource["identifier"][1] == accession
    assert resource["description"] == "CT chest"
