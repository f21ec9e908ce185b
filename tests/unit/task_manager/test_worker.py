# SPDX-License-Identifier: Apache-2.0
"""The loop behind the doors: a store that fails for a moment, an end that is asked for while peers hang."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conformance.peers.process import wait_until
from profiles.sole.events import EventType, OperationalEvent
from task_manager.ports import EventSink
from task_manager.store import jobs
from task_manager.worker import Worker
from tests.service import START, TestBed, make_service

SINKS = ("log", "copy")


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    with made.database.write() as connection:
        event = OperationalEvent(
            key="study-complete:1.2.3:1", type=EventType.STUDY_COMPLETE, occurred_at=START
        )
        jobs.record_event(connection, event, SINKS, START)
    yield made
    made.database.close()


def worker(bed: TestBed, sink: EventSink) -> Worker:
    return Worker(bed.service, {}, dict.fromkeys(SINKS, sink), name="here", clock=bed.clock)


def rename_jobs(folder: Path, old: str, new: str) -> None:
    connection = sqlite3.connect(folder / "airway.db")
    connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.close()


class BreakingSink:
    """Takes every event; while it takes the first, the store breaks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent = 0

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        if self.sent == 0:
            rename_jobs(self.folder, "job", "job_away")
        self.sent += len(events)
        return len(events)


class HangingSink:
    """Hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        self.entered.release()
        self.let_go.wait(20)
        return len(events)


def test_a_job_whose_end_could_not_be_recorded_is_done_again_at_once(
    tmp_path: Path, bed: TestBed, caplog: pytest.LogCaptureFixture
) -> None:
    sink = BreakingSink(tmp_path)
    running = Worker(bed.service, {}, {"log": sink}, name="here", clock=bed.clock)
    running.start()
    try:
        wait_until(lambda: sink.sent == 1, "the event is sent")
        wait_until(lambda: "store failed" in caplog.text, "recording its end fails")
        rename_jobs(tmp_path, "job_away", "job")
        wait_until(lambda: sink.sent == 2, "the event is sent again, long before its claim runs out")
        wait_until(lambda: bed.service.next_due("events/log") is None, "the job is done")
    finally:
        running.stop()
    assert sink.sent == 2


def test_lanes_that_hang_share_the_time_to_stop(bed: TestBed) -> None:
    sink = HangingSink()
    running = worker(bed, sink)
    running.start()
    try:
        for _ in SINKS:
            assert sink.entered.acquire(timeout=10)
        began = time.monotonic()
        running.stop(timeout_s=2.0)
        assert time.monotonic() - began < 3.8  # one after the other would take 4
    finally:
        sink.let_go.set()
        running.stop()
