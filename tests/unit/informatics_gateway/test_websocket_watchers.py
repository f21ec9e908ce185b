# SPDX-License-Identifier: Apache-2.0
"""Queues and positions of connections, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from informatics_gateway.websocket_watchers import Connection, WebSocketChannel
from task_manager.errors import StoreError
from task_manager.notices import Channel, Notice
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal, going_down
from tests.watching import Office, must

UID = "2.25.100"


def notice(number: int, *receiving_aes: str) -> Notice:
    return Notice(
        number=number,
        workitem_uid=UID,
        event_type=3,
        content="{}",
        receiving_aes=frozenset(receiving_aes or ("WATCHER",)),
    )


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    found = asyncio.new_event_loop()
    yield found
    found.close()


@pytest.fixture
def connection(loop: asyncio.AbstractEventLoop) -> Connection:
    found = Connection("WATCHER", loop, most_queued=3)
    found.position = 0
    return found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    office = Office(database)
    office.create(UID)
    must(office.subscribe(UID))
    yield office
    database.close()


def sent(connection: Connection) -> list[int]:
    """Send all that is queued."""
    found = []
    while (one := connection.next_notice()) is not None:
        connection.was_sent(one)
        found.append(one.number)
    return found


def opened(
    channel: WebSocketChannel, loop: asyncio.AbstractEventLoop, receiving_ae: str = "WATCHER"
) -> Connection:
    channel.start(0)

    async def open_in_loop() -> Connection | None:
        return channel.open(receiving_ae)

    found = loop.run_until_complete(open_in_loop())
    assert found is not None
    return found


def stored(office: Office) -> int:
    return office.journal.listener("WATCHER", Channel.WEBSOCKET).position


# A connection


def test_only_what_names_the_ae_is_queued(connection: Connection) -> None:
    connection.take([notice(1), notice(2, "OTHER"), notice(3, "OTHER", "WATCHER")], 5)

    assert connection.ready.is_set()
    assert sent(connection) == [1, 3]
    assert (connection.sent, connection.position) == (3, 5)


def test_what_was_sent_before_is_not_sent_again(connection: Connection) -> None:
    connection.position = 2
    connection.take([notice(1), notice(2), notice(3)], 3)

    assert sent(connection) == [3]


def test_a_live_queue_that_overflows_gives_the_connection_up(connection: Connection) -> None:
    connection.live = True
    connection.take([notice(number) for number in range(1, 6)], 5)

    assert connection.given_up.is_set()
    assert connection.position == 0


def test_before_it_is_live_what_overflows_is_looked_up(connection: Connection) -> None:
    assert not connection.look_up_again()
    connection.take([notice(number) for number in range(1, 6)], 5)

    assert not connection.given_up.is_set()
    assert connection.look_up_again()
    assert not connection.look_up_again()
    assert sent(connection) == [4, 5]


# The channel


def test_positions_are_stored_once_something_was_sent(
    office: Office, loop: asyncio.AbstractEventLoop
) -> None:
    channel = WebSocketChannel(office.journal)
    connection = opened(channel, loop)
    channel.tick()
    assert stored(office) == 1

    connection.position = 1
    connection.take([notice(2)], 2)
    sent(connection)
    channel.tick()

    assert stored(office) == 2


def test_of_several_connections_the_one_behind_counts(
    office: Office, loop: asyncio.AbstractEventLoop
) -> None:
    office.claim(UID)
    channel = WebSocketChannel(office.journal)
    quick, slow = opened(channel, loop), opened(channel, loop)
    quick.position = slow.position = 1
    for connection in (quick, slow):
        connection.take([notice(2), notice(3)], 3)
    sent(quick)
    first = slow.next_notice()
    assert first is not None
    slow.was_sent(first)

    channel.tick()

    assert stored(office) == 2
    channel.leave(slow)
    channel.leave(quick)
    channel.tick()
    assert stored(office) == 3


def test_who_is_back_before_its_position_is_stored_goes_on_from_there(
    office: Office, loop: asyncio.AbstractEventLoop
) -> None:
    office.claim(UID)
    channel = WebSocketChannel(office.journal)
    connection = opened(channel, loop)
    connection.position = 1
    connection.take([notice(2), notice(3)], 3)
    sent(connection)
    channel.leave(connection)

    assert stored(office) == 1
    assert channel.position_of("WATCHER") == 3
    channel.tick()
    assert stored(office) == channel.position_of("WATCHER") == 3


def test_a_connection_that_never_began_stores_nothing(
    office: Office, loop: asyncio.AbstractEventLoop
) -> None:
    channel = WebSocketChannel(office.journal)
    channel.leave(opened(channel, loop))
    channel.tick()

    assert stored(office) == 1


def test_a_position_that_cannot_be_stored_is_stored_later(
    office: Office, loop: asyncio.AbstractEventLoop
) -> None:
    class Failing(StoredJournal):
        away = True

        def delivered(self, channel: Channel, positions: Mapping[str, int]) -> None:
            if self.away:
                raise StoreError("away")
            super().delivered(channel, positions)

    journal = Failing(office.database, most_pending=10, clock=office.clock)
    channel = WebSocketChannel(journal)
    connection = opened(channel, loop)
    connection.position = 1
    connection.take([notice(2)], 2)
    sent(connection)
    channel.leave(connection)
    with pytest.raises(StoreError):
        channel.tick()
    journal.away = False
    channel.tick()

    assert stored(office) == 2


def test_a_loop_that_has_closed_is_passed_over(office: Office) -> None:
    channel = WebSocketChannel(office.journal)
    gone = asyncio.new_event_loop()
    connection = opened(channel, gone)
    gone.close()

    channel.tell([notice(2)], 2)

    assert not connection.queue
    channel.leave(connection)


def test_there_is_a_bound_and_an_end(office: Office, loop: asyncio.AbstractEventLoop) -> None:
    channel = WebSocketChannel(office.journal, most_connections=1)

    async def outcomes() -> Sequence[bool]:
        early = channel.open("WATCHER")
        channel.start(0)
        first = channel.open("WATCHER")
        second = channel.open("WATCHER")
        assert first is not None
        channel.leave(first)
        channel.stop(going_down(frozenset()))
        return [early is None, second is None, channel.open("WATCHER") is None]

    assert loop.run_until_complete(outcomes()) == [True, True, True]
