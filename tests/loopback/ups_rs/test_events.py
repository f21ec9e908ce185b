# SPDX-License-Identifier: Apache-2.0
"""Subscriptions and the event stream against our own doors, over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_apps.ups_rs.client import UpsRsClient, cancel_details
from ai_apps.ups_rs.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from ai_apps.ups_rs.events import Resync, Resynchronized, UpsEvent
from ai_apps.ups_rs.stream import EventStream
from profiles.codes import Code
from profiles.dicom_json import element, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from tests.contract.workitems import minimal, performed
from tests.loopback.ups_rs.doors import Doors, free_port

WAIT_S = 20.0
A, B, C = "2.25.1", "2.25.2", "2.25.3"


def told(stream: EventStream) -> UpsEvent | Resynchronized:
    value = stream.receive(WAIT_S)
    assert value is not None
    return value


def event(stream: EventStream) -> tuple[str, int, str]:
    value = told(stream)
    assert isinstance(value, UpsEvent), value
    return value.workitem_uid, int(value.type), value.state


def standing(stream: EventStream) -> dict[str, str]:
    """UID to state of the next resynchronization."""
    value = told(stream)
    while not isinstance(value, Resynchronized):
        value = told(stream)
    assert value.complete
    return {text(one, "SOPInstanceUID"): text(one, "ProcedureStepState") for one in value.workitems}


def test_all_eleven_transactions(doors: Doors, client: UpsRsClient) -> None:
    created = client.create(minimal(), uid=A)
    assert created.uid == A
    anywhere = client.create(minimal())
    assert anywhere.uid.startswith("2.25.")
    assert text(client.retrieve(A), "ProcedureStepLabel") == "Lung analysis"
    assert {text(one, "SOPInstanceUID") for one in client.search_all({}, page=1)} == {A, anywhere.uid}
    subscription = client.subscribe("WATCHER", A, lock=True)
    assert subscription.channel_url == f"ws://127.0.0.1:{doors.port}/dicom-web/subscribers/WATCHER"
    assert (
        client.subscribe("WATCHER", matching={"WorklistLabel": "AI"}).target
        == FILTERED_GLOBAL_SUBSCRIPTION_UID
    )
    client.suspend("WATCHER")
    client.unsubscribe("WATCHER")
    lock = client.claim(A)
    client.update(A, performed(), transaction_uid=lock)
    client.change_state(A, "COMPLETED", transaction_uid=lock)
    assert "already in the requested state" in client.change_state(A, "COMPLETED", transaction_uid=lock)[0]
    client.request_cancel(anywhere.uid, cancel_details(reason="no", code=Code("110514", "DCM", "Incorrect")))
    assert text(client.retrieve(anywhere.uid), "ProcedureStepState") == "CANCELED"
    capabilities = client.capabilities()
    assert capabilities.media_type == "application/json"
    assert b"workitems" in capabilities.content


def test_refusals_have_their_kinds(doors: Doors, client: UpsRsClient) -> None:
    doors.create(A)
    with pytest.raises(NotFoundError):
        client.retrieve(B)
    with pytest.raises(ConflictError):
        client.create(minimal(), uid=A)
    with pytest.raises(RefusedError) as missing:
        client.create({}, uid=B)
    assert missing.value.faults
    client.claim(A)
    with pytest.raises(RefusedError) as claimed:
        client.claim(A)
    assert claimed.value.warning == "The Transaction UID is incorrect."
    with UpsRsClient(f"http://127.0.0.1:{free_port()}/dicom-web") as nobody, pytest.raises(UnreachableError):
        nobody.retrieve(A)


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "..", "Ä", "A\nB"])
def test_what_is_no_ae_title_never_becomes_a_url(client: UpsRsClient, title: str) -> None:
    with pytest.raises(ValueError, match="not an AE title"):
        client.subscribe(title)


def test_every_change_is_told_once(doors: Doors, client: UpsRsClient) -> None:
    with client.events("WATCHER") as stream:
        assert standing(stream) == {}
        doors.create(A)
        assert event(stream) == (A, 1, "SCHEDULED")
        lock = client.claim(A)
        assert event(stream) == (A, 1, "IN PROGRESS")
        item = element("ProcedureStepProgress", "40")
        client.update(A, element("ProcedureStepProgressInformationSequence", item), transaction_uid=lock)
        progress = told(stream)
        assert isinstance(progress, UpsEvent)
        assert progress.progress == ("40", "")
        doors.cancel(A)
        request = told(stream)
        assert isinstance(request, UpsEvent)
        assert (request.type, request.requesting_ae, request.reason) == (2, "REQUESTER", "not needed")
        assert stream.receive(0.2) is None


def test_a_stream_tells_how_things_stand_before_it_tells_changes(doors: Doors, client: UpsRsClient) -> None:
    doors.create(A)
    doors.create(B, WorklistLabel="HUMAN")
    with client.events("ONE", targets=(A,)) as stream:
        assert standing(stream) == {A: "SCHEDULED"}
    with client.events("SOME", matching={"WorklistLabel": "AI"}) as stream:
        assert standing(stream) == {A: "SCHEDULED"}
        doors.create(C, WorklistLabel="HUMAN")
        doors.cancel(A)
        assert event(stream)[0] == A
    with client.events("ALL", resync=Resync(matching={}, most=2)) as stream:
        first = told(stream)
        assert isinstance(first, Resynchronized)
        assert (len(first.workitems), first.complete) == (2, False)


def test_a_server_that_went_away_is_found_again_and_nothing_is_missed(
    doors: Doors, client: UpsRsClient
) -> None:
    doors.create(A)
    doors.create(B)
    with client.events("WATCHER") as stream:
        assert standing(stream) == {A: "SCHEDULED", B: "SCHEDULED"}
        doors.close()
        doors.create(C)
        doors.cancel(A)
        doors.open()
        assert standing(stream) == {A: "CANCELED", B: "SCHEDULED", C: "SCHEDULED"}
        assert stream.connected.is_set()


def test_workitems_that_leave_the_search_are_looked_at_by_name(doors: Doors, client: UpsRsClient) -> None:
    doors.create(A)
    waiting = Resync(matching={"ProcedureStepState": "SCHEDULED"})
    with client.events("WATCHER", resync=waiting) as stream:
        assert standing(stream) == {A: "SCHEDULED"}
        doors.close()
        doors.cancel(A)
        doors.open()
        assert standing(stream) == {A: "CANCELED"}


def test_a_stream_may_be_opened_while_the_server_is_away(doors: Doors, client: UpsRsClient) -> None:
    doors.close()
    with client.events("WATCHER") as stream:
        with pytest.raises(UnreachableError):
            stream.open()
        assert stream.receive(0.05) is None
        doors.open()
        assert standing(stream) == {}


def test_an_ae_title_with_a_space(doors: Doors, client: UpsRsClient) -> None:
    with client.events("MY WATCHER", targets=(GLOBAL_SUBSCRIPTION_UID,)) as stream:
        standing(stream)
        doors.create(A)
        assert event(stream) == (A, 1, "SCHEDULED")


def test_a_subscription_to_what_is_not_there_is_refused(client: UpsRsClient) -> None:
    with client.events("WATCHER", targets=(A,)) as stream, pytest.raises(NotFoundError):
        stream.receive(WAIT_S)


def test_a_missing_ca_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CA file"):
        UpsRsClient("https://127.0.0.1/dicom-web", ca_file=tmp_path / "none.pem")
