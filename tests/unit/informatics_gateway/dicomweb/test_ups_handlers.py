# SPDX-License-Identifier: Apache-2.0
"""Outcomes of the ports as HTTP answers, cell by cell, and workitems bent in every place: PS3.18 11."""

from __future__ import annotations

import copy
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.dicom_json import DicomJson, element
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import SearchPage, WorkitemQuery
from task_manager.workitem.commands import Command, Create
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW, instances, minimal, performed
from tests.unit.informatics_gateway.dicomweb.ups_web import LOCK, UID, P, S, Web, state_payload, warnings

R, W = RefusalCode, WarningCode

UPDATE_STATE = "The submitted request is inconsistent with the current state of the Workitem."
UNCLAIMED = "The target URI did not reference a claimed Workitem."
STATE = "The submitted request is inconsistent with the state of the UPS Instance."
WRONG = "The Transaction UID is incorrect."


class Answering(MemoryWorklist):
    """A worklist with one outcome, given from another thread like that of the store."""

    def __init__(self, outcome: Accepted | Refused, page: SearchPage | None = None) -> None:
        super().__init__(lambda: NOW)
        self.outcome = outcome
        self.page = page
        self.asked: list[Any] = []

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        self.asked.append((uid, command, actor))
        future: Future[Accepted | Refused] = Future()
        Thread(target=future.set_result, args=(self.outcome,)).start()
        return future

    def fetch(self, uid: str) -> Future[bytes | Refused]:
        future: Future[bytes | Refused] = Future()
        found = self.outcome if isinstance(self.outcome, Refused) else b'{"00100020":{"vr":"LO"}}'
        Thread(target=future.set_result, args=(found,)).start()
        return future

    def search(self, query: WorkitemQuery) -> Future[SearchPage]:
        self.asked.append(query)
        assert self.page is not None
        future: Future[SearchPage] = Future()
        Thread(target=future.set_result, args=(self.page,)).start()
        return future


REQUESTS: dict[str, tuple[str, str, Any]] = {
    "create": ("POST", f"/workitems?{UID}", [minimal()]),
    "retrieve": ("GET", f"/workitems/{UID}", None),
    "update": ("POST", f"/workitems/{UID}?{LOCK}", [element("WorklistLabel", "x")]),
    "state": ("PUT", f"/workitems/{UID}/state", state_payload(P)),
    "cancel": ("POST", f"/workitems/{UID}/cancelrequest", None),
}


@pytest.mark.parametrize(
    ("request_name", "code", "status", "text"),
    [
        ("create", R.DUPLICATE_INSTANCE, 409, ""),
        ("create", R.NOT_SCHEDULED, 400, ""),
        ("create", R.INVALID_ATTRIBUTES, 400, ""),
        ("create", R.MISSING_ATTRIBUTE, 400, ""),
        ("create", R.MISSING_VALUE, 400, ""),
        ("create", R.NOT_AUTHORIZED, 403, ""),
        ("create", R.OUT_OF_RESOURCES, 503, ""),
        ("create", R.PROCESSING_FAILURE, 500, ""),
        ("retrieve", R.NO_SUCH_INSTANCE, 404, ""),
        ("retrieve", R.NO_LONGER_HERE, 410, ""),
        ("update", R.NO_SUCH_INSTANCE, 404, UNCLAIMED),
        ("update", R.NO_LONGER_HERE, 410, UNCLAIMED),
        ("update", R.MAY_NOT_BE_UPDATED, 400, UPDATE_STATE),
        ("update", R.WRONG_TRANSACTION_UID, 400, UPDATE_STATE),
        ("update", R.NOT_YET_IN_PROGRESS, 409, UNCLAIMED),
        ("update", R.INVALID_ATTRIBUTES, 400, UPDATE_STATE),
        ("state", R.NO_SUCH_INSTANCE, 404, STATE),
        ("state", R.NO_LONGER_HERE, 410, STATE),
        ("state", R.WRONG_TRANSACTION_UID, 400, WRONG),
        ("state", R.MAY_NOT_BECOME_SCHEDULED, 400, STATE),
        ("state", R.MAY_NOT_BE_UPDATED, 409, STATE),
        ("state", R.ALREADY_IN_PROGRESS, 409, STATE),
        ("state", R.FINAL_STATE_NOT_MET, 409, STATE),
        ("state", R.NOT_YET_IN_PROGRESS, 409, STATE),
        ("cancel", R.NO_SUCH_INSTANCE, 404, ""),
        ("cancel", R.NO_LONGER_HERE, 410, ""),
        ("cancel", R.ALREADY_COMPLETED, 409, "The UPS is already COMPLETED."),
        ("cancel", R.PERFORMER_NOT_CONTACTABLE, 409, "The performer cannot be contacted."),
        ("cancel", R.PERFORMER_WILL_NOT_CANCEL, 409, "Performer chooses not to cancel."),
    ],
)
def test_refusals_of_section_25(request_name: str, code: RefusalCode, status: int, text: str) -> None:
    method, path, payload = REQUESTS[request_name]
    answer = Web(Answering(Refused(code))).ask(method, path, payload)
    assert (answer.status_code, answer.json()["code"]) == (status, code.value)
    assert warnings(answer) == ([text] if text else [])


@pytest.mark.parametrize(
    ("request_name", "warning", "status", "text"),
    [
        ("create", W.COERCED, 201, "The Workitem was created with modifications."),
        ("update", W.COERCED, 200, "The Workitem was updated with modifications."),
        ("update", W.ATTRIBUTES_IGNORED, 200, "Requested optional Attributes are not supported."),
        ("state", W.ALREADY_CANCELED, 200, "The UPS is already in the requested state of CANCELED."),
        ("state", W.ALREADY_COMPLETED, 200, "The UPS is already in the requested state of COMPLETED."),
        ("cancel", W.ALREADY_CANCELED, 202, "The UPS is already in the requested state of CANCELED."),
    ],
)
def test_warnings_of_section_25(request_name: str, warning: WarningCode, status: int, text: str) -> None:
    method, path, payload = REQUESTS[request_name]
    answer = Web(Answering(Accepted(uid=UID, warnings=(warning,)))).ask(method, path, payload)
    assert (answer.status_code, answer.content, warnings(answer)) == (status, b"", [text])


@pytest.mark.parametrize(
    ("path", "agent", "name"),
    [
        ("/cancelrequest/RIS1", "curl/8.5", "RIS1"),
        ("/cancelrequest", "curl/8.5", "curl"),
        ("/cancelrequest", "", ""),
        ("/cancelrequest", "(evil) x", ""),
    ],
)
def test_who_asks(path: str, agent: str, name: str) -> None:
    worklist = Answering(Accepted(uid=UID))
    Web(worklist).ask("POST", f"/workitems/{UID}{path}", headers={"User-Agent": agent})
    ((_, command, actor),) = worklist.asked
    assert (command.requesting_ae, actor.name, actor.door) == (name, name, "dicomweb")


# Search: texts go out as they come


TEXTS = (b'{"00100020": {"vr":"LO" }}', b"{}")


@pytest.mark.parametrize(
    ("query", "page", "status", "body", "said"),
    [
        ("", SearchPage(results=TEXTS, remaining=0), 200, b"[%s,%s]" % TEXTS, []),
        ("?limit=2", SearchPage(results=TEXTS, remaining=7), 200, b"[%s,%s]" % TEXTS, ["There are 7 add"]),
        ("?fuzzymatching=true", SearchPage(results=(b"{}",), remaining=0), 200, b"[{}]", ["The fuzzymat"]),
        ("?fuzzymatching=true", SearchPage(results=(), remaining=0), 204, b"", ["The fuzzymat"]),
        ("?limit=0", None, 204, b"", []),
    ],
)
def test_search(query: str, page: SearchPage | None, status: int, body: bytes, said: list[str]) -> None:
    answer = Web(Answering(Accepted(), page)).ask("GET", f"/workitems{query}")
    assert (answer.status_code, answer.content) == (status, body)
    assert [text[: len(begins)] for text, begins in zip(warnings(answer), said, strict=True)] == said


@pytest.mark.parametrize(
    ("query", "returned"),
    [
        ("", frozenset()),
        ("?includefield=all", None),
        (
            "?includefield=PatientID,00400400&00741000=SCHEDULED",
            frozenset({"00100020", "00400400", "00741000"}),
        ),
    ],
)
def test_what_a_search_returns(query: str, returned: frozenset[str] | None) -> None:
    worklist = Answering(Accepted(), SearchPage(results=(), remaining=0))
    Web(worklist).ask("GET", f"/workitems{query}")
    (asked,) = worklist.asked
    assert isinstance(asked, WorkitemQuery)
    assert asked.returned == returned


# Workitems bent in one place


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        found += places(child, (*path, key))
    return found


WHOLE = minimal(InputInformationSequence=instances(), PatientName="Doe^Jane")
FINAL = performed()
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=6,
) | st.sampled_from([[], {}, "", "\x00", "9" * 70, [[]], [None], {"vr": "SQ", "Value": [{}]}, {"vr": "??"}])


def bent(data_set: DicomJson, path: tuple[Any, ...], value: Any, how: str) -> DicomJson:
    changed: Any = copy.deepcopy(data_set)
    above = changed
    for key in path[:-1]:
        above = above[key]
    if how == "drop":
        del above[path[-1]]
    elif how == "rename" and isinstance(above, dict):
        above[f"{value}"] = above.pop(path[-1])
    elif how == "twice" and isinstance(above, list):
        above.append(copy.deepcopy(above[path[-1]]))
    else:
        above[path[-1]] = value
    result: DicomJson = changed
    return result


HOW = st.sampled_from(["replace", "drop", "rename", "twice"])
BENT = Web()
BENT.create(P)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(path=st.sampled_from(places(WHOLE)), value=ANY, how=HOW)
def test_a_bent_workitem_is_created_or_refused_with_faults(
    path: tuple[Any, ...], value: Any, how: str
) -> None:
    answer = BENT.ask("POST", "/workitems", [bent(WHOLE, path, value, how)])
    assert answer.status_code in (201, 400)
    if answer.status_code == 400:
        assert answer.json()["faults"]
    else:
        made = answer.headers["location"].rpartition("/")[2]
        assert BENT.state(made) == S
        assert BENT.ask("GET", f"/workitems/{made}").status_code == 200


@settings(max_examples=100, deadline=None, derandomize=True)
@given(path=st.sampled_from(places(FINAL)), value=ANY, how=HOW)
def test_a_bent_update_is_taken_or_refused_with_faults(path: tuple[Any, ...], value: Any, how: str) -> None:
    answer = BENT.ask("POST", f"/workitems/{UID}?{LOCK}", [bent(FINAL, path, value, how)])
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["faults"]
    assert BENT.state() == P
