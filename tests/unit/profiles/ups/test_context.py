# SPDX-License-Identifier: Apache-2.0
"""What performers read from a workitem and write to it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from profiles.codes import OBJECT_SET_INCOMPLETE, WORKITEM_LUNG_CT, Code
from profiles.dicom_json import DicomJson, element, items, merged, text
from profiles.ups.context import (
    cancellation_update,
    code_in,
    code_item,
    code_of,
    parameter_item,
    performed_update,
    progress_update,
    result_context,
    run_parameters,
)
from profiles.ups.references import InstanceReference, information_items, listed_instances
from task_manager.outcome import Refused
from task_manager.workitem.validate import checked_update
from tests.contract.workitems import CT_IMAGE_STORAGE, NOW, code, minimal, request

LONG = Code("a-code-of-more-than-sixteen", "99X", "Long")


def legal(changes: DicomJson) -> bool:
    return not isinstance(checked_update(changes), Refused)


@pytest.mark.parametrize("given", [WORKITEM_LUNG_CT, LONG])
def test_codes_are_read_back(given: Code) -> None:
    assert code_in(code_item(given)) == given
    assert (
        code_of(element("ScheduledWorkitemCodeSequence", code_item(given)), "ScheduledWorkitemCodeSequence")
        == given
    )


def test_a_urn_code_is_read() -> None:
    item = merged([element("URNCodeValue", "urn:x:1"), element("CodeMeaning", "X")])
    assert code_in(item) == Code("urn:x:1", "", "X")


@pytest.mark.parametrize(
    "attributes", [{}, element("ScheduledWorkitemCodeSequence"), element("ScheduledWorkitemCodeSequence", {})]
)
def test_no_code(attributes: DicomJson) -> None:
    assert code_of(attributes, "ScheduledWorkitemCodeSequence") is None


def test_parameters_are_read_back() -> None:
    numeric = merged(
        [
            element("ValueType", "NUMERIC"),
            element("ConceptNameCodeSequence", code("n", "99X", "n")),
            element("NumericValue", "2.5"),
        ]
    )
    nameless = merged([element("ValueType", "TEXT"), element("TextValue", "lost")])
    workitem = minimal(
        ScheduledProcessingParametersSequence=(
            parameter_item("threshold", "0.5"),
            parameter_item("a_name_of_more_than_sixteen", "yes"),
            numeric,
            nameless,
        )
    )
    assert run_parameters(workitem) == {"threshold": "0.5", "a_name_of_more_than_sixteen": "yes", "n": "2.5"}


def test_what_results_copy() -> None:
    workitem = minimal(
        SOPInstanceUID="2.25.100",
        ScheduledWorkitemCodeSequence=WORKITEM_LUNG_CT.to_json(),
        ReferencedRequestSequence=(
            request(
                RequestedProcedureCodeSequence=code("C1", "L", "CT chest"),
                ReasonForTheRequestedProcedure="cough",
                ReferringPhysicianName={"Alphabetic": "Doe^J", "Phonetic": "ドー"},
                PlacerOrderNumberImagingServiceRequest="PL1",
                FillerOrderNumberImagingServiceRequest="FI1",
            ),
            request(AccessionNumber="A2"),
        ),
    )
    context = result_context(workitem, performed_at=NOW, station_name="PERF1")
    assert (context.workitem_uid, context.performed_at, context.station_name) == ("2.25.100", NOW, "PERF1")
    assert (context.accession_number, context.requested_procedure_id) == ("A1", "RP1")
    assert context.requested_procedure_description == "CT chest"
    assert context.requested_procedure_code == Code("C1", "L", "CT chest")
    assert context.reason_for_requested_procedure == "cough"
    assert context.referring_physician_name == "Doe^J==ドー"
    assert context.scheduled_workitem_code == WORKITEM_LUNG_CT
    assert (context.placer_order_number, context.filler_order_number) == ("PL1", "FI1")


def test_what_the_workitem_does_not_say_stays_empty() -> None:
    context = result_context(minimal(), performed_at=NOW, station_name="PERF1")
    assert (context.workitem_uid, context.accession_number, context.referring_physician_name) == ("", "", "")
    assert (context.requested_procedure_code, context.scheduled_workitem_code) == (None, None)


def test_progress() -> None:
    changes = progress_update(40, "Inference running")
    item = items(changes, "ProcedureStepProgressInformationSequence")[0]
    assert (text(item, "ProcedureStepProgress"), text(item, "ProcedureStepProgressDescription")) == (
        "40",
        "Inference running",
    )
    assert legal(changes)


@pytest.mark.parametrize(
    "base", ["http://a.test/dicom-web", "http://a.test/dicom-web/", "http://a.test/dicom-web/studies"]
)
def test_performed(base: str) -> None:
    workitem = minimal(StudyInstanceUID="1.2.3", ScheduledWorkitemCodeSequence=code_item(LONG))
    changes = performed_update(
        workitem,
        outputs=[
            ("1.2.9", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.9.1"),
            ("1.2.8", CT_IMAGE_STORAGE, "1.2.8.1"),
        ],
        station_name="PERF1",
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=90),
        retrieve_base_url=base,
    )
    item = items(changes, "UnifiedProcedureStepPerformedProcedureSequence")[0]
    outputs = items(item, "OutputInformationSequence")
    assert legal(changes)
    assert text(item, "PerformedProcedureStepEndDateTime") == "20260301120130+0000"
    assert code_of(item, "PerformedStationNameCodeSequence") == Code("PERF1", "L", "PERF1")
    assert [text(one, "SeriesInstanceUID") for one in outputs] == ["1.2.9", "1.2.8"]
    assert [text(items(one, "WADORSRetrievalSequence")[0], "RetrieveURL") for one in outputs] == [
        "http://a.test/dicom-web/studies/1.2.3/series/1.2.9",
        "http://a.test/dicom-web/studies/1.2.3/series/1.2.8",
    ]


def test_performed_without_code_and_outputs() -> None:
    changes = performed_update(
        minimal(),
        outputs=[],
        station_name="PERF1",
        started_at=NOW,
        ended_at=NOW,
        retrieve_base_url="http://a.test",
    )
    item = items(changes, "UnifiedProcedureStepPerformedProcedureSequence")[0]
    assert legal(changes)
    assert code_of(item, "PerformedWorkitemCodeSequence") == Code("110001", "DCM", "Image Processing")
    assert item["00404033"] == {"vr": "SQ"}


def test_cancellation() -> None:
    changes = cancellation_update(reason=OBJECT_SET_INCOMPLETE, text="x" * 20_000)
    item = items(changes, "ProcedureStepProgressInformationSequence")[0]
    assert code_of(item, "ProcedureStepDiscontinuationReasonCodeSequence") == OBJECT_SET_INCOMPLETE
    assert legal(changes)


def test_instances_are_listed_back() -> None:
    references = [
        InstanceReference(
            study_instance_uid="1.2.3",
            series_instance_uid=f"1.2.3.{series}",
            sop_class_uid=CT_IMAGE_STORAGE,
            sop_instance_uid=f"1.2.3.{series}.{number}",
        )
        for series in (1, 2)
        for number in (1, 2, 3)
    ]
    found = information_items(references, "http://a.test")
    assert len(found) == 2
    assert listed_instances(found) == tuple(references)
