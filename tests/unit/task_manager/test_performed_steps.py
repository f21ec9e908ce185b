# SPDX-License-Identifier: Apache-2.0
"""Performed steps and notifications as triggers; every trigger gives rules the same order fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from fastapi import FastAPI

from informatics_gateway.request_doors import request_routers
from informatics_gateway.request_settings import FhirDoorSettings
from informatics_gateway.story_words import story_text
from profiles.dicom_json import DicomJson, element, merged
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.requesting import RequestingKind
from tests.asgi import AsgiClient
from tests.contract.workitems import code, instances, minimal, request
from tests.fhir_requests import service_request, task
from tests.instances import STUDY, ct
from tests.performed_steps import completed, in_progress, series
from tests.service import TestBed, make_service
from tests.unit.task_manager.steps import ORDER, complete, order

MODALITY = Actor(door="dicom", name="CT1")
ARCHIVE = Actor(door="dicom", name="ARCHIVE")
STEP = "1.2.3.77"
ANY_TRIGGER = """
rules:
  - name: asked-for
    app: lung-ct
    when: {all: [{Modality: CT}, {trigger.kind: [%s]}]}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
"""


def begin(bed: TestBed) -> Accepted | Refused:
    told: DicomJson = in_progress(STUDY).to_json_dict()
    return bed.service.performed_steps.create_step(STEP, told, actor=MODALITY)


def end(bed: TestBed, status: str = "COMPLETED") -> Accepted | Refused:
    made = series(f"{STUDY}.1", tuple(f"{STUDY}.1.{number}" for number in (1, 2)))
    told: DicomJson = completed(status, made).to_json_dict()
    return bed.service.performed_steps.change_step(STEP, told, actor=MODALITY)


def notify(bed: TestBed) -> None:
    reference = merged(
        [
            element("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
            element("ReferencedSOPInstanceUID", f"{STUDY}.1.1"),
            element("InstanceAvailability", "ONLINE"),
            element("RetrieveAETitle", "ARCHIVE"),
        ]
    )
    made = merged([element("SeriesInstanceUID", f"{STUDY}.1"), element("ReferencedSOPSequence", reference)])
    told = merged(
        [
            element("ReferencedPerformedProcedureStepSequence"),
            element("StudyInstanceUID", STUDY),
            element("ReferencedSeriesSequence", made),
        ]
    )
    outcome = bed.service.availability.receive_availability(told, actor=ARCHIVE)
    assert isinstance(outcome, Accepted)


def step_told(bed: TestBed) -> None:
    begin(bed)
    end(bed)


def client(bed: TestBed) -> AsgiClient:
    app = FastAPI()
    for routes in request_routers(bed.service, FhirDoorSettings(), public_url="", clock=bed.clock):
        app.include_router(routes)
    return AsgiClient(app)


def fhir(resource: dict[str, object]) -> Callable[[TestBed], None]:
    def post(bed: TestBed) -> None:
        answer = client(bed).post(
            f"/fhir/{resource['resourceType']}",
            content=orjson.dumps(resource),
            headers={"content-type": "application/fhir+json"},
        )
        assert answer.status_code == 201

    return post


def person(bed: TestBed) -> None:
    assert client(bed).post("/api/requests", json={"accession_number": "A1"}).status_code == 202


def workitem(bed: TestBed) -> None:
    asking = minimal(
        ScheduledWorkitemCodeSequence=code("ANALYSE", "99SITE", "Analyse"),
        InputInformationSequence=instances(study=STUDY),
        ReferencedRequestSequence=request(AccessionNumber="A1"),
    )
    assert isinstance(bed.service.worklist.create_workitem("1.2.3.4.900", asking, actor=ARCHIVE), Accepted)


def hl7(bed: TestBed) -> None:
    order(bed, replace(ORDER, study_instance_uid=""))


TRIGGERS: dict[str, Callable[[TestBed], None]] = {
    "hl7": hl7,
    "service-request": fhir(service_request()),
    "task": fhir(task()),
    "availability": notify,
    "performed-step": step_told,
    "workitem": workitem,
    "person": person,
}


@pytest.fixture(params=sorted(TRIGGERS))
def triggered(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TestBed, str]]:
    bed = make_service(
        tmp_path, rules=ANY_TRIGGER % request.param, requesting=(RequestingKind(code="ANALYSE"),)
    )
    yield bed, request.param
    bed.database.close()


def rule_work(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.state for one in story.workitems if one.rule]


@pytest.mark.parametrize("early", [True, False], ids=["before the images", "after the study was looked at"])
def test_every_trigger_makes_its_rule_run_and_is_named(triggered: tuple[TestBed, str], early: bool) -> None:
    bed, kind = triggered
    if early:
        TRIGGERS[kind](bed)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    if not early:
        assert rule_work(bed) == []
        TRIGGERS[kind](bed)
        assert bed.service.scheduler.complete_due_studies() == 1
    assert rule_work(bed) == ["SCHEDULED"]
    story = bed.service.story(STUDY)
    assert story is not None
    assert f"by {kind}" in story_text(story)


@pytest.mark.parametrize("kind", sorted(TRIGGERS.keys() - {"availability"}))
def test_order_fields_are_there_for_every_trigger(tmp_path: Path, kind: str) -> None:
    rules = (ANY_TRIGGER % kind).replace(f"{{trigger.kind: [{kind}]}}", "{order.AccessionNumber: A1}")
    bed = make_service(tmp_path, rules=rules, requesting=(RequestingKind(code="ANALYSE"),))
    TRIGGERS[kind](bed)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    assert rule_work(bed) == ["SCHEDULED"]
    bed.database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url)
    yield made
    made.database.close()


def test_a_step_is_kept_and_refused_as_told(bed: TestBed) -> None:
    assert begin(bed) == Accepted(uid=STEP)
    again = begin(bed)
    assert isinstance(again, Refused)
    assert again.code is RefusalCode.DUPLICATE_INSTANCE
    assert end(bed) == Accepted(uid=STEP)
    unknown = bed.service.performed_steps.change_step("1.2.9", {}, actor=MODALITY)
    assert isinstance(unknown, Refused)
    assert unknown.code is RefusalCode.NO_SUCH_INSTANCE


def test_a_notification_again_is_the_same_request(bed: TestBed) -> None:
    bed.receive(ct(1))
    notify(bed)
    notify(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert [one.version for one in story.requests] == [1]
