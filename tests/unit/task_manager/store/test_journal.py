# SPDX-License-Identifier: Apache-2.0
"""The journal: who is told what, from where, how often, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from conformance.peers.postgresql import Postgresql
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.store import retention
from task_manager.store.database import Database
from task_manager.store.journal import going_down
from tests.service import Clock
from tests.watching import Office, brief, emptied, must

UID, OTHER = "2.25.100", "2.25.200"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder: Path = tmp_path_factory.mktemp("journal")
    database = Database(f"sqlite:///{folder / 'airway.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="module")
def on_postgresql(postgresql: Postgresql) -> Iterator[Database]:
    database = Database(postgresql.sqlalchemy_url(postgresql.create_database()))
    database.migrate()
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("on_postgresql", marks=pytest.mark.peers)])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return emptied(found)


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


def watched(office: Office, *, reports: int = 3) -> None:
    """A workitem that WATCHER is subscribed to, with an initial report and some of progress."""
    office.create(UID)
    must(office.subscribe(UID))
    office.claim(UID)
    for percent in range(reports - 2):
        office.progress(UID, percent + 1)


def test_reading_on_names_those_who_are_told(office: Office) -> None:
    office.create(UID)
    must(office.subscribe(UID, "A"))
    must(office.subscribe(UID, "B"))
    office.create(OTHER)
    office.claim(UID)

    notices, position = office.journal.after(0)

    assert [(notice.event_type, sorted(notice.receiving_aes)) for notice in notices] == [
        (1, ["A"]),
        (1, ["B"]),
        (1, ["A", "B"]),
    ]
    assert position == office.journal.latest()
    assert office.journal.after(position) == ((), position)


def test_reading_on_goes_past_what_concerns_nobody(office: Office) -> None:
    for number in range(5):
        office.create(f"2.25.{number + 10}")

    notices, position = office.journal.after(0, limit=3)

    assert (notices, position) == ([], office.journal.latest() - 2)


def test_pages_of_what_is_owed_come_without_gap_or_repetition(office: Office) -> None:
    watched(office, reports=12)
    whole = office.journal.pending("WATCHER", 0)

    pages, position = [], 0
    while page := office.journal.pending("WATCHER", position, limit=5):
        pages += page
        position = page[-1].number

    assert pages == whole
    assert len(whole) == 12


def test_beyond_the_bound_event_4_stands_for_what_is_left_out(database: Database) -> None:
    office = Office(database, most_pending=4)
    watched(office, reports=10)
    last = [(UID, 3, "")] * 4

    assert office.told() == [("all", 4, "RESTARTED, WARM START"), *last]
    number = office.journal.pending("WATCHER", 0)[0].number
    assert office.told(position=number) == last


def test_what_was_purged_is_told_by_event_4(office: Office) -> None:
    watched(office, reports=6)
    with office.database.write() as connection:
        assert retention.purge_reports(connection, NOW + timedelta(days=1), limit=4) == 4

    told = office.told()

    assert told[0] == ("all", 4, "RESTARTED, WARM START")
    assert told[1:] == office.told(position=4)
    assert {uid for uid, _, _ in told[1:]} == {UID}


def test_a_new_listener_begins_with_the_next_report(office: Office) -> None:
    watched(office)

    listener = office.journal.listener("LATE", Channel.WEBSOCKET)

    assert listener.position == office.journal.latest()
    assert office.journal.listener("LATE", Channel.WEBSOCKET) == listener
    assert office.journal.listener("LATE", Channel.DIMSE).channel is Channel.DIMSE


def test_a_subscriber_is_owed_the_initial_report_however_late_it_listens(office: Office) -> None:
    watched(office)

    position = office.journal.listener("WATCHER", Channel.WEBSOCKET).position

    assert office.told(position=position)[0] == (UID, 1, "SCHEDULED")


def test_positions_never_go_back(office: Office) -> None:
    watched(office, reports=6)
    office.journal.delivered(Channel.WEBSOCKET, {"WATCHER": 5, "NOBODY": 5})
    office.journal.delivered(Channel.WEBSOCKET, {"WATCHER": 3})

    assert office.journal.listener("WATCHER", Channel.WEBSOCKET).position == 5


def test_a_position_beyond_the_journal_is_that_of_its_end(office: Office) -> None:
    watched(office)
    office.journal.delivered(Channel.WEBSOCKET, {"WATCHER": 5000})

    assert office.journal.listener("WATCHER", Channel.WEBSOCKET).position == office.journal.latest()


def test_failures_are_counted_until_something_is_delivered(office: Office) -> None:
    office.create(UID)
    must(office.subscribe(UID, "PEER1", channel=Channel.DIMSE))
    due = NOW + timedelta(seconds=5)
    for expected in (1, 2):
        [listener] = office.journal.listeners(Channel.DIMSE)
        office.journal.postpone(listener, error="refused " * 100, due_at=due)
        [listener] = office.journal.listeners(Channel.DIMSE)
        assert (listener.attempts, listener.due_at) == (expected, due)

    office.journal.delivered(Channel.DIMSE, {"PEER1": office.journal.latest()})

    [listener] = office.journal.listeners(Channel.DIMSE)
    assert (listener.attempts, listener.due_at) == (0, None)


def test_one_process_at_a_time_sends_to_a_listener(database: Database) -> None:
    clock = Clock(NOW)
    office = Office(database, clock=clock)
    listener = office.journal.listener("PEER1", Channel.DIMSE)
    until = NOW + timedelta(seconds=30)

    assert office.journal.claim(listener, owner="one", until=until)
    assert office.journal.claim(listener, owner="one", until=until)
    assert not office.journal.claim(listener, owner="two", until=until)
    clock.pass_(31)
    assert office.journal.claim(listener, owner="two", until=until + timedelta(seconds=60))
    assert not office.journal.claim(listener, owner="one", until=until + timedelta(seconds=60))


# Event 4


def test_a_restart_is_told_to_all_subscribers_and_the_fallback_list(database: Database) -> None:
    office = Office(database, fallback=("PEER1",))
    office.create(UID)
    must(office.subscribe(UID, "A"))
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, "B"))
    position = office.journal.latest()

    office.journal.record_restart()

    [notice], _ = office.journal.after(position)
    assert notice.receiving_aes == {"A", "B", "PEER1"} == office.journal.status_audience()
    assert brief([notice]) == [("all", 4, "RESTARTED, WARM START")]
    assert [one.receiving_ae for one in office.journal.listeners(Channel.DIMSE)] == ["PEER1"]
    for receiving_ae in ("A", "B", "PEER1"):
        assert office.told(receiving_ae, position) == [("all", 4, "RESTARTED, WARM START")]
    assert office.told("C", position) == []


def test_a_database_that_is_new_makes_a_cold_start(database: Database) -> None:
    office = Office(database, fallback=("PEER1",))

    office.journal.record_restart()
    office.journal.record_restart()

    [cold, warm], _ = office.journal.after(0)
    assert brief([cold, warm]) == [("all", 4, "RESTARTED, COLD START"), ("all", 4, "RESTARTED, WARM START")]
    assert orjson.loads(cold.content)["00741246"]["Value"] == ["COLD START"]


def test_nothing_is_written_when_nobody_is_to_be_told(office: Office) -> None:
    office.journal.record_restart()

    assert office.journal.latest() == 0


def test_of_several_restarts_only_the_last_is_told(office: Office) -> None:
    watched(office)
    for _ in range(3):
        office.journal.record_restart()
    office.progress(UID, 99)

    assert [event_type for _, event_type, _ in office.told()] == [1, 1, 3, 4, 3]


def test_going_down_is_told_live_and_not_kept(office: Office) -> None:
    watched(office)
    position = office.journal.latest()

    notice = going_down(office.journal.status_audience())

    assert brief([notice]) == [("all", 4, "GOING DOWN, WARM START")]
    assert notice.receiving_aes == {"WATCHER"}
    assert office.journal.latest() == position
