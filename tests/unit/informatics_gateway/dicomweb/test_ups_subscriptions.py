# SPDX-License-Identifier: Apache-2.0
"""Subscribe, Unsubscribe and Suspend over HTTP, on the real store: PS3.18 11.10 to 11.12."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from profiles.dicom_json import DicomJson, element
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store.database import Database
from task_manager.subscriptions import StoredSubscriptions
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import NOW, minimal
from tests.unit.informatics_gateway.dicomweb.ups_web import BASE, UID, Web, paths, warnings

GLOBAL, FILTERED = GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID
CHANNEL = "ws://airway.test/dicom-web/subscribers"


class Store:
    """The worklist and the subscriptions of one database."""

    def __init__(self, folder: Path, *, deletion_locks: bool = True) -> None:
        self.database = Database(f"sqlite:///{folder}/airway.db")
        self.database.migrate()
        self.worklist = StoredWorklist(self.database, clock=lambda: NOW, wake=lambda: None)
        self.subscriptions = StoredSubscriptions(
            self.database,
            clock=lambda: NOW,
            wake=lambda: None,
            deletion_locks=deletion_locks,
            known_ae=lambda _: False,
        )
        self.web = Web(self.worklist, self.subscriptions)
        self.web.ask("POST", f"/workitems?{UID}", [minimal()])

    def close(self) -> None:
        self.database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def ask(store: Store, target: str, query: str = "", method: str = "POST", suffix: str = "") -> httpx.Response:
    return store.web.ask(method, f"/workitems/{target}/subscribers/WATCHER1{suffix}{query}")


@pytest.mark.parametrize("lock", ["", "?deletionlock=true", "?deletionlock=false"])
@pytest.mark.parametrize("target", [UID, GLOBAL])
def test_subscribe(store: Store, target: str, lock: str) -> None:
    for _ in range(2):
        answer = ask(store, target, lock)
        assert (answer.status_code, answer.content, warnings(answer)) == (201, b"", [])
        assert answer.headers["content-location"] == f"{CHANNEL}/WATCHER1"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("?filter=00741202%3DAI%2C00741000%3DSCHEDULED", id="encoded"),
        pytest.param("?filter=00741202=AI,00741000=SCHEDULED", id="unencoded"),
        pytest.param("?filter=WorklistLabel=AI&filter=ProcedureStepState=SCHEDULED", id="repeated"),
        pytest.param("?00741202=AI&ProcedureStepState=SCHEDULED", id="match-parameters-2019a"),
        pytest.param("?filter=00741202=AI&deletionlock=true&accept=application/json", id="with-others"),
    ],
)
def test_subscribe_with_a_filter(store: Store, query: str) -> None:
    assert ask(store, FILTERED, query).status_code == 201
    assert ask(store, UID, method="DELETE").status_code == 200
    assert ask(store, FILTERED, method="DELETE").status_code == 200


@pytest.mark.parametrize(
    ("target", "query", "faulty"),
    [
        (UID, "?deletionlock=yes", ["deletionlock"]),
        (UID, "?deletionlock=true&deletionlock=false", ["deletionlock"]),
        (FILTERED, "", ["filter"]),
        (FILTERED, "?filter=", ["filter"]),
        (FILTERED, "?filter=SCHEDULED", ["filter"]),
        (FILTERED, "?filter=NoSuchAttribute=1", ["filter"]),
        (FILTERED, "?filter=00741000=SCHEDULED,00741000=CANCELED", ["ProcedureStepState"]),
        (FILTERED, "?filter=00404005=yesterday", ["ScheduledProcedureStepStartDateTime"]),
        (FILTERED, "?filter=TransactionUID=2.25.1", ["TransactionUID"]),
    ],
)
def test_wishes_that_are_wrong(store: Store, target: str, query: str, faulty: list[str]) -> None:
    answer = ask(store, target, query)
    assert (answer.status_code, paths(answer)) == (400, faulty)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    "aetitle", ["more%20than%20sixteen%20letters", "back%5Cslash", "%20", "NUL%00", "%00", "t%C3%A9"]
)
def test_no_ae_title(store: Store, method: str, aetitle: str) -> None:
    answer = store.web.ask(method, f"/workitems/{UID}/subscribers/{aetitle}")
    assert (answer.status_code, paths(answer)) == (400, ["ReceivingAE"])


@pytest.mark.parametrize("target", ["2.25.404", "abc", "1.02", "%00"])
@pytest.mark.parametrize(("method", "suffix"), [("POST", ""), ("DELETE", "")])
def test_unknown_targets(store: Store, target: str, method: str, suffix: str) -> None:
    assert ask(store, target, method=method, suffix=suffix).status_code == 404


@pytest.mark.parametrize("target", [UID, GLOBAL])
def test_unsubscribe(store: Store, target: str) -> None:
    assert ask(store, target, method="DELETE").json()["code"] == "not-subscribed"
    ask(store, target)
    answer = ask(store, target, method="DELETE")
    assert (answer.status_code, answer.content) == (200, b"")
    assert ask(store, target, method="DELETE").status_code == 404


@pytest.mark.parametrize(("target", "query"), [(GLOBAL, ""), (FILTERED, "?filter=00741202=AI")])
def test_suspend(store: Store, target: str, query: str) -> None:
    assert ask(store, target, suffix="/suspend").status_code == 404
    ask(store, target, query)
    answer = ask(store, target, suffix="/suspend")
    assert (answer.status_code, answer.content) == (200, b"")


def test_only_the_worklist_can_be_suspended(store: Store) -> None:
    ask(store, UID)
    answer = ask(store, UID, suffix="/suspend")
    assert (answer.status_code, answer.json()["code"]) == (400, "not-appropriate")


def test_a_lock_that_is_not_granted(tmp_path: Path) -> None:
    store = Store(tmp_path, deletion_locks=False)
    answer = ask(store, UID, "?deletionlock=true")
    assert (answer.status_code, warnings(answer)) == (201, ["Deletion Lock not granted."])
    store.close()


@pytest.mark.parametrize(("method", "suffix"), [("POST", ""), ("DELETE", ""), ("POST", "/suspend")])
def test_a_service_without_events(method: str, suffix: str) -> None:
    answer = Web().ask(method, f"/workitems/{GLOBAL}/subscribers/AE{suffix}")
    assert (answer.status_code, answer.json()["code"]) == (403, "events-not-supported")


class Refusing:
    """Subscriptions that refuse everything with one code."""

    def __init__(self, code: RefusalCode) -> None:
        self.code = code

    def subscribe(
        self,
        target: str,
        receiving_ae: str,
        *,
        deletion_lock: bool,
        matching: DicomJson,
        channel: Channel,
        actor: object,
    ) -> Accepted | Refused:
        return Refused(self.code)

    def unsubscribe(self, target: str, receiving_ae: str, *, actor: object) -> Accepted | Refused:
        return Refused(self.code)

    def suspend(self, target: str, receiving_ae: str, *, actor: object) -> Accepted | Refused:
        return Refused(self.code)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (RefusalCode.NO_SUCH_INSTANCE, 404),
        (RefusalCode.NO_LONGER_HERE, 410),
        (RefusalCode.UNKNOWN_RECEIVING_AE, 404),
        (RefusalCode.NOT_APPROPRIATE, 400),
        (RefusalCode.EVENTS_NOT_SUPPORTED, 403),
        (RefusalCode.NOT_AUTHORIZED, 403),
        (RefusalCode.OUT_OF_RESOURCES, 503),
    ],
)
def test_statuses_of_section_25(code: RefusalCode, status: int) -> None:
    web = Web(subscriptions=Refusing(code))
    for method, suffix in (("POST", ""), ("DELETE", ""), ("POST", "/suspend")):
        answer = web.ask(method, f"/workitems/{GLOBAL}/subscribers/AE{suffix}")
        assert (answer.status_code, answer.json()["code"]) == (status, code.value)


@pytest.mark.parametrize(
    ("public_url", "channel"),
    [
        ("https://pacs.example/airway/dicom-web/", "wss://pacs.example/airway/dicom-web/subscribers/AE"),
        ("http://pacs.example/dicom-web", "ws://pacs.example/dicom-web/subscribers/AE"),
    ],
)
def test_the_public_address(store: Store, public_url: str, channel: str) -> None:
    web = Web(store.worklist, store.subscriptions, public_url=public_url)
    answer = web.ask("POST", f"/workitems/{UID}/subscribers/AE")
    assert answer.headers["content-location"] == channel
    created = web.ask("POST", "/workitems?2.25.7", [{**minimal(), **element("WorklistLabel")}])
    base = public_url.rstrip("/")
    assert created.headers["location"] == f"{base}/workitems/2.25.7"
    assert created.headers["warning"].startswith(f"299 {base}: ")
    assert BASE not in created.headers["warning"]
