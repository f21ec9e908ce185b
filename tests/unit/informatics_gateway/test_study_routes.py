# SPDX-License-Identifier: Apache-2.0
"""REST over open studies: listed, explained and decided about, with who it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from informatics_gateway import api, study_routes
from informatics_gateway.commands.explain import story_text
from tests.asgi import AsgiClient
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
def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    app.include_router(study_routes.router(bed.service))
    app.include_router(api.router(bed.service, lambda: True))
    return AsgiClient(app)


def test_open_studies_are_listed_without_anything_of_the_patient(client: AsgiClient) -> None:
    listed = client.get("/api/studies").json()["studies"]

    assert [(one["study_instance_uid"], one["state"]) for one in listed] == [(STUDY, "RECEIVING")]
    assert "P1" not in str(listed)
    assert client.get("/api/studies?state=HELD").json() == {"studies": []}


def test_what_a_study_waits_for_is_told(bed: TestBed, client: AsgiClient) -> None:
    told = client.get(f"/api/studies/{STUDY}/completeness").json()

    assert told["state"] == "RECEIVING"
    assert told["waiting"] == [
        {"rule": "", "for": "a pause in the images that come", "until": "2026-03-01T12:00:30.000+00:00"}
    ]
    assert client.get(f"/api/studies/{STUDY}").json()["completeness"]["waiting"] == told["waiting"]
    story = bed.service.story(STUDY)
    assert story is not None
    assert "waits      a pause in the images that come; looked at again 2026-03-01 12:00:30" in story_text(
        story
    )


def test_a_decision_is_carried_out_and_kept_with_who_made_it(bed: TestBed, client: AsgiClient) -> None:
    answer = client.post(f"/api/studies/{STUDY}/force", json={"by": "anna", "reason": "urgent"})
    bed.service.scheduler.complete_due_studies()

    told = client.get(f"/api/studies/{STUDY}/completeness").json()
    assert answer.status_code == 200
    assert (told["state"], told["reason"]) == ("COMPLETE", "anna said so")
    assert [(one["action"], one["by"], one["reason"]) for one in told["decisions"]] == [
        ("force", "anna", "urgent")
    ]
    story = bed.service.story(STUDY)
    assert story is not None
    assert "force by anna: urgent" in story_text(story)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param(f"/api/studies/{STUDY}/release", {}, 409, id="not-held"),
        pytest.param(f"/api/studies/{STUDY}.9/hold", {}, 404, id="unknown"),
        pytest.param("/api/studies/nonsense/hold", {}, 404, id="no-uid"),
        pytest.param(f"/api/studies/{STUDY}/explode", {}, 422, id="no-such-decision"),
        pytest.param(f"/api/studies/{STUDY}/hold", {"reason": "x" * 501}, 422, id="too-long"),
    ],
)
def test_what_is_refused(client: AsgiClient, path: str, body: dict[str, str], status: int) -> None:
    assert client.post(path, json=body).status_code == status


def test_an_unknown_study_has_no_completeness(client: AsgiClient) -> None:
    assert client.get(f"/api/studies/{STUDY}.9/completeness").status_code == 404
