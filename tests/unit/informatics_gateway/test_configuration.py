# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration: every fault at once with its line, and nothing unsafe starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from informatics_gateway.commands.serve import with_endpoints
from informatics_gateway.configuration import configured_rules, database_url, load_settings
from informatics_gateway.settings import Role, Settings, is_loopback
from scripts import reference_settings
from task_manager.errors import ConfigurationError


def written(folder: Path, text: str, name: str = "airway.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_means_all_defaults() -> None:
    settings = load_settings(None)
    assert settings == Settings()
    assert settings.gateway.http.port == 8080
    assert settings.gateway.dicom.port == 11112
    assert settings.gateway.hl7.port == 2575
    assert settings.gateway.dicom.ae_title == "AIRWAY"
    assert set(settings.roles) == set(Role)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        "study: {quiet_period_s: 5}\n"
        "gateway:\n"
        "  peers: [{ae_title: PACS1, host: 127.0.0.1, port: 4242}]\n"
        "destinations:\n"
        "  - {name: pacs, kind: dicom, host: 127.0.0.1, port: 104, ae_title: PACS1}\n",
    )
    written(
        tmp_path,
        "destinations:\n  - {name: emr, kind: fhir, url: 'http://127.0.0.1/fhir'}\n",
        "destinations.yaml",
    )
    settings = load_settings(config)
    assert settings.study.quiet_period_s == 5
    assert settings.gateway.peers[0].ae_title == "PACS1"
    assert [destination.name for destination in settings.destinations] == ["pacs", "emr"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("studdy: {}\n", ["airway.yaml:1 studdy"]),
        ("study:\n  quiet_period_s: soon\n", ["airway.yaml:2 study.quiet_period_s"]),
        ("study:\n  quiet_period_s: 0\n", ["airway.yaml:2 study.quiet_period_s"]),
        ("gateway:\n  http: {port: 99999}\n", ["airway.yaml:2 gateway.http.port"]),
        (
            "gateway:\n  dicom:\n    ae_title: THIS_AE_TITLE_IS_TOO_LONG\nroles: [cook]\n",
            ["airway.yaml:3 gateway.dicom.ae_title", "airway.yaml:4 roles"],
        ),
        ("destinations:\n  - {name: a, kind: pigeon}\n", ["airway.yaml:2 destinations.0"]),
        ("destinations:\n  - {name: a, kind: fhir}\n", ["airway.yaml:2 destinations.0"]),
        ("gateway:\n  http: {host: 0.0.0.0}\n", ["gateway.http.host"]),
        ("database: {url: 'postgresql+psycopg://airway:secret@db/airway'}\n", ["airway.yaml:1 database.url"]),
        ("roles: [performer]\n", ["performer.manager_url"]),
        ("time_zone: Mars/Olympus\n", ["airway.yaml:1 time_zone"]),
        (
            "events:\n  - {name: a, kind: file}\n  - {name: a, kind: file}\n",
            ["events"],
        ),
        ("study: {quiet_period_s: 1\n", ["airway.yaml:2"]),
        ("- a list\n", ["airway.yaml"]),
        ("a: &x 1\nb: *x\n", ["airway.yaml:1"]),
    ],
    ids=[
        "unknown key",
        "no number",
        "out of range",
        "no port",
        "two faults at once",
        "unknown kind",
        "missing url",
        "not loopback",
        "password in the file",
        "performer without manager",
        "no time zone",
        "name twice",
        "no YAML",
        "a list",
        "anchors",
    ],
)
def test_every_fault_is_told_with_its_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(written(tmp_path, text))
    told = [str(fault) for fault in caught.value.faults]
    for place in expected:
        assert any(place in one for one in told), told


@pytest.mark.parametrize("option", ["http", "dicom", "hl7"])
@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "192.168.1.5:80", "example.org:80", "8080", "127.0.0.1:99999"]
)
def test_an_address_beyond_this_machine_is_refused(option: str, address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_endpoints(Settings(), **{option: address})
    assert caught.value.faults[0].path == f"--{option}"


def test_addresses_of_the_command_line_go_over_the_file() -> None:
    settings = with_endpoints(Settings(), http="127.0.0.1:0", dicom="localhost:104", hl7="[::1]:0")
    assert settings.gateway.http.port == 0
    assert (settings.gateway.dicom.host, settings.gateway.dicom.port) == ("localhost", 104)
    assert settings.gateway.hl7.host == "::1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("airway.example", False),
        ("", False),
    ],
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_rules_that_ship_are_taken_without_a_configuration() -> None:
    rules = configured_rules(Settings(), None, ["lung-ct"])
    assert [rule.name for rule in rules.rules] == ["lung-ct"]


def test_rules_beside_the_configuration_replace_those_that_ship(tmp_path: Path) -> None:
    config = written(tmp_path, "study: {quiet_period_s: 5}\n")
    (tmp_path / "rules").mkdir()
    written(
        tmp_path / "rules",
        "rules:\n  - {name: mine, app: lung-ct, when: {Modality: CT}, series: [{name: ct}]}\n",
        "mine.yaml",
    )
    rules = configured_rules(load_settings(config), config, ["lung-ct"])
    assert [rule.name for rule in rules.rules] == ["mine"]


def test_a_rule_for_an_app_that_is_not_installed_is_a_fault(tmp_path: Path) -> None:
    config = written(tmp_path, "rules: here\n")
    (tmp_path / "here").mkdir()
    written(
        tmp_path / "here",
        "rules:\n  - {name: mine, app: nothing, when: {Modality: CT}, series: [{name: ct}]}\n",
        "mine.yaml",
    )
    with pytest.raises(ConfigurationError, match=r"mine\.yaml:2"):
        configured_rules(load_settings(config), config, ["lung-ct"])


def test_the_database_url_may_come_from_a_file(tmp_path: Path) -> None:
    secret = written(tmp_path, "postgresql+psycopg://airway:secret@db/airway\n", "url")
    settings = load_settings(written(tmp_path, f"database: {{url_file: {secret}}}\n"))
    assert database_url(settings, tmp_path) == "postgresql+psycopg://airway:secret@db/airway"
    assert database_url(Settings(), tmp_path) == f"sqlite:///{tmp_path / 'airway.db'}"


def test_the_page_of_settings_is_current() -> None:
    assert reference_settings.PAGE.read_text(encoding="utf-8") == reference_settings.page(), (
        "run: .venv/bin/python -m scripts.reference_settings"
    )


def test_every_setting_says_what_it_means() -> None:
    assert [line for line in reference_settings.page().splitlines() if line.endswith("|  |")] == []


def test_a_rule_that_asks_archives_needs_one(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    text = (
        "rules:\n  - {name: ct, app: lung-ct, completeness: {evidence: [archive]}, series: [{name: all}]}\n"
    )
    written(rules, text, "ct.yaml")

    with pytest.raises(ConfigurationError) as raised:
        configured_rules(Settings(), written(tmp_path, ""), ["lung-ct"])

    (fault,) = raised.value.faults
    assert fault.path == f"{rules / 'ct.yaml'}:2 rule ct"
    assert fault.message == "completeness.evidence names archive, and manager.readiness.archives has none"
