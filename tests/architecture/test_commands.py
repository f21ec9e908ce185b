# SPDX-License-Identifier: Apache-2.0
"""The commands a newcomer types exist, and what they install is pinned and comes from no named host."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.architecture.lint import PROJECT_ROOT

COMMANDS = {"setup", "demo", "peers", "test", "check", "bench"}
NODE_FOLDER = PROJECT_ROOT / "conformance" / "peers" / "node"


def test_make_without_a_target_lists_every_command() -> None:
    done = subprocess.run(["make"], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=30, check=True)

    listed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")}
    assert listed >= COMMANDS


def test_ci_runs_the_command_of_the_readers() -> None:
    script = PROJECT_ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "script", sorted((PROJECT_ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name
)
def test_shell_scripts_parse_and_stop_at_the_first_failure(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], timeout=30).returncode == 0
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


@pytest.mark.peers
def test_peers_say_at_once_that_all_is_there() -> None:
    done = subprocess.run(
        ["bash", "scripts/peers.sh"], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=10
    )

    assert (done.returncode, done.stdout) == (0, "peers: all there\n")


def test_peers_name_the_command_where_they_may_not_install(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cmp", "cat"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tools / "apt-get").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    (tools / "sudo").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    for name in ("apt-get", "sudo"):
        (tools / name).chmod(0o755)
    script = (PROJECT_ROOT / "scripts" / "peers.sh").read_text(encoding="utf-8")
    folder = tmp_path / "project" / "scripts"
    folder.mkdir(parents=True)
    # As if by a person without rights, on a machine without the first package.
    copy = script.replace("EUID", "1000").replace('"Orthanc orthanc"', '"no-such-program orthanc"')
    (folder / "peers.sh").write_text(copy, encoding="utf-8")

    done = subprocess.run(
        ["/usr/bin/bash", folder / "peers.sh"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends orthanc" in done.stderr


def test_python_lock_pins_the_tool_that_installs_it() -> None:
    with (PROJECT_ROOT / "uv.lock").open("rb") as file:
        packages = {package["name"]: package for package in tomllib.load(file)["package"]}

    assert packages["uv"]["version"]


def test_node_lock_pins_every_package_and_names_no_host() -> None:
    manifest = json.loads((NODE_FOLDER / "package.json").read_text(encoding="utf-8"))
    text = (NODE_FOLDER / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    fetched = [entry for entry in packages.values() if not entry.get("inBundle")]

    assert "://" not in text
    assert all(entry["integrity"].startswith("sha512-") for entry in fetched)
    wanted = {**manifest["dependencies"], **manifest["optionalDependencies"]}
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_licence_is_apache_2_and_is_the_one_the_package_names() -> None:
    with (PROJECT_ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    text = (PROJECT_ROOT / project["license-files"][0]).read_text(encoding="utf-8")

    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
