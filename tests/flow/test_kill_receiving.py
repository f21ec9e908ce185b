# SPDX-License-Identifier: Apache-2.0
"""SIGKILL thirty times while eight senders store images: what was answered Success is there, bit for bit.

Five send by C-STORE, three by STOW-RS; each sends again what it has no answer for, as real ones do.
"""

from __future__ import annotations

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from conformance.peers.process import wait_until
from tests import dicom_wire
from tests.flow.forking import ForkedAirway, forker
from tests.flow.remains import Remains
from tests.flow.studies import encoded_data_set
from tests.instances import ct_data_set, data_set_bytes, part10

pytestmark = pytest.mark.timeout(300)

KILLS = 30
BY_C_STORE, BY_STOW = 5, 3
INSTANCES = 12
PIXELS = 8192
EXPLICIT = "1.2.840.10008.1.2.1"
ROOT = "1.2.826.0.1.3680043.8.498.88"
FINISH_S = 60.0


@pytest.fixture
def airway(tmp_path: Path) -> Iterator[ForkedAirway]:
    with forker() as forking:
        running = ForkedAirway(forking, tmp_path / "killed", {"study": {"quiet_period_s": 0.5}})
        running.start()
        yield running
        running.stop()


def content(sender: int, study: int, number: int) -> bytes:
    """The Part 10 file of an instance, made of its numbers."""
    name = f"{ROOT}.{sender}.{study}"
    image = ct_data_set(number + 1, study=name, pixels=PIXELS, PatientID=f"P{sender}-{study}")
    image.PixelData = random.Random(f"{name}.{number}").randbytes(PIXELS)
    return part10(image)


class Sender(threading.Thread):
    """Sends study after study; what it is answered Success for it will never send again."""

    def __init__(self, airway: ForkedAirway, number: int) -> None:
        super().__init__(name=f"sender-{number}", daemon=True)
        self.number = number
        self.acknowledged: list[tuple[int, int]] = []
        self.studies = 0
        self.refused: list[str] = []
        self._ports = airway.ports
        self._ending = threading.Event()

    def end(self) -> None:
        """Finish the study that is being sent, and no more."""
        self._ending.set()

    def run(self) -> None:
        """Until told to end."""
        while not self._ending.is_set():
            left = list(range(INSTANCES))
            while left:
                try:
                    self._send(self.studies, left)
                except (OSError, httpx.TransportError, ConnectionError):
                    time.sleep(0.05)
            self.studies += 1

    def _send(self, study: int, left: list[int]) -> None:
        """Send what is left; each that is answered Success is taken off."""
        raise NotImplementedError

    def _took(self, study: int, number: int, left: list[int]) -> None:
        self.acknowledged.append((study, number))
        left.remove(number)


class StoringSender(Sender):
    """By C-STORE, several on one association."""

    def _send(self, study: int, left: list[int]) -> None:
        with socket.create_connection(("127.0.0.1", self._ports["dicom"]), timeout=30) as connection:
            connection.sendall(
                dicom_wire.associate([(1, dicom_wire.CT, EXPLICIT)], calling=f"S{self.number}")
            )
            if dicom_wire.read_pdu(connection)[0] != 2:
                raise ConnectionError
            for number in list(left):
                file = content(self.number, study, number)
                command = dicom_wire.store_command(f"{ROOT}.{self.number}.{study}.1.{number + 1}")
                connection.sendall(dicom_wire.message(1, command, data_set_bytes(file)))
                kind, body = dicom_wire.read_pdu(connection)
                if kind != 4:
                    raise ConnectionError
                status = dicom_wire.status_of(dicom_wire.elements(body[6:]))
                if status != 0:
                    self.refused.append(f"{status:04X}")
                    raise ConnectionError
                self._took(study, number, left)


class StowingSender(Sender):
    """By STOW-RS, three in one request."""

    def _send(self, study: int, left: list[int]) -> None:
        numbers = left[:3]
        parts = b"".join(
            b"--B\r\nContent-Type: application/dicom\r\n\r\n" + content(self.number, study, number) + b"\r\n"
            for number in numbers
        )
        answer = httpx.post(
            f"http://127.0.0.1:{self._ports['http']}/dicom-web/studies",
            content=parts + b"--B--\r\n",
            headers={"content-type": 'multipart/related; type="application/dicom"; boundary=B'},
            timeout=30,
        )
        if answer.status_code != 200:
            self.refused.append(answer.text[:300])
            raise ConnectionError
        for number in numbers:
            self._took(study, number, left)


def test_killed_thirty_times_no_instance_answered_success_is_lost(airway: ForkedAirway) -> None:
    chance = random.Random(4)
    senders: list[Sender] = [StoringSender(airway, number) for number in range(BY_C_STORE)]
    senders += [StowingSender(airway, BY_C_STORE + number) for number in range(BY_STOW)]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        await_load(senders, chance.randrange(5, 60))
        time.sleep(chance.random() * 0.02)  # at any point of a step, not at its end
        airway.kill()
        airway.start()
    for sender in senders:
        sender.end()
    for sender in senders:
        sender.join(FINISH_S)
        assert not sender.is_alive()
    assert [sender.refused for sender in senders] == [[]] * len(senders)
    check_kept(airway.data, senders)
    wait_until(lambda: not unfinished(airway.data), "every study complete", FINISH_S)
    check_studies(airway.data, senders)


def await_load(senders: list[Sender], count: int) -> None:
    """Return once so many more instances were answered Success."""
    reached = taken(senders) + count
    wait_until(lambda: taken(senders) >= reached, "load", 60)


def taken(senders: list[Sender]) -> int:
    """How many instances were answered Success."""
    return sum(len(sender.acknowledged) for sender in senders)


def check_kept(data: Path, senders: list[Sender]) -> None:
    """Everything acknowledged is recorded once and its bytes are there; nothing lies about."""
    remains = Remains(data)
    for sender in senders:
        assert len(sender.acknowledged) == sender.studies * INSTANCES
        for study, number in sender.acknowledged:
            kept = remains.object_of(f"{ROOT}.{sender.number}.{study}.1.{number + 1}")
            assert encoded_data_set(kept) == data_set_bytes(content(sender.number, study, number))
    assert remains.incoming() == []
    assert remains.objects_without_record() == []
    assert len(remains.objects()) == taken(senders)


def unfinished(data: Path) -> int:
    """Studies that are not complete."""
    with closing(sqlite3.connect(data / "airway.db", timeout=30)) as database:
        [[count]] = database.execute("SELECT count(*) FROM study WHERE state <> 'COMPLETE'").fetchall()
    return int(count)


def check_studies(data: Path, senders: list[Sender]) -> None:
    """Every study is complete with all its instances, and the database is whole."""
    with closing(sqlite3.connect(data / "airway.db", timeout=30)) as database:
        found = dict(
            database.execute(
                "SELECT study_instance_uid, count(*) FROM instance JOIN study USING (study_instance_uid)"
                " WHERE copy_number = 0 GROUP BY study_instance_uid"
            ).fetchall()
        )
        [[whole]] = database.execute("PRAGMA integrity_check").fetchall()
    sent = {f"{ROOT}.{sender.number}.{study}" for sender in senders for study in range(sender.studies)}
    assert found == dict.fromkeys(sent, INSTANCES)
    assert whole == "ok"
