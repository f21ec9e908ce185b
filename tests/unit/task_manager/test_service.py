# SPDX-License-Identifier: Apache-2.0
"""The path through the task manager, on SQLite and on PostgreSQL: instances and orders in, jobs out."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import text

from profiles import dicom_json
from profiles.codes import WORKITEM_LUNG_CT
from profiles.order import OrderControl
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import WorkitemQuery
from task_manager.study.model import StudyState
from tests.instances import STUDY, ct
from tests.service import APPS, QUIET, SCANNER, TestBed, make_service
from tests.unit.task_manager.steps import (
    ORDER,
    complete,
    order,
    run_to_completed,
    workitem,
)


def test_a_study_is_complete_after_the_quiet_period_and_not_before(bed: TestBed) -> None:
    bed.receive(ct(1))
    bed.clock.pass_(20)
    bed.receive(ct(2))
    bed.clock.pass_(20)
    assert bed.service.scheduler.complete_due_studies() == 0
    bed.clock.pass_(11)
    assert bed.service.scheduler.complete_due_studies() == 1
    story = bed.service.story(STUDY)
    assert story is not None
    assert (story.study.state, story.study.revision) == (StudyState.COMPLETE, 1)
    assert story.study.evidence == "quiet-period"


def test_a_deadline_survives_a_restart(tmp_path: Path) -> None:
    before = make_service(tmp_path)
    before.receive(ct(1))
    before.receive(ct(2))
    before.database.close()
    after = make_service(tmp_path)
    after.clock.now = before.clock.now + QUIET + timedelta(seconds=1)
    assert after.service.scheduler.complete_due_studies() == 1
    assert workitem(after).state == "SCHEDULED"
    after.database.close()


def test_the_order_reaches_the_workitem(bed: TestBed) -> None:
    assert isinstance(order(bed), Accepted)
    for number in (1, 2):
        bed.receive(ct(number, AccessionNumber=""))
    complete(bed)
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    request = dicom_json.items(found, "ReferencedRequestSequence")[0]
    assert dicom_json.text(request, "AccessionNumber") == "A1"
    assert dicom_json.text(request, "PlacerOrderNumberImagingServiceRequest") == "PL1"
    assert dicom_json.text(found, "ScheduledProcedureStepPriority") == "HIGH"
    assert dicom_json.text(found, "PatientID") == "P1"
    assert (
        len(dicom_json.items(dicom_json.items(found, "InputInformationSequence")[0], "ReferencedSOPSequence"))
        == 2
    )


def test_an_order_of_another_patient_is_not_joined(bed: TestBed) -> None:
    order(bed, replace(ORDER, patient_id="P2"))
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is None


def test_an_order_of_another_patient_hides_none_of_this_one(bed: TestBed) -> None:
    order(bed)
    bed.clock.pass_(1)
    order(bed, replace(ORDER, placer_order_number="PL2", filler_order_number="", patient_id="P2"), "M2")
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert story.order.order_number == "PL1"


def test_where_numbers_name_two_orders_the_placer_decides(bed: TestBed) -> None:
    order(bed, replace(ORDER, placer_order_number="PL0", filler_order_number="FI9"), "M0")
    order(bed)
    assert isinstance(
        order(bed, replace(ORDER, control=OrderControl.CANCEL, filler_order_number="FI9"), "M2"), Accepted
    )
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert (story.order.order_number, story.order.status) == ("PL0", "ACTIVE")


def test_the_same_message_twice_changes_nothing(bed: TestBed) -> None:
    assert order(bed) == Accepted(uid="M1")
    assert order(bed) == Accepted(uid="M1", warnings=(WarningCode.DUPLICATE,))


def test_a_change_to_an_unknown_order_is_refused_and_may_be_sent_again(bed: TestBed) -> None:
    refused = order(bed, replace(ORDER, control=OrderControl.CHANGE))
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.UNKNOWN_ORDER
    order(bed, control_id="M0")
    assert isinstance(order(bed, replace(ORDER, control=OrderControl.CHANGE)), Accepted)


def test_canceling_an_order_cancels_what_has_not_started(bed: TestBed) -> None:
    order(bed)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    assert isinstance(order(bed, replace(ORDER, control=OrderControl.CANCEL), "M2"), Accepted)
    assert workitem(bed).state == "CANCELED"
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert (story.order.order_number, story.order.status) == ("PL1", "REVOKED")


def test_the_same_study_twice_makes_one_workitem(bed: TestBed) -> None:
    for _ in range(2):
        for number in (1, 2):
            assert isinstance(bed.receive(ct(number)), Accepted)
    complete(bed)
    again = [bed.receive(ct(number)) for number in (1, 2)]
    assert again == [Accepted(uid=f"{STUDY}.1.{n}", warnings=(WarningCode.DUPLICATE,)) for n in (1, 2)]
    bed.clock.pass_(100)
    assert bed.service.scheduler.complete_due_studies() == 0
    story = bed.service.story(STUDY)
    assert story is not None
    assert len(story.workitems) == 1
    assert len(list(bed.folder.rglob("*.dcm"))) == 2


def test_other_bytes_under_a_known_uid_are_kept_apart(bed: TestBed) -> None:
    bed.receive(ct(1))
    assert bed.receive(ct(1, StudyDescription="other")) == Accepted(
        uid=f"{STUDY}.1.1", warnings=(WarningCode.KEPT_APART,)
    )
    assert bed.receive(ct(1, StudyDescription="other")) == Accepted(
        uid=f"{STUDY}.1.1", warnings=(WarningCode.DUPLICATE,)
    )
    found = bed.service.archive.find_instances(study_instance_uid=STUDY)
    assert len(found) == 1
    assert bed.service.archive.open_path(found[0]).read_bytes() == ct(1)


def test_an_object_that_was_lost_from_disk_can_be_received_again(bed: TestBed) -> None:
    bed.receive(ct(1))
    (lost,) = bed.folder.rglob("*.dcm")
    lost.unlink()
    assert bed.receive(ct(1)) == Accepted(uid=f"{STUDY}.1.1", warnings=(WarningCode.KEPT_APART,))
    assert [path.read_bytes() for path in bed.folder.rglob("*.dcm")] == [ct(1)]


def test_while_the_database_is_away_no_try_leaves_an_object_behind(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    with bed.database.write() as connection:
        connection.execute(text("ALTER TABLE instance RENAME TO away"))
    for _ in range(3):
        with pytest.raises(StoreError):
            bed.receive(ct(1))
    assert list(bed.folder.rglob("*.dcm")) == []
    bed.database.close()


def test_a_late_image_reopens_the_study_and_replaces_waiting_work(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    bed.receive(ct(3))
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert [one.state for one in story.workitems] == ["CANCELED", "SCHEDULED"]
    assert story.study.revision == 2


def test_a_study_without_enough_images_is_explained(bed: TestBed) -> None:
    bed.receive(ct(1))
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert not story.workitems
    (_, _, explanation) = story.explanations[0]
    assert not explanation.matched


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"announced_sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, "SOPClassUID"),
        ({"announced_sop_instance_uid": "1.2.3"}, "SOPInstanceUID"),
        ({"study_instance_uid": "1.2.3"}, "StudyInstanceUID"),
    ],
)
def test_a_data_set_that_contradicts_its_request_is_refused(
    bed: TestBed, said: dict[str, str], path: str
) -> None:
    staged = bed.service.intake.stage()
    staged.write(ct(1))
    refused = bed.service.intake.receive_instance(staged, actor=SCANNER, **said)
    assert isinstance(refused, Refused)
    assert [fault.path for fault in refused.faults] == [path]
    assert not staged.path.exists()


def test_zero_bytes_are_refused_and_leave_nothing(bed: TestBed) -> None:
    refused = bed.receive(b"")
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.MALFORMED
    assert bed.service.story(STUDY) is None


def test_results_do_not_reopen_the_study(bed: TestBed) -> None:
    run_to_completed(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.study.state is StudyState.COMPLETE


def test_search_finds_by_state_and_code_in_worklist_order(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    matching = dicom_json.merged(
        (
            dicom_json.element("ProcedureStepState", "SCHEDULED"),
            dicom_json.element(
                "ScheduledWorkitemCodeSequence", dicom_json.element("CodeValue", WORKITEM_LUNG_CT.value)
            ),
        )
    )
    assert len(bed.service.worklist.search_workitems(WorkitemQuery(matching=matching))) == 1
    other = dicom_json.element("ProcedureStepState", "COMPLETED")
    assert bed.service.worklist.search_workitems(WorkitemQuery(matching=other)) == []


def test_two_studies_of_one_patient_at_once_stay_apart(bed: TestBed) -> None:
    other = "1.2.826.0.1.3680043.8.498.8"
    for number in (1, 2):
        bed.receive(ct(number))
        bed.receive(ct(number, study=other))
    bed.clock.pass_(31)
    assert bed.service.scheduler.complete_due_studies() == 2
    for uid in (STUDY, other):
        story = bed.service.story(uid)
        assert story is not None
        assert len(story.workitems) == 1
        assert story.study.series[0].number_of_instances == 2


class Unreadable(UserDict[str, str]):
    """Parameters that nobody can read."""

    def __iter__(self) -> NoReturn:
        raise ValueError("Doe^Jane")


def test_a_study_that_breaks_our_code_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(APPS["lung-ct"], name="broken", parameters=Unreadable())
    rules = """
rules:
  - {name: breaks, app: broken, when: {StudyDescription: BAD}, series: [{name: ct, where: {Modality: CT}}]}
  - {name: works, app: lung-ct, when: {StudyDescription: GOOD}, series: [{name: ct, where: {Modality: CT}}]}
"""
    bed = make_service(tmp_path, rules=rules, apps={**APPS, "broken": broken})
    bed.receive(ct(1, StudyDescription="BAD"))
    bed.clock.pass_(1)
    bed.receive(ct(1, study=f"{STUDY}.77", StudyDescription="GOOD"))
    complete(bed)
    other = bed.service.story(f"{STUDY}.77")
    assert other is not None
    assert [one.state for one in other.workitems] == ["SCHEDULED"]
    broken_story = bed.service.story(STUDY)
    assert broken_story is not None
    assert broken_story.study.state is StudyState.RECEIVING
    assert bed.service.scheduler.next_deadline() == bed.clock() + timedelta(minutes=5)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "study could not be completed"
    ]
    assert "Doe" not in caplog.text
    bed.database.close()


def test_a_store_that_fails_says_so_and_acknowledges_nothing(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    bed.database.close()
    (tmp_path / "airway.db").unlink()
    (tmp_path / "airway.db").mkdir()
    with pytest.raises(StoreError):
        bed.receive(ct(1))
