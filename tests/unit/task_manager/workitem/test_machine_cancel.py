# SPDX-License-Identifier: Apache-2.0
"""Requests to cancel (PS3.4 CC.2.2), as the machine answers them."""

from __future__ import annotations

import pytest

from profiles.dicom_json import element, merged, text
from profiles.ups.report import EventType
from task_manager.outcome import RefusalCode, WarningCode
from task_manager.workitem.commands import RequestCancel
from tests.contract.workitems import code
from tests.unit.task_manager.workitem.machines import (
    OTHER,
    P,
    X,
    after,
    applied,
    created,
    do,
    events,
    move,
    refused,
    told,
)


def test_a_cancel_request_takes_a_scheduled_workitem_through_in_progress() -> None:
    details = merged(
        [
            element("ReasonForCancellation", "Duplicate"),
            element(
                "ProcedureStepDiscontinuationReasonCodeSequence", code("110510", "DCM", "Duplicate order")
            ),
        ]
    )
    outcome = applied(do(created(), RequestCancel(details=details)))
    assert events(outcome) == [(1, P), (1, X)]
    assert text(told(outcome.workitem), "ReasonForCancellation") == "Duplicate"
    assert outcome.workitem.transaction_uid == ""
    assert refused(do(outcome.workitem, move(X, OTHER))).code is RefusalCode.WRONG_TRANSACTION_UID


def test_a_cancel_request_to_a_performer_is_recorded_and_told() -> None:
    details = merged([element("ContactURI", "tel:+431234"), element("ContactDisplayName", "Ward 3")])
    workitem = after(created(), move(P))
    outcome = applied(do(workitem, RequestCancel(details=details, requesting_ae="RIS")))
    assert outcome.workitem.attributes == workitem.attributes
    assert outcome.workitem.cancel_requested is not None
    assert outcome.workitem.cancel_requested.requesting_ae == "RIS"
    assert outcome.workitem.cancel_requested.details == details
    assert outcome.reports[0].event_type is EventType.CANCEL_REQUESTED
    assert outcome.reports[0].payload == merged([details, element("RequestingAE", "RIS")])
    assert outcome.workitem.version == workitem.version + 1


@pytest.mark.parametrize(
    ("said", "told_as"),
    [("RIS1", "RIS1"), (" RIS1 ", "RIS1"), ("", "ANONYMOUS"), ("a-product-of-many-letters", "ANONYMOUS")],
)
def test_the_requester_is_told_as_an_ae_title(said: str, told_as: str) -> None:
    outcome = applied(do(after(created(), move(P)), RequestCancel(requesting_ae=said)))
    assert text(outcome.reports[0].payload, "RequestingAE") == told_as


def test_a_cancel_request_with_wrong_details_changes_nothing() -> None:
    details = element("ProcedureStepDiscontinuationReasonCodeSequence", element("CodeValue", "110510"))
    outcome = refused(do(created(), RequestCancel(details=details)))
    path = "ProcedureStepDiscontinuationReasonCodeSequence[0]."
    assert {fault.path for fault in outcome.faults} == {f"{path}CodingSchemeDesignator", f"{path}CodeMeaning"}


def test_other_attributes_of_a_cancel_request_are_left_out_and_told() -> None:
    outcome = applied(do(after(created(), move(P)), RequestCancel(details=element("PatientID", "P2"))))
    assert outcome.accepted.warnings == (WarningCode.ATTRIBUTES_IGNORED,)
    assert outcome.workitem.cancel_requested is not None
    assert outcome.workitem.cancel_requested.details == {}
