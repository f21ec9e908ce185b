# SPDX-License-Identifier: Apache-2.0
"""The guide 'Connect a performer' is true: its commands and programs run as printed, but for addresses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ai_apps.manifest import read_manifest
from ai_apps.performer.__main__ import _parser
from ai_apps.ups_rs.client import UpsRsClient
from informatics_gateway.settings import Settings
from profiles.dicom_json import text
from tests.architecture.lint import PROJECT_ROOT
from tests.loopback.dimse.ups_peer import ups_port
from tests.loopback.ups_rs.doors import Doors, wait_for

GUIDE = PROJECT_ROOT / "docs" / "guide" / "connect-a-performer.md"
A, B = "2.25.1", "2.25.2"


def blocks(language: str, section: str) -> list[str]:
    """The fenced blocks of a language in one section."""
    body = GUIDE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)


def run(program: list[str], source: str, doors: Doors, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, source.replace("http://127.0.0.1:8080/dicom-web", doors.base_url)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def test_pull_with_curl(doors: Doors, client: UpsRsClient, tmp_path: Path) -> None:
    doors.create(A)
    (source,) = blocks("sh", "Pull, with curl")
    finished(run(["bash", "-euo", "pipefail", "-c"], source, doors, tmp_path))
    assert text(client.retrieve(A), "ProcedureStepState") == "COMPLETED"
    assert (tmp_path / "workitem.json").read_text(encoding="utf-8").startswith("[")


def test_pull_with_the_library(doors: Doors, client: UpsRsClient, tmp_path: Path) -> None:
    doors.create(A)
    doors.create(B)
    (source,) = blocks("python", "Pull, with our client library")
    finished(run([sys.executable, "-W", "error", "-c"], source, doors, tmp_path))
    assert [text(client.retrieve(uid), "ProcedureStepState") for uid in (A, B)] == ["COMPLETED"] * 2


def test_triggered_pull(doors: Doors, client: UpsRsClient, tmp_path: Path) -> None:
    doors.create(A)
    (source,) = blocks("python", "Triggered pull")
    process = run([sys.executable, "-W", "error", "-c"], source, doors, tmp_path)
    try:
        wait_for(lambda: text(client.retrieve(A), "ProcedureStepState") == "IN PROGRESS")
        doors.create(B)
        wait_for(lambda: text(client.retrieve(B), "ProcedureStepState") == "IN PROGRESS")
        doors.cancel(B)
        assert finished(process) == f"stop {B}: not needed\n"
    finally:
        process.kill()
        process.wait()


def test_subscribing_with_curl(doors: Doors, tmp_path: Path) -> None:
    body = GUIDE.read_text(encoding="utf-8")
    command = re.search(r"`(curl -X POST [^`]*)`", body)
    assert command is not None
    out = finished(run(["bash", "-c"], command[1].replace("curl", "curl -sfi"), doors, tmp_path))
    assert (
        f"content-location: ws://127.0.0.1:{doors.port}/dicom-web/subscribers/MY_AE"
        in out.lower().replace("my_ae", "MY_AE")
    )


def test_dimse(doors: Doors, client: UpsRsClient, tmp_path: Path) -> None:
    doors.create(A)
    (source,) = blocks("python", "DIMSE")
    with ups_port(tmp_path, doors.worklist, subscriptions=doors.subscriptions) as port:
        finished(run([sys.executable, "-c"], source.replace("11112", str(port.port)), doors, tmp_path))
    assert text(client.retrieve(A), "ProcedureStepState") == "IN PROGRESS"


def test_configuration_of_a_push_performer() -> None:
    (source,) = blocks("yaml", "Push")
    (performer,) = Settings.model_validate(yaml.safe_load(source)).manager.performers
    assert (performer.ae_title, performer.style) == ("GPU_FARM", "push")


def test_manifest_sections(tmp_path: Path) -> None:
    (source,) = blocks("yaml", "The performer that comes with Airway")
    shipped = PROJECT_ROOT / "ai_apps" / "apps" / "lung_ct" / "app.yaml"
    content = {**yaml.safe_load(shipped.read_text(encoding="utf-8")), **yaml.safe_load(source)}
    path = tmp_path / "app.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    manifest = read_manifest(path)
    assert (manifest.workitem.station_class, manifest.limits.tries) == ("GPU", 3)


def test_command_of_our_performer() -> None:
    (source,) = blocks("text", "The performer that comes with Airway")
    options = _parser().parse_args(source.replace("\\\n", "").split()[3:])
    assert (options.station, options.style, options.station_class) == ("GPU_2", "triggered-pull", "GPU")


@pytest.mark.parametrize("command", blocks("sh", "Look on")[0].splitlines())
def test_commands_to_look_on(doors: Doors, tmp_path: Path, command: str) -> None:
    doors.create(A)
    line = command.replace("airway", f"{sys.executable} -m informatics_gateway", 1).replace("UID", A)
    line += f" --url {doors.base_url}" + (" --seconds 0.5" if "watch" in command else "")
    assert A in finished(run(["bash", "-c"], line, doors, tmp_path))
