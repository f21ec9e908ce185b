# SPDX-License-Identifier: Apache-2.0
"""Imports go one way and siblings do not meet: the contracts of pyproject.toml hold and leave no room out."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.lint import PROJECT_ROOT, load_lint

# Folders of informatics_gateway that are not doors and may join several of them.
JOINING_FOLDERS = {"commands", "demo"}
# What several doors use; it knows none of them.
SHARED_FOLDERS = {"pixels"}


@pytest.fixture(scope="module")
def contracts() -> list[dict[str, Any]]:
    with (PROJECT_ROOT / "pyproject.toml").open("rb") as file:
        return list(tomllib.load(file)["tool"]["importlinter"]["contracts"])


def run_lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120)


def test_every_contract_is_kept() -> None:
    done = run_lint_imports(PROJECT_ROOT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_with_a_one_way_street_has_its_contract(contracts: list[dict[str, Any]]) -> None:
    forbidden = {
        source: set(contract["forbidden_modules"])
        for contract in contracts
        if contract["type"] == "forbidden"
        for source in contract["source_modules"]
    }

    assert forbidden["profiles"] >= {"task_manager", "informatics_gateway", "ai_apps", "conformance"}
    assert forbidden["task_manager"] >= {"informatics_gateway", "ai_apps", "conformance"}
    assert forbidden["ai_apps"] >= {"task_manager", "informatics_gateway", "conformance"}
    assert forbidden["conformance"] >= {"task_manager", "informatics_gateway", "ai_apps"}


def test_every_door_of_the_gateway_is_independent_of_the_others(contracts: list[dict[str, Any]]) -> None:
    gateway = PROJECT_ROOT / "informatics_gateway"
    folders = {path.parent.name for path in gateway.glob("*/__init__.py")}
    folders -= JOINING_FOLDERS | SHARED_FOLDERS
    [independence] = [contract for contract in contracts if contract["type"] == "independence"]
    [shared] = [contract for contract in contracts if contract["name"] == "what doors share knows no door"]

    assert set(shared["source_modules"]) == {f"informatics_gateway.{folder}" for folder in SHARED_FOLDERS}
    assert set(shared["forbidden_modules"]) == set(independence["modules"])
    assert set(independence["modules"]) == {f"informatics_gateway.{folder}" for folder in folders}


def test_every_package_is_linted() -> None:
    packages = {path.parent.name for path in PROJECT_ROOT.glob("*/py.typed")}

    assert packages == set(load_lint().PACKAGES)


def test_a_forbidden_import_breaks_the_contract(tmp_path: Path) -> None:
    for room, body in {"upper": "import lower.x\n", "lower": "import upper.x\n"}.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("", encoding="utf-8")
        (tmp_path / room / "x.py").write_text(body, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["upper", "lower"]\n'
        '[[tool.importlinter.contracts]]\nname = "down only"\ntype = "forbidden"\n'
        'source_modules = ["lower"]\nforbidden_modules = ["upper"]\n',
        encoding="utf-8",
    )

    done = run_lint_imports(tmp_path)

    assert done.returncode == 1
    assert "lower.x -> upper.x" in done.stdout
