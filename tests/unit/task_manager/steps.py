# SPDX-License-Identifier: Apache-2.0
"""Steps of the path through the task manager that tests of several modules take."""

from __future__ import annotations

from dataclasses import replace

from profiles import dicom_json
from profiles.codes import Code
from profiles.dicom_json import DicomJson
from profiles.order import MessageKey, Order, OrderControl, Priority
from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused
from task_manager.story import WorkitemStory
from tests.instances import STUDY, ct, ct_data_set, part10
from tests.service import PERFORMER, QUIET, TestBed

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
