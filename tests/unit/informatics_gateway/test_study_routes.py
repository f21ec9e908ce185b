# SPDX-License-Identifier: Apache-2.0
"""REST over open studies: listed, explained and decided about, with who it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from informatics_gateway import api, study_routes
from informatics_gateway.story_words import story_text
from tests.asgi import AsgiClient
from tests.instances import STUDY, ct, ct_data_set, part10
from tests.service import TestBed, make_service
from tests.unit.task_manager.steps import run_to_completed


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
        pytest.param(f"/api/studies/{STUDY}/explode", {}, 404, id="no-such-decision"),
        pytest.param(f"/api/studies/{STUDY}/hold", {"reason": "x" * 501}, 422, id="too-long"),
        pytest.param(f"/api/studies/{STUDY}/hold", {"reason": "a\x00b"}, 422, id="nul"),
        pytest.param(f"/api/studies/{STUDY}/hold", {"by": "anna\x1b[2J"}, 422, id="escape"),
    ],
)
def test_what_is_refused(client: AsgiClient, path: str, body: dict[str, str], status: int) -> None:
    assert client.post(path, json=body).status_code == status


@pytest.mark.parametrize("what", ["completeness", "explanation"])
@pytest.mark.parametrize("uid", [f"{STUDY}.9", "nonsense"])
def test_an_unknown_study_has_neither_completeness_nor_explanation(
    client: AsgiClient, uid: str, what: str
) -> None:
    assert client.get(f"/api/studies/{uid}/{what}").status_code == 404


def test_an_explanation_tells_the_story_what_is_awaited_and_each_rule(
    bed: TestBed, client: AsgiClient
) -> None:
    before = client.get(f"/api/studies/{STUDY}/explanation").json()
    bed.clock.pass_(60)
    bed.service.scheduler.complete_due_studies()
    after = client.get(f"/api/studies/{STUDY}/explanation").json()

    story = bed.service.story(STUDY)
    assert story is not None
    assert before["explanations"] == []
    assert [one["for"] for one in before["waiting"]] == ["a pause in the images that come"]
    assert after["text"] == story_text(story, bed.service.attention.lanes).split("\n")
    assert [(one["revision"], one["rule"], one["verdict"]) for one in after["explanations"]] == [
        (1, "every-ct", "matched")
    ]
    (workitem,) = story.workitems
    assert after["waiting"] == [
        {"rule": "every-ct", "for": "somebody to perform it", "until": None, "workitem_uid": workitem.uid}
    ]


def test_deliveries_that_are_not_done_are_awaited(bed: TestBed, client: AsgiClient) -> None:
    uid = run_to_completed(bed)

    waiting = client.get(f"/api/studies/{STUDY}/explanation").json()["waiting"]

    assert {(one["workitem_uid"], one["for"]) for one in waiting} == {
        (uid, "deliver/pacs"),
        (uid, "deliver/emr"),
    }


def test_what_was_made_from_images_waits_for_them(bed: TestBed, client: AsgiClient) -> None:
    report = ct_data_set(1, study=f"{STUDY}.7", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    bed.receive(part10(report))

    told = client.get(f"/api/studies/{STUDY}.7/explanation").json()

    assert told["waiting"] == [
        {"rule": "", "for": "images: what came so far was made from images", "until": None}
    ]
    assert "  waits      images: what came so far was made from images" in told["text"]
