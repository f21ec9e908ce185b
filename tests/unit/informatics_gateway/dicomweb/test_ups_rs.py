# SPDX-License-Identifier: Apache-2.0
"""UPS-RS Create, Retrieve, Update, Change State, Request Cancellation: PS3.18 11.4 to 11.8, by status."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from profiles.dicom_json import DicomJson, element, merged, tag_key, text
from profiles.uids import is_uid
from task_manager.ports import WorkitemQuery
from tests.contract.workitems import code, instances, minimal, performed, progress
from tests.unit.informatics_gateway.dicomweb.ups_web import (
    BASE,
    JSON_TYPE,
    LOCK,
    OTHER,
    UID,
    C,
    P,
    S,
    Web,
    X,
    paths,
    state_payload,
    warnings,
)


@pytest.fixture
def web() -> Web:
    return Web()


# Create (PS3.18 11.4)


@pytest.mark.parametrize(
    ("query", "extra"),
    [
        pytest.param(f"?{UID}", {}, id="bare-uid-2024e"),
        pytest.param(f"?workitem={UID}", {}, id="workitem"),
        pytest.param(f"?AffectedSOPInstanceUID={UID}", {}, id="2019a"),
        pytest.param("", element("SOPInstanceUID", UID), id="in-the-data-set"),
        pytest.param("", element("AffectedSOPInstanceUID", UID), id="as-command-element"),
        pytest.param(f"?{UID}", element("SOPInstanceUID", UID), id="both-alike"),
        pytest.param(f"?{UID}&unknown=1", {}, id="unknown-parameter"),
    ],
)
@pytest.mark.parametrize("form", ["array", "object"])
def test_create(web: Web, query: str, extra: DicomJson, form: str) -> None:
    data_set = {**minimal(), **extra}
    answer = web.ask("POST", f"/workitems{query}", [data_set] if form == "array" else data_set)
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["location"] == f"{BASE}/workitems/{UID}"
    assert answer.headers["content-location"] == answer.headers["location"]
    assert warnings(answer) == []
    assert web.state() == S


def test_create_without_uid_is_given_one(web: Web) -> None:
    answer = web.ask("POST", "/workitems", [minimal()])
    uid = answer.headers["location"].rsplit("/", 1)[1]
    assert answer.status_code == 201
    assert is_uid(uid)
    assert web.state(uid) == S


def test_create_with_modifications_says_so(web: Web) -> None:
    answer = web.ask("POST", f"/workitems?{UID}", [minimal(WorklistLabel=())])
    assert answer.status_code == 201
    assert warnings(answer) == ["The Workitem was created with modifications."]


@pytest.mark.parametrize(
    ("query", "attributes", "status", "faulty"),
    [
        pytest.param("?2.25.9", element("SOPInstanceUID", UID), 400, ["SOPInstanceUID"], id="uids-differ"),
        pytest.param("?workitem=1.02", {}, 400, ["SOPInstanceUID"], id="malformed-uid"),
        pytest.param("?1.2.840.10008.5.1.4.34.5", {}, 400, ["SOPInstanceUID"], id="global-subscription-uid"),
        pytest.param(f"?{UID}", element("ProcedureStepState", P), 400, ["ProcedureStepState"], id="C309"),
        pytest.param(
            f"?{UID}", element("TransactionUID", LOCK), 400, ["TransactionUID"], id="transaction-uid"
        ),
        pytest.param(
            f"?{UID}",
            merged([element("ProcedureStepLabel"), element("InputReadinessState")]),
            400,
            ["InputReadinessState", "ProcedureStepLabel"],
            id="0121-all-faults",
        ),
    ],
)
def test_create_refused(
    web: Web, query: str, attributes: DicomJson, status: int, faulty: Sequence[str]
) -> None:
    answer = web.ask("POST", f"/workitems{query}", [{**minimal(), **attributes}])
    assert answer.status_code == status
    assert sorted(paths(answer)) == sorted(faulty)
    assert web.worklist.search_workitems(WorkitemQuery(matching={})) == []


def test_create_names_nested_faults(web: Web) -> None:
    inputs = (instances(), instances(WADORSRetrievalSequence={}))
    answer = web.ask("POST", f"/workitems?{UID}", [minimal(InputInformationSequence=inputs)])
    assert answer.status_code == 400
    assert answer.json()["code"] == "missing-attribute"
    assert paths(answer) == ["InputInformationSequence[1].WADORSRetrievalSequence[0].RetrieveURL"]


def test_create_twice(web: Web) -> None:
    web.create()
    answer = web.ask("POST", f"/workitems?{UID}", [minimal()])
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate-instance")


# Retrieve (11.5)


@pytest.mark.parametrize("state", [S, P, C, X])
def test_retrieve(web: Web, state: str) -> None:
    web.create(state)
    answer = web.ask("GET", f"/workitems/{UID}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON_TYPE
    assert answer.headers["content-location"] == f"{BASE}/workitems/{UID}"
    (found,) = answer.json()
    assert text(found, "ProcedureStepState") == state
    assert text(found, "SOPClassUID") == "1.2.840.10008.5.1.4.34.6.1"
    assert list(found) == sorted(found)
    assert tag_key("TransactionUID") not in found
    assert LOCK not in answer.text.replace(UID, "")


@pytest.mark.parametrize("uid", ["2.25.404", "abc", "1.02", "%00", "1.2%27--", "x" * 500])
@pytest.mark.parametrize(
    ("method", "path", "payload"),
    [
        ("GET", "", None),
        ("POST", "", [{}]),
        ("PUT", "/state", state_payload(P)),
        ("POST", "/cancelrequest", None),
    ],
)
def test_unknown_workitems(web: Web, uid: str, method: str, path: str, payload: object) -> None:
    answer = web.ask(method, f"/workitems/{uid}{path}", payload)
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-instance")


# Update (11.6)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("query", "extra"),
    [
        pytest.param(f"?{LOCK}", {}, id="bare"),
        pytest.param(f"?transaction-uid={LOCK}", {}, id="transaction-uid"),
        pytest.param(f"/?{LOCK}", {}, id="slash-at-the-end"),
        pytest.param(f"?transaction_uid={LOCK}", {}, id="underscore"),
        pytest.param(f"?transaction={LOCK}", {}, id="transaction"),
        pytest.param(f"?TransactionUID={LOCK}", {}, id="keyword"),
        pytest.param(f"?00081195={LOCK}", {}, id="tag"),
        pytest.param("", element("TransactionUID", LOCK), id="in-the-data-set"),
        pytest.param(f"?{LOCK}", element("TransactionUID", LOCK), id="both"),
        pytest.param(f"?{LOCK}", element("SOPInstanceUID", UID), id="own-uid-repeated"),
    ],
)
def test_update(web: Web, method: str, query: str, extra: DicomJson) -> None:
    web.create(P)
    changes = [{**progress(ProcedureStepProgress="40"), **extra}]
    answer = web.ask(method, f"/workitems/{UID}{query}", changes)
    assert (answer.status_code, answer.content, warnings(answer)) == (200, b"", [])
    found = web.ask("GET", f"/workitems/{UID}").json()[0]
    assert tag_key("ProcedureStepProgressInformationSequence") in found


INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."
UNCLAIMED = "The target URI did not reference a claimed Workitem."


@pytest.mark.parametrize(
    ("state", "query", "changes", "status", "warning"),
    [
        pytest.param(P, "", progress(), 400, INCONSISTENT, id="C301-missing"),
        pytest.param(P, f"?{OTHER}", progress(), 400, INCONSISTENT, id="C301-wrong"),
        pytest.param(C, f"?{LOCK}", progress(), 400, INCONSISTENT, id="C300-completed"),
        pytest.param(X, f"?{LOCK}", progress(), 400, INCONSISTENT, id="C300-canceled"),
        pytest.param(S, f"?{LOCK}", progress(), 409, UNCLAIMED, id="C310-uid-for-scheduled"),
        pytest.param(S, "", element("PatientID", "P2"), 400, INCONSISTENT, id="0106-NA"),
        pytest.param(S, "", element("ProcedureStepState", P), 400, INCONSISTENT, id="0106-state"),
        pytest.param(
            P,
            f"?{LOCK}",
            {**progress(), **element("TransactionUID", OTHER)},
            400,
            INCONSISTENT,
            id="uids-differ",
        ),
        pytest.param(S, "", element("SOPInstanceUID", "2.25.9"), 400, INCONSISTENT, id="another-uid"),
    ],
)
def test_update_refused(
    web: Web, state: str, query: str, changes: DicomJson, status: int, warning: str
) -> None:
    web.create(state)
    answer = web.ask("POST", f"/workitems/{UID}{query}", [changes])
    assert (answer.status_code, warnings(answer)) == (status, [warning])
    assert paths(answer)


def test_update_of_an_unknown_workitem_carries_its_text(web: Web) -> None:
    assert warnings(web.ask("POST", "/workitems/2.25.404", [progress()])) == [UNCLAIMED]


# Change state (11.7)


@pytest.mark.parametrize("path", [f"/workitems/{UID}/state", f"/workitems/{UID}/state/PERF1"])
def test_claim(web: Web, path: str) -> None:
    web.create()
    answer = web.ask("PUT", path, state_payload(P))
    assert (answer.status_code, answer.content, warnings(answer)) == (200, b"", [])
    assert web.state() == P


def test_complete(web: Web) -> None:
    web.create(P)
    assert web.ask("POST", f"/workitems/{UID}?{LOCK}", [performed()]).status_code == 200
    assert web.ask("PUT", f"/workitems/{UID}/state", state_payload(C)).status_code == 200
    assert web.state() == C


BAD_STATE = "The submitted request is inconsistent with the state of the UPS Instance."
NO_UID, WRONG_UID = "The Transaction UID is missing.", "The Transaction UID is incorrect."


@pytest.mark.parametrize(
    ("state", "payload", "status", "warning"),
    [
        pytest.param(S, [element("ProcedureStepState", P)], 400, NO_UID, id="C301-missing"),
        pytest.param(S, state_payload(P, "broken"), 400, WRONG_UID, id="C301-malformed"),
        pytest.param(P, state_payload(P, OTHER), 400, WRONG_UID, id="C301-second-claim"),
        pytest.param(P, state_payload(P), 409, BAD_STATE, id="C302"),
        pytest.param(P, state_payload(S), 400, BAD_STATE, id="C303"),
        pytest.param(P, state_payload(C), 409, BAD_STATE, id="C304"),
        pytest.param(S, state_payload(C), 409, BAD_STATE, id="C310-complete"),
        pytest.param(S, state_payload(X), 409, BAD_STATE, id="C310-cancel"),
        pytest.param(C, state_payload(X), 409, BAD_STATE, id="C300"),
        pytest.param(S, state_payload("DONE"), 400, BAD_STATE, id="no-state"),
        pytest.param(S, [element("TransactionUID", LOCK)], 400, BAD_STATE, id="state-missing"),
        pytest.param(S, [{"00741000": {"vr": "CS", "Value": [5]}}], 400, BAD_STATE, id="state-no-text"),
        pytest.param(S, [{"00741000": {"vr": "CS", "Value": [S, P]}}], 400, BAD_STATE, id="two-states"),
    ],
)
def test_change_state_refused(
    web: Web, state: str, payload: list[DicomJson], status: int, warning: str
) -> None:
    web.create(state)
    answer = web.ask("PUT", f"/workitems/{UID}/state", payload)
    assert (answer.status_code, warnings(answer)) == (status, [warning])
    assert paths(answer)
    assert web.state() == state


@pytest.mark.parametrize(
    ("state", "warning"),
    [
        (C, "The UPS is already in the requested state of COMPLETED."),
        (X, "The UPS is already in the requested state of CANCELED."),
    ],
)
def test_a_final_state_again(web: Web, state: str, warning: str) -> None:
    web.create(state)
    answer = web.ask("PUT", f"/workitems/{UID}/state", state_payload(state))
    assert (answer.status_code, warnings(answer)) == (200, [warning])


# Request cancellation (11.8)


@pytest.mark.parametrize("path", ["/cancelrequest", "/cancelrequest/RIS1"])
@pytest.mark.parametrize("payload", [None, [], [{}], {}, [element("ReasonForCancellation", "Duplicate")]])
@pytest.mark.parametrize(("state", "then"), [(S, X), (P, P)])
def test_cancel_request(web: Web, path: str, payload: object, state: str, then: str) -> None:
    web.create(state)
    answer = web.ask("POST", f"/workitems/{UID}{path}", payload)
    assert (answer.status_code, answer.content, warnings(answer)) == (202, b"", [])
    assert web.state() == then


def test_the_requester_of_a_cancel_is_told_on(web: Web) -> None:
    web.create(P)
    web.ask("POST", f"/workitems/{UID}/cancelrequest/RIS1")
    assert text(web.worklist.reports[-1].payload, "RequestingAE") == "RIS1"


@pytest.mark.parametrize(
    ("state", "path", "payload", "status", "warning"),
    [
        pytest.param(C, "", None, 409, ["The UPS is already COMPLETED."], id="C311"),
        pytest.param(S, "/more than sixteen letters", None, 400, [], id="no-ae-title"),
        pytest.param(
            S, "", [element("ProcedureStepDiscontinuationReasonCodeSequence", {})], 400, [], id="no-code"
        ),
    ],
)
def test_cancel_request_refused(
    web: Web, state: str, path: str, payload: object, status: int, warning: list[str]
) -> None:
    web.create(state)
    answer = web.ask("POST", f"/workitems/{UID}/cancelrequest{path}", payload)
    assert (answer.status_code, warnings(answer)) == (status, warning)
    assert web.state() == state


def test_cancel_request_on_a_canceled_workitem(web: Web) -> None:
    web.create(X)
    answer = web.ask("POST", f"/workitems/{UID}/cancelrequest")
    assert (answer.status_code, warnings(answer)) == (
        202,
        ["The UPS is already in the requested state of CANCELED."],
    )


def test_codes_of_station_names_are_kept_bit_by_bit(web: Web) -> None:
    station = code("PERF1", "L", "Präzise  Station ")
    web.ask("POST", f"/workitems?{UID}", [minimal(ScheduledStationNameCodeSequence=station)])
    (found,) = web.ask("GET", f"/workitems/{UID}").json()
    assert found[tag_key("ScheduledStationNameCodeSequence")]["Value"] == [station]
