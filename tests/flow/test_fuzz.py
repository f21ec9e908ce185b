# SPDX-License-Identifier: Apache-2.0
"""Ten thousand variants of an object through both doors for images, and messages nobody would send.

Each is answered, in its own protocol's words; what is answered Success is there byte for byte; nothing leaves
the data folder, nothing grows without bound, and honest peers are served all the while.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from conformance.peers.dcmtk import echoscu
from conformance.peers.process import wait_until
from profiles.hl7.order_text import order_message
from tests import dicom_wire
from tests.flow.airway import SENT_AT, RunningAirway
from tests.flow.bad_input import echoes
from tests.flow.remains import Remains
from tests.flow.studies import encoded_data_set, make_study
from tests.flow.variants import DEFLATED, EXPLICIT, IMPLICIT, KINDS, Variant, make_variant

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

BY_C_STORE = range(6000)
BY_STOW = range(6000, 10_000)
PER_REQUEST = 40
MESSAGES = 1500
SYNTAXES = (EXPLICIT, IMPLICIT, DEFLATED)
ANSWERS = {0x0000, 0xA700, 0xA900, 0xC000, 0x0117}
"""Success, out of resources, does not match the class, cannot understand (PS3.4 B.2.3), invalid instance."""

START, END = b"\x0b", b"\x1c\x0d"
DRIPPING = 40
MOST_GROWTH = 300 * 1024**2


@pytest.fixture(scope="module")
def airway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirway]:
    running = RunningAirway(
        tmp_path_factory.mktemp("fuzz"),
        {
            "gateway": {
                "dicom": {"silence_s": 8},
                "hl7": {"idle_timeout_s": 5, "message_timeout_s": 5},
            },
        },
    )
    running.start()
    try:
        yield running
    finally:
        running.stop()


def _dicom(airway: RunningAirway) -> tuple[str, int]:
    door = airway.endpoints["dicom"]
    return door["host"], door["port"]


@contextmanager
def _association(airway: RunningAirway) -> Iterator[socket.socket]:
    with socket.create_connection(_dicom(airway), timeout=60) as connection:
        contexts = [(2 * at + 1, dicom_wire.CT, syntax) for at, syntax in enumerate(SYNTAXES)]
        connection.sendall(dicom_wire.associate(contexts))
        assert dicom_wire.read_pdu(connection)[0] == 2, "the association was not accepted"
        yield connection


def _store(connection: socket.socket, variant: Variant) -> int:
    context = 2 * SYNTAXES.index(variant.transfer_syntax) + 1
    command = dicom_wire.store_command(variant.sop_instance_uid)
    content = dicom_wire.message(context, command, variant.data_set)
    if not variant.data_set:
        content += dicom_wire.pdu(4, dicom_wire.item(context, dicom_wire.LAST, b""))
    connection.sendall(content)
    return dicom_wire.status_of(dicom_wire.read_answer(connection))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of some variants: statuses by number, and what is said to be stored.

    Each UID is told with the variants that it may be: a flipped bit may be one of the UID.
    """

    statuses: dict[int, int]
    stored: list[tuple[str, list[int]]]


def _store_all(airway: RunningAirway, numbers: Sequence[int]) -> Answered:
    """Send by C-STORE, all on one association: bad content is no reason to end it."""
    variants = {number: make_variant(number) for number in numbers}
    with _association(airway) as connection:
        statuses = {number: _store(connection, variant) for number, variant in variants.items()}
    taken = [(variants[number].sop_instance_uid, [number]) for number in numbers if statuses[number] == 0]
    return Answered(statuses=statuses, stored=taken)


def _stow(airway: RunningAirway, numbers: Sequence[int]) -> Answered:
    """Send in one request of STOW-RS; Failure Reasons are statuses of C-STORE (PS3.3 C.12.1.18)."""
    variants = {number: make_variant(number) for number in numbers}
    body = b"".join(
        b"--B\r\nContent-Type: application/dicom\r\n\r\n" + variant.part10() + b"\r\n"
        for variant in variants.values()
    )
    answer = httpx.post(
        f"{airway.http}/dicom-web/studies",
        content=body + b"--B--\r\n",
        headers={"content-type": 'multipart/related; type="application/dicom"; boundary=B'},
        timeout=60,
    )
    told = answer.json()
    uids = [item["00081155"]["Value"][0] for item in told.get("00081199", {}).get("Value", ())]
    reasons = [
        item["00081197"]["Value"][0]
        for sequence in ("00081198", "0008119A")
        for item in told.get(sequence, {}).get("Value", ())
    ]
    assert len(uids) + len(reasons) == len(variants)
    assert answer.status_code == (200 if not reasons else 202 if uids else 409)
    named = {variant.sop_instance_uid: number for number, variant in variants.items()}
    stored = [(uid, [named[uid]] if uid in named else list(numbers)) for uid in uids]
    statuses = dict(
        zip(numbers, [0] * len(uids) + reasons, strict=True)
    )  # which is which is told by the UIDs
    return Answered(statuses=statuses, stored=stored)


def _memory(airway: RunningAirway) -> int:
    """Resident bytes of the server."""
    text = Path(f"/proc/{airway.endpoints['pid']}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open_files(airway: RunningAirway) -> int:
    return len(list(Path(f"/proc/{airway.endpoints['pid']}/fd").iterdir()))


def _check_nothing_broke(airway: RunningAirway) -> None:
    assert airway.running
    assert echoscu(*_dicom(airway), called_ae_title="AIRWAY").succeeded
    log = airway.log_path.read_text(encoding="utf-8")
    errors = [line for line in log.splitlines() if '"level": "error"' in line]
    expected = (
        "Network timeout reached",
        "study.several_patients",
    )  # the library's words; flipped patient ids
    assert all(any(one in line for one in expected) for line in errors), errors[:3]
    assert "Traceback" not in log
    assert not any(name in log for name in ("Jörg", "J\\u00f6rg", "Müller", "Doe^Jane"))


def _check_kept(airway: RunningAirway, answered: Sequence[Answered]) -> None:
    """What was answered Success is kept as it was sent, and nothing else is."""
    remains = Remains(airway.data)
    stored = [one for answer in answered for one in answer.stored]
    for uid, numbers in stored:
        kept = encoded_data_set(remains.object_of(uid))
        assert any(kept == make_variant(number).data_set for number in numbers), uid
    assert remains.incoming() == []
    assert remains.objects_without_record() == []
    assert len(remains.objects()) == len(stored)


def test_every_variant_is_answered_and_what_is_taken_is_kept(airway: RunningAirway) -> None:
    """6,000 by C-STORE on four associations at a time, 4,000 by STOW-RS."""
    before = {path for path in airway.folder.parent.rglob("*") if airway.data not in path.parents}
    first = _store_all(airway, [20_000])  # what is made once is made
    warm, files = _memory(airway), _open_files(airway)
    with ThreadPoolExecutor(4) as pool:
        by_store = list(
            pool.map(lambda at: _store_all(airway, BY_C_STORE[at : at + 100]), range(0, 6000, 100))
        )
        requests = [BY_STOW[at : at + PER_REQUEST] for at in range(0, len(BY_STOW), PER_REQUEST)]
        by_stow = list(pool.map(lambda numbers: _stow(airway, numbers), requests))
    told = [status for answer in (*by_store, *by_stow) for status in answer.statuses.values()]
    assert len(told) == len(BY_C_STORE) + len(BY_STOW)
    assert set(told) <= ANSWERS
    statuses = {number: status for answer in by_store for number, status in answer.statuses.items()}
    taken = Counter(KINDS[number % len(KINDS)] for number, status in statuses.items() if status == 0)
    refused = Counter(KINDS[number % len(KINDS)] for number, status in statuses.items() if status)
    assert set(taken) | set(refused) == set(KINDS)
    assert taken["flipped"] > 100  # a bit of the pixels is nobody's business here
    assert refused["noise"] == len(BY_C_STORE) // len(KINDS)
    _check_nothing_broke(airway)
    _check_kept(airway, [first, *by_store, *by_stow])
    wait_until(lambda: _open_files(airway) <= files + 20, "files and sockets were closed")
    assert _memory(airway) - warm < MOST_GROWTH
    after = {path for path in airway.folder.parent.rglob("*") if airway.data not in path.parents}
    assert {path.name for path in after - before} <= {"airway.log"}
    assert not list(Path("/tmp").glob("airway-was-here*"))


def test_an_object_that_claims_two_gigabytes_and_does_not_come_is_given_up(airway: RunningAirway) -> None:
    with _association(airway) as connection:
        command = dicom_wire.store_command("1.2.3.4.5")
        connection.sendall(dicom_wire.pdu(4, dicom_wire.item(1, 3, command)))
        connection.sendall(struct.pack(">BBLLBB", 4, 0, 2**31 - 1, 2**31 - 5, 1, 2) + bytes(4096))
        connection.settimeout(30)
        while connection.recv(4096):  # A-ABORT, and then the end
            pass
    remains = Remains(airway.data)
    wait_until(lambda: remains.incoming() == [], "nothing is left of it")
    _check_nothing_broke(airway)


def test_messages_that_nobody_would_send_are_each_answered(airway: RunningAirway, tmp_path: Path) -> None:
    order = make_study(tmp_path, "F1").order
    good = order_message(order, control_id="GOOD", sent_at=SENT_AT)
    door = airway.endpoints["hl7"]
    answers: Counter[bytes] = Counter()
    with socket.create_connection((door["host"], door["port"]), timeout=30) as connection:
        for number in range(MESSAGES):
            connection.sendall(START + _mangled(good, number) + END)
            answer = b""
            while not answer.endswith(END):
                piece = connection.recv(65536)
                assert piece, f"message {number} ended the connection"
                answer += piece
            assert answer.count(START) == 1, number
            answers[answer.split(b"\rMSA|", 1)[1][:2]] += 1
        connection.sendall(START + good + END)
        assert b"MSA|AA|GOOD" in connection.recv(65536)
    assert set(answers) <= {b"AA", b"AE", b"AR"}
    assert len(answers) == 3
    _check_nothing_broke(airway)


def _mangled(message: bytes, number: int) -> bytes:
    """A variant of `message` with a control id of its own; its header can still be told."""
    chance = random.Random(number)
    head, body = message.replace(b"|GOOD|", b"|M%d|" % number, 1).split(b"\r", 1)
    changed = bytearray(body)
    match number % 5:
        case 0:
            del changed[chance.randrange(len(changed)) :]
        case 1:
            for _ in range(chance.randint(1, 10)):
                changed[chance.randrange(len(changed))] = chance.choice(b"|^~\\&\r\xff\x00\x80~^^^")
        case 2:
            at = chance.randrange(len(changed))
            changed[at:at] = chance.choice((b"~", b"^", b"&", b"\\X", b"|")) * chance.randint(1, 5000)
        case 3:
            segments = body.split(b"\r")
            chance.shuffle(segments)
            changed = bytearray(b"\r".join(segments))
        case _:
            head = head.replace(b"ORM^O01", chance.choice((b"ZZZ^Z99", b"ORM", b"ADT^A40", b"ORU^R01")))
    content = bytes(changed).replace(START, b"").replace(b"\x1c", b"")
    return head + b"\r" + content


def test_who_drips_bytes_keeps_nobody_waiting_and_is_hung_up_on(airway: RunningAirway) -> None:
    """A slow peer on every port: each ends within its limit, honest peers are answered meanwhile."""
    http = httpx.URL(airway.http)
    hl7 = airway.endpoints["hl7"]
    beginnings = {
        _dicom(airway): dicom_wire.associate([(1, dicom_wire.CT, EXPLICIT)])[:30],
        (hl7["host"], hl7["port"]): START + b"MSH|^~",
        (http.host, http.port or 0): b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Le",
    }
    with ThreadPoolExecutor(8) as pool:
        dripping = [
            socket.create_connection(address, timeout=30) for address in beginnings for _ in range(DRIPPING)
        ]
        try:
            for connection, content in zip(
                dripping, (content for content in beginnings.values() for _ in range(DRIPPING)), strict=True
            ):
                connection.sendall(content)
            honest = [pool.submit(echoes, *_dicom(airway)) for _ in range(4)]
            assert all(answer.result(20) for answer in honest)
            assert httpx.get(f"{airway.http}/health/live", timeout=20).status_code == 200
            for connection in dripping[: 2 * DRIPPING]:
                connection.settimeout(30)
                assert _ends(connection)
        finally:
            for connection in dripping:
                connection.close()
    _check_nothing_broke(airway)


def _ends(connection: socket.socket) -> bool:
    with closing(connection):
        try:
            while connection.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True
