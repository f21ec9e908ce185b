# SPDX-License-Identifier: Apache-2.0
"""Tests on real studies are left out where there are none, and fail where CI promises them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.lint import PROJECT_ROOT

TESTS = """
import pytest


@pytest.mark.real_data
def test_real(shared_data):
    assert (shared_data / "README.md").exists()


def test_other():
    assert True
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's conftest, whose sibling folder ``shared`` does not exist yet."""
    root = tmp_path / "project"
    (root / "tests").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "tests" / "conftest.py", root / "tests")
    (root / "tests" / "test_some.py").write_text(TESTS, encoding="utf-8")
    (root / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["real_data: x"]\n', encoding="utf-8"
    )
    return root


def run_tests(project: Path, *, ci: str) -> str:
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_without_studies_they_are_deselected_and_not_skipped(project: Path) -> None:
    output = run_tests(project, ci="")

    assert "1 passed, 1 deselected" in output
    assert "skipped" not in output


def test_without_studies_in_ci_they_fail_and_say_why(project: Path) -> None:
    output = run_tests(project, ci="true")

    assert "1 passed, 1 error" in output
    assert "CI promises the real studies" in output


@pytest.mark.parametrize("ci", ["", "true"])
def test_with_studies_they_run(project: Path, ci: str) -> None:
    data = project.parent / "shared" / "data"
    data.mkdir(parents=True)
    (data / "README.md").touch()

    assert "2 passed" in run_tests(project, ci=ci)
