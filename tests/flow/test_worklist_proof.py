# SPDX-License-Identifier: Apache-2.0
"""The worklist under load, in real processes: one winner, nothing lost, nothing done twice, whoever dies."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from conformance.peers.postgresql import Postgresql
from conformance.peers.process import wait_until
from profiles.dicom_json import DicomJson, first, items, text
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from tests.contract.workitems import minimal, performed
from tests.flow.asking import Asker, Watcher
from tests.flow.forking import ForkedAirway, Forker, forker
from tests.flow.worklist_journal import Load
from tests.loopback.dimse.ups_peer import connected

OVER_HTTP, OVER_DIMSE = 38, 12
PERFORMERS, QUEUE = 20, 2000
KILLS, CLIENTS = 30, 4
SHARED = 40
HEARD_S = 30.0
WATCHER = "WATCHER"


@pytest.fixture(scope="module")
def forking() -> Iterator[Forker]:
    with forker() as process:
        yield process


@pytest.fixture(scope="module")
def airway(forking: Forker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedAirway]:
    running = ForkedAirway(forking, tmp_path_factory.mktemp("proof"))
    running.start()
    yield running
    running.stop()


def at_once(asks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each of `asks` came to, all begun at one moment."""
    barrier = threading.Barrier(len(asks))

    def ask(one: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return one()

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(ask, asks))


def test_of_fifty_clients_of_both_doors_exactly_one_claims(airway: ForkedAirway) -> None:
    uids = [f"2.25.51{number}" for number in range(10)]
    with ExitStack() as stack:
        web = [stack.enter_context(Asker(airway.ports["http"])) for _ in range(OVER_HTTP)]
        dimse = [stack.enter_context(connected(airway.ports["dicom"])) for _ in range(OVER_DIMSE)]
        for uid in uids:
            assert web[0].create(uid, minimal()) == 201
        for uid in uids:
            locks = [f"{uid}.{number + 1}" for number in range(OVER_HTTP + OVER_DIMSE)]
            asks: list[Callable[[], int]] = [
                *(
                    lambda uid=uid, client=client, lock=lock: client.change_state(uid, "IN PROGRESS", lock)
                    for client, lock in zip(web, locks, strict=False)
                ),
                *(
                    lambda uid=uid, client=client, lock=lock: client.state(uid, "IN PROGRESS", lock).status
                    for client, lock in zip(dimse, locks[OVER_HTTP:], strict=True)
                ),
            ]
            told = at_once(asks)
            over_http, over_dimse = Counter(told[:OVER_HTTP]), Counter(told[OVER_HTTP:])
            assert over_http[200] + over_dimse[0x0000] == 1, told
            assert set(over_http) <= {200, 400, 409}
            assert set(over_dimse) <= {0x0000, 0xC301}
            winner = next(lock for lock, status in zip(locks, told, strict=True) if status in (200, 0))
            for lock in locks:
                assert (web[0].update(uid, performed(), lock) == 200) == (lock == winner)
            assert web[0].change_state(uid, "COMPLETED", winner) == 200


def test_twenty_performers_empty_a_queue_and_each_workitem_is_done_once(airway: ForkedAirway) -> None:
    port = airway.ports["http"]
    uids = [f"2.25.52{number:05d}" for number in range(QUEUE)]
    done: list[list[str]] = [[] for _ in range(PERFORMERS)]
    lost: list[int] = [0] * PERFORMERS

    def fill(part: Sequence[str]) -> None:
        with Asker(port) as asker:
            for uid in part:
                assert asker.create(uid, minimal(WorklistLabel="QUEUE")) == 201

    def perform(number: int) -> None:
        chance = random.Random(number)
        with Asker(port) as asker:
            while True:
                path = "/workitems?ProcedureStepState=SCHEDULED&WorklistLabel=QUEUE&limit=30"
                status, waiting = asker.ask("GET", path)
                if status == 204:
                    return
                assert status == 200
                for found in chance.sample(waiting, min(10, len(waiting))):
                    uid = text(found, "SOPInstanceUID")
                    lock = f"{uid}.{number + 1}"
                    claimed = asker.change_state(uid, "IN PROGRESS", lock)
                    if claimed != 200:
                        assert claimed in (400, 409)
                        lost[number] += 1
                        continue
                    assert asker.update(uid, performed(), lock) == 200
                    assert asker.change_state(uid, "COMPLETED", lock) == 200
                    done[number].append(uid)

    with ThreadPoolExecutor(PERFORMERS) as pool:
        list(pool.map(fill, (uids[part::PERFORMERS] for part in range(PERFORMERS))))
        list(pool.map(perform, range(PERFORMERS)))
    assert sorted(itertools.chain(*done)) == sorted(uids)
    assert sum(1 for each in done if each) == PERFORMERS
    assert sum(lost) > 0, "nobody ever competed: the test shows nothing"
    with closing(sqlite3.connect(airway.data / "airway.db", timeout=30)) as database:
        rows = database.execute(
            "SELECT state, count(*) FROM workitem_report WHERE workitem_uid LIKE '2.25.52%'"
            " AND event_type = 1 GROUP BY state"
        ).fetchall()
    assert dict(rows) == {"SCHEDULED": QUEUE, "IN PROGRESS": QUEUE, "COMPLETED": QUEUE}


@pytest.mark.timeout(240)
def test_killed_thirty_times_under_load_nothing_accepted_is_lost(forking: Forker, tmp_path: Path) -> None:
    airway = ForkedAirway(forking, tmp_path / "killed")
    chance = random.Random(30)
    port = airway.ports["http"]
    airway.start()
    with Asker(port) as asker:
        assert asker.subscribe(GLOBAL_SUBSCRIPTION_UID, WATCHER) == 201
    load = Load(port, CLIENTS, seed=30)
    checked = 0
    with Watcher(port, WATCHER) as watcher:
        load.start()
        try:
            for _ in range(KILLS):
                reached = len(load.promises) + chance.randrange(2, 24)
                wait_until(lambda reached=reached: len(load.promises) >= reached, "load", 30)
                time.sleep(chance.random() * 0.02)  # at any point of a step, not at its end
                airway.kill()
                airway.start()
                with Asker(port) as asker:
                    for promise in load.promises[checked : checked + 20]:
                        if promise.done and not promise.unsure:
                            assert asker.retrieve(promise.uid) is not None
                checked = len(load.promises)
        finally:
            load.stop()
        assert not load.refused
        with Asker(port) as asker:
            broken = [promise.broken(asker.retrieve(promise.uid)) for promise in load.promises]
        assert not [each for each in broken if each]
        reports = written_reports(airway.data / "airway.db")
        wait_until(lambda: set(reports) <= set(map(heard, watcher.messages)), "all events heard", HEARD_S)
    airway.stop()
    assert watcher.connections > KILLS
    check_rows(airway.data / "airway.db")
    check_reports(reports, [heard(message) for message in watcher.messages])
    finished = sum(promise.done[-1:] == ["complete"] for promise in load.promises)
    assert finished > KILLS


Heard = tuple[str, int, str, str]


def heard(message: DicomJson) -> Heard:
    """What tells one event from another: each is caused at most once per workitem here."""
    told = items(message, "ProcedureStepProgressInformationSequence")
    note = text(told[0], "ProcedureStepProgressDescription") if told else ""
    affected = str(message.get("00001000", {}).get("Value", [""])[0])
    number = message.get("00001002", {}).get("Value", [0])[0]
    return affected, int(number), str(first(message, "ProcedureStepState") or ""), note


def written_reports(path: Path) -> list[Heard]:
    """The journal of event reports about workitems, oldest first."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        rows = database.execute(
            "SELECT workitem_uid, event_type, content FROM workitem_report WHERE event_type <> 4 ORDER BY id"
        ).fetchall()
    found = []
    for uid, event_type, content in rows:
        _, _, state, note = heard(orjson.loads(content))
        found.append((uid, event_type, state, note))
    return found


def check_reports(written: Sequence[Heard], received: Sequence[Heard]) -> None:
    """All were received, in their order; again after a connection was lost, never invented."""
    about_workitems = [each for each in received if each[1] != 4]
    assert list(dict.fromkeys(about_workitems)) == list(dict.fromkeys(written))
    assert len(set(written)) == len(written), "an event was written twice"
    assert any(each[1] == 4 for each in received), "the restarts were not told"


def check_rows(path: Path) -> None:
    """No workitem is in an impossible state: the row, its attributes, its lock and its reports agree."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute(
            "SELECT uid, state, transaction_uid, attributes, final_at FROM workitem"
        ).fetchall()
        walks: dict[str, list[str]] = {}
        for uid, state in database.execute(
            "SELECT workitem_uid, state FROM workitem_report WHERE event_type = 1 ORDER BY id"
        ):
            walks.setdefault(uid, []).append(state)
    assert rows
    for uid, state, lock, attributes, final_at in rows:
        assert text(orjson.loads(attributes), "ProcedureStepState") == state, uid
        assert bool(lock) == (state != "SCHEDULED"), uid
        assert (final_at is not None) == (state in ("COMPLETED", "CANCELED")), uid
        path_taken = ["SCHEDULED", "IN PROGRESS", state]
        assert walks[uid] == path_taken[: path_taken.index(state) + 1], uid
    assert set(walks) == {row[0] for row in rows}


@pytest.mark.peers
def test_two_replicas_serve_one_worklist(forking: Forker, postgresql: Postgresql, tmp_path: Path) -> None:
    address = tmp_path / "database-url"
    address.write_text(postgresql.sqlalchemy_url(postgresql.create_database()))
    address.chmod(0o600)
    config = {"database": {"url_file": str(address)}}
    replicas = [ForkedAirway(forking, tmp_path / name, config) for name in ("first", "second")]
    for replica in replicas:
        replica.start()
    here, there = (replica.ports["http"] for replica in replicas)
    uids = [f"2.25.54{number:03d}" for number in range(SHARED)]
    with ExitStack() as stack:
        asker = stack.enter_context(Asker(here))
        other = stack.enter_context(Asker(there))
        assert asker.subscribe(GLOBAL_SUBSCRIPTION_UID, WATCHER) == 201
        # listens to the second while the first is told everything
        watcher = stack.enter_context(Watcher(there, WATCHER))
        for uid in uids:
            assert asker.create(uid, minimal()) == 201
        clients = [stack.enter_context(Asker(port)) for port in (here, there) * 4]
        for uid in uids:
            found = other.retrieve(uid)
            assert found is not None
            assert text(found, "ProcedureStepState") == "SCHEDULED"
            told = at_once(
                [
                    lambda uid=uid, client=client, number=number: client.change_state(
                        uid, "IN PROGRESS", f"{uid}.{number}"
                    )
                    for number, client in enumerate(clients, start=1)
                ]
            )
            assert sorted(told)[0] == 200
            assert told.count(200) == 1
            lock = f"{uid}.{1 + told.index(200)}"
            assert other.update(uid, performed(), lock) == 200
            assert asker.change_state(uid, "COMPLETED", lock) == 200
        wanted = [(uid, state) for uid in uids for state in ("SCHEDULED", "IN PROGRESS", "COMPLETED")]

        def states() -> list[tuple[str, str]]:
            found = [heard(message) for message in list(watcher.messages)]
            return [(uid, state) for uid, number, state, _ in found if number == 1]

        wait_until(lambda: len(states()) >= len(wanted), "the events of the other replica", HEARD_S)
        assert sorted(states()) == sorted(wanted)
    for replica in replicas:
        replica.stop()
