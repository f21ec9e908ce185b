# SPDX-License-Identifier: Apache-2.0
"""HL7 v2, folder and webhook destinations in the configuration: every fault with its line and key."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from informatics_gateway.configuration import load_settings
from informatics_gateway.destinations import (
    event_sink_names,
    failure_destinations,
    make_deliverers,
    make_sinks,
    told_own_events,
)
from informatics_gateway.events.webhook import WebhookDeliverer
from informatics_gateway.folder_delivery import FolderDeliverer
from informatics_gateway.hl7.result_deliverer import Hl7Deliverer
from informatics_gateway.result_destinations import (
    Surroundings,
    client_tls_context,
    folder_deliverer,
    result_options,
)
from informatics_gateway.result_settings import FolderDestination, Hl7Destination
from informatics_gateway.settings import Settings
from profiles.codes import Code
from profiles.sole.events import EventType
from task_manager.errors import ConfigurationError
from tests.shipments import NOW

HL7 = "{name: ris, kind: hl7, host: 127.0.0.1, port: 2575"
FOLDER = "{name: share, kind: folder, path: /srv/results"
HOOK = "{name: hook, kind: webhook, url: 'https://hook.example/in', secret_file: /run/key"


def settings_of(folder: Path, *destinations: str) -> Settings:
    path = folder / "airway.yaml"
    path.write_text("destinations:\n" + "".join(f"  - {one}\n" for one in destinations), encoding="utf-8")
    return load_settings(path)


def test_all_kinds_are_made(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("x" * 24)
    hook = HOOK.replace("/run/key", str(key)) + ", events: [study.not_run, delivery.given_up]}"
    settings = settings_of(tmp_path, HL7 + ", failed_runs: true}", FOLDER + "}", hook)
    made = make_deliverers(settings, lambda: NOW)
    assert [type(one) for one in made.values()] == [Hl7Deliverer, FolderDeliverer, WebhookDeliverer]
    assert event_sink_names(settings) == ("file", "webhook/hook")
    assert set(make_sinks(settings, tmp_path, lambda: NOW)) == {"file", "webhook/hook"}
    assert told_own_events(settings) == {EventType.STUDY_NOT_RUN, EventType.DELIVERY_GIVEN_UP}
    assert failure_destinations(settings) == {"ris"}


def test_a_webhook_without_events_is_no_repository(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, HOOK + "}")
    assert event_sink_names(settings) == ("file",)
    assert told_own_events(settings) == frozenset()


def test_how_a_receiver_wants_its_results(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        HL7 + ", version: '2.3.1', character_set: 8859/1, service: app, acknowledgement: accept, text: false,"
        " concepts: {'118565006^SCT': '48635-9^Lung volume^LN'}, extra_segments: ['ZAI|1'],"
        " time_zone: Europe/Berlin}",
    )
    (destination,) = settings.destinations
    assert isinstance(destination, Hl7Destination)
    options = result_options(destination, "")
    assert options.version == "2.3.1"
    assert options.encoding.codec == "iso8859-1"
    assert options.concept(Code("118565006", "SCT", "Volume")) == Code("48635-9", "LN", "Lung volume")
    assert str(options.time_zone) == "Europe/Berlin"
    assert str(result_options(destination.model_copy(update={"time_zone": ""}), "UTC").time_zone) == "UTC"
    assert result_options(destination.model_copy(update={"time_zone": ""}), "").time_zone is None


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        (HL7 + ", version: '2.9'}", "version", "2.8"),
        (HL7 + ", version: 2.5.1, character_set: UTF-16}", "character_set", "UNICODE UTF-8"),
        (HL7 + ", character_set: ISO IR87}", "character_set", "these are"),
        (HL7 + ", receiving_facility: 'A|B'}", "receiving_facility", "none of"),
        (HL7 + ", extra_segments: ['PID|1']}", "extra_segments", "no Z segment"),
        (HL7 + ", concepts: {volume: '1^b^c'}}", "concepts", "VALUE^SCHEME"),
        (HL7 + ", concepts: {'1^SCT': lung}}", "concepts", "VALUE^MEANING^SCHEME"),
        (HL7 + ", time_zone: Mars/Olympus}", "time_zone", "time zone"),
        (HL7 + ", processing_id: X}", "processing_id", "'P', 'T' or 'D'"),
        (HL7 + ", tls: {certificate_file: a.pem}}", "tls", "belong together"),
        (HL7 + ", colour: blue}", "colour", "not permitted"),
        ("{name: ris, kind: hl7, host: 127.0.0.1}", "port", "required"),
        ("{name: share, kind: folder, path: results}", "path", "absolute"),
        (FOLDER + ", layout: '{patient_name}/{sop_instance_uid}'}", "layout", "who the patient is"),
        (FOLDER + ", layout: '../{sop_instance_uid}'}", "layout", "dot"),
        (FOLDER + ", layout: fixed.dcm}", "layout", "sop_instance_uid"),
        (FOLDER + ", sources: everything}", "sources", "'none', 'inputs' or 'study'"),
        (FOLDER + ", mode: rwx}", "mode", "pattern"),
        ("{name: hook, kind: webhook, url: 'https://hook.example'}", "", "secret_file and secret_variable"),
        (HOOK + ", secret_variable: KEY}", "", "secret_file and secret_variable"),
        (HOOK + ", events: [study.eaten]}", "events.0", "study.completed"),
        (HOOK + ", certificate_file: a.pem}", "", "belong together"),
        (HOOK.replace("https", "http") + ", patient: true}", "", "https"),
        (HOOK.replace("https://hook.example/in", "ftp://x") + "}", "url", "http or https"),
        (HOOK.replace("hook.example", "user:pw@hook.example") + "}", "url", "no user"),
        (HOOK.replace("hook.example", "127.0.0.1") + "}", "", "reach private does not go"),
        (HOOK.replace("hook.example", "10.0.0.1") + ", reach: public}", "", "reach public does not go"),
        (HOOK.replace("hook.example", "169.254.169.254") + ", reach: any}", "", "reach any does not go"),
    ],
)
def test_faults_tell_line_and_key(tmp_path: Path, text: str, where: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings_of(tmp_path, "{name: emr, kind: fhir, url: 'https://x/fhir'}", text)
    (fault,) = refused.value.faults
    key = f"destinations.1.{where}".rstrip(".")
    assert fault.path.endswith(f"airway.yaml:3 {key}")
    assert why in fault.message


def test_identifying_names_where_they_are_wanted(tmp_path: Path) -> None:
    layout = "'{patient_name}/{sop_instance_uid}'"
    settings = settings_of(tmp_path, f"{FOLDER}, layout: {layout}, identifying: true, mode: 0644}}")
    (destination,) = settings.destinations
    assert isinstance(destination, FolderDestination)
    assert folder_deliverer(destination, Surroundings(), lambda: NOW) is not None


@pytest.mark.parametrize("inside", ["", "results", "a/../results", "link"])
def test_a_folder_in_the_data_folder_is_refused(tmp_path: Path, inside: str) -> None:
    data = tmp_path / "data"
    (data / "results").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data / "results")
    path = tmp_path / "link" if inside == "link" else data / inside
    settings = settings_of(tmp_path, FOLDER.replace("/srv/results", str(path)) + "}")
    with pytest.raises(ConfigurationError, match="data folder"):
        make_deliverers(settings, lambda: NOW, Surroundings(data=data))


@pytest.mark.parametrize("secret", ["secret_file: /no/such/key", "secret_variable: AIRWAY_NO_SUCH_KEY"])
def test_a_key_that_is_not_there_is_told_before_the_start(tmp_path: Path, secret: str) -> None:
    settings = settings_of(tmp_path, HOOK.replace("secret_file: /run/key", secret) + "}")
    with pytest.raises(ConfigurationError, match=secret.split(":", maxsplit=1)[0]):
        make_deliverers(settings, lambda: NOW)


def test_certificates_that_cannot_be_used_are_told_before_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for files in ((tmp_path / "none", None, None), (None, empty, empty)):
        with pytest.raises(ConfigurationError, match=r"destinations\.ris\.tls"):
            client_tls_context(*files, where="destinations.ris.tls")
    context = client_tls_context(None, None, None, where="x")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
