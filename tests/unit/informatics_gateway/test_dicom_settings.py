# SPDX-License-Identifier: Apache-2.0
"""The settings of the DICOM door, and what they make of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from informatics_gateway.configuration import load_settings
from informatics_gateway.dicom_settings import DicomDoor, door_admission, door_tls
from informatics_gateway.dimse.admission import Rejection
from task_manager.errors import ConfigurationError


def rejection(door: DicomDoor, called: str, calling: str, address: str = "10.1.2.3") -> Rejection | None:
    return door_admission(door).rejection(called=called, calling=calling, address=address, already_open=0)


def test_by_default_anybody_may_come_in_the_clear() -> None:
    assert rejection(DicomDoor(), "ANY", "ANY") is None
    assert door_tls(DicomDoor()) is None


@pytest.mark.parametrize(
    ("settings", "called", "calling", "expected"),
    [
        ({"any_called_ae_title": False}, "AIRWAY", "CT1", None),
        ({"any_called_ae_title": False}, "OTHER", "CT1", Rejection.CALLED_AE_TITLE),
        ({"any_called_ae_title": False, "more_ae_titles": ["OTHER"]}, "OTHER", "CT1", None),
        ({"only_callers": True}, "AIRWAY", "CT1", Rejection.CALLING_AE_TITLE),
        ({"only_callers": True, "callers": [{"ae_title": "CT1"}]}, "AIRWAY", "CT1", None),
        (
            {"callers": [{"ae_title": "CT1", "sources": ["192.168.0.0/16"]}]},
            "AIRWAY",
            "CT1",
            Rejection.CALLING_AE_TITLE,
        ),
        ({"callers": [{"ae_title": "CT1", "sources": ["10.1.2.3"]}]}, "AIRWAY", "CT1", None),
    ],
)
def test_settings_become_decisions(
    settings: dict[str, Any], called: str, calling: str, expected: Rejection | None
) -> None:
    assert rejection(DicomDoor.model_validate(settings), called, calling) is expected


@pytest.mark.parametrize(
    "settings",
    [
        {"sources": ["10.1.2.3/8"]},
        {"sop_classes": ["1.2.840.x"]},
        {"sop_classes": ["1." + "2" * 64]},
        {"most_associations": 0},
        {"callers": [{"ae_title": "TOO LONG AN AE TITLE"}]},
        {"tls": {"certificate_file": "a.pem"}},
        {"tls": {"certificate_file": "a", "key_file": "b", "profile": "ssl3"}},
    ],
    ids=str,
)
def test_wrong_settings_are_faults(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DicomDoor.model_validate(settings)


@pytest.mark.parametrize(
    ("tls", "allowed"),
    [
        ("", False),
        ("{certificate_file: a.pem, key_file: a.key}", False),
        ("{certificate_file: a.pem, key_file: a.key, client_ca_file: ca.pem}", True),
    ],
    ids=["in-the-clear", "tls", "mutual-tls"],
)
def test_only_mutual_tls_listens_to_the_network(tmp_path: Path, tls: str, allowed: bool) -> None:
    config = tmp_path / "airway.yaml"
    secured = f"    tls: {tls}\n" if tls else ""
    config.write_text(f"gateway:\n  dicom:\n    host: 0.0.0.0\n{secured}", encoding="utf-8")
    if allowed:
        assert load_settings(config).gateway.dicom.host == "0.0.0.0"
    else:
        with pytest.raises(ConfigurationError, match=r"gateway\.dicom"):
            load_settings(config)
