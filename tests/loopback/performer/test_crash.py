# SPDX-License-Identifier: Apache-2.0
"""A performer killed at every step: whoever comes back finishes, nothing is lost, nothing is made twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback.performer.child import SEG, SR
from tests.loopback.performer.performing import Performing
from tests.loopback.performer.worklist_peer import Manager, wait_for

SCRIPT = Path(__file__).with_name("performing.py")


def killed_at(manager: Manager, work: Path, *where: str) -> list[str]:
    """Run a performer that dies; the actions it logged."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), manager.base_url, str(work), *where],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    return [json.loads(line)["action"] for line in ended.stderr.decode().splitlines()]


@pytest.mark.parametrize(
    ("action", "count"),
    [
        ("performer.claimed", 1),
        ("performer.inputs_fetched", 1),
        ("performer.inference_started", 1),
        ("performer.inference_finished", 1),
        ("performer.result_stored", 1),
        ("performer.result_stored", 2),
        ("performer.completed", 1),
    ],
)
def test_killed_and_resumed(
    manager: Manager, performing: Performing, tmp_path: Path, action: str, count: int
) -> None:
    uid = manager.add_workitem()
    logged = killed_at(manager, tmp_path / "work", action, str(count))
    assert logged.count(action) == count
    performing.performer.resume()
    assert manager.state(uid) == "COMPLETED"
    assert manager.stored() == [SEG, SR]
    assert performing.claims.all() == []
    assert not performing.performer.perform_next()


def test_killed_while_the_app_runs(manager: Manager, performing: Performing, tmp_path: Path) -> None:
    uid = manager.add_workitem(behaviour="kill-parent")
    logged = killed_at(manager, tmp_path / "work")
    assert logged[-1] == "performer.inference_started"
    (claim,) = performing.claims.all()
    assert claim.attempts == 1
    performing.performer.resume()
    assert manager.state(uid) == "COMPLETED"
    assert manager.stored() == [SEG, SR]


def test_the_program_stops_on_sigterm_and_shares_its_folder_with_nobody(
    manager: Manager, tmp_path: Path
) -> None:
    work = tmp_path / "program"
    command = [
        *(sys.executable, "-m", "ai_apps.performer"),
        *("--manager", manager.base_url, "--work", str(work), "--station", "AIRWAY_GPU1"),
        *("--app", "lung-ct", "--poll-seconds", "0.05", "--style", "pull"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as out:
        first = subprocess.Popen(command, stderr=out)
        try:
            wait_for(lambda: any(path.endswith("/workitems") for _, path in manager.seen))
            second = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
            first.send_signal(signal.SIGTERM)
            assert first.wait(20) == 0
        finally:
            first.kill()
            first.wait()
    assert second.returncode == 2
    assert b"another performer uses this work folder" in second.stderr
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["action"] for line in lines] == ["performer.started", "performer.stopped"]


def test_the_program_refuses_an_app_that_is_not_there(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "ai_apps.performer", "--manager", "http://127.0.0.1:1/dicom-web"),
            *("--work", str(tmp_path), "--station", "S", "--app", "no-such-app"),
        ],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, b"performer: no such app: no-such-app\n")
