# SPDX-License-Identifier: Apache-2.0
"""Watchers over DIMSE from end to end: subscribed by N-ACTION, told on associations that we open."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conformance.peers.process import free_port, wait_until
from informatics_gateway.dimse.event_scu import DimseEventSender
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import WATCH
from informatics_gateway.dimse_watchers import DimseChannel
from informatics_gateway.watchers import WatcherHub
from profiles.dicom_json import element, merged
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.outbox import RetryPolicy
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal, going_down
from task_manager.subscriptions import StoredSubscriptions
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import code, minimal, performed, progress
from tests.instances import FolderIntake
from tests.loopback.dimse.test_event_scu import HOST, Heard, listener
from tests.loopback.dimse.ups_peer import Told, UpsScu, connected, keys

UID, LOCK = "2.25.100", "2.25.1"

# pynetdicom drops a socket that was refused without closing it
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")


@dataclass
class Manager:
    """A task manager with a DICOM port, its watchers and a database."""

    server: DimseServer
    ports: dict[str, int]


@contextmanager
def running(folder: Path, ports: dict[str, int]) -> Iterator[Manager]:
    peers = {
        ae: DicomAddress(host=HOST, port=port, called_ae_title=ae, calling_ae_title="AIRWAY")
        for ae, port in ports.items()
    }
    database = Database(f"sqlite:///{folder / 'airway.db'}")
    database.migrate()
    hubs: list[WatcherHub] = []

    def wake() -> None:
        for hub in hubs:
            hub.wake()

    def now() -> datetime:
        return datetime.now(UTC)

    journal = StoredJournal(database, most_pending=1000, clock=now)
    channel = DimseChannel(
        journal,
        DimseEventSender(peers, timeout_s=5),
        owner="test",
        clock=now,
        retry=RetryPolicy(first=timedelta(milliseconds=100), most=timedelta(milliseconds=400)),
    )
    server = DimseServer(
        FolderIntake(folder / "store"),
        worklist=StoredWorklist(database, clock=now, wake=wake),
        subscriptions=StoredSubscriptions(database, clock=now, wake=wake, known_ae=peers.__contains__),
    )
    with ExitStack() as closing:
        closing.callback(database.close)
        hub = WatcherHub(journal, [channel], farewell=going_down)
        hub.start()
        hubs.append(hub)
        closing.callback(hub.stop)
        server.start()
        closing.callback(server.stop, grace_s=1)
        yield Manager(server, ports)


def subscribe(scu: UpsScu, ae: str, target: str = UID, lock: str = "FALSE", **more: str) -> Told:
    return scu.action(target, 3, keys(ReceivingAE=ae, DeletionLock=lock, **more), context=WATCH)


def told(heard: Heard, uid: str = UID) -> list[tuple[int, str]]:
    """Event type and state of the reports on a workitem."""
    return [
        (kind, str(information.get("ProcedureStepState", "")))
        for kind, _, instance, _, information in heard.reports
        if instance == uid
    ]


S1, P1, C1 = (1, "SCHEDULED"), (1, "IN PROGRESS"), (1, "COMPLETED")


def perform(scu: UpsScu, uid: str = UID) -> None:
    assert scu.set(uid, merged([performed(), element("TransactionUID", LOCK)])).status == 0x0000
    assert scu.state(uid, "COMPLETED", LOCK).status == 0x0000


def test_a_watcher_hears_everything_once_in_order(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, {"WATCHER": port}) as manager, listener(port) as heard:
        with connected(manager.server.port) as scu:
            assert scu.create(minimal(), UID).status == 0x0000
            assert subscribe(scu, "WATCHER").status == 0x0000
            assert scu.state(UID, "IN PROGRESS", LOCK).status == 0x0000
            tell = progress(ProcedureStepProgress=40)
            assert scu.set(UID, merged([tell, element("TransactionUID", LOCK)])).status == 0x0000
            assert scu.action(UID, 2, None, context=WATCH).status == 0x0000
            perform(scu)
            wait_until(lambda: C1 in told(heard), "the reports", timeout_s=10)
            assert told(heard) == [S1, P1, (3, ""), (2, ""), C1]
            assert subscribe(scu, "STRANGER").status == 0xC308
            ask = keys(ReceivingAE="WATCHER")
            assert scu.action(UID, 5, ask, context=WATCH).status == 0xC314
            assert scu.action(UID, 4, ask, context=WATCH).status == 0x0000
            assert scu.action("2.25.404", 4, ask, context=WATCH).status == 0xC307


def test_a_watcher_that_was_away_hears_what_it_missed(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, {"WATCHER": port}) as manager, connected(manager.server.port) as scu:
        assert scu.create(minimal(), UID).status == 0x0000
        with listener(port) as before:
            assert subscribe(scu, "WATCHER", lock="TRUE").status == 0x0000
            wait_until(lambda: told(before) == [S1], "the reports", timeout_s=10)
        assert scu.state(UID, "IN PROGRESS", LOCK).status == 0x0000
        perform(scu)
        with listener(port) as after:
            wait_until(lambda: C1 in told(after), "the reports", timeout_s=10)
            assert told(after) == [P1, C1]


def test_what_is_owed_survives_a_restart(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, {"WATCHER": port}) as manager, connected(manager.server.port) as scu:
        assert subscribe(scu, "WATCHER", GLOBAL_SUBSCRIPTION_UID).status == 0x0000
        assert scu.create(minimal(), UID).status == 0x0000
    with running(tmp_path, {"WATCHER": port}) as manager, listener(port) as heard:
        with connected(manager.server.port) as scu:
            assert scu.state(UID, "IN PROGRESS", LOCK).status == 0x0000
        wait_until(lambda: P1 in told(heard), "the reports", timeout_s=10)
        assert told(heard) == [S1, P1]


def test_a_filter_chooses_what_is_told(tmp_path: Path) -> None:
    port = free_port()
    station = code("PERF1", "L", "Performer")
    with running(tmp_path, {"WATCHER": port}) as manager, listener(port) as heard:
        with connected(manager.server.port) as scu:
            asked = subscribe(scu, "WATCHER", FILTERED_GLOBAL_SUBSCRIPTION_UID, WorklistLabel="LUNG*")
            assert asked.status == 0x0000
            assert scu.create(minimal(WorklistLabel="OTHER"), "2.25.7").status == 0x0000
            wanted = minimal(WorklistLabel="LUNG CT", ScheduledStationNameCodeSequence=station)
            assert scu.create(wanted, UID).status == 0x0000
        wait_until(lambda: len(told(heard)) == 2, "the reports", timeout_s=10)
        assert told(heard) == [S1, (5, "")]
        assert told(heard, "2.25.7") == []


def test_watchers_hear_twenty_performers_at_once(tmp_path: Path) -> None:
    ports = {f"WATCHER{number}": free_port() for number in range(6)}
    uids = [f"2.25.{1000 + number}" for number in range(20)]

    def live(uid: str) -> None:
        with connected(manager.server.port, ae_title=f"P{uid[5:]}") as scu:
            assert scu.create(minimal(), uid).status == 0x0000
            assert scu.state(uid, "IN PROGRESS", LOCK).status == 0x0000
            perform(scu, uid)

    with ExitStack() as stack:
        manager = stack.enter_context(running(tmp_path, ports))
        heard = [stack.enter_context(listener(port, called=ae)) for ae, port in ports.items()]
        with connected(manager.server.port) as scu:
            for ae in ports:
                assert subscribe(scu, ae, GLOBAL_SUBSCRIPTION_UID).status == 0x0000
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(live, uids))
        # On a busy machine an answer may not come in time: the report is sent again (PS3.7 has no other way).
        wait_until(
            lambda: all(list(dict.fromkeys(told(one, uid))) == [S1, P1, C1] for one in heard for uid in uids),
            "the reports",
            timeout_s=60,
        )
