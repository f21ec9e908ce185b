# SPDX-License-Identifier: Apache-2.0
"""Receiving by several processes behind one port: any order, limits, crashes, and the end of all."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conformance.peers.process import wait_until
from informatics_gateway.completeness_settings import completeness_policies
from informatics_gateway.configuration import database_url
from informatics_gateway.dimse.receivers import Receivers
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.receiving_process import start_receiver
from informatics_gateway.settings import Settings
from task_manager.instance_intake import StoringIntake
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.store.studies import find_instances, is_recorded
from tests.dicom_wire import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    associate,
    echo_command,
    item,
    message,
    pdu,
    read_answer,
    read_pdu,
    status_of,
    store_command,
)
from tests.instances import STUDY, ct, data_set_bytes

HOST = "127.0.0.1"
ECHO_CONTEXT, CT_CONTEXT = 1, 3
CONTEXTS = ((ECHO_CONTEXT, VERIFICATION, IMPLICIT), (CT_CONTEXT, CT, EXPLICIT))
SETTINGS = Settings()


class Gateway:
    """A port, two processes that receive for it, and the store of all three."""

    def __init__(self, data: Path) -> None:
        self.database = Database(database_url(SETTINGS, data))
        self.database.migrate()
        self.objects = FileObjectStore(data / "store")
        self.woken = threading.Event()
        study = SETTINGS.study
        intake = StoringIntake(
            self.database,
            self.objects,
            policies=completeness_policies(study.quiet_period_s, study.completeness, study.sources),
            clock=lambda: datetime.now(UTC),
            wake=self.woken.set,
        )
        self.receivers = Receivers(
            2,
            start_receiver(SETTINGS, data),
            wake=self.woken.set,
            died=lambda: self.objects.sweep_incoming(self.is_recorded),
        )
        self.server = DimseServer(intake, max_associations=4, receivers=self.receivers)

    def has_all(self) -> None:
        wait_until(lambda: len(self.receivers.pids) == 2, "both processes receive", timeout_s=90)

    def is_recorded(self, path: str) -> bool:
        with self.database.read() as connection:
            return is_recorded(connection, path)

    def numbers(self) -> list[int]:
        with self.database.read() as connection:
            return sorted(one.instance_number or 0 for one in find_instances(connection))

    def staging(self) -> set[str]:
        """Who is writing objects now."""
        return {path.name.partition("-")[0] for path in self.staged()}

    def staged(self) -> list[Path]:
        return list((self.objects.root / "incoming").iterdir())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("receivers"))
    gateway.server.start()
    try:
        yield gateway
    finally:
        gateway.server.stop(grace_s=0.2)
        gateway.objects.close()
        gateway.database.close()


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    started.has_all()
    return started


@contextmanager
def raw(gateway: Gateway) -> Iterator[socket.socket]:
    connection = associated(gateway)
    with connection:
        yield connection


def associated(gateway: Gateway) -> socket.socket:
    """A connection with an association; those of tests before still count until their threads end."""
    found: list[socket.socket] = []

    def is_accepted() -> bool:
        connection = socket.create_connection((HOST, gateway.server.port), timeout=20)
        connection.sendall(associate(CONTEXTS))
        kind, _ = read_pdu(connection)
        (found.append if kind == 2 else socket.socket.close)(connection)
        return kind == 2

    wait_until(is_accepted, "an association is accepted", timeout_s=20)
    return found[0]


def store(number: int, *, piece: int = 16384) -> bytes:
    data = data_set_bytes(ct(number, pixels=65536))
    return message(CT_CONTEXT, store_command(f"{STUDY}.1.{number}", message_id=number), data, piece=piece)


def stores(connection: socket.socket, number: int) -> bool:
    connection.sendall(store(number))
    return status_of(read_answer(connection)) == 0


def echoes(connection: socket.socket) -> bool:
    connection.sendall(message(ECHO_CONTEXT, echo_command()))
    return status_of(read_answer(connection)) == 0


def releases(connection: socket.socket) -> bool:
    connection.sendall(pdu(5, bytes(4)))
    return read_pdu(connection)[0] == 6


def test_stores_and_echoes_in_any_order(gateway: Gateway) -> None:
    with raw(gateway) as connection:
        for number in range(1, 9):
            assert stores(connection, number)
            assert number % 3 or echoes(connection)
        assert echoes(connection)
        assert releases(connection)
    assert set(range(1, 9)) <= set(gateway.numbers())
    assert gateway.staged() == []


def test_what_is_asked_before_the_answer_came_is_answered_too(gateway: Gateway) -> None:
    asked = [store(number) for number in range(11, 17)]
    asked.insert(4, message(ECHO_CONTEXT, echo_command(message_id=99)))
    with raw(gateway) as connection:
        connection.sendall(b"".join(asked) + pdu(5, bytes(4)))
        answers = [read_answer(connection) for _ in asked]
        assert read_pdu(connection)[0] == 6
    told = [int.from_bytes(answer[0x0120], "little") for answer in answers]
    assert [one for one in told if one != 99] == list(range(11, 17))
    assert 99 in told
    assert {status_of(answer) for answer in answers} == {0}


def test_associations_at_a_time_all_store(gateway: Gateway) -> None:
    failed: list[int] = []

    def send(first: int) -> None:
        with raw(gateway) as connection:
            failed.extend(number for number in range(first, first + 10) if not stores(connection, number))

    threads = [threading.Thread(target=send, args=(first,)) for first in (100, 200, 300, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failed == []
    expected = {first + number for first in (100, 200, 300, 400) for number in range(10)}
    assert expected <= set(gateway.numbers())


def test_the_limit_holds_for_all_processes_together(gateway: Gateway) -> None:
    with raw(gateway) as one, raw(gateway) as two, raw(gateway) as three, raw(gateway) as four:
        for number, connection in enumerate((one, two, three, four), start=500):
            assert stores(connection, number)
            assert stores(connection, number + 10)
        with socket.create_connection((HOST, gateway.server.port), timeout=20) as more:
            more.sendall(associate(CONTEXTS))
            assert read_pdu(more)[0] == 3
        for connection in (one, two, three, four):
            assert releases(connection)


def test_an_abort_inside_an_object_leaves_nothing(gateway: Gateway) -> None:
    with raw(gateway) as connection:
        assert stores(connection, 601)
        connection.sendall(store(602)[:30_000])
        connection.sendall(b"")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not gateway.staged(), "nothing is left over", timeout_s=20)
    assert 602 not in gateway.numbers()


def test_disorder_ends_the_association(gateway: Gateway) -> None:
    begun = message(CT_CONTEXT, store_command(f"{STUDY}.1.702", message_id=2))
    with raw(gateway) as connection:
        assert stores(connection, 701)
        connection.sendall(begun + pdu(4, item(CT_CONTEXT + 2, 0, bytes(100))))
        assert read_pdu(connection)[0] == 7
    with raw(gateway) as connection:
        assert echoes(connection)


def test_a_process_that_dies_takes_its_associations_alone_and_is_replaced(gateway: Gateway) -> None:
    before = set(gateway.receivers.pids)
    begun = 30_000
    with raw(gateway) as one, raw(gateway) as two:
        for number, connection in ((801, one), (811, two)):
            assert stores(connection, number)
            connection.sendall(store(number + 1)[:begun])
        wait_until(lambda: len(gateway.staging()) == 2, "each process has one of them")
        os.kill(min(before), signal.SIGKILL)
        ready, _, _ = select.select([one, two], [], [], 20)
        assert [connection.recv(1) for connection in ready] == [b""]
        left, number = (two, 812) if ready == [one] else (one, 802)
        left.sendall(store(number)[begun:])
        assert status_of(read_answer(left)) == 0
        assert releases(left)
    gateway.has_all()
    assert min(before) not in gateway.receivers.pids
    assert gateway.staged() == [], "what it had begun is removed"
    with raw(gateway) as connection:
        assert stores(connection, 803)
        assert stores(connection, 804)
    found = set(gateway.numbers())
    assert {801, 811, number, 803, 804} <= found
    assert len(found & {802, 812}) == 1


def test_a_new_study_of_another_process_wakes_the_worker(gateway: Gateway) -> None:
    with raw(gateway) as connection:
        assert stores(connection, 901)
        gateway.woken.clear()
        study = f"{STUDY}.77"
        data = data_set_bytes(ct(902, study=study))
        connection.sendall(message(CT_CONTEXT, store_command(f"{study}.1.902", message_id=2), data))
        assert status_of(read_answer(connection)) == 0
    assert gateway.woken.wait(10)
