# SPDX-License-Identifier: Apache-2.0
"""The DiagnosticReport and its plain text."""

from __future__ import annotations

import base64
import hashlib

from profiles import codes
from profiles.air.model import ReportedEvaluation
from profiles.air.wording import report_text
from profiles.fhir.entry import Entry, Links
from profiles.fhir.identifiers import FhirIdentity
from profiles.fhir.report import report_entry
from tests.reported import DENSITY, FAILED, SR_UID, VOLUME, content, group

LINKS = Links(
    patient={"reference": "urn:uuid:patient"}, study={"reference": "urn:uuid:study"}, device=None, orders=()
)
RESULT = Entry(resource={"resourceType": "Observation"}, if_none_exist="identifier=a|b")


def test_report_is_preliminary_and_identified_by_the_sr() -> None:
    entry = report_entry(
        content(), links=LINKS, results=[RESULT], settings=FhirIdentity(organization_name="Radiology")
    )
    resource = entry.resource
    assert entry.if_none_exist == f"identifier=urn:dicom:uid|urn:oid:{SR_UID}"
    assert resource["status"] == "preliminary"
    assert resource["result"] == [RESULT.reference]
    assert resource["imagingStudy"] == [LINKS.study]
    assert [each["coding"][0]["code"] for each in resource["category"]] == ["RAD", "LP29684-5"]
    assert resource["performer"] == [{"type": "Organization", "display": "Radiology"}]
    assert "basedOn" not in resource


def test_a_verified_report_is_final_and_is_not_called_unverified() -> None:
    verified = content(is_verified=True)
    resource = report_entry(verified, links=LINKS, results=[], settings=FhirIdentity()).resource
    assert resource["status"] == "final"
    assert "not verified" not in report_text(verified)


def test_text_is_attached_with_size_and_hash() -> None:
    whole = content()
    resource = report_entry(whole, links=LINKS, results=[], settings=FhirIdentity()).resource
    (form,) = resource["presentedForm"]
    data = base64.b64decode(form["data"])
    assert data.decode() == report_text(whole)
    assert form["size"] == len(data)
    assert base64.b64decode(form["hash"]) == hashlib.sha1(data).digest()
    assert "result" not in resource


def test_text_says_the_numbers_and_no_patient() -> None:
    absent = ReportedEvaluation(observation_uid="1.2", name=codes.PRESENCE_OF_PROPERTY, value=codes.ABSENT)
    text = report_text(
        content(
            groups=(
                group(measurements=(VOLUME, DENSITY, FAILED)),
                group(laterality=None, measurements=(), evaluations=(absent,)),
            )
        )
    )
    assert text == (
        "Imaging Measurement Report\n"
        "Computed by an algorithm, not verified by a physician.\n"
        "Algorithm: lung-ct 0.1.0\n"
        "Algorithm parameter: label=demonstration, not for clinical use\n"
        "\n"
        "Lung, left\n"
        "  Volume: 2310.25 mL\n"
        "  Attenuation Coefficient (Mean): -812.4 [hnsf'U]\n"
        "  Emphysema index, lung voxels below -950 HU: no value: Calculation failure\n"
        "\n"
        "Lung: absent\n"
        "  Presence of property: Absent\n"
    )


def test_text_of_an_empty_report() -> None:
    assert report_text(content(groups=())).endswith("\nNo measurements.\n")
