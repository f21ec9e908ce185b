# SPDX-License-Identifier: Apache-2.0
"""The hub: reads on, tells every channel, and outlives whatever fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from informatics_gateway.watchers import WatcherHub
from task_manager.errors import StoreError
from task_manager.notices import Notice
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal, going_down
from task_manager.workitem.commands import RequestCancel
from tests.watching import ACTOR, Office, brief, must, until

UID = "2.25.100"


class Recording:
    """A channel that keeps what it is told."""

    def __init__(self) -> None:
        self.began_at = -1
        self.notices: list[Notice] = []
        self.position = 0
        self.ticks = 0
        self.farewell: Notice | None = None
        self.fault: Exception | None = None
        self.idle = False

    def start(self, position: int) -> None:
        self.began_at = position

    def is_idle(self) -> bool:
        return self.idle

    def tell(self, notices: Sequence[Notice], position: int) -> None:
        self.notices += notices
        self.position = position

    def tick(self) -> None:
        self.ticks += 1
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def stop(self, farewell: Notice) -> None:
        self.farewell = farewell


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    office = Office(database)
    office.create(UID)
    must(office.subscribe(UID))
    yield office
    database.close()


def test_every_channel_is_told_what_comes_after_the_start(office: Office) -> None:
    channels = [Recording(), Recording()]
    hub = WatcherHub(office.journal, channels, farewell=going_down)
    hub.start()
    office.wakers.append(hub.wake)
    office.claim(UID)
    until(lambda: all(channel.notices for channel in channels), "not told")
    hub.stop()

    for channel in channels:
        assert channel.began_at == 2
        assert brief(channel.notices) == [(UID, 1, "IN PROGRESS")]
        assert channel.farewell is not None
        assert channel.farewell.receiving_aes == {"WATCHER"}


def test_what_nobody_woke_it_for_is_found_all_the_same(office: Office) -> None:
    channel = Recording()
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    hub.start()
    office.claim(UID)
    until(lambda: bool(channel.notices), "not told")
    hub.stop()


def test_what_was_committed_before_the_end_is_told_before_the_farewell(office: Office) -> None:
    channel = Recording()
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    hub.start()
    office.claim(UID)
    hub.stop()

    assert brief(channel.notices) == [(UID, 1, "IN PROGRESS")]


def test_while_nobody_listens_the_journal_is_not_read(office: Office) -> None:
    class Counting(StoredJournal):
        reads = 0

        def after(self, position: int, *, limit: int = 500) -> tuple[Sequence[Notice], int]:
            self.reads += 1
            return super().after(position, limit=limit)

    journal = Counting(office.database, most_pending=10, clock=office.clock)
    channel = Recording()
    channel.idle = True
    hub = WatcherHub(journal, [channel], farewell=going_down)
    hub.start()
    office.wakers.append(hub.wake)
    office.claim(UID)
    ticks = channel.ticks
    until(lambda: channel.ticks > ticks + 1, "it does not go on")
    assert (journal.reads, channel.notices) == (0, [])

    channel.idle = False
    office.progress(UID, 10)
    until(lambda: bool(channel.notices), "not told")
    hub.stop()

    assert brief(channel.notices) == [(UID, 3, "")]


def test_much_at_once_is_told_in_parts_and_in_order(office: Office) -> None:
    office.claim(UID)
    channel = Recording()
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    hub.start()
    with office.worklist.transact() as work:
        for number in range(1200):
            details = RequestCancel(requesting_ae=f"R{number}")
            must(work.apply(UID, details, actor=ACTOR))
    until(lambda: len(channel.notices) == 1200, "not all were told")
    hub.stop()

    numbers = [notice.number for notice in channel.notices]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("fault", [StoreError("away"), ValueError("a fault")], ids=["store", "fault"])
def test_a_channel_that_fails_does_not_end_the_hub(office: Office, fault: Exception) -> None:
    channel = Recording()
    channel.fault = fault
    hub = WatcherHub(office.journal, [channel], farewell=going_down)
    hub.start()
    until(lambda: channel.ticks > 1, "it ended")
    office.claim(UID)
    until(lambda: bool(channel.notices), "not told")
    hub.stop()


def test_a_store_that_is_away_at_the_end_does_not_keep_channels_open(office: Office) -> None:
    class Away(StoredJournal):
        away = False

        def after(self, position: int, *, limit: int = 500) -> tuple[Sequence[Notice], int]:
            if self.away:
                raise StoreError("away")
            return super().after(position, limit=limit)

    journal = Away(office.database, most_pending=10, clock=office.clock)
    channel = Recording()
    hub = WatcherHub(journal, [channel], farewell=going_down)
    hub.start()
    journal.away = True
    hub.stop()

    assert channel.farewell is not None
    assert channel.farewell.receiving_aes == frozenset()
