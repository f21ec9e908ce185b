# SPDX-License-Identifier: Apache-2.0
"""Workitems of others that ask for what the rules give: taken, followed, ended; never a loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, text
from profiles.request import RequestKind
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.requesting import RequestingKind, workitem_request
from task_manager.study_decisions import StudyAction
from tests.contract.workitems import code, instances, minimal, request
from tests.instances import STUDY, ct
from tests.service import PERFORMER, TestBed, make_service
from tests.unit.task_manager.steps import LOCK, complete, performed, sr_and_seg

REQUESTER = Actor(door="dicomweb", name="VIEWER", address="127.0.0.1")
X = "1.2.3.4.900"
ASKS = RequestingKind(code="ANALYSE", scheme="99SITE")
OWN = RequestingKind(code="AW1001")


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path, requesting=(ASKS, OWN))
    yield made
    made.database.close()


def asking(**given: object) -> DicomJson:
    return minimal(
        **{
            "ScheduledWorkitemCodeSequence": code("ANALYSE", "99SITE", "Analyse"),
            "InputInformationSequence": instances(study=STUDY),
            "ScheduledProcedureStepPriority": "HIGH",
            **given,
        }
    )


def create(bed: TestBed, attributes: DicomJson | None = None, uid: str = X) -> Accepted | Refused:
    return bed.service.worklist.create_workitem(uid, attributes or asking(), actor=REQUESTER)


def x(bed: TestBed) -> DicomJson:
    found = bed.service.worklist.retrieve_workitem(X)
    assert not isinstance(found, Refused)
    return found


def state(bed: TestBed) -> str:
    return text(x(bed), "ProcedureStepState")


def reason(bed: TestBed) -> str:
    (told,) = items(x(bed), "ProcedureStepProgressInformationSequence")
    return text(told, "ReasonForCancellation")


def made(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.uid for one in story.workitems if one.rule]


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)


def finish(bed: TestBed, uid: str) -> None:
    worklist = bed.service.worklist
    worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    for content in sr_and_seg():
        bed.receive(content, PERFORMER)
    worklist.update_workitem(uid, performed(), transaction_uid=LOCK, actor=PERFORMER)
    done = worklist.change_state(uid, "COMPLETED", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(done, Accepted)


@pytest.mark.peers
def test_it_is_taken_and_canceled_on_postgresql(tmp_path: Path, postgresql_dsn: str) -> None:
    bed = make_service(tmp_path, postgresql_dsn, requesting=(ASKS, OWN))
    create(bed)
    two_images(bed)
    assert state(bed) == "IN PROGRESS"
    bed.service.worklist.request_cancel(X, element("ReasonForCancellation", "mistake"), actor=REQUESTER)
    assert state(bed) == "CANCELED"
    bed.database.close()


def test_it_is_the_managers_and_follows_the_work_of_the_rules(bed: TestBed) -> None:
    assert isinstance(create(bed), Accepted)
    kept = bed.service.requests.request(RequestKind.WORKITEM, X)
    assert kept is not None
    assert kept.source == "VIEWER"
    (station,) = items(x(bed), "ScheduledStationNameCodeSequence")
    assert text(station, "CodeValue") == "AIRWAY"
    assert state(bed) == "SCHEDULED"
    two_images(bed)
    assert state(bed) == "IN PROGRESS"
    (uid,) = made(bed)
    finish(bed, uid)
    assert state(bed) == "COMPLETED"
    (told,) = items(x(bed), "UnifiedProcedureStepPerformedProcedureSequence")
    assert len(items(told, "OutputInformationSequence")) == 2


def test_one_for_a_study_whose_work_is_done_is_completed(bed: TestBed) -> None:
    two_images(bed)
    (uid,) = made(bed)
    finish(bed, uid)
    create(bed)
    bed.service.scheduler.complete_due_studies()
    assert state(bed) == "COMPLETED"
    assert made(bed) == [uid]


def test_nobody_else_may_claim_it(bed: TestBed) -> None:
    create(bed)
    claim = bed.service.worklist.change_state(X, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(claim, Refused)
    assert claim.code is RefusalCode.NOT_AUTHORIZED


def test_one_that_no_rule_gives_work_for_is_canceled_and_says_so(bed: TestBed) -> None:
    create(bed)
    bed.receive(ct(1))
    complete(bed)
    assert state(bed) == "CANCELED"
    assert reason(bed) == "no rule gives work on the study"


def test_one_that_names_no_study_is_canceled_and_says_so(bed: TestBed) -> None:
    create(bed, asking(InputInformationSequence=()))
    assert state(bed) == "CANCELED"
    assert "neither a study" in reason(bed)


def test_one_by_accession_number(bed: TestBed) -> None:
    create(
        bed,
        asking(InputInformationSequence=(), ReferencedRequestSequence=request(AccessionNumber="A1")),
    )
    two_images(bed)
    assert state(bed) == "IN PROGRESS"


def test_one_for_work_that_waits_follows_the_work_that_takes_its_place(bed: TestBed) -> None:
    two_images(bed)
    create(bed)
    bed.service.scheduler.complete_due_studies()
    assert (state(bed), len(made(bed))) == ("IN PROGRESS", 2)
    finish(bed, made(bed)[-1])
    assert state(bed) == "COMPLETED"


def test_late_images_do_not_end_it(bed: TestBed) -> None:
    create(bed)
    two_images(bed)
    bed.receive(ct(3))
    complete(bed)
    assert (state(bed), len(made(bed))) == ("IN PROGRESS", 2)


def test_it_is_never_lost_while_its_work_waits(bed: TestBed) -> None:
    create(bed)
    two_images(bed)
    for _ in range(3):
        bed.clock.pass_(3600)
        bed.service.sweeps.run_due()
    assert state(bed) == "IN PROGRESS"
    (uid,) = made(bed)
    finish(bed, uid)
    assert state(bed) == "COMPLETED"


def test_a_discarded_study_ends_it(bed: TestBed) -> None:
    create(bed)
    two_images(bed)
    bed.service.studies.decide(STUDY, StudyAction.DISCARD, actor=PERFORMER)
    assert (state(bed), reason(bed)) == ("CANCELED", "the study was discarded")


def test_canceled_work_cancels_it(bed: TestBed) -> None:
    create(bed)
    two_images(bed)
    (uid,) = made(bed)
    bed.service.worklist.request_cancel(uid, element("ReasonForCancellation", "not now"), actor=PERFORMER)
    assert (state(bed), reason(bed)) == ("CANCELED", "not now")


@pytest.mark.parametrize("begun", [False, True], ids=["before its images", "in progress"])
def test_a_cancel_of_it_is_a_cancel_of_the_request(bed: TestBed, begun: bool) -> None:
    create(bed)
    if begun:
        two_images(bed)
        assert state(bed) == "IN PROGRESS"
    details = element("ReasonForCancellation", "mistake")
    assert isinstance(bed.service.worklist.request_cancel(X, details, actor=REQUESTER), Accepted)
    assert state(bed) == "CANCELED"
    kept = bed.service.requests.request(RequestKind.WORKITEM, X)
    assert kept is not None
    assert kept.status.value == "REVOKED"
    if begun:
        story = bed.service.story(STUDY)
        assert story is not None
        assert [one.state for one in story.workitems if one.rule] == ["CANCELED"]


def test_nobody_takes_its_request_back_without_it(bed: TestBed) -> None:
    create(bed)
    refused = bed.service.requests.cancel_request(RequestKind.WORKITEM, X, actor=REQUESTER)
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.MAY_NOT_BE_UPDATED
    two_images(bed)
    assert state(bed) == "IN PROGRESS"


def test_work_of_the_rules_asks_for_nothing_though_it_has_the_code(bed: TestBed) -> None:
    two_images(bed)
    (uid,) = made(bed)
    assert bed.service.requests.request(RequestKind.WORKITEM, uid) is None
    bed.service.scheduler.complete_due_studies()
    assert made(bed) == [uid]


def test_what_is_configured_for_nobody_is_left_to_performers(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    create(bed)
    assert bed.service.requests.request(RequestKind.WORKITEM, X) is None
    claim = bed.service.worklist.change_state(X, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(claim, Accepted)
    bed.database.close()


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (RequestingKind(code="ANALYSE"), True),
        (RequestingKind(code="ANALYSE", scheme="99SITE"), True),
        (RequestingKind(code="ANALYSE", scheme="DCM"), False),
        (RequestingKind(code="OTHER"), False),
        (RequestingKind(worklist_label="AI"), True),
        (RequestingKind(code="ANALYSE", worklist_label="other"), False),
    ],
    ids=["code", "code and scheme", "other scheme", "other code", "label", "other label"],
)
def test_which_workitems_ask(kind: RequestingKind, fits: bool) -> None:
    assert kind.is_of(asking()) is fits


def test_what_one_asks_for() -> None:
    attributes = merged(
        [
            asking(PatientID="P1", CommentsOnTheScheduledProcedureStep="soon"),
            element("ReferencedRequestSequence", request(AccessionNumber="A1")),
        ]
    )
    asked = workitem_request(X, attributes, "lung-ct", REQUESTER)
    assert asked.trigger.app == "lung-ct"
    assert (asked.asked.study_instance_uid, asked.asked.accession_number) == (STUDY, "A1")
    assert (asked.asked.patient_id, asked.asked.comments) == ("P1", "soon")
