# SPDX-License-Identifier: Apache-2.0
"""X here and Y on the performer: made, followed, copied up, taken back (IHE AIW-I TF-1:50.4.2.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiles.dicom_json import element, items, tag_key, text
from task_manager.actor import Actor
from task_manager.dispatch.leases import replacement_uid
from task_manager.dispatch.model import PerformerOffer, Style, SubtaskState
from task_manager.dispatch.subtasks import discontinuation, performed_changes, progress_changes
from task_manager.dispatching import DispatchSettings
from task_manager.outcome import RefusalCode, Refused
from task_manager.store.database import Database
from task_manager.store.records import Origin
from tests.contract.workitems import code, minimal, performed, progress, request
from tests.unit.task_manager.dispatch.working import (
    RemotePerformer,
    WorkingBed,
    X,
    canceled,
    progress_of,
    reason_of,
)

FAR = PerformerOffer(ae_title="FAR", style=Style.PUSH, url="http://far.test/dicom-web")
FARTHER = PerformerOffer(ae_title="FARTHER", style=Style.PUSH, url="http://farther.test/dicom-web")
NEAR = PerformerOffer(ae_title="NEAR")
RIS = Actor(door="dicom", name="RIS")


def made(database: Database, *offers: PerformerOffer) -> tuple[WorkingBed, RemotePerformer]:
    bed = WorkingBed(database, DispatchSettings(performers=offers or (FAR,)))
    return bed, bed.remote["FAR"]


def test_the_whole_way(database: Database) -> None:
    bed, far = made(database)
    bed.create(
        origin=Origin(destinations=("pacs",)),
        PatientName="Tester^Émile",
        ReferencedRequestSequence=request(),
    )
    assert bed.push("FAR") == 1
    [child] = bed.children()
    pushed = far.retrieve(child.child_uid)

    assert pushed is not None
    differing = {tag for tag in bed.attributes() if bed.attributes()[tag] != pushed.get(tag)}
    assert differing <= {tag_key("SOPInstanceUID"), tag_key("ScheduledProcedureStepModificationDateTime")}
    assert (child.state, far.watched) == (SubtaskState.OPEN, {child.child_uid})

    far.claim(child.child_uid)
    far.tell(
        child.child_uid, progress(ProcedureStepProgress="30", ProcedureStepProgressDescription="reading")
    )
    bed.push("FAR")
    assert (bed.state(), progress_of(bed.attributes())) == ("IN PROGRESS", "30")

    far.tell(child.child_uid, performed())
    far.end(child.child_uid, "COMPLETED")
    bed.push("FAR")

    assert bed.state() == "COMPLETED"
    finished = far.retrieve(child.child_uid)
    assert finished is not None
    performed_tag = tag_key("UnifiedProcedureStepPerformedProcedureSequence")
    assert bed.attributes()[performed_tag] == finished[performed_tag]
    assert (bed.children()[0].state, far.watched) == (SubtaskState.DONE, set())
    assert bed.push("FAR") == 0
    assert bed.events() == [
        (1, "SCHEDULED"),
        (5, "SCHEDULED"),
        (1, "IN PROGRESS"),
        (3, "IN PROGRESS"),
        (1, "COMPLETED"),
    ]


def test_a_child_that_was_done_before_we_looked_is_taken_over_at_once(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.claim(child.child_uid)
    far.tell(child.child_uid, performed())
    far.end(child.child_uid, "COMPLETED")

    bed.push("FAR")

    states = [state for type_, state in bed.events() if type_ == 1]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_a_push_that_was_cut_off_finds_its_child_again(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    [child] = bed.children()
    far.create(child.child_uid, minimal())  # the answer to this never came

    bed.push("FAR")

    assert bed.children() == [replace(child, state=SubtaskState.OPEN)]


def test_work_waits_for_its_inputs_before_it_is_pushed(database: Database) -> None:
    bed, far = made(database)
    named = code("FAR", "L", "Far")
    bed.create(InputReadinessState="UNAVAILABLE", ScheduledStationNameCodeSequence=named)
    assert (bed.push("FAR"), bed.children()) == (0, [])

    bed.tell(X, element("InputReadinessState", "READY"), lock="")

    assert bed.push("FAR") == 1
    assert far.retrieve(bed.children()[0].child_uid) is not None


def test_a_child_canceled_with_a_reason_cancels_x_with_it(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.claim(child.child_uid)
    far.tell(child.child_uid, canceled("110522"))
    far.end(child.child_uid, "CANCELED")

    bed.push("FAR")

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110522")


def test_a_performer_that_rejects_what_was_pushed_is_followed_by_another(database: Database) -> None:
    bed, far = made(database, FAR, NEAR)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    details = items(canceled("110530"), "ProcedureStepProgressInformationSequence")[0]
    far.worklist.request_cancel(child.child_uid, details, actor=RIS)

    bed.push("FAR")

    assert (bed.state(), bed.station()) == ("SCHEDULED", "NEAR")
    assert bed.record().dispatch.rejected_by == ("FAR",)


@pytest.mark.parametrize("others", [pytest.param((NEAR,), id="another"), pytest.param((), id="nobody-else")])
def test_a_performer_that_refuses_a_push(database: Database, others: tuple[PerformerOffer, ...]) -> None:
    bed, far = made(database, FAR, *others)
    far.accepts = False
    bed.create()

    bed.push("FAR")

    if others:
        assert (bed.state(), bed.station()) == ("SCHEDULED", "NEAR")
    else:
        assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110527")
        assert bed.record().dispatch.attention
    assert bed.children()[0].state is SubtaskState.DONE


def test_nobody_else_may_claim_what_is_pushed(database: Database) -> None:
    bed, far = made(database)
    bed.create()

    outcome = bed.worklist.change_state(X, "IN PROGRESS", transaction_uid="1.2.9", actor=RIS)

    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.NOT_AUTHORIZED
    assert bed.push("FAR") == 1
    assert far.retrieve(bed.children()[0].child_uid) is not None


def test_y_becomes_as_urgent_as_x_while_it_waits(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    y = bed.children()[0].child_uid

    bed.tell(X, element("ScheduledProcedureStepPriority", "HIGH"), lock="")
    for _ in range(3):
        bed.push("FAR")

    told = far.retrieve(y)
    assert told is not None
    assert text(told, "ScheduledProcedureStepPriority") == "HIGH"
    assert far.updates == [y]


def test_canceling_x_takes_y_back(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()

    bed.worklist.request_cancel(X, {}, actor=RIS)
    bed.push("FAR", seconds=0)  # made due by the cancel
    bed.push("FAR")

    assert (bed.state(), far.cancels) == ("CANCELED", [child.child_uid])
    assert (bed.children()[0].state, far.watched) == (SubtaskState.DONE, set())


def test_a_cancel_request_for_x_goes_to_the_performer_once_and_its_answer_comes_back(
    database: Database,
) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.claim(child.child_uid)
    bed.push("FAR")

    bed.worklist.request_cancel(X, {}, actor=RIS)
    bed.push("FAR", seconds=0)
    bed.push("FAR")
    assert (bed.state(), far.cancels) == ("IN PROGRESS", [child.child_uid])
    far.end(child.child_uid, "CANCELED")
    bed.push("FAR")

    assert bed.state() == "CANCELED"
    assert isinstance(bed.worklist.retrieve_workitem(replacement_uid(X)), Refused)


def test_an_unreachable_performer_is_asked_less_and_less_then_another_gets_the_work(
    database: Database,
) -> None:
    bed, far = made(database, FAR, FARTHER)
    bed.create("1.2.1")
    bed.create()
    assert (bed.station("1.2.1"), bed.station()) == ("FAR", "FARTHER")
    far.reachable = False
    asked = sum(bed.push("FAR", seconds=30) for _ in range(20))

    assert asked < 20
    assert bed.station("1.2.1") == "FAR"
    for _ in range(20):
        bed.push("FAR", seconds=60)
    assert bed.station("1.2.1") == "FARTHER"
    assert bed.push("FARTHER") == 2
    assert [child.performer for child in bed.children("1.2.1")] == ["FAR", "FARTHER"]


def test_a_child_left_behind_on_an_unreachable_performer_is_canceled_when_it_is_back(
    database: Database,
) -> None:
    bed, far = made(database, FAR, NEAR)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.reachable = False
    for _ in range(30):
        bed.push("FAR", seconds=60)
    assert bed.station() == "NEAR"
    assert far.cancels == []

    far.reachable = True
    for _ in range(3):
        bed.push("FAR", seconds=301)

    assert far.cancels == [child.child_uid]
    assert bed.children()[0].state is SubtaskState.DONE


@pytest.mark.parametrize("created", [False, True], ids=["not-created", "created-before"])
def test_without_another_performer_work_waits_visibly_and_goes_on(database: Database, created: bool) -> None:
    bed, far = made(database)
    bed.create()
    if created:
        bed.push("FAR")
    far.reachable = False
    for _ in range(30):
        bed.push("FAR", seconds=60)
    assert (bed.state(), bed.station()) == ("SCHEDULED", "FAR")
    assert bed.record().dispatch.attention == "performer FAR does not answer"

    far.reachable = True
    bed.push("FAR", seconds=301)

    assert bed.record().dispatch.attention == ""
    assert bed.children()[0].state is SubtaskState.OPEN


def test_what_waited_for_an_unreachable_performer_waits_no_longer_when_it_is_canceled(
    database: Database,
) -> None:
    bed, far = made(database)
    far.reachable = False
    bed.create()
    for _ in range(30):
        bed.push("FAR", seconds=60)
    assert bed.record().dispatch.attention

    bed.worklist.request_cancel(X, {}, actor=Actor(door="dicom", name="RIS"))
    bed.push("FAR", seconds=60)

    assert bed.state() == "CANCELED"
    assert bed.record().dispatch.attention == ""


def test_work_of_a_performer_that_vanished_is_tried_again(database: Database) -> None:
    bed, far = made(database, FAR, NEAR)
    bed.create()
    bed.push("FAR")
    far.claim(bed.children()[0].child_uid)
    bed.push("FAR")
    far.reachable = False
    for _ in range(30):
        bed.push("FAR", seconds=60)

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110501")
    again = replacement_uid(X)
    assert (bed.state(again), bed.station(again)) == ("SCHEDULED", "NEAR")


def test_a_child_its_performer_forgot_is_pushed_again_and_then_elsewhere(database: Database) -> None:
    bed, far = made(database, FAR, NEAR)
    bed.create()
    for number in range(1, 4):
        bed.push("FAR")
        assert len(bed.children()) == number
        far.gone.add(bed.children()[-1].child_uid)
        bed.push("FAR")

    assert bed.station() == "NEAR"
    assert {child.state for child in bed.children()} == {SubtaskState.DONE}


def test_results_that_tell_too_little_cancel_x(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.claim(child.child_uid)
    far.tell(child.child_uid, performed())
    far.end(child.child_uid, "COMPLETED")
    complete = far.retrieve(child.child_uid)
    assert complete is not None
    complete.pop(tag_key("UnifiedProcedureStepPerformedProcedureSequence"))

    bed.push("FAR")

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110521")


def test_an_event_makes_us_look_at_once(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    [child] = bed.children()
    far.claim(child.child_uid)
    assert bed.push("FAR", seconds=0) == 0

    bed.steps["FAR"].heard(child.child_uid)

    assert bed.push("FAR", seconds=0) == 1
    assert bed.state() == "IN PROGRESS"


def test_a_live_child_keeps_x_from_looking_lost(database: Database) -> None:
    bed, far = made(database)
    bed.create()
    bed.push("FAR")
    far.claim(bed.children()[0].child_uid)
    bed.push("FAR")
    for _ in range(10):
        bed.push("FAR", seconds=120)

    heard_at = bed.record().workitem.heard_at
    assert heard_at is not None
    assert (bed.clock.now - heard_at).total_seconds() < 300


def test_nothing_is_planned_for_who_pulls(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(NEAR,)))
    bed.create()

    assert bed.station() == "NEAR"
    assert bed.children() == []


@pytest.mark.parametrize(
    ("parent", "child", "changed"),
    [
        pytest.param(minimal(), minimal(), False, id="nothing-told"),
        pytest.param(minimal(), {**minimal(), **progress(ProcedureStepProgress="5")}, True, id="new"),
        pytest.param(
            {**minimal(), **progress(ProcedureStepProgress="5")},
            {**minimal(), **progress(ProcedureStepProgress="5")},
            False,
            id="told-before",
        ),
        pytest.param(minimal(), {**minimal(), **canceled("110501")}, False, id="a-reason-is-no-progress"),
    ],
)
def test_progress_is_copied_when_it_is_new(
    parent: dict[str, object], child: dict[str, object], changed: bool
) -> None:
    assert bool(progress_changes(parent, child)) is changed
    assert performed_changes(parent, child) == {}


def test_a_cancel_without_reason_is_for_unspecified_reason() -> None:
    reason, why = discontinuation(minimal())

    assert (reason.value, why) == ("110513", "Discontinued for unspecified reason")
