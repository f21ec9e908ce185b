# SPDX-License-Identifier: Apache-2.0
"""`airway jobs`: dead letters listed, tried again and dropped, without a server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from informatics_gateway.__main__ import app
from task_manager.errors import FinalDeliveryError
from task_manager.outbox import JobState
from tests.service import make_service
from tests.unit.task_manager.destinations import Destination
from tests.unit.task_manager.steps import run_to_completed, workitem

LEASE = timedelta(minutes=1)


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The key of a dead letter in the database of `tmp_path`."""
    bed = make_service(tmp_path)
    run_to_completed(bed)
    job = bed.service.deliveries.claim("pacs", worker="w", lease=LEASE)
    assert job is not None
    refused = FinalDeliveryError("0 of 2 stored; the peer answered C000")
    bed.service.deliveries.perform(job, "pacs", Destination([refused]))
    bed.database.close()
    return job.key


def run(folder: Path, *words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["jobs", *words, "--data", str(folder)])
    assert result.exit_code == status, result.output
    return result.output


def state(folder: Path) -> JobState:
    bed = make_service(folder)
    try:
        return workitem(bed).deliveries[0].state
    finally:
        bed.database.close()


def test_listed(tmp_path: Path, key: str) -> None:
    told = run(tmp_path, "list")
    assert key in told
    assert "deliver/pacs HELD" in told
    assert "0 of 2 stored; the peer answered C000" in told
    assert key in run(tmp_path, "list", "--lane", "pacs")
    assert "There is no job that is HELD." in run(tmp_path, "list", "--lane", "emr")
    assert "deliver/emr WAITING" in run(tmp_path, "list", "--state", "waiting")
    run(tmp_path, "list", "--state", "lost", status=2)


def test_tried_again(tmp_path: Path, key: str) -> None:
    assert "is tried again" in run(tmp_path, "retry", "--lane", "pacs")
    assert state(tmp_path) is JobState.WAITING
    assert "is tried again" in run(tmp_path, "retry", key)
    run(tmp_path, "retry", "no such job", status=1)
    run(tmp_path, "retry", status=2)


def test_dropped(tmp_path: Path, key: str) -> None:
    run(tmp_path, "drop", key, status=2)  # a reason is needed
    assert "is dropped" in run(tmp_path, "drop", key, "--reason", "the archive is gone")
    assert state(tmp_path) is JobState.DROPPED
    assert "the archive is gone" in run(tmp_path, "list", "--state", "dropped")
    run(tmp_path, "drop", key, "--reason", "again", status=1)


def test_a_folder_without_a_database(tmp_path: Path) -> None:
    run(tmp_path / "nothing", "list", status=2)
