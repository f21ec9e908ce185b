# SPDX-License-Identifier: Apache-2.0
"""The Device that computed a result."""

from __future__ import annotations

from profiles.fhir.device import device_entry
from profiles.fhir.identifiers import FhirIdentity
from tests.reported import content

SITE = FhirIdentity(sid_base="https://h.example/sid")


def test_device_is_the_model_state() -> None:
    entry = device_entry(content(), SITE)
    assert entry is not None
    assert entry.if_none_exist == "identifier=urn:dicom:uid|urn:oid:2.25.5001"
    assert entry.resource["identifier"][1] == {
        "system": "https://h.example/sid/model",
        "value": "Airway/lung-ct@0.1.0",
    }
    assert entry.resource["deviceName"] == [{"name": "lung-ct", "type": "model-name"}]
    assert entry.resource["version"] == [{"value": "0.1.0"}]


def test_the_demonstration_label_is_kept() -> None:
    entry = device_entry(content(), SITE)
    assert entry is not None
    label = "label=demonstration, not for clinical use"
    assert entry.resource["note"] == [{"text": label}]
    assert entry.resource["property"][0]["valueCode"] == [{"text": label}]


def test_a_device_without_uid_is_known_by_model_and_version() -> None:
    entry = device_entry(content(device_uid="", device_manufacturer=""), SITE)
    assert entry is not None
    assert entry.if_none_exist == "identifier=https://h.example/sid/model|lung-ct%400.1.0"


def test_an_unnamed_algorithm_is_no_device() -> None:
    assert device_entry(content(device_uid="", device_name=""), SITE) is None
