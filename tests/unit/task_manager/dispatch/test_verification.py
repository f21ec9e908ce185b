# SPDX-License-Identifier: Apache-2.0
"""Inference with verification: X, Y1 and Y2 (IHE AIW-I TF-1:50.4.2.6)."""

from __future__ import annotations

import pytest

from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, items, text
from profiles.ups.references import listed_instances
from task_manager.actor import Actor
from task_manager.dispatch.model import PerformerOffer, Style, SubtaskRole, SubtaskState, Verification
from task_manager.dispatching import DispatchSettings
from task_manager.outcome import RefusalCode, Refused
from task_manager.store import jobs
from task_manager.store.database import Database
from task_manager.store.records import Origin
from tests.contract.workitems import code, instances, performed, progress, request
from tests.unit.task_manager.dispatch.working import (
    BASE,
    BRAIN,
    WorkingBed,
    X,
    canceled,
    progress_of,
    reason_of,
)

REVIEW = Code("110007", "DCM", "Report Verification")
ONE = PerformerOffer(ae_title="ONE")
SETTINGS = DispatchSettings(
    performers=(ONE,), verifications={"lung": Verification(code=REVIEW, organization="Chest readers")}
)
PACS = element("STOWRSStorageSequence", element("StorageURL", "http://pacs.test/studies"))
OUTPUTS = instances(series="1.2.3.9")
CORRECTED = instances(series="1.2.3.11", count=1)
ORIGIN = Origin(rule="r", destinations=("pacs",))


@pytest.fixture
def bed(database: Database) -> WorkingBed:
    """A manager that has lung results verified."""
    made = WorkingBed(database, SETTINGS)
    made.create(
        origin=ORIGIN,
        OutputDestinationSequence=PACS,
        ReferencedRequestSequence=request(),
        PatientName="Tester^Émile",
    )
    return made


def child(bed: WorkingBed, role: SubtaskRole) -> str:
    """UID of Y1 or Y2."""
    return next(one.child_uid for one in bed.children() if one.role is role)


def inferred(bed: WorkingBed, outputs: DicomJson = OUTPUTS) -> None:
    """Y1 done."""
    [first] = bed.children()
    bed.claim(first.child_uid)
    bed.tell(first.child_uid, performed(OutputInformationSequence=outputs))
    bed.end(first.child_uid, "COMPLETED")


def reviewed(bed: WorkingBed, outputs: DicomJson | tuple[()]) -> None:
    """Y2 done."""
    review = child(bed, SubtaskRole.VERIFICATION)
    bed.claim(review)
    person = {
        **element("HumanPerformerCodeSequence", code("DR1", "L", "Dr. Who")),
        **element("HumanPerformerName", "Who^Dr"),
    }
    bed.tell(
        review,
        performed(
            OutputInformationSequence=outputs,
            ActualHumanPerformersSequence=person,
            PerformedProcedureStepEndDateTime="20260301130000+0000",
        ),
    )
    bed.end(review, "COMPLETED")


def output_uids(attributes: DicomJson) -> list[str]:
    done = items(attributes, "UnifiedProcedureStepPerformedProcedureSequence")
    return [
        reference.sop_instance_uid
        for item in done
        for reference in listed_instances(items(item, "OutputInformationSequence"))
    ]


def deliveries(bed: WorkingBed, uid: str) -> list[str]:
    with bed.database.read() as connection:
        return [job.key for job in jobs.jobs_of_workitem(connection, uid)]


def test_the_manager_keeps_x_and_hands_the_inference_on(bed: WorkingBed) -> None:
    [first] = bed.children()

    assert bed.station() == "AIRWAY"
    assert (first.role, first.state, first.performer) == (SubtaskRole.INFERENCE, SubtaskState.OPEN, "")
    inference = bed.attributes(first.child_uid)
    assert bed.station(first.child_uid) == "ONE"
    storage = items(items(inference, "OutputDestinationSequence")[0], "STOWRSStorageSequence")[0]
    assert text(storage, "StorageURL") == f"{BASE}/studies"
    kept = ("PatientName", "ReferencedRequestSequence", "InputInformationSequence", "StudyInstanceUID")
    same = ("ScheduledWorkitemCodeSequence", "ScheduledProcedureStepPriority", "ProcedureStepLabel")
    for keyword in (*kept, *same):
        tag = next(iter(element(keyword)))
        assert inference[tag] == bed.attributes()[tag], keyword
    assert bed.record(first.child_uid).origin == Origin()


def test_x_follows_the_inference_without_showing_its_results(bed: WorkingBed) -> None:
    [first] = bed.children()
    bed.claim(first.child_uid)
    assert bed.state() == "IN PROGRESS"

    bed.tell(first.child_uid, progress(ProcedureStepProgress="40"))
    assert progress_of(bed.attributes()) == "40"

    bed.tell(first.child_uid, performed(OutputInformationSequence=OUTPUTS))
    bed.end(first.child_uid, "COMPLETED")

    assert bed.state() == "IN PROGRESS"
    assert output_uids(bed.attributes()) == []
    assert deliveries(bed, X) == deliveries(bed, first.child_uid) == []


def test_the_review_gets_the_results_and_the_destination_of_x(bed: WorkingBed) -> None:
    inferred(bed)
    review = child(bed, SubtaskRole.VERIFICATION)
    attributes = bed.attributes(review)

    assert {one.role: one.state for one in bed.children()} == {
        SubtaskRole.INFERENCE: SubtaskState.DONE,
        SubtaskRole.VERIFICATION: SubtaskState.OPEN,
    }
    assert text(items(attributes, "ScheduledWorkitemCodeSequence")[0], "CodeValue") == "110007"
    assert items(attributes, "InputInformationSequence") == [OUTPUTS]
    assert items(attributes, "OutputDestinationSequence") == [PACS]
    people = items(attributes, "ScheduledHumanPerformersSequence")
    assert [text(one, "HumanPerformerOrganization") for one in people] == ["Chest readers"]
    assert bed.station(review) == ""
    assert text(attributes, "ProcedureStepLabel") == "Review: Lung analysis"


@pytest.mark.parametrize(
    ("outputs", "verified"),
    [
        pytest.param((), ["1.2.3.9.1", "1.2.3.9.2"], id="accepted-as-is"),
        pytest.param(CORRECTED, ["1.2.3.11.1"], id="corrected"),
    ],
)
def test_x_completes_with_what_the_reviewer_let_pass(
    bed: WorkingBed, outputs: DicomJson | tuple[()], verified: list[str]
) -> None:
    inferred(bed)
    reviewed(bed, outputs)

    done = items(bed.attributes(), "UnifiedProcedureStepPerformedProcedureSequence")[0]
    assert bed.state() == "COMPLETED"
    assert output_uids(bed.attributes()) == verified
    assert [text(one, "HumanPerformerName") for one in items(done, "ActualHumanPerformersSequence")] == [
        "Who^Dr"
    ]
    assert text(items(done, "PerformedWorkitemCodeSequence")[0], "CodeValue") == "AW1001"
    assert text(done, "PerformedProcedureStepEndDateTime") == "20260301130000+0000"
    assert {child.state for child in bed.children()} == {SubtaskState.DONE}
    states = [state for type_, state in bed.events() if type_ == 1]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


@pytest.mark.parametrize("role", [SubtaskRole.INFERENCE, SubtaskRole.VERIFICATION])
def test_a_canceled_child_cancels_x_with_its_reason(bed: WorkingBed, role: SubtaskRole) -> None:
    if role is SubtaskRole.VERIFICATION:
        inferred(bed)
    uid = child(bed, role)
    bed.claim(uid)
    bed.tell(uid, canceled("110521"))
    bed.end(uid, "CANCELED")

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110521")
    assert deliveries(bed, X) == []


@pytest.mark.parametrize(
    ("reason", "seen"),
    [pytest.param("110530", True, id="not-for-me"), pytest.param("110527", False, id="no-good")],
)
def test_a_review_that_nobody_takes_waits_for_a_person(bed: WorkingBed, reason: str, seen: bool) -> None:
    inferred(bed)
    review = child(bed, SubtaskRole.VERIFICATION)
    [details] = items(canceled(reason), "ProcedureStepProgressInformationSequence")

    bed.worklist.request_cancel(review, details, actor=Actor(door="dicom", name="READER1"))

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", reason)
    assert bool(bed.record(review).dispatch.attention) is seen


def test_canceling_x_while_it_waits_cancels_what_was_handed_on(bed: WorkingBed) -> None:
    [first] = bed.children()

    bed.worklist.request_cancel(X, canceled("110510"), actor=Actor(door="dicom", name="RIS"))

    assert (bed.state(), bed.state(first.child_uid)) == ("CANCELED", "CANCELED")


def test_a_cancel_request_for_x_reaches_who_works_on_it(bed: WorkingBed) -> None:
    inferred(bed)
    review = child(bed, SubtaskRole.VERIFICATION)
    bed.claim(review)

    bed.worklist.request_cancel(X, {}, actor=Actor(door="dicom", name="RIS"))

    assert bed.events(review)[-1] == (2, "IN PROGRESS")
    assert bed.state() == "IN PROGRESS"
    bed.end(review, "CANCELED")
    assert bed.state() == "CANCELED"
    assert bed.state(child(bed, SubtaskRole.INFERENCE)) == "COMPLETED"


def test_no_review_is_asked_for_when_the_inference_went_on_in_spite_of_a_cancel_request(
    bed: WorkingBed,
) -> None:
    [first] = bed.children()
    bed.claim(first.child_uid)
    [details] = items(canceled("110514"), "ProcedureStepProgressInformationSequence")
    bed.worklist.request_cancel(X, details, actor=Actor(door="dicom", name="RIS"))

    bed.tell(first.child_uid, performed(OutputInformationSequence=OUTPUTS))
    bed.end(first.child_uid, "COMPLETED")

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110514")
    assert [one.role for one in bed.children()] == [SubtaskRole.INFERENCE]


def test_a_cancel_request_for_x_cancels_a_review_nobody_has_begun(bed: WorkingBed) -> None:
    inferred(bed)

    bed.worklist.request_cancel(X, {}, actor=Actor(door="dicom", name="RIS"))

    assert (bed.state(), bed.state(child(bed, SubtaskRole.VERIFICATION))) == ("CANCELED", "CANCELED")


def test_nobody_else_may_claim_x(bed: WorkingBed) -> None:
    outcome = bed.worklist.change_state(
        X, "IN PROGRESS", transaction_uid="1.2.9", actor=Actor(door="dicomweb", name="ONE")
    )

    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.NOT_AUTHORIZED
    assert bed.state() == "SCHEDULED"


def test_x_waits_with_its_creator_s_assignment_until_its_inputs_are_there(database: Database) -> None:
    bed = WorkingBed(database, SETTINGS)
    theirs = code("THEIRS", "L", "Theirs")
    bed.create(InputReadinessState="UNAVAILABLE", ScheduledStationNameCodeSequence=theirs)
    assert (bed.station(), bed.children()) == ("THEIRS", [])

    bed.tell(X, element("InputReadinessState", "READY"), lock="")

    [first] = bed.children()
    assert (bed.station(), bed.station(first.child_uid)) == ("AIRWAY", "THEIRS")


def test_what_the_creator_changes_while_y1_waits_is_changed_there_too(bed: WorkingBed) -> None:
    [first] = bed.children()

    bed.tell(X, element("ScheduledProcedureStepPriority", "HIGH"), lock="")

    assert text(bed.attributes(first.child_uid), "ScheduledProcedureStepPriority") == "HIGH"


def test_an_inference_that_was_lost_is_tried_again_for_the_same_x(bed: WorkingBed) -> None:
    [first] = bed.children()
    bed.claim(first.child_uid)
    bed.tell(first.child_uid, canceled("110529"))
    bed.end(first.child_uid, "CANCELED")

    [again] = bed.children()
    assert again.child_uid != first.child_uid
    assert (bed.state(), bed.state(again.child_uid)) == ("IN PROGRESS", "SCHEDULED")
    inferred(bed)
    reviewed(bed, ())
    assert bed.state() == "COMPLETED"


def test_other_apps_are_left_alone(database: Database) -> None:
    bed = WorkingBed(database, SETTINGS)

    bed.create(app=BRAIN)

    assert (bed.station(), bed.children()) == ("ONE", [])


def test_the_inference_may_be_pushed(database: Database) -> None:
    pushed = PerformerOffer(ae_title="FAR", style=Style.PUSH, url="http://far.test")
    bed = WorkingBed(
        database, DispatchSettings(performers=(pushed,), verifications={"lung": Verification(code=REVIEW)})
    )
    bed.create()
    [first] = bed.children()
    bed.push("FAR")
    [far] = bed.children(first.child_uid)
    remote = bed.remote["FAR"]
    remote.claim(far.child_uid)
    bed.push("FAR")
    assert (bed.state(), bed.state(first.child_uid)) == ("IN PROGRESS", "IN PROGRESS")
    remote.tell(far.child_uid, performed(OutputInformationSequence=OUTPUTS))
    remote.end(far.child_uid, "COMPLETED")
    bed.push("FAR")

    assert bed.state(first.child_uid) == "COMPLETED"
    reviewed(bed, ())
    assert (bed.state(), output_uids(bed.attributes())) == ("COMPLETED", ["1.2.3.9.1", "1.2.3.9.2"])
