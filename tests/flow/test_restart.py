# SPDX-License-Identifier: Apache-2.0
"""An orderly end, a second process on the same data, and what a restart must not forget."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from conformance.peers.process import wait_until
from tests.flow.airway import RunningAirway
from tests.flow.remains import Remains
from tests.flow.studies import make_study

QUIET_S = 4.0
FINISH_S = 120.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirway]:
    airway = RunningAirway(
        tmp_path_factory.mktemp("restart"),
        {"study": {"quiet_period_s": QUIET_S}, "events": [{"name": "log", "kind": "file"}]},
    )
    yield airway
    airway.stop()


@pytest.fixture
def airway(machine: RunningAirway) -> RunningAirway:
    """The Airway, running."""
    if not machine.running:
        machine.start()
    return machine


@pytest.mark.peers
def test_a_deadline_persists_over_a_restart(airway: RunningAirway, tmp_path: Path) -> None:
    study = make_study(tmp_path, "R1")
    remains = Remains(airway.data)
    assert airway.send_images(study.folder).succeeded
    story = airway.story(study.study_instance_uid)
    assert story["state"] == "RECEIVING"
    airway.stop()
    kept = remains.deadline_at(study.study_instance_uid)
    assert kept is not None
    deadline = datetime.fromisoformat(kept)
    assert datetime.fromisoformat(story["deadline_at"]) <= deadline

    airway.start()
    story = airway.wait_story(study.study_instance_uid, lambda told: told["state"] == "COMPLETE")
    assert story["evidence"] == "quiet-period"
    assert datetime.fromisoformat(story["completed_at"]) >= deadline.replace(microsecond=0)
    assert len(story["workitems"]) == 1


@pytest.mark.peers
def test_stopped_during_inference_the_study_is_finished_after_the_restart(
    airway: RunningAirway, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "R2")
    remains = Remains(airway.data)
    before = airway.log_path.read_text(encoding="utf-8").count('"action": "performer.inference_started"')
    assert airway.send_images(study.folder).succeeded
    airway.wait_action("performer.inference_started", count=before + 1, timeout_s=FINISH_S)
    airway.stop()
    assert airway.exit_status == 0
    wait_until(lambda: not remains.processes(), "all processes ended")

    airway.start()
    airway.wait_story(
        study.study_instance_uid,
        lambda told: [workitem["state"] for workitem in told["workitems"]] == ["COMPLETED"],
        FINISH_S,
    )
    assert remains.workitem_states(study.study_instance_uid) == ["COMPLETED"]


def test_a_second_serve_on_the_same_data_is_refused(airway: RunningAirway) -> None:
    endpoints = airway.endpoints
    second = subprocess.run(airway.command, capture_output=True, text=True, timeout=60, check=False)
    told = second.stdout + second.stderr
    assert second.returncode not in (0, 1)
    assert str(airway.data) in told.replace("\n", "")
    assert "another process" in told
    assert "choose another --data" in told
    assert "Traceback" not in told
    # The first one goes on undisturbed.
    assert airway.running
    assert airway.endpoints == endpoints


def test_sigterm_drains_and_exits_0(airway: RunningAirway) -> None:
    remains = Remains(airway.data)
    assert (airway.data / "endpoints.json").exists()
    airway.stop()
    assert airway.exit_status == 0
    assert not (airway.data / "endpoints.json").exists()
    wait_until(lambda: not remains.processes(), "all processes ended")
    assert remains.incoming() == []
