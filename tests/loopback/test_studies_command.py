# SPDX-License-Identifier: Apache-2.0
"""`airway studies` as a person types it: lists from the database, decisions asked of a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from informatics_gateway import study_routes
from informatics_gateway.__main__ import app
from informatics_gateway.http_server import HttpServer
from task_manager.study.model import Evidence, StudyState
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    for number in (1, 2):
        made.receive(ct(number))
    yield made
    made.database.close()


@pytest.fixture
def running(bed: TestBed) -> Iterator[TestBed]:
    """The same, with a server that says where it listens."""
    web = FastAPI()
    web.include_router(study_routes.router(bed.service))
    server = HttpServer(web, "127.0.0.1", 0, drain_s=1)
    server.start()
    (bed.folder / "endpoints.json").write_text(json.dumps({"http": server.url}), encoding="utf-8")
    yield bed
    server.stop()


def typed(bed: TestBed, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["studies", *arguments, "--data", str(bed.folder)])


def test_open_studies_are_listed(bed: TestBed) -> None:
    bed.clock.pass_(5)
    listed = typed(bed, "list")

    assert listed.exit_code == 0
    assert f"{STUDY}  RECEIVING, looked at 2026-03-01 12:00:30Z" in listed.stdout
    assert json.loads(typed(bed, "list", "--json").stdout)[0]["study_instance_uid"] == STUDY
    assert "No study is in this state." in typed(bed, "list", "--state", "held").stdout


def test_what_a_study_waits_for_is_shown(bed: TestBed) -> None:
    shown = typed(bed, "show", STUDY)

    assert f"Study {STUDY} RECEIVING, revision 0" in shown.stdout
    assert "waits      a pause in the images that come" in shown.stdout
    assert json.loads(typed(bed, "show", STUDY, "--json").stdout)["state"] == "RECEIVING"


def test_a_decision_reaches_the_server_with_who_made_it(running: TestBed) -> None:
    done = typed(running, "force", STUDY, "--by", "anna", "--reason", "urgent")
    running.service.scheduler.complete_due_studies()

    assert (done.exit_code, done.stdout.strip()) == (0, f"force: {STUDY}")
    story = running.service.story(STUDY)
    assert story is not None
    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.PERSON)
    assert [(one.actor.name, one.reason) for one in story.completeness.decisions] == [("anna", "urgent")]


@pytest.mark.parametrize("action", ["hold", "discard"])
def test_a_study_is_stopped_and_taken_up_again(running: TestBed, action: str) -> None:
    assert typed(running, action, STUDY).exit_code == 0
    assert typed(running, "release", STUDY).exit_code == 0

    story = running.service.story(STUDY)

    assert story is not None
    assert story.study.state is StudyState.RECEIVING
    assert [one.action for one in story.completeness.decisions] == [action, "release"]
    assert all(one.actor.name for one in story.completeness.decisions)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(("release", STUDY), 1, id="not-held"),
        pytest.param(("hold", f"{STUDY}.9"), 1, id="unknown"),
        pytest.param(("hold", "nonsense"), 2, id="no-uid"),
        pytest.param(("show", f"{STUDY}.9"), 1, id="never-received"),
        pytest.param(("list", "--state", "LOST"), 2, id="no-such-state"),
        pytest.param(("hold", STUDY, "--url", "http://127.0.0.1:1"), 1, id="no-server"),
    ],
)
def test_what_cannot_be_done_is_told_without_a_traceback(
    running: TestBed, arguments: tuple[str, ...], status: int
) -> None:
    refused = typed(running, *arguments)

    assert refused.exit_code == status
    assert isinstance(refused.exception, SystemExit)


def test_a_folder_without_a_database_is_told(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["studies", "list", "--data", str(tmp_path / "nowhere")])

    assert told.exit_code == 2
