# SPDX-License-Identifier: Apache-2.0
"""The container files hang together: checked by reading them, since no container engine runs these tests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from informatics_gateway.configuration import load_settings
from informatics_gateway.destination_settings import DicomDestination
from informatics_gateway.settings import Role
from tests.architecture.lint import PROJECT_ROOT

AIRWAY_SERVICES = {"gateway": Role.GATEWAY, "task_manager": Role.TASK_MANAGER, "performer": Role.PERFORMER}
DEPLOY = PROJECT_ROOT / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined."""
    text = (PROJECT_ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def secret_names(service: dict[str, Any]) -> set[str]:
    return {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", [])}


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    return [(volume.split(":")[0], volume.split(":")[1]) for volume in service.get("volumes", [])]


def test_services_are_the_ones_promised(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*AIRWAY_SERVICES, "edge", "postgres", "orthanc"}


def test_airway_services_differ_only_in_configuration_state_and_order(compose: dict[str, Any]) -> None:
    own = {"volumes", "secrets", "depends_on"}
    shared = [
        {key: value for key, value in compose["services"][name].items() if key not in own}
        for name in AIRWAY_SERVICES
    ]

    assert shared[0] == shared[1] == shared[2]
    assert shared[0]["command"] == ["serve", "--data", "/data", "--config", "/etc/airway/airway.yaml"]
    assert shared[0]["read_only"] is True
    assert shared[0]["cap_drop"] == ["ALL"]


def test_only_the_edge_can_reach_airway_from_outside(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in AIRWAY_SERVICES:
        assert services[name]["network_mode"] == "service:edge"
        assert "ports" not in services[name]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert set(published) == {"edge", "orthanc"}
    assert all(port.startswith("127.0.0.1:") for port in published["orthanc"])
    assert services["postgres"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_every_file_named_is_there(compose: dict[str, Any]) -> None:
    bound = [
        source
        for service in compose["services"].values()
        for source, _ in mounts(service)
        if source.startswith(".")
    ]

    assert bound
    assert [source for source in bound if not (PROJECT_ROOT / source).is_file()] == []


def test_every_volume_and_secret_named_is_declared_and_used(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    volumes = {source for service in services for source, _ in mounts(service) if not source.startswith(".")}
    secrets = {name for service in services for name in secret_names(service)}

    assert volumes == set(compose["volumes"])
    assert secrets == set(compose["secrets"])


def test_gateway_and_task_manager_share_objects_and_nothing_else(compose: dict[str, Any]) -> None:
    places = {name: dict(mounts(compose["services"][name])) for name in AIRWAY_SERVICES}

    assert places["gateway"]["objects"] == places["task_manager"]["objects"] == "/data/store"
    data = [
        source for name in AIRWAY_SERVICES for source, target in places[name].items() if target == "/data"
    ]
    assert len(set(data)) == 3


def test_every_service_has_a_health_check_and_waits_for_healthy_ones(
    compose: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    checked = {name for name, service in compose["services"].items() if "healthcheck" in service}
    assert "HEALTHCHECK" in dict(dockerfile)

    assert checked | set(AIRWAY_SERVICES) == set(compose["services"])
    for name in AIRWAY_SERVICES:
        waits = compose["services"][name]["depends_on"]
        assert waits["edge"] == {"condition": "service_started"}
        assert "service_healthy" in {condition["condition"] for condition in waits.values()}


def test_no_password_is_written_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for key in service.get("environment", {}):
            assert "PASSWORD" not in key or key.endswith("_FILE"), (name, key)
    for path in [*DEPLOY.glob("*.json"), *DEPLOY.glob("*.yaml")]:
        text = path.read_text(encoding="utf-8")
        assert re.search(r"(?i)password|RegisteredUsers|://[^/\s]*@", text) is None, path.name
    tracked = subprocess.run(
        ["git", "ls-files", "deploy/secrets"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout.split() in ([], ["deploy/secrets/.gitignore"])


@pytest.mark.peers
def test_script_makes_every_secret_and_never_the_same_twice(compose: dict[str, Any], tmp_path: Path) -> None:
    made: list[dict[str, str]] = []
    for number in ("first", "second"):
        folder = tmp_path / number
        (folder / "deploy" / "secrets").mkdir(parents=True)
        shutil.copy(DEPLOY / "make_secrets.sh", folder / "deploy")
        for _ in range(2):  # the second run keeps what the first made
            subprocess.run(["bash", folder / "deploy" / "make_secrets.sh"], check=True, timeout=60)
            contents = {
                name: (folder / secret["file"]).read_text(encoding="utf-8")
                for name, secret in compose["secrets"].items()
            }
            made.append(contents)

    assert made[0] == made[1]
    assert all(made[0][name] != made[2][name] for name in made[0])
    assert made[0]["database_password"] in made[0]["database_url"]


@pytest.mark.parametrize(("name", "role"), AIRWAY_SERVICES.items())
def test_configuration_of_each_service_is_good_and_has_its_role(name: str, role: Role) -> None:
    settings = load_settings(DEPLOY / f"{name}.yaml")

    assert settings.roles == (role,)


def test_gateway_and_task_manager_are_configured_alike(compose: dict[str, Any]) -> None:
    gateway, manager = (load_settings(DEPLOY / f"{name}.yaml") for name in ("gateway", "task_manager"))

    assert gateway.model_copy(update={"roles": ()}) == manager.model_copy(update={"roles": ()})
    [pacs] = [one for one in gateway.destinations if isinstance(one, DicomDestination)]
    assert pacs.host in compose["services"]


def test_edge_listens_where_it_publishes_and_passes_to_the_doors(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    doors = load_settings(DEPLOY / "gateway.yaml").gateway

    published = {port.rpartition(":")[2] for port in compose["services"]["edge"]["ports"]}
    assert set(re.findall(r"listen (\d+) ssl;", text)) == published
    assert set(re.findall(r"proxy_pass (?:http://)?([\d.]+:\d+);", text)) == {
        f"{door.host}:{door.port}" for door in (doors.http, doors.dicom, doors.hl7)
    }
    assert text.count("ssl_verify_client on;") == 2
    for secret in secret_names(compose["services"]["edge"]):
        assert f"/run/secrets/{secret};" in text


def test_image_is_built_from_the_lock_and_runs_without_rights(dockerfile: list[tuple[str, str]]) -> None:
    runs = [argument for instruction, argument in dockerfile if instruction == "RUN"]
    last = dict(dockerfile)

    assert sum(instruction == "FROM" for instruction, _ in dockerfile) == 2
    assert sum("uv sync --frozen --no-dev" in run for run in runs) == 2
    assert last["USER"] == "10001:10001"
    assert last["ENTRYPOINT"] == '["airway"]'
    assert last["CMD"] == '["serve", "--data", "/data", "--config", "/etc/airway/airway.yaml"]'


def test_every_file_copied_into_the_image_is_there_and_reaches_the_builder(
    dockerfile: list[tuple[str, str]],
) -> None:
    ignore = (PROJECT_ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source
        for instruction, argument in dockerfile
        if instruction == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }

    assert copied == let_through
    assert [source for source in copied if not (PROJECT_ROOT / source).exists()] == []
