# SPDX-License-Identifier: Apache-2.0
"""`airway demo` does what the README says, on a machine with nothing but the product."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

from conformance.peers.process import wait_until

RESULTS = {"segmentation.dcm", "report.dcm", "fhir-bundle.json", "events.log", "overlay.png", "checks.json"}


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "informatics_gateway", "demo", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@contextmanager
def started_demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The demonstration with its work below `folder`, its output in ``said``."""
    command = [sys.executable, "-m", "informatics_gateway", "demo", *arguments]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=said, env={**os.environ, "TMPDIR": str(folder)}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def programs_of(folder: Path) -> list[str]:
    """Command lines of running processes that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


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


@pytest.mark.peers
def test_a_kept_demonstration_takes_what_is_sent_as_it_says(tmp_path: Path) -> None:
    for name in ("first", "second"):
        phantom = [sys.executable, "-m", "conformance.phantoms", "ct-chest", "--out", str(tmp_path / name)]
        phantom += ["--slices", "24", "--size", "96", "--seed", str(len(name))]
        truth = json.loads(subprocess.run(phantom, check=True, capture_output=True, text=True).stdout)
    with started_demo(tmp_path, "--keep", "--study", str(tmp_path / "first")) as process:
        wait_until(lambda: b"Stop with Ctrl-C" in (tmp_path / "said").read_bytes(), "kept running", 120)
        told = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
        (send,) = [shlex.split(line) for line in told if line.startswith("  storescu ")]
        (explain,) = [shlex.split(line) for line in told if " explain STUDY_UID " in line]
        assert subprocess.run([*send[:-1], str(tmp_path / "second")], timeout=60).returncode == 0
        asked = [truth["study_instance_uid"] if word == "STUDY_UID" else word for word in explain]

        def is_delivered() -> bool:
            answer = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout
            return "deliver/archive DONE" in answer

        wait_until(is_delivered, "the second study explained as delivered", 90)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert programs_of(tmp_path) == []


def test_ended_early_it_leaves_nothing_running(tmp_path: Path) -> None:
    with started_demo(tmp_path) as process:
        wait_until(lambda: list(tmp_path.glob("airway-demo-*/data/endpoints.json")), "Airway started", 60)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert programs_of(tmp_path) == []
    assert list(tmp_path.glob("airway-demo-*")) == []
