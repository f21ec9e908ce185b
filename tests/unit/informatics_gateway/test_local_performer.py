# SPDX-License-Identifier: Apache-2.0
"""The performer beside the doors: started, stopped, and never left behind."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from conformance.peers.process import wait_until
from informatics_gateway.local_performer import LocalPerformer
from informatics_gateway.settings import PerformerSettings
from task_manager.dispatch.model import Style

NOWHERE = "http://127.0.0.1:9/dicom-web"
START_S = 60.0
PARENT = """
import sys, threading
from pathlib import Path
from informatics_gateway.local_performer import LocalPerformer
from informatics_gateway.settings import PerformerSettings
from task_manager.dispatch.model import Style
LocalPerformer(manager_url={nowhere!r}, work=Path(sys.argv[1]), settings=PerformerSettings()).start()
threading.Event().wait()
"""


def is_running(work: Path) -> bool:
    """Whether a performer holds the work folder."""
    if not (work / "lock").exists():
        return False
    with (work / "lock").open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    local = LocalPerformer(manager_url=NOWHERE, work=tmp_path, settings=PerformerSettings())
    local.start()
    wait_until(lambda: is_running(tmp_path), "the performer runs", START_S)
    local.stop()
    assert not is_running(tmp_path)


def test_stopped_at_once_it_leaves_nothing(tmp_path: Path) -> None:
    local = LocalPerformer(manager_url=NOWHERE, work=tmp_path, settings=PerformerSettings())
    local.start()
    local.stop()
    assert not is_running(tmp_path)


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(nowhere=NOWHERE), str(tmp_path)])
    try:
        wait_until(lambda: is_running(tmp_path), "the performer runs", START_S)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not is_running(tmp_path), "the performer ends", START_S)


def test_style_class_and_organization_are_passed_on(tmp_path: Path) -> None:
    settings = PerformerSettings(style=Style.PULL, station_class="GPU", organization="Dept. of Radiology")
    local = LocalPerformer(manager_url=NOWHERE, work=tmp_path, settings=settings)
    local.start()
    wait_until(lambda: is_running(tmp_path), "the performer runs", START_S)
    local.stop()
    assert not is_running(tmp_path)
