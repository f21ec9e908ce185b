# SPDX-License-Identifier: Apache-2.0
"""`airway request` against a door over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from informatics_gateway import request_api
from informatics_gateway.commands import request as command
from informatics_gateway.http_server import HttpServer
from profiles.request import RequestKind
from tests.service import TestBed, make_service


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def url(bed: TestBed) -> Iterator[str]:
    app = FastAPI()
    app.include_router(request_api.router(bed.service))
    server = HttpServer(app, "127.0.0.1", 0, drain_s=1)
    server.start()
    yield server.url
    server.stop()


def test_asked_shown_and_taken_back(
    bed: TestBed, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = command.Asked(accession_number="A1", app="lung-ct", priority="high", key="R1")
    command.ask(asked, url=url, data=tmp_path)
    assert "WAITING FOR STUDY" in capsys.readouterr().out
    kept = bed.service.requests.request(RequestKind.PERSON, "R1")
    assert kept is not None
    assert (kept.app, kept.source) == ("lung-ct", "127.0.0.1")
    command.ask(asked, url=url, data=tmp_path)
    command.show("R1", url=url, data=tmp_path)
    assert "rules are tried when its images have come" in capsys.readouterr().out
    command.cancel("R1", url=url, data=tmp_path)
    assert "CANCELED: nothing more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (command.Asked(), "accession number, or by --study"),
        (command.Asked(study_instance_uid="x"), "not a Study Instance UID"),
        (command.Asked(accession_number="A1", priority="soon"), "--priority takes"),
        (command.Asked(accession_number="A1", key="a b"), "A key has"),
        (command.Asked(accession_number="A*"), "accession_number"),
        (command.Asked(accession_number="A1", app="brain"), "no rule gives work"),
    ],
    ids=["nothing", "no UID", "priority", "key", "wildcard", "app"],
)
def test_what_cannot_be_asked(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: command.Asked, told: str
) -> None:
    with pytest.raises(SystemExit):
        command.ask(asked, url=url, data=tmp_path)
    assert told in capsys.readouterr().err


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.show("R1", url="http://127.0.0.1:9", data=tmp_path)
    assert "No Airway answers" in capsys.readouterr().err
