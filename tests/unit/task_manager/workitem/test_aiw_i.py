# SPDX-License-Identifier: Apache-2.0
"""The workitem that asks for an inference is always a legal create."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from profiles.codes import WORKITEM_LUNG_CT, Code
from profiles.dicom_json import DicomJson, element, items, merged, text
from profiles.order import Order, OrderControl, Priority
from profiles.ups.context import code_of, result_context, run_parameters
from profiles.ups.references import listed_instances
from task_manager.study.model import Instance, Study, StudyState
from task_manager.workitem import machine
from task_manager.workitem.aiw_i import InferenceRequest, corrected_requests, inference_workitem
from task_manager.workitem.commands import Create
from task_manager.workitem.machine import Applied
from tests.contract.workitems import CT_IMAGE_STORAGE, NOW

STUDY = Study(
    study_instance_uid="1.2.3",
    state=StudyState.COMPLETE,
    revision=1,
    attributes=merged(
        [
            element("PatientID", "P1"),
            element("PatientName", {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}),
            element("PatientBirthDate", "19700101"),
            element("PatientSex", "M"),
            element("AccessionNumber", "IMG1"),
            element("ReferringPhysicianName", "House^G"),
        ]
    ),
    series=(),
    first_received_at=NOW,
    last_received_at=NOW,
    deadline_at=None,
)
ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="PL1",
    filler_order_number="FI1",
    accession_number="A1",
    patient_id="P1",
    issuer_of_patient_id="SITE",
    patient_name="Yamada^Taro",
    patient_sex="M",
    requested_procedure_id="RP1",
    requested_procedure_description="CT chest",
    requested_procedure_code=Code("C1", "L", "CT chest"),
    reason="cough",
    referring_physician_name="Ref^R",
    requesting_physician_name="Req^Q",
    admission_id="V1",
)


def instance(number: int, series: str = "1.2.3.4") -> Instance:
    return Instance(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid=CT_IMAGE_STORAGE,
        series_instance_uid=series,
        study_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=number,
        path="x",
        size=1,
        received_at=NOW,
        attributes={},
    )


REQUEST = InferenceRequest(
    label="lung-ct 1.0",
    worklist_label="Lung CT",
    code=WORKITEM_LUNG_CT,
    station_ae="PERF1",
    priority=Priority.HIGH,
    study=STUDY,
    order=ORDER,
    instances=[instance(1), instance(2), instance(1, "1.2.3.5")],
    wado_base_url="http://a.test/dicom-web/",
    output_stow_url="http://a.test/dicom-web/studies",
    scheduled_at=NOW,
    parameters={"threshold": "0.5"},
)


def created(attributes: DicomJson) -> Applied:
    outcome = machine.create(Create(uid="2.25.100", attributes=attributes), now=NOW)
    assert isinstance(outcome, Applied), outcome
    return outcome


def test_the_whole_workitem() -> None:
    workitem = inference_workitem(REQUEST)
    assert created(workitem).accepted.warnings == ()
    assert list(workitem) == sorted(workitem)
    assert text(workitem, "ProcedureStepLabel") == "lung-ct 1.0"
    assert text(workitem, "WorklistLabel") == "Lung CT"
    assert text(workitem, "ScheduledProcedureStepPriority") == "HIGH"
    assert text(workitem, "ScheduledProcedureStepStartDateTime") == "20260301120000+0000"
    assert text(workitem, "InputReadinessState") == "READY"
    assert text(workitem, "StudyInstanceUID") == "1.2.3"
    assert code_of(workitem, "ScheduledWorkitemCodeSequence") == WORKITEM_LUNG_CT
    assert code_of(workitem, "ScheduledStationNameCodeSequence") == Code("PERF1", "L", "PERF1")
    assert run_parameters(workitem) == {"threshold": "0.5"}
    destination = items(items(workitem, "OutputDestinationSequence")[0], "STOWRSStorageSequence")[0]
    assert text(destination, "StorageURL") == "http://a.test/dicom-web/studies"


def test_the_inputs() -> None:
    inputs = items(inference_workitem(REQUEST), "InputInformationSequence")
    assert [one.sop_instance_uid for one in listed_instances(inputs)] == [
        "1.2.3.4.1",
        "1.2.3.4.2",
        "1.2.3.5.1",
    ]
    assert [text(items(one, "WADORSRetrievalSequence")[0], "RetrieveURL") for one in inputs] == [
        "http://a.test/dicom-web/studies/1.2.3/series/1.2.3.4",
        "http://a.test/dicom-web/studies/1.2.3/series/1.2.3.5",
    ]


def test_identity_is_the_studys_completed_by_an_order_of_the_same_patient() -> None:
    workitem = inference_workitem(REQUEST)
    assert workitem["00100010"]["Value"] == [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]
    assert text(workitem, "IssuerOfPatientID") == "SITE"
    assert text(workitem, "AdmissionID") == "V1"


def test_an_order_of_another_patient_lends_no_identity() -> None:
    workitem = inference_workitem(replace(REQUEST, order=replace(ORDER, patient_id="P2")))
    assert (text(workitem, "PatientID"), text(workitem, "IssuerOfPatientID")) == ("P1", "")


def test_a_study_without_patient_takes_the_orders() -> None:
    nobody = replace(STUDY, attributes=element("PatientName", "Anonymous"))
    workitem = inference_workitem(replace(REQUEST, study=nobody))
    assert (text(workitem, "PatientID"), text(workitem, "PatientName")) == ("P1", "Yamada^Taro")


def test_the_order_is_told() -> None:
    context = result_context(
        created(inference_workitem(REQUEST)).workitem.attributes, performed_at=NOW, station_name="PERF1"
    )
    assert (context.workitem_uid, context.accession_number) == ("2.25.100", "A1")
    assert (context.placer_order_number, context.filler_order_number) == ("PL1", "FI1")
    assert context.requested_procedure_code == Code("C1", "L", "CT chest")
    assert context.referring_physician_name == "Ref^R"
    assert context.reason_for_requested_procedure == "cough"


def test_who_issued_the_numbers_is_told() -> None:
    order = replace(
        ORDER,
        issuer_of_accession_number="1.2.3.4",
        placer_issuer="RIS",
        filler_issuer="bad\x00issuer",
        comments="with contrast",
        expected_at=NOW,
    )
    attributes = inference_workitem(replace(REQUEST, order=order, expected_at=None))
    created(attributes)
    (request,) = items(attributes, "ReferencedRequestSequence")
    (accession,) = items(request, "IssuerOfAccessionNumberSequence")
    assert (text(accession, "UniversalEntityID"), text(accession, "UniversalEntityIDType")) == (
        "1.2.3.4",
        "ISO",
    )
    (placer,) = items(request, "OrderPlacerIdentifierSequence")
    assert text(placer, "LocalNamespaceEntityID") == "RIS"
    assert items(request, "OrderFillerIdentifierSequence") == []
    assert text(attributes, "CommentsOnTheScheduledProcedureStep") == "with contrast"
    assert text(attributes, "ExpectedCompletionDateTime") == "20260301120000+0000"


def test_a_new_accession_number_reaches_the_request_of_its_order() -> None:
    attributes = inference_workitem(REQUEST)
    other = merged([element("StudyInstanceUID", "1.2.9"), element("AccessionNumber", "B7")])
    both = merged(
        [
            attributes,
            element("ReferencedRequestSequence", *items(attributes, "ReferencedRequestSequence"), other),
        ]
    )
    changes = corrected_requests(both, "A1", replace(ORDER, accession_number="A2"))
    found = items(changes, "ReferencedRequestSequence")
    assert [text(request, "AccessionNumber") for request in found] == ["A2", "B7"]
    assert corrected_requests(both, "X", replace(ORDER, accession_number="A2")) == {}


def test_without_order_the_images_speak() -> None:
    workitem = inference_workitem(replace(REQUEST, order=None))
    context = result_context(workitem, performed_at=NOW, station_name="PERF1")
    assert created(workitem).accepted.warnings == ()
    assert (context.accession_number, context.referring_physician_name) == ("IMG1", "House^G")


def test_without_station_it_is_open_to_all() -> None:
    workitem = inference_workitem(replace(REQUEST, station_ae=""))
    assert items(workitem, "ScheduledStationNameCodeSequence") == []
    assert [int(report.event_type) for report in created(workitem).reports] == [1]


@pytest.mark.parametrize(
    "order",
    [
        {"accession_number": "x" * 17},
        {"accession_number": "a\\b"},
        {"requested_procedure_description": "line\none\\two" * 20},
        {"reason": "r" * 500},
        {"patient_sex": "U"},
        {"patient_birth_date": "1970"},
        {"patient_name": "a=b=c=d"},
        {"referring_physician_name": "x" * 80},
        {"study_instance_uid": "not a uid"},
        {"requested_procedure_code": Code("C1", "", "")},
        {"requested_procedure_code": Code("", "L", "nothing")},
        {"requested_procedure_code": Code("C" * 40, "s" * 40, "m" * 90)},
        {"requested_procedure_code": Code("C" * 40, "L", "m" * 90)},
        {"placer_order_number": "p" * 70},
        {"admission_id": "v\x00"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_whatever_an_order_holds_the_workitem_is_legal(order: dict[str, Any]) -> None:
    nobody = replace(STUDY, attributes={})
    request = replace(REQUEST, study=nobody, order=replace(ORDER, **order))
    assert created(inference_workitem(request)).accepted.warnings == ()
