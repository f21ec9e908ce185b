# SPDX-License-Identifier: Apache-2.0
"""The settings of the HL7 door: each sender its own way, safe addresses, and faults with their places."""

from __future__ import annotations

import ssl
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from informatics_gateway.commands.serve import with_endpoints
from informatics_gateway.configuration import load_settings
from informatics_gateway.hl7_door import limits_of, mllp_tls_context, reading_of
from informatics_gateway.hl7_settings import Hl7Door, Hl7Tls
from profiles.hl7.message import FieldPath
from profiles.hl7.options import ReadingOptions
from profiles.order import Priority
from task_manager.errors import ConfigurationError
from tests.unit.informatics_gateway.test_configuration import written

SENDERS = """
gateway:
  hl7:
    routine_priority: LOW
    max_message_mib: 32
    senders:
      - application: RIS
        facility: EAST
        character_set: 8859/5
        time_zone: Europe/Moscow
        patient_id_authority: EASTHOSP
        processing_ids: [P]
        unknown_orders: accept
        acknowledgements: both
        fields:
          accession_number: [ZAC-2, OBR-18]
          study_instance_uid: ZDS-1
          details.ward: PV1-3.1
time_zone: Europe/Berlin
"""


def test_senders_of_the_configuration(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, SENDERS))
    reading = reading_of(settings.gateway.hl7, settings.time_zone)
    assert reading.default == ReadingOptions(
        routine_priority=Priority.LOW, time_zone=ZoneInfo("Europe/Berlin")
    )
    (sender,) = reading.senders
    assert (sender.application, sender.facility) == ("RIS", "EAST")
    assert sender.options == ReadingOptions(
        routine_priority=Priority.LOW,
        time_zone=ZoneInfo("Europe/Moscow"),
        patient_id_authority="EASTHOSP",
        undeclared_codecs=("iso8859-5",),
        processing_ids=frozenset({"P"}),
        fields={
            "accession_number": (FieldPath("ZAC", 2), FieldPath("OBR", 18)),
            "study_instance_uid": (FieldPath("ZDS", 1),),
            "details.ward": (FieldPath("PV1", 3),),
        },
        accept_unknown_orders=True,
        both_acknowledgements=True,
    )
    assert limits_of(settings.gateway.hl7, drain_timeout_s=1).max_message_bytes == 32 * 1024 * 1024


def test_without_settings_all_senders_are_read_alike() -> None:
    reading = reading_of(Hl7Door(), "")
    assert reading.senders == ()
    assert reading.default.time_zone is UTC


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("fields", "{accession: OBR-18}", "fields"),
        ("fields", "{details.: OBR-18}", "fields"),
        ("fields", "{modality: OBR}", "fields"),
        ("fields", "{modality: obr-24}", "fields"),
        ("character_set", "UTF-16", "character_set"),
        ("time_zone", "Mars/Olympus", "time_zone"),
        ("processing_ids", "[X]", "processing_ids"),
        ("processing_ids", "[]", "processing_ids"),
        ("unknown_orders", "perhaps", "unknown_orders"),
        ("colour", "red", "colour"),
    ],
)
def test_faults_are_told_with_their_places(tmp_path: Path, key: str, value: str, place: str) -> None:
    config = written(
        tmp_path, f"gateway:\n  hl7:\n    senders:\n      - application: RIS\n        {key}: {value}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    (fault,) = caught.value.faults
    assert fault.path == f"{config}:5 gateway.hl7.senders.0.{place}"


@pytest.mark.parametrize(
    ("tls", "safe"),
    [
        ("", False),
        ("{certificate_file: a.pem, key_file: a.key}", False),
        ("{certificate_file: a.pem, key_file: a.key, client_ca_file: ca.pem}", True),
    ],
    ids=["plain", "any sender", "senders with a certificate"],
)
def test_only_mutual_tls_opens_the_door_beyond_this_machine(tmp_path: Path, tls: str, safe: bool) -> None:
    text = "gateway:\n  hl7:\n    host: 192.0.2.7\n" + (f"    tls: {tls}\n" if tls else "")
    config = written(tmp_path, text)
    if safe:
        settings = load_settings(config)
        assert with_endpoints(settings, hl7="192.0.2.8:2575").gateway.hl7.host == "192.0.2.8"
    else:
        with pytest.raises(ConfigurationError, match="not a loopback address"):
            load_settings(config)


def test_files_that_are_no_certificates_are_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("no certificate")
    tls = Hl7Tls(certificate_file=tmp_path / "a.pem", key_file=tmp_path / "missing.key")
    with pytest.raises(ConfigurationError) as caught:
        mllp_tls_context(tls)
    assert caught.value.faults[0].path == "gateway.hl7.tls"


def test_without_tls_there_is_no_context() -> None:
    context: ssl.SSLContext | None = mllp_tls_context(None)
    assert context is None
