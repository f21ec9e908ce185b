# SPDX-License-Identifier: Apache-2.0
"""The event channel over real sockets, with an independent WebSocket client (PS3.18 8.10, 11.13)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from informatics_gateway.dicomweb.event_channel import MOST_INCOMING_BYTES
from profiles.dicom_json import DicomJson, element, items, text
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.store.database import Database
from task_manager.store.listening import ReportListener
from task_manager.workitem.commands import RequestCancel
from tests.loopback.dicomweb.event_serving import Crowd, Serving, Watcher, serving
from tests.watching import ACTOR, Office, must, until

UID, OTHER = "2.25.100", "2.25.200"
_PROGRESS = "ProcedureStepProgressInformationSequence"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    yield Office(database)
    database.close()


@pytest.fixture
def served(office: Office) -> Iterator[Serving]:
    with serving(office) as found:
        yield found


def refused_with(url: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused, connect(url, **headers):  # type: ignore[arg-type]
        raise AssertionError("the channel opened")
    return refused.value.response.status_code


def left_at(office: Office, position: int, receiving_ae: str = "WATCHER") -> None:
    """Wait until it is stored how far an AE has come."""
    until(
        lambda: office.journal.listener(receiving_ae, Channel.WEBSOCKET).position >= position,
        "the position was not stored",
    )


# What is sent


def test_each_report_is_one_data_set_with_its_addressing(office: Office, served: Serving) -> None:
    office.create(UID)
    with Watcher(served.url()) as watcher:
        must(office.subscribe(UID))
        office.claim(UID)
        office.request_cancel(UID, "no longer needed")

        assert watcher.hear(3) == [(UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS"), (UID, 2, "")]

    assert watcher.messages[1] == {
        "00000002": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.1"]},
        "00000110": {"vr": "US", "Value": [2]},
        "00001000": {"vr": "UI", "Value": [UID]},
        "00001002": {"vr": "US", "Value": [1]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
    }
    assert all(list(message) == sorted(message) for message in watcher.messages)
    assert [message["00000110"]["Value"] for message in watcher.messages] == [[1], [2], [3]]
    assert watcher.messages[2]["00741236"]["Value"] == ["TESTER"]


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/subscribers/{}",
        "/dicom-web/subscribers/{}/",
        "/dicom-web/ws/subscribers/{}",
        "/dicom-web/ws/subscribers/{}/",
    ],
)
def test_every_known_address_opens_the_channel(office: Office, served: Serving, path: str) -> None:
    office.create(UID)
    must(office.subscribe(UID, "A WATCHER"))
    with Watcher(served.url("A%20WATCHER", path)) as watcher:
        assert watcher.hear(1) == [(UID, 1, "SCHEDULED")]


def test_only_who_is_subscribed_is_told(office: Office, served: Serving) -> None:
    office.create(UID)
    with Watcher(served.url("OTHER")) as other, Watcher(served.url()) as watcher:
        must(office.subscribe(UID))
        assert watcher.hear(1) == [(UID, 1, "SCHEDULED")]
        assert other.hears_nothing()


def test_a_watcher_of_everything_is_told_of_new_workitems(office: Office, served: Serving) -> None:
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID))
    with Watcher(served.url()) as watcher:
        office.create(UID)
        office.create(OTHER)
        office.request_cancel(OTHER)

        assert watcher.hear(4) == [
            (UID, 1, "SCHEDULED"),
            (OTHER, 1, "SCHEDULED"),
            (OTHER, 1, "IN PROGRESS"),
            (OTHER, 1, "CANCELED"),
        ]


def test_all_connections_of_an_ae_are_told(office: Office, served: Serving) -> None:
    office.create(UID)
    with Watcher(served.url()) as one, Watcher(served.url()) as two:
        must(office.subscribe(UID))
        office.claim(UID)
        for watcher in (one, two):
            assert watcher.hear(2) == [(UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS")]


def test_what_another_connection_of_the_ae_is_told_is_owed_to_a_new_one_too(
    office: Office, served: Serving
) -> None:
    """The other may be dead without anybody knowing; what came after the new one was let in is not lost."""
    office.create(UID)
    office.claim(UID)
    must(office.subscribe(UID))
    with Watcher(served.url()) as first:
        first.hear(1)
        for percent in range(1, 31):
            with Watcher(served.url(), close_timeout=1) as new:
                office.progress(UID, percent)
                assert new.hear(1) == [(UID, 3, "")]
                assert percent_of(new.messages[-1]) == percent
            first.hear(1)


# Being away


def test_what_was_missed_comes_first_and_once(office: Office, served: Serving) -> None:
    office.create(UID)
    must(office.subscribe(UID))
    office.claim(UID)
    with Watcher(served.url()) as watcher:
        assert watcher.hear(2) == [(UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS")]
        office.progress(UID, 10)
        assert watcher.hear(1) == [(UID, 3, "")]
    office.progress(UID, 20)
    office.complete(UID)
    with Watcher(served.url()) as watcher:
        assert watcher.hear(2) == [(UID, 3, ""), (UID, 1, "COMPLETED")]
        assert watcher.hears_nothing()


def test_reports_during_reconnections_are_neither_lost_nor_repeated(office: Office, served: Serving) -> None:
    office.create(UID)
    office.claim(UID)
    must(office.subscribe(UID))
    heard: list[int] = []
    written = 0
    for take in (1, 3, 1, 5, 2, 4):
        with Watcher(served.url(), close_timeout=1) as watcher:
            for _ in range(take):
                written += 1
                office.progress(UID, written)
            watcher.hear(take)
            watcher.connection.close()
            watcher.hear_to_the_end()
        heard += [percent_of(message) for message in watcher.messages]
    with Watcher(served.url()) as watcher:
        watcher.hear(written + 1 - len(heard))
        assert watcher.hears_nothing()
    heard += [percent_of(message) for message in watcher.messages]
    assert heard == list(range(written + 1))


def percent_of(message: DicomJson) -> int:
    """Progress of a report of progress; 0 for other reports."""
    found = [text(item, "ProcedureStepProgress") for item in items(message, _PROGRESS)]
    return int(found[0]) if found else 0


def test_a_server_that_was_down_tells_what_was_missed_and_that_it_is_back(office: Office) -> None:
    office.create(UID)
    with serving(office) as served, Watcher(served.url()) as watcher:
        must(office.subscribe(UID))
        assert watcher.hear(1) == [(UID, 1, "SCHEDULED")]
    office.claim(UID)
    office.journal.record_restart()
    office.journal.record_restart()
    with serving(office) as served, Watcher(served.url()) as watcher:
        assert watcher.hear(2) == [(UID, 1, "IN PROGRESS"), ("all", 4, "RESTARTED, WARM START")]
        office.progress(UID, 10)
        assert watcher.hear(1) == [(UID, 3, "")]


def test_a_position_is_stored_while_the_watcher_is_connected(office: Office, served: Serving) -> None:
    office.create(UID)
    with Watcher(served.url()) as watcher:
        must(office.subscribe(UID))
        watcher.hear(1)
        left_at(office, office.journal.latest())


# Going down


def test_going_down_is_told_and_the_channel_closes(office: Office) -> None:
    office.create(UID)
    must(office.subscribe(UID))
    with serving(office) as served:
        with Watcher(served.url()) as watcher, Watcher(served.url("OTHER")) as other:
            assert watcher.hear(1) == [(UID, 1, "SCHEDULED")]
            began = time.monotonic()
            served.hub.stop()
            assert watcher.hear_to_the_end() == [("all", 4, "GOING DOWN, WARM START")]
            assert other.hear_to_the_end() == []
            assert time.monotonic() - began < 5
            for connection in (watcher.connection, other.connection):
                with pytest.raises(ConnectionClosed) as closed:
                    connection.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001
        assert refused_with(served.url()) == 503
    assert office.journal.listener("WATCHER", Channel.WEBSOCKET).position == office.journal.latest()


def test_a_server_ends_though_channels_are_open(office: Office, served: Serving) -> None:
    office.create(UID)
    must(office.subscribe(UID))
    with Watcher(served.url()) as watcher:
        watcher.hear(1)
        began = time.monotonic()
        served.stop_server()
        assert time.monotonic() - began < 5


# Slow and hostile watchers


def test_a_watcher_that_does_not_read_delays_nobody_and_gets_the_rest_later(office: Office) -> None:
    office.create(UID)
    office.claim(UID)
    for name in ("SLOW", "QUICK"):
        must(office.subscribe(UID, name))
    reason = element("ReasonForCancellation", "x" * 10_000)
    with serving(office, most_queued=50) as served:
        sockets = (
            Watcher(served.url("SLOW"), max_queue=1, compression=None),
            Watcher(served.url("QUICK"), max_queue=None),
        )
        with sockets[0] as slow, sockets[1] as quick:
            quick.hear(1)
            for _ in range(25):
                with office.worklist.transact() as work:
                    for _ in range(40):
                        must(work.apply(UID, RequestCancel(details=reason, requesting_ae="R"), actor=ACTOR))
                assert len(quick.hear(40)) == 40
            before = len(slow.hear_to_the_end())
        assert before < 1001
        with Watcher(served.url("SLOW")) as again:
            assert len(again.hear(1001 - before)) == 1001 - before
            assert again.hears_nothing()


def test_what_a_watcher_sends_is_ignored_up_to_a_limit(office: Office, served: Serving) -> None:
    office.create(UID)
    with Watcher(served.url()) as watcher:
        watcher.connection.send("hello")
        watcher.connection.send(b"\x00\x01")
        watcher.connection.ping().wait(5)
        must(office.subscribe(UID))
        assert watcher.hear(1) == [(UID, 1, "SCHEDULED")]
        watcher.connection.send("x" * (MOST_INCOMING_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            watcher.connection.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("receiving_ae", ["A" * 17, "%20", "A%5CB", "%C3%84"])
def test_what_is_no_ae_title_is_refused_before_the_channel_opens(served: Serving, receiving_ae: str) -> None:
    assert refused_with(served.url(receiving_ae)) == 400


def test_pages_of_other_sites_may_not_open_it(office: Office) -> None:
    with serving(office, allowed_origins=["https://viewer.test"]) as served:
        for origin in ("https://evil.test", "null", "http://127.0.0.1:1", "http://[", ""):
            assert refused_with(served.url(), origin=origin) == 403
        for origin in (f"http://{served.host}", "https://viewer.test", "https://Viewer.test"):
            with Watcher(served.url(), origin=origin) as watcher:
                assert watcher.hears_nothing(0.01)


def test_too_many_watchers_are_asked_to_come_later(office: Office) -> None:
    with serving(office, most_connections=1) as served, Watcher(served.url()):
        assert refused_with(served.url("OTHER")) == 503


# Many


def test_two_hundred_watchers_are_told_at_once(office: Office, served: Serving) -> None:
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, "W0"))
    office.create(UID)
    office.claim(UID)
    names = [f"W{number}" for number in range(200)]
    for name in names[1:]:
        must(office.subscribe(UID, name))
    left = office.journal.latest()
    office.journal.delivered(Channel.WEBSOCKET, dict.fromkeys(names, left))
    medians = []
    with Crowd([served.url(name) for name in names]) as crowd:
        for percent in range(8):
            office.progress(UID, percent)
            committed = time.monotonic()
            medians.append(statistics.median(crowd.times()) - committed)
    assert min(medians) < 0.1, medians


# Replicas


@pytest.mark.peers
def test_what_one_replica_writes_the_watchers_of_another_are_told(postgresql_dsn: str) -> None:
    databases = [Database(postgresql_dsn) for _ in range(2)]
    databases[0].migrate()
    here, there = (Office(database) for database in databases)
    listener = ReportListener(there.database, there.wake)
    listener.start()
    try:
        assert listener.wait_listening(20)
        here.create(UID)
        with serving(here) as served_here, serving(there) as served_there:
            with Watcher(served_here.url("A")) as one, Watcher(served_there.url("B")) as two:
                must(here.subscribe(UID, "A"))
                must(here.subscribe(UID, "B"))
                here.claim(UID)
                there.progress(UID, 50)
                for watcher in (one, two):
                    assert watcher.hear(3) == [
                        (UID, 1, "SCHEDULED"),
                        (UID, 1, "IN PROGRESS"),
                        (UID, 3, ""),
                    ]
            left_at(there, here.journal.latest(), "B")
            here.progress(UID, 60)
            with Watcher(served_here.url("B")) as moved:
                assert moved.hear(1) == [(UID, 3, "")]
    finally:
        listener.stop()
        for database in databases:
            database.close()
