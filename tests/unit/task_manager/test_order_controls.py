# SPDX-License-Identifier: Apache-2.0
"""What each order control does to orders, studies that wait and work that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from informatics_gateway.story_words import story_text
from profiles import dicom_json
from profiles.order import MessageKey, Order, OrderControl, Priority
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import orders
from tests.instances import STUDY, ct
from tests.service import PERFORMER, TestBed, make_service
from tests.unit.task_manager.steps import KEY, LOCK, ORDER, RIS, complete, order, workitem

TWO_RULES = """
rules:
  - name: every-ct
    app: lung-ct
    when: {Modality: CT}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
  - name: urgent-ct
    app: lung-ct
    when: {all: [{Modality: CT}, {order.Priority: HIGH}]}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
"""


@pytest.fixture
def two_rules(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path, rules=TWO_RULES)
    yield made
    made.database.close()


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)


def states(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.state for one in story.workitems]


def told(bed: TestBed) -> str:
    story = bed.service.story(STUDY)
    assert story is not None
    return story_text(story)


def begin(bed: TestBed) -> None:
    uid = workitem(bed).uid
    bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)


def control(
    bed: TestBed, asked: str, number: int, *, status: str = "", **changes: object
) -> Accepted | Refused:
    """A message with little but the order's number, as most controls come."""
    content = replace(
        Order(
            control=OrderControl(asked),
            placer_order_number=ORDER.placer_order_number,
            filler_order_number="",
            accession_number="",
            patient_id="",
            order_status=status,
        ),
        **changes,  # type: ignore[arg-type]
    )
    return order(bed, content, f"C{number}")


@pytest.mark.parametrize("asked", ["CA", "DC", "OC", "OD", "RP", "CR"])
def test_cancels_stop_what_waits_and_ask_what_runs_to_stop(bed: TestBed, asked: str) -> None:
    order(bed)
    two_images(bed)
    assert isinstance(control(bed, asked, 1), Accepted)
    assert states(bed) == ["CANCELED"]
    assert "1 waiting workitem canceled" in told(bed)


def test_work_in_progress_is_asked_to_stop(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    begin(bed)
    assert isinstance(control(bed, "CA", 1), Accepted)
    assert states(bed) == ["IN PROGRESS"]
    assert workitem(bed).status.cancel_requested_at == bed.clock()
    assert "1 workitem in progress asked to stop" in told(bed)


def test_a_cancel_reaches_work_that_began_before_the_order_came(bed: TestBed) -> None:
    two_images(bed)
    begin(bed)
    order(bed)
    assert isinstance(control(bed, "CA", 1), Accepted)
    assert workitem(bed).status.cancel_requested_at is not None


def test_a_cancel_by_filler_number_and_a_cancel_told_as_a_status(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    outcome = control(bed, "SC", 1, status="CA", placer_order_number="", filler_order_number="FI1")
    assert isinstance(outcome, Accepted)
    assert states(bed) == ["CANCELED"]


def test_an_order_on_hold_waits_and_goes_on_when_released(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    control(bed, "HD", 1)
    assert states(bed) == ["CANCELED"]
    bed.clock.pass_(1)
    control(bed, "RL", 2)
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["CANCELED", "SCHEDULED"]


def test_images_of_an_order_on_hold_wait_for_its_release(bed: TestBed) -> None:
    order(bed)
    control(bed, "OH", 1)
    two_images(bed)
    assert states(bed) == []
    assert "the order is on hold" in told(bed)
    control(bed, "SC", 2, status="IP")
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["SCHEDULED"]


def test_work_in_progress_goes_on_when_its_order_is_held(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    begin(bed)
    control(bed, "HD", 1)
    assert workitem(bed).status.cancel_requested_at is None
    assert "1 workitem in progress goes on" in told(bed)


def test_a_status_is_kept_and_changes_no_work(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    first = workitem(bed).uid
    assert isinstance(control(bed, "SC", 1, status="CM"), Accepted)
    assert bed.service.scheduler.complete_due_studies() == 0
    assert workitem(bed).uid == first
    assert "SC/CM by RIS: nothing changed" in told(bed)


def test_a_replaced_order_goes_and_its_replacement_comes(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    old = replace(ORDER, control=OrderControl.REPLACE)
    new = replace(
        ORDER, control=OrderControl.REPLACEMENT, placer_order_number="PL2", filler_order_number="FI2"
    )
    key = replace(KEY, control_id="R1")
    assert isinstance(bed.service.intake.receive_order([old, new], key=key, raw=b"MSH|", actor=RIS), Accepted)
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["CANCELED", "SCHEDULED"]
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert story.order.order_number == "PL2"


def test_a_number_assigned_later_is_added(bed: TestBed) -> None:
    order(bed, replace(ORDER, filler_order_number=""))
    assert isinstance(control(bed, "NA", 1, filler_order_number="F77"), Accepted)
    assert isinstance(control(bed, "CA", 2, placer_order_number="", filler_order_number="F77"), Accepted)


def test_groups_about_one_new_order_are_one_order_that_can_be_canceled(bed: TestBed) -> None:
    steps = [replace(ORDER, scheduled_procedure_step_id=number) for number in ("S1", "S2")]
    assert isinstance(bed.service.intake.receive_order(steps, key=KEY, raw=b"MSH|", actor=RIS), Accepted)
    two_images(bed)
    assert isinstance(control(bed, "CA", 1), Accepted)
    assert states(bed) == ["CANCELED"]


def test_two_examinations_under_one_order_number_are_both_kept(bed: TestBed) -> None:
    both = [ORDER, replace(ORDER, accession_number="A2", study_instance_uid=f"{STUDY}.2")]
    for number, asked in enumerate((OrderControl.NEW, OrderControl.CHANGE)):
        told = [replace(one, control=asked) for one in both]
        key = replace(KEY, control_id=f"N{number}")
        assert isinstance(bed.service.intake.receive_order(told, key=key, raw=b"MSH|", actor=RIS), Accepted)
    with bed.database.read() as connection:
        kept = [one.accession_number for _, one, _ in orders.orders_of_patient(connection, "P1")]
    assert sorted(kept) == ["A1", "A2"]
    two_images(bed)
    assert isinstance(control(bed, "CA", 1, accession_number="A1"), Accepted)
    assert states(bed) == ["CANCELED"]


def test_equal_numbers_of_placer_and_filler_are_orders_of_their_own(bed: TestBed) -> None:
    other = replace(ORDER, accession_number="A7", study_instance_uid="")
    order(bed, replace(ORDER, placer_order_number="7", placer_issuer="A", filler_order_number=""))
    by_filler = replace(other, placer_order_number="", filler_order_number="7", filler_issuer="B")
    order(bed, replace(by_filler, patient_id="P7"), "M2")
    by_placer = replace(other, placer_order_number="7", placer_issuer="B", filler_order_number="")
    order(bed, replace(by_placer, patient_id="P8"), "M3")
    with bed.database.read() as connection:
        kept = [orders.orders_of_patient(connection, one) for one in ("P1", "P7", "P8")]
    assert [len(found) for found in kept] == [1, 1, 1]


@pytest.mark.parametrize("asked", ["CA", "DC", "XO", "HD", "RL", "SC", "NA"])
def test_unknown_orders_are_refused_unless_the_site_accepts_them(bed: TestBed, asked: str) -> None:
    refused = control(bed, asked, 1)
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.UNKNOWN_ORDER
    assert refused.faults[0].path == "ORC[1]-2"
    content = replace(ORDER, control=OrderControl(asked))
    key = replace(KEY, control_id="C2")
    outcome = bed.service.intake.receive_order(
        [content], key=key, raw=b"MSH|", actor=RIS, accept_unknown=True
    )
    assert isinstance(outcome, Accepted)
    two_images(bed)
    assert states(bed) == ["SCHEDULED"]


def test_notices_change_nothing(bed: TestBed) -> None:
    assert isinstance(control(bed, "SS", 1), Accepted)
    order(bed)
    assert isinstance(control(bed, "UC", 2), Accepted)
    two_images(bed)
    assert states(bed) == ["SCHEDULED"]
    assert "UC by RIS: nothing to do" in told(bed)


def test_a_late_change_is_told_where_work_has_begun(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    begin(bed)
    order(
        bed, replace(ORDER, control=OrderControl.CHANGE, accession_number="A2", priority=Priority.LOW), "M2"
    )
    bed.service.scheduler.complete_due_studies()
    assert states(bed) == ["IN PROGRESS"]
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    request = dicom_json.items(found, "ReferencedRequestSequence")[0]
    assert dicom_json.text(request, "AccessionNumber") == "A2"
    assert dicom_json.text(found, "ScheduledProcedureStepPriority") == "HIGH"
    line = "XO by RIS (accession_number, priority): 1 workitem in progress began before this"
    assert line in told(bed)


def test_a_rule_that_waits_for_the_order_runs_beside_work_that_has_begun(two_rules: TestBed) -> None:
    bed = two_rules
    two_images(bed)
    begin(bed)
    assert states(bed) == ["IN PROGRESS"]
    order(bed)
    assert bed.service.scheduler.complete_due_studies() == 1
    assert states(bed) == ["IN PROGRESS", "SCHEDULED"]


def test_the_same_order_again_disturbs_nothing(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    order(bed, ORDER, "M2")
    assert bed.service.scheduler.complete_due_studies() == 0
    assert states(bed) == ["SCHEDULED"]


def test_equal_numbers_of_two_placers_are_two_orders(bed: TestBed) -> None:
    first = replace(ORDER, placer_issuer="A", filler_order_number="")
    second = replace(
        first, placer_issuer="B", study_instance_uid="1.2.3", accession_number="A9", patient_id="P9"
    )
    order(bed, first)
    order(bed, second, "M2")
    order(bed, replace(second, control=OrderControl.CANCEL), "M3")
    two_images(bed)
    assert states(bed) == ["SCHEDULED"]


def test_a_number_that_two_placers_use_names_no_order_without_its_issuer(bed: TestBed) -> None:
    first = replace(ORDER, placer_issuer="A", filler_order_number="")
    order(bed, first)
    order(bed, replace(first, placer_issuer="B", study_instance_uid="1.2.3", accession_number="A9"), "M2")
    assert isinstance(control(bed, "CA", 1), Refused)
    assert isinstance(control(bed, "CA", 2, placer_issuer="A"), Accepted)


def test_one_unknown_order_refuses_the_whole_message(bed: TestBed) -> None:
    unknown = replace(ORDER, control=OrderControl.CANCEL, placer_order_number="X", filler_order_number="Y")
    key = MessageKey(sending_application="RIS", sending_facility="H", control_id="B1")
    outcome = bed.service.intake.receive_order([ORDER, unknown], key=key, raw=b"MSH|", actor=RIS)
    assert isinstance(outcome, Refused)
    assert [fault.path for fault in outcome.faults] == ["ORC[2]-2"]
    assert isinstance(control(bed, "CA", 1), Refused)
