# SPDX-License-Identifier: Apache-2.0
"""Lanes of destinations: one that is dead, silent or slow delays no other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pynetdicom import AE, StoragePresentationContexts, evt

from conformance.peers.process import wait_until
from informatics_gateway.dicomweb.client import DicomWebDeliverer
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.store_scu import DicomDeliverer
from task_manager.delivery.breaker import BreakerPolicy, Circuit
from task_manager.delivery.policy import DeliveryPolicy
from task_manager.outbox import JobKind, JobState, RetryPolicy, delivery_lane
from task_manager.ports import Deliverer, Receipt, Shipment, Turn, at_once
from task_manager.store import jobs
from task_manager.store.deliveries import list_jobs
from task_manager.worker import Worker
from tests.service import Clock, TestBed, make_service
from tests.unit.task_manager.steps import run_to_completed, workitem

HOST = "127.0.0.1"
PROMPT_S = 10.0


class RunningClock(Clock):
    """A clock that goes on by itself, too."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self.began)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    policies = [
        DeliveryPolicy(name="pacs", parallel=3),
        DeliveryPolicy(
            name="emr",
            retry=RetryPolicy(first=timedelta(milliseconds=10), most=timedelta(milliseconds=10)),
            breaker=BreakerPolicy(failures=2),
        ),
    ]
    made = make_service(tmp_path, deliveries=policies, clock=RunningClock())
    run_to_completed(made)
    with made.database.write() as connection:
        for name in ("silent-dicom", "silent-web"):
            jobs.plan_job(
                connection,
                key=name,
                lane=delivery_lane(name),
                kind=JobKind.DELIVER,
                now=made.clock(),
                workitem_uid=workitem(made).uid,
            )
    yield made
    made.database.close()


@contextmanager
def silence() -> Iterator[int]:
    """A port that accepts every connection and never answers."""
    with socket.create_server((HOST, 0), backlog=16) as listening:
        taken: list[socket.socket] = []
        done = threading.Event()
        listening.settimeout(0.1)

        def take() -> None:
            while not done.is_set():
                try:
                    taken.append(listening.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            done.set()
            thread.join()
            for connection in taken:
                connection.close()


@contextmanager
def pacs() -> Iterator[int]:
    entity = AE(ae_title="PACS")
    for context in StoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax)
    listener = entity.start_server(
        (HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)]
    )
    assert listener is not None
    try:
        yield int(listener.server_address[1])
    finally:
        entity.shutdown()


@contextmanager
def working(bed: TestBed, deliverers: Mapping[str, Deliverer], stop_s: float = 20.0) -> Iterator[Worker]:
    worker = Worker(bed.service, deliverers, {}, name="here", clock=bed.clock)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout_s=stop_s)


def states(bed: TestBed) -> dict[str, list[str]]:
    """The states of all jobs by destination."""
    found: dict[str, list[str]] = {}
    with bed.database.read() as connection:
        lanes = [lane for lane, _ in jobs.count_jobs(connection)]
        for job in list_jobs(connection, lanes, list(JobState), limit=1000):
            found.setdefault(job.lane.removeprefix("deliver/"), []).append(job.state.value)
    return found


# pynetdicom leaves the socket of an association that was never answered to the collector
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
def test_destinations_that_accept_and_never_answer_delay_no_other(bed: TestBed) -> None:
    with silence() as silent, pacs() as port:
        url = f"http://{HOST}:{silent}/dicom-web"
        silent_ones: dict[str, Deliverer] = {
            "silent-dicom": DicomDeliverer(
                DicomAddress(host=HOST, port=silent, called_ae_title="SILENT"), timeout_s=5
            ),
            "silent-web": DicomWebDeliverer(url, timeout_s=5),
        }
        prompt = DicomDeliverer(DicomAddress(host=HOST, port=port, called_ae_title="PACS"), timeout_s=10)
        with working(bed, {**silent_ones, "pacs": prompt}):
            began = time.monotonic()
            wait_until(
                lambda: states(bed)["pacs"] == ["DONE"], what="the prompt delivery", timeout_s=PROMPT_S
            )
            took_s = time.monotonic() - began
            waiting = {name: states(bed)[name] for name in silent_ones}
    assert waiting == {name: ["RUNNING"] for name in silent_ones}, "the silent ones were still being asked"
    assert took_s < 5


class Slow:
    """Takes each delivery when it is let go; knows how many were there at once."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.let_go.wait(20)
        with self.lock:
            self.inside -= 1
        return Receipt(summary="taken", sent_at=datetime(2026, 3, 1, tzinfo=UTC))


def test_a_destination_has_as_many_threads_as_it_is_given(bed: TestBed) -> None:
    """Jobs without a study count as of different ones; those of one study go alone."""
    slow = Slow()
    with bed.database.write() as connection:
        for number in range(3):
            jobs.plan_job(
                connection,
                key=f"same {number}",
                lane="deliver/pacs",
                kind=JobKind.DELIVER,
                now=bed.clock(),
                workitem_uid=workitem(bed).uid,
            )
    with working(bed, {"pacs": slow}):
        wait_until(lambda: slow.inside == 1, what="the first delivery", timeout_s=PROMPT_S)
        slow.let_go.set()
        wait_until(lambda: set(states(bed)["pacs"]) == {"DONE"}, what="all deliveries", timeout_s=PROMPT_S)
    assert slow.most == 1


class Counting:
    """Takes a turn for each of ten messages."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        for _ in range(10):
            turn()
            self.at.append(time.monotonic())
        return Receipt(summary="taken", sent_at=datetime(2026, 3, 1, tzinfo=UTC))


def limited(folder: Path, interval_s: float) -> TestBed:
    made = make_service(folder, deliveries=[DeliveryPolicy(name="pacs", interval_s=interval_s)])
    run_to_completed(made)
    return made


def test_a_rate_is_kept(tmp_path: Path) -> None:
    bed, counting = limited(tmp_path, 0.05), Counting()
    with working(bed, {"pacs": counting}):
        wait_until(lambda: states(bed)["pacs"] == ["DONE"], what="the delivery", timeout_s=PROMPT_S)
    bed.database.close()
    assert counting.at[-1] - counting.at[0] >= 9 * 0.05 - 0.01


def test_a_worker_that_stops_waits_for_no_turn(tmp_path: Path) -> None:
    bed, counting = limited(tmp_path, 3600.0), Counting()
    with working(bed, {"pacs": counting}):
        wait_until(lambda: len(counting.at) == 1, what="the first turn", timeout_s=PROMPT_S)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    job = bed.service.deliveries.claim("pacs", worker="after", lease=timedelta(minutes=1))
    bed.database.close()
    assert job is not None
    assert job.attempts == 0


@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
def test_a_dead_destination_is_left_alone_after_some_tries(bed: TestBed) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]  # nobody listens there afterwards
    dead = DicomWebDeliverer(f"http://{HOST}:{port}/dicom-web", timeout_s=2)
    with working(bed, {"emr": dead}):
        wait_until(
            lambda: bed.service.deliveries.health()["emr"][0].openings == 1,
            what="the breaker to open",
            timeout_s=PROMPT_S,
        )
    health, _ = bed.service.deliveries.health()["emr"]
    assert health.failures == 2
    assert health.circuit(bed.clock()) is Circuit.OPEN
    assert "no answer (ConnectError)" in health.reason
