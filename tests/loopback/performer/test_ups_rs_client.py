# SPDX-License-Identifier: Apache-2.0
"""The UPS-RS client against our own door: all six requests and what a refusal tells."""

from __future__ import annotations

import pytest

from ai_apps.ups_rs.errors import NotFoundError, RefusedError, UnreachableError
from profiles import dicom_json
from profiles.dicom_json import element
from profiles.ups.context import progress_update
from tests.loopback.performer.performing import Performing
from tests.loopback.performer.worklist_peer import Manager

OURS = "2.25.1001"


def test_create_then_retrieve(manager: Manager, performing: Performing) -> None:
    template = manager.workitem(manager.add_workitem())
    whole = {tag: value for tag, value in template.items() if tag not in ("00080016", "00080018", "00741000")}
    whole.update(element("ProcedureStepState", "SCHEDULED"))
    performing.client.create(whole, uid="2.25.55")
    found = performing.client.retrieve("2.25.55")
    assert dicom_json.text(found, "ProcedureStepLabel") == "lung-ct 1"
    assert "00081195" not in found
    with pytest.raises(RefusedError) as caught:
        performing.client.create(whole, uid="2.25.55")
    assert caught.value.status == 409


def test_search(manager: Manager, performing: Performing) -> None:
    images = manager.add_images()
    uids = [manager.add_workitem(str(number), instances=images) for number in range(3)]
    code = {"ScheduledWorkitemCodeSequence.CodeValue": "AW1001"}
    found = performing.client.search(code, include=("InputInformationSequence",)).results
    assert {dicom_json.text(one, "SOPInstanceUID") for one in found} == set(uids)
    assert dicom_json.items(found[0], "InputInformationSequence")
    assert len(performing.client.search(code, offset=1, limit=1).results) == 1
    assert performing.client.search({"PatientName": "Nobody^Ä&=#"}).results == ()


def test_claim_update_and_finish(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    client = performing.client
    client.update(uid, element("ProcedureStepLabel", "before the claim"))
    client.change_state(uid, "IN PROGRESS", transaction_uid=OURS)
    client.update(uid, progress_update(40, "half"), transaction_uid=OURS)
    assert float(dicom_json.text(manager.progress(uid), "ProcedureStepProgress")) == 40
    with pytest.raises(RefusedError) as caught:
        client.change_state(uid, "COMPLETED", transaction_uid=OURS)  # final-state rules are not met
    assert caught.value.status == 409
    assert caught.value.faults
    assert all(fault.path and fault.message for fault in caught.value.faults)


def test_another_transaction_is_refused_with_its_warning(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    performing.client.change_state(uid, "IN PROGRESS", transaction_uid=OURS)
    with pytest.raises(RefusedError) as caught:
        performing.client.change_state(uid, "COMPLETED", transaction_uid="2.25.1002")
    assert caught.value.status == 400
    assert "The Transaction UID is incorrect." in caught.value.warning


def test_cancel_of_a_scheduled_workitem(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    assert performing.client.request_cancel(uid, element("ReasonForCancellation", "not needed")) == ()
    assert manager.state(uid) == "CANCELED"
    assert "already in the requested state" in performing.client.request_cancel(uid)[0]


def test_unknown_workitem(performing: Performing) -> None:
    with pytest.raises(NotFoundError) as caught:
        performing.client.retrieve("2.25.404")
    assert caught.value.status == 404


@pytest.mark.parametrize("uid", ["", "../studies", "1.2.3?x=1", "1.02"])
def test_what_is_no_uid_never_becomes_a_url(performing: Performing, uid: str) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        performing.client.retrieve(uid)


def test_a_manager_that_does_not_answer(manager: Manager, performing: Performing) -> None:
    manager.refuse = lambda method, path: 503
    with pytest.raises(UnreachableError, match="HTTP 503"):
        performing.client.search({})
