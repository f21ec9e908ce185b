# SPDX-License-Identifier: Apache-2.0
"""The path through the task manager, on SQLite and on PostgreSQL: instances and orders in, jobs out."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import text

from conformance.peers.process import wait_until
from profiles import dicom_json
from profiles.codes import WORKITEM_LUNG_CT, Code
from profiles.dicom_json import DicomJson
from profiles.order import MessageKey, Order, OrderControl, Priority
from profiles.sole.events import EventType
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outbox import JobKind, JobState, delivery_lane, event_lane
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import Receipt, WorkitemQuery
from task_manager.store.jobs import claim_job, next_due, plan_job
from task_manager.store.studies import add_study
from task_manager.story import WorkitemStory
from task_manager.study.assembly import after_instance
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader, StudyState
from tests.instances import STUDY, ct, ct_data_set, part10
from tests.service import APPS, PERFORMER, QUIET, SCANNER, TestBed, make_service

RIS = Actor(door="hl7", name="RIS", address="127.0.0.1")
LOCK = "1.2.3.999"
ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="PL1",
    filler_order_number="FI1",
    accession_number="A1",
    patient_id="P1",
    requested_procedure_description="CT chest",
    requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
    study_instance_uid=STUDY,
    priority=Priority.HIGH,
)
KEY = MessageKey(sending_application="RIS", sending_facility="H", control_id="M1")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url)
    yield made
    made.database.close()


def order(bed: TestBed, content: Order = ORDER, control_id: str = "M1") -> Accepted | Refused:
    key = replace(KEY, control_id=control_id)
    return bed.service.intake.receive_order([content], key=key, raw=b"MSH|", actor=RIS)


def complete(bed: TestBed) -> None:
    bed.clock.pass_(QUIET.total_seconds() + 1)
    assert bed.service.scheduler.complete_due_studies() == 1


def workitem(bed: TestBed) -> WorkitemStory:
    story = bed.service.story(STUDY)
    assert story is not None
    return story.workitems[-1]


def sr_and_seg() -> list[bytes]:
    seg = ct_data_set(
        1, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG", SeriesInstanceUID=f"{STUDY}.8"
    )
    seg.SOPInstanceUID = f"{STUDY}.8.1"
    sr = ct_data_set(
        1, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", Modality="SR", SeriesInstanceUID=f"{STUDY}.9"
    )
    sr.SOPInstanceUID = f"{STUDY}.9.1"
    return [part10(sr), part10(seg)]


def reference(sop_class_uid: str, uid: str, series: str) -> DicomJson:
    sop = dicom_json.merged(
        (
            dicom_json.element("ReferencedSOPClassUID", sop_class_uid),
            dicom_json.element("ReferencedSOPInstanceUID", uid),
        )
    )
    retrieval = dicom_json.element("RetrieveURL", "http://127.0.0.1/dicom-web")
    return dicom_json.merged(
        (
            dicom_json.element("TypeOfInstances", "DICOM"),
            dicom_json.element("StudyInstanceUID", STUDY),
            dicom_json.element("SeriesInstanceUID", series),
            dicom_json.element("ReferencedSOPSequence", sop),
            dicom_json.element("WADORSRetrievalSequence", retrieval),
        )
    )


def performed() -> DicomJson:
    item = dicom_json.merged(
        (
            dicom_json.element(
                "PerformedStationNameCodeSequence", Code("PERF1", "99AIRWAY", "PERF1").to_json()
            ),
            dicom_json.element(
                "PerformedWorkitemCodeSequence", Code("AW1001", "99AIRWAY", "Lung CT").to_json()
            ),
            dicom_json.element("PerformedProcedureStepStartDateTime", "20260301120100+0000"),
            dicom_json.element("PerformedProcedureStepEndDateTime", "20260301120200+0000"),
            dicom_json.element(
                "OutputInformationSequence",
                reference("1.2.840.10008.5.1.4.1.1.88.34", f"{STUDY}.9.1", f"{STUDY}.9"),
                reference("1.2.840.10008.5.1.4.1.1.66.4", f"{STUDY}.8.1", f"{STUDY}.8"),
            ),
        )
    )
    return dicom_json.element("UnifiedProcedureStepPerformedProcedureSequence", item)


def run_to_completed(bed: TestBed) -> str:
    for number in (1, 2):
        assert isinstance(bed.receive(ct(number)), Accepted)
    complete(bed)
    uid = workitem(bed).uid
    worklist = bed.service.worklist
    assert isinstance(
        worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER), Accepted
    )
    for content in sr_and_seg():
        assert isinstance(bed.receive(content, PERFORMER), Accepted)
    assert isinstance(
        worklist.update_workitem(uid, performed(), transaction_uid=LOCK, actor=PERFORMER), Accepted
    )
    assert isinstance(
        worklist.change_state(uid, "COMPLETED", transaction_uid=LOCK, actor=PERFORMER), Accepted
    )
    return uid


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


@pytest.mark.peers
def test_a_report_that_begins_a_study_beside_an_image_takes_no_deadline_away(
    tmp_path: Path, postgresql_dsn: str
) -> None:
    bed = make_service(tmp_path, postgresql_dsn)
    image = read_header(_file(tmp_path, ct(1)))
    assert isinstance(image, InstanceHeader)
    begun = after_instance(None, image, now=bed.clock(), quiet_period=QUIET)
    assert begun is not None
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:
            assert add_study(connection, begun, patient_id="P1", accession_number="A1")
            report = pool.submit(bed.receive, sr_and_seg()[0])
            wait_until(lambda: _is_anyone_waiting(bed), "the report waits for the study")
        assert isinstance(report.result(), Accepted)
    assert bed.service.scheduler.next_deadline() == bed.clock() + QUIET
    bed.database.close()


@pytest.mark.peers
def test_an_order_is_canceled_with_the_work_that_is_just_being_made_of_it(
    tmp_path: Path, postgresql_dsn: str
) -> None:
    bed = make_service(tmp_path, postgresql_dsn)
    order(bed)
    for number in (1, 2):
        bed.receive(ct(number))
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:  # the last thing a completion writes is its workitem
            connection.execute(text("LOCK TABLE workitem IN SHARE MODE"))
            completing = pool.submit(complete, bed)
            wait_until(lambda: _is_anyone_waiting(bed), "the completion waits")
            canceling = pool.submit(order, bed, replace(ORDER, control=OrderControl.CANCEL), "M2")
            wait_until(lambda: _is_anyone_waiting(bed, 2), "the cancelation waits for the completion")
        completing.result()
        assert isinstance(canceling.result(), Accepted)
    assert workitem(bed).state == "CANCELED"
    bed.database.close()


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "one.dcm"
    path.write_bytes(content)
    return path


def _is_anyone_waiting(bed: TestBed, number: int = 1) -> bool:
    with bed.database.read() as connection:
        waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        return int(connection.execute(text(waiting)).scalar_one()) >= number


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


def test_completion_plans_each_delivery_once_and_tells_everything(bed: TestBed) -> None:
    order(bed)
    uid = run_to_completed(bed)
    assert [(job.lane, job.state) for job in workitem(bed).deliveries] == [
        (delivery_lane("pacs"), JobState.WAITING),
        (delivery_lane("emr"), JobState.WAITING),
    ]
    assert [output.sop_instance_uid for output in workitem(bed).outputs] == [f"{STUDY}.8.1", f"{STUDY}.9.1"]
    job = bed.service.claim_job(delivery_lane("pacs"), worker="w", lease=timedelta(minutes=1))
    assert job is not None
    assert bed.service.claim_job(delivery_lane("pacs"), worker="w", lease=timedelta(minutes=1)) is None
    shipment = bed.service.shipment(job, "pacs")
    assert [path.name for path in shipment.paths] == [f"{STUDY}.8.1.dcm", f"{STUDY}.9.1.dcm"]
    assert shipment.order == ORDER
    bed.service.delivered(job, "pacs", Receipt(summary="2 stored", sent_at=bed.clock()))
    story = bed.service.story(STUDY)
    assert story is not None
    assert [event.type for event in story.events] == [
        EventType.ORDER_RECEIVED,
        EventType.STUDY_COMPLETE,
        EventType.PROCESSING_STARTED,
        EventType.PROCESSING_COMPLETED,
        EventType.RESULTS_STORED,
        EventType.EXPORTED,
    ]
    assert story.events[-1].instances == tuple(
        (i.sop_class_uid, i.sop_instance_uid) for i in shipment.instances
    )
    assert {event.workitem_uid for event in story.events[2:]} == {uid}


def test_results_do_not_reopen_the_study(bed: TestBed) -> None:
    run_to_completed(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.study.state is StudyState.COMPLETE


def test_a_failing_delivery_backs_off_and_a_hopeless_one_waits_for_a_person(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("emr")
    waits = []
    for _ in range(4):
        job = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
        assert job is not None
        waits.append((bed.service.try_later(job, "refused") - bed.clock()).total_seconds())
        assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
        bed.clock.pass_(waits[-1])
    assert waits == [1, 2, 4, 8]
    job = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert job is not None
    bed.service.hold(job, "will never work")
    bed.clock.pass_(10_000)
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
    assert bed.service.retry_held(job.key)
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None


def test_a_claimed_job_is_freed_by_a_restart_or_by_time(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("pacs")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None
    bed.service.release_claims("another")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
    bed.service.release_claims("w")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is not None
    bed.clock.pass_(61)
    assert bed.service.claim_job(lane, worker="other", lease=timedelta(minutes=1)) is not None


def test_events_are_told_in_order_even_if_the_first_must_wait(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = event_lane("log")
    first = bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1))
    assert first is not None
    bed.service.try_later(first, "down")
    assert bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)) is None
    bed.clock.pass_(1)
    told = []
    while job := bed.service.claim_job(lane, worker="w", lease=timedelta(minutes=1)):
        told.append(bed.service.event_of(job).type)
        bed.service.told(job)
    assert told == [
        EventType.STUDY_COMPLETE,
        EventType.PROCESSING_STARTED,
        EventType.PROCESSING_COMPLETED,
        EventType.RESULTS_STORED,
    ]


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


def test_claiming_looks_at_no_job_that_is_done(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    with bed.database.write() as connection:
        for lane in (delivery_lane("pacs"), event_lane("log")):
            for number in range(3000):
                kind = JobKind.DELIVER
                plan_job(connection, key=f"{lane}:{number}", lane=lane, kind=kind, now=bed.clock())
            connection.execute(text("UPDATE job SET state = 'DONE' WHERE lane = :lane"), {"lane": lane})
            plan_job(connection, key=lane, lane=lane, kind=JobKind.DELIVER, now=bed.clock())
    for lane in (delivery_lane("pacs"), event_lane("log")):
        with bed.database.write() as connection:
            looked = 0

            def count() -> None:
                nonlocal looked
                looked += 1

            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(count, 1000)  # called for each 1000 steps of SQLite's machine
            assert next_due(connection, lane) == bed.clock()
            later = bed.clock() + timedelta(minutes=1)
            job = claim_job(connection, lane, worker="w", now=bed.clock(), until=later)
            raw.set_progress_handler(None, 0)
        assert job is not None
        assert job.key == lane
        assert looked < 2
    bed.database.close()


def test_a_worker_that_took_too_long_does_not_undo_what_another_did(bed: TestBed) -> None:
    run_to_completed(bed)
    lane = delivery_lane("pacs")
    slow = bed.service.claim_job(lane, worker="slow", lease=timedelta(minutes=1))
    bed.clock.pass_(61)
    quick = bed.service.claim_job(lane, worker="quick", lease=timedelta(minutes=1))
    assert slow is not None
    assert quick is not None
    bed.service.delivered(quick, "pacs", Receipt(summary="2 stored", sent_at=bed.clock()))
    bed.service.try_later(slow, "broken off")
    assert [job.state for job in workitem(bed).deliveries if job.lane == lane] == [JobState.DONE]


def test_a_store_that_fails_says_so_and_acknowledges_nothing(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    bed.database.close()
    (tmp_path / "airway.db").unlink()
    (tmp_path / "airway.db").mkdir()
    with pytest.raises(StoreError):
        bed.receive(ct(1))
