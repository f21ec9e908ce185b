# SPDX-License-Identifier: Apache-2.0
"""UPS clients that are not ours against a real `airway serve`: dcmjs-dimse, Node's fetch and WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.peers.process import free_port
from conformance.peers.ups_clients import DimseAnswer, WebAnswer, dimse_steps, named, web_steps
from profiles.dicom_json import DicomJson, element, merged, tag_key
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from tests.contract.workitems import minimal, performed
from tests.flow.airway import RunningAirway

pytestmark = pytest.mark.peers

LISTENER = "DCMJSWATCH"
SUBSCRIBE, UNSUBSCRIBE = 3, 4
STATE = tag_key("ProcedureStepState")


@pytest.fixture(scope="module")
def listening() -> int:
    return free_port()


@pytest.fixture(scope="module")
def airway(tmp_path_factory: pytest.TempPathFactory, listening: int) -> Iterator[RunningAirway]:
    """Doors and task manager; the event receiver is a peer it knows."""
    running = RunningAirway(
        tmp_path_factory.mktemp("foreign"),
        {
            "roles": ["gateway", "task_manager"],
            "gateway": {"peers": [{"ae_title": LISTENER, "host": "127.0.0.1", "port": listening}]},
        },
    )
    running.start()
    yield running
    running.stop()


def dimse(airway: RunningAirway, *steps: dict[str, Any], **given: Any) -> list[DimseAnswer]:
    door = airway.endpoints["dicom"]
    return dimse_steps(door["host"], door["port"], steps, called_ae_title=door["ae_title"], **given)


def web(airway: RunningAirway, *steps: dict[str, Any]) -> list[WebAnswer]:
    return web_steps(f"{airway.http}/dicom-web", steps)


def state(asked: str, lock: str) -> DicomJson:
    return merged([element("ProcedureStepState", asked), element("TransactionUID", lock)])


def statuses(answers: list[DimseAnswer]) -> list[int]:
    return [answer.status for answer in answers]


def test_dcmjs_performs_a_workitem_over_dimse(airway: RunningAirway) -> None:
    uid, lock, other = "2.25.31", "2.25.3101", "2.25.3102"
    content = minimal(PatientID="P31")
    created, duplicate = dimse(
        airway,
        {"service": "create", "uid": uid, "data": named(content)},
        {"service": "create", "uid": uid, "data": named(content)},
    )
    assert created.status in (0x0000, 0xB300)
    assert duplicate.status == 0x0111
    found, got = dimse(
        airway,
        {"service": "find", "data": {"PatientID": "P31", "ProcedureStepState": "", "SOPInstanceUID": ""}},
        {"service": "get", "uid": uid},
    )
    assert found.status == 0x0000
    assert [match["SOPInstanceUID"] for match in found.data_sets] == [uid]
    assert got.status in (0x0000, 0x0001, 0x0107)
    assert got.data_sets[0]["ProcedureStepState"] == "SCHEDULED"
    answers = dimse(
        airway,
        {"service": "set", "uid": uid, "data": {**named(performed()), "TransactionUID": lock}},
        {"service": "state", "uid": uid, "data": named(state("COMPLETED", lock))},
        {"service": "state", "uid": uid, "data": named(state("IN PROGRESS", lock))},
        {"service": "state", "uid": uid, "data": named(state("IN PROGRESS", lock))},
        {"service": "state", "uid": uid, "data": named(state("IN PROGRESS", other))},
        {"service": "state", "uid": uid, "data": named(state("COMPLETED", lock))},
        {"service": "set", "uid": uid, "data": {**named(performed()), "TransactionUID": other}},
        {"service": "set", "uid": uid, "data": {**named(performed()), "TransactionUID": lock}},
        {"service": "state", "uid": uid, "data": named(state("COMPLETED", lock))},
        {"service": "state", "uid": uid, "data": named(state("COMPLETED", lock))},
        {"service": "cancel", "uid": uid, "data": {"ReasonForCancellation": "too late"}},
        {"service": "get", "uid": "2.25.404"},
    )
    assert statuses(answers) == [
        *(0xC310, 0xC310, 0x0000, 0xC302, 0xC301, 0xC304, 0xC301, 0x0000, 0x0000, 0xB306, 0xC311, 0xC307)
    ]


def test_dcmjs_hears_every_event_of_a_workitem_once(airway: RunningAirway, listening: int) -> None:
    uid, lock = "2.25.32", "2.25.3201"
    subscription = {"ReceivingAE": LISTENER, "DeletionLock": "FALSE"}
    *answers, events = dimse(
        airway,
        {"service": "create", "uid": uid, "data": named(minimal())},
        {"service": "action", "uid": uid, "action": SUBSCRIBE, "data": subscription},
        {"service": "events", "count": 1},
        {"service": "state", "uid": uid, "data": named(state("IN PROGRESS", lock))},
        {"service": "cancel", "uid": uid, "data": {"ReasonForCancellation": "wrong patient"}},
        {"service": "state", "uid": uid, "data": named(state("CANCELED", lock))},
        {"service": "events", "count": 4},
        listen_port=listening,
    )
    assert all(status in (0x0000, 0xB300) for status in statuses(answers)), answers
    told = [
        (event["eventType"], event["elements"].get("ProcedureStepState"))
        for event in events.data_sets
        if event["uid"] == uid
    ]
    assert told == [(1, "SCHEDULED"), (1, "IN PROGRESS"), (2, None), (1, "CANCELED")]
    (ended,) = dimse(airway, {"service": "action", "uid": uid, "action": UNSUBSCRIBE, "data": subscription})
    assert ended.status == 0x0000


def test_a_browser_creates_watches_and_performs(airway: RunningAirway) -> None:
    uid, lock, watcher = "2.25.33", "2.25.3301", "BROWSER"
    path = f"/workitems/{uid}"
    subscribe, opened, created, found, early, claimed, updated, completed, retrieved, events = web(
        airway,
        {"method": "POST", "path": f"/workitems/{GLOBAL_SUBSCRIPTION_UID}/subscribers/{watcher}"},
        {"watch": watcher},
        {"method": "POST", "path": f"/workitems?{uid}", "data": [minimal(PatientID="P33")]},
        {"method": "GET", "path": "/workitems?PatientID=P33&includefield=ProcedureStepState"},
        {"method": "PUT", "path": f"{path}/state", "data": [state("COMPLETED", lock)]},
        {"method": "PUT", "path": f"{path}/state", "data": [state("IN PROGRESS", lock)]},
        {"method": "POST", "path": f"{path}?transaction-uid={lock}", "data": [performed()]},
        {"method": "PUT", "path": f"{path}/state", "data": [state("COMPLETED", lock)]},
        {"method": "GET", "path": path},
        {"events": 3},
    )
    assert (subscribe.status, opened.status, created.status) == (201, 101, 201)
    assert created.headers["location"].endswith(path)
    assert [match[STATE]["Value"] for match in found.content] == [["SCHEDULED"]]
    assert early.status == 409
    assert (claimed.status, updated.status, completed.status) == (200, 200, 200)
    assert retrieved.content[0][STATE]["Value"] == ["COMPLETED"]
    assert retrieved.headers["content-type"].startswith("application/dicom+json")
    told = [event for event in events.content if event["00001000"]["Value"] == [uid]]
    assert [event[STATE]["Value"][0] for event in told if event["00001002"]["Value"] == [1]] == [
        *("SCHEDULED", "IN PROGRESS", "COMPLETED")
    ]


def test_what_one_door_did_the_other_tells(airway: RunningAirway) -> None:
    uid, lock = "2.25.34", "2.25.3401"
    (created,) = dimse(airway, {"service": "create", "uid": uid, "data": named(minimal())})
    assert created.status in (0x0000, 0xB300)
    (claimed,) = web(
        airway, {"method": "PUT", "path": f"/workitems/{uid}/state", "data": state("IN PROGRESS", lock)}
    )
    assert claimed.status == 200
    (again,) = dimse(airway, {"service": "state", "uid": uid, "data": named(state("IN PROGRESS", "2.25.9"))})
    assert again.status == 0xC301
