# SPDX-License-Identifier: Apache-2.0
"""Listeners that are called: everything once and in order, whoever fails, dies or shares the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from informatics_gateway.dimse_watchers import DimseChannel
from informatics_gateway.watchers import WatcherHub
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.notices import Channel, Listener, Notice
from task_manager.outbox import RetryPolicy
from task_manager.store.database import Database
from task_manager.store.journal import going_down
from tests.contract.workitems import minimal
from tests.watching import ACTOR, Office, brief, must, until

UID = "2.25.100"
SOON = RetryPolicy(first=timedelta(milliseconds=20), most=timedelta(milliseconds=50))


class Peers:
    """Takes reports; fails as told to: `plan` holds for each AE how many of the next ones it takes."""

    def __init__(self) -> None:
        self.taken: dict[str, list[Notice]] = {}
        self.failures: dict[str, list[tuple[int, Exception]]] = {}
        self.blocked: dict[str, threading.Event] = {}

    def send(self, receiving_ae: str, notices: Iterable[Notice]) -> None:
        if receiving_ae in self.blocked:
            self.blocked[receiving_ae].wait(20)
        planned = self.failures.get(receiving_ae, [])
        most, error = planned.pop(0) if planned else (None, None)
        for count, notice in enumerate(notices):
            if error is not None and count == most:
                raise error
            self.taken.setdefault(receiving_ae, []).append(notice)

    def heard(self, receiving_ae: str = "PEER1") -> list[tuple[str, int, str]]:
        return brief(self.taken.get(receiving_ae, []))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    yield Office(database, clock=lambda: datetime.now(UTC))
    database.close()


@contextmanager
def calling(office: Office, peers: Peers, *, owner: str = "one", retry: RetryPolicy = SOON) -> Iterator[None]:
    channel = DimseChannel(office.journal, peers, owner=owner, clock=office.clock, retry=retry)
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    hub.start()
    office.wakers.append(hub.wake)
    try:
        yield
    finally:
        office.wakers.remove(hub.wake)
        hub.stop()


def listen(office: Office, *receiving_aes: str) -> None:
    office.create(UID)
    for receiving_ae in receiving_aes:
        must(office.subscribe(UID, receiving_ae, channel=Channel.DIMSE))


def listener(office: Office, receiving_ae: str = "PEER1") -> Listener:
    [found] = [one for one in office.journal.listeners(Channel.DIMSE) if one.receiving_ae == receiving_ae]
    return found


def test_a_listener_is_sent_what_happens_in_order(office: Office) -> None:
    peers = Peers()
    with calling(office, peers):
        listen(office, "PEER1")
        office.claim(UID)
        office.progress(UID, 10)
        office.complete(UID)
        until(lambda: len(peers.heard()) == 4, "not all were sent")
        until(lambda: listener(office).position == office.journal.latest(), "no position was stored")

    assert peers.heard()[:4] == [
        (UID, 1, "SCHEDULED"),
        (UID, 1, "IN PROGRESS"),
        (UID, 3, ""),
        (UID, 1, "COMPLETED"),
    ]


def test_what_was_owed_from_before_is_sent_at_the_start(office: Office) -> None:
    listen(office, "PEER1")
    office.claim(UID)
    peers = Peers()
    with calling(office, peers):
        until(lambda: len(peers.heard()) == 2, "not all were sent")


def test_after_a_failure_it_goes_on_where_it_broke_off(office: Office) -> None:
    listen(office, "PEER1")
    office.claim(UID)
    for percent in range(1, 9):
        office.progress(UID, percent)
    peers = Peers()
    peers.failures["PEER1"] = [
        (3, RetryableDeliveryError("broke off")),
        (0, RetryableDeliveryError("refused")),
        (2, RetryableDeliveryError("broke off")),
    ]
    with calling(office, peers):
        until(lambda: listener(office).position == office.journal.latest(), "not all were sent")
        assert [notice.number for notice in peers.taken["PEER1"]] == list(range(2, 12))
        assert listener(office).attempts == 0


def test_a_sender_that_asks_for_all_before_it_fails_gets_all_again(office: Office) -> None:
    class Hasty(Peers):
        def send(self, receiving_ae: str, notices: Iterable[Notice]) -> None:
            super().send(receiving_ae, list(notices))

    listen(office, "PEER1")
    office.claim(UID)
    peers = Hasty()
    peers.failures["PEER1"] = [(1, RetryableDeliveryError("broke off"))]
    with calling(office, peers):
        until(lambda: listener(office).position == office.journal.latest(), "not all were sent")

    assert peers.heard()[:3] == [(UID, 1, "SCHEDULED"), (UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS")]


def test_a_failure_is_remembered_with_when_to_try_again(office: Office) -> None:
    listen(office, "PEER1", "PEER2")
    peers = Peers()
    peers.failures = {
        "PEER1": [(0, RetryableDeliveryError("refused"))],
        "PEER2": [(0, FinalDeliveryError("no such peer"))],
    }
    slow = RetryPolicy(first=timedelta(minutes=1), most=timedelta(minutes=30))
    began = office.clock()
    with calling(office, peers, retry=slow):
        until(lambda: listener(office).attempts + listener(office, "PEER2").attempts == 2, "not remembered")
        office.claim(UID)

    dues = [listener(office, name).due_at for name in ("PEER1", "PEER2")]
    waits = [round((due - began) / timedelta(minutes=1)) for due in dues if due is not None]
    assert waits == [1, 30]
    assert peers.taken == {}


def test_a_dead_listener_delays_no_other(office: Office) -> None:
    peers = Peers()
    peers.blocked["PEER1"] = threading.Event()
    with calling(office, peers):
        listen(office, "PEER1", "PEER2")
        office.claim(UID)
        until(lambda: len(peers.heard("PEER2")) == 2, "the other was not told")
        assert peers.heard("PEER1") == []
        peers.blocked["PEER1"].set()
        until(lambda: len(peers.heard("PEER1")) == 2, "it was forgotten")


def test_two_processes_send_everything_once(office: Office) -> None:
    peers = Peers()
    with calling(office, peers, owner="one"), calling(office, peers, owner="two"):
        listen(office, "PEER1")
        office.claim(UID)
        for percent in range(1, 20):
            office.progress(UID, percent)
        until(lambda: listener(office).position == office.journal.latest(), "not all were sent")

    numbers = [notice.number for notice in peers.taken["PEER1"] if notice.number]
    assert numbers == list(range(2, 23))


def test_a_fault_of_the_sender_does_not_end_the_service(office: Office) -> None:
    peers = Peers()
    peers.failures["PEER1"] = [(0, ValueError("a fault"))]
    with calling(office, peers):
        listen(office, "PEER1")
        until(lambda: not peers.failures["PEER1"], "it was not tried")
        office.claim(UID)
        until(lambda: len(peers.heard()) == 2, "it was not tried again")


def test_an_idle_listener_keeps_up_with_the_journal(office: Office) -> None:
    listen(office, "PEER1")
    peers = Peers()
    with calling(office, peers):
        until(lambda: len(peers.heard()) == 1, "it was not told")
        with office.worklist.transact() as work:
            for number in range(600):
                must(work.create(f"2.25.7{number:03}", minimal(), actor=ACTOR))
        until(lambda: listener(office).position == office.journal.latest(), "it fell behind")
    assert peers.heard()[:1] == [(UID, 1, "SCHEDULED")]


# Going down


def test_going_down_is_told_to_those_who_answered_so_far(office: Office) -> None:
    listen(office, "PEER1", "PEER2")
    peers = Peers()
    peers.failures["PEER2"] = [(0, RetryableDeliveryError("refused"))] * 100
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, "PEER1", channel=Channel.DIMSE))
    with calling(office, peers):
        until(lambda: len(peers.heard()) == 1 and listener(office, "PEER2").attempts > 0, "not told")

    assert peers.heard()[1:] == [("all", 4, "GOING DOWN, WARM START")]
    assert peers.heard("PEER2") == []


def test_a_listener_that_hangs_does_not_hold_the_end_up(office: Office) -> None:
    listen(office, "PEER1")
    peers = Peers()
    peers.blocked["PEER1"] = threading.Event()
    with calling(office, peers):
        pass
    began = time.monotonic()
    with calling(office, peers, owner="two"):
        office.claim(UID)
    assert time.monotonic() - began < 10
    peers.blocked["PEER1"].set()
