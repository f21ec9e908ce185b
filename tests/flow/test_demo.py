# SPDX-License-Identifier: Apache-2.0
"""`airway demo` does what the README says, on a machine with nothing but the product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

RESULTS = {"segmentation.dcm", "report.dcm", "fhir-bundle.json", "events.log", "overlay.png", "checks.json"}


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "informatics_gateway", "demo", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


def test_the_demonstration_succeeds_and_leaves_its_results(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("answered AA", "quiet-period", "runs lung-ct", "IN PROGRESS", "deliver/archive", "RID45864"):
        assert told in done.stdout
    output = tmp_path / "demo-output"
    assert {path.name for path in output.iterdir()} == RESULTS
    checks = json.loads((output / "checks.json").read_text(encoding="utf-8"))
    assert len(checks) >= 7
    assert all(check["good"] for check in checks)
    assert dcmread(output / "report.dcm").Modality == "SR"
    assert dcmread(output / "segmentation.dcm").Modality == "SEG"
    with Image.open(output / "overlay.png") as picture:
        assert picture.width > 600


@pytest.mark.parametrize(
    ("content", "told"),
    [({}, "holds no DICOM instance"), ({"a.txt": b"hello"}, "holds no DICOM instance")],
    ids=["empty folder", "no DICOM"],
)
def test_a_folder_without_images_is_told(tmp_path: Path, content: dict[str, bytes], told: str) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for name, data in content.items():
        (study / name).write_bytes(data)
    done = demo(tmp_path, "--study", str(study))
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.real_data
def test_a_study_that_no_rule_wants_is_told_why(tmp_path: Path, shared_data: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    source = next((shared_data / "xray" / "nih-chestxray14").glob("*.dcm"))
    (study / source.name).write_bytes(source.read_bytes())
    done = demo(tmp_path, "--study", str(study))
    assert done.returncode == 1
    assert "not matched" in done.stdout
    assert "no workitem" in done.stderr
