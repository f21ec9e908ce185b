# SPDX-License-Identifier: Apache-2.0
"""A RIS over real sockets against the whole task manager: orders, merges, reports, and hostile streams."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hl7.client import MLLPClient

from conformance.peers.certificates import CertificateAuthority
from informatics_gateway.hl7.listener import ListenerLimits
from informatics_gateway.hl7.mllp import Frame, FrameReader, framed
from informatics_gateway.hl7.sender import send_message
from informatics_gateway.hl7.server import Hl7Server
from informatics_gateway.hl7_door import mllp_tls_context
from informatics_gateway.hl7_settings import Hl7Tls
from profiles import dicom_json
from profiles.hl7.options import Reading
from task_manager.errors import RetryableDeliveryError
from task_manager.outcome import Refused
from task_manager.story import StudyStory
from tests.instances import STUDY, ct
from tests.service import PERFORMER, QUIET, TestBed, make_service
from tests.unit.profiles.hl7.messages import changed, message

LOCK = "1.2.3.999"
MSH = "MSH|^~\\&|RIS|HOSP|AIRWAY|HOSP|20260504085900||TYPE|ID|P|2.5.1||||||UNICODE UTF-8"
PID = "PID|1||P1^^^^MR||Müller^Jörg^^^^^L||19700101|M"
ORC = "ORC|NW|P100^RIS|F100^RIS||SC"
OBR = "OBR|1|P100^RIS|F100^RIS|CTCHEST^CT chest^99LOC"
IPC = f"IPC|A1^RIS|RP100^RIS|{STUDY}^^{STUDY}^ISO|SPS100^RIS|CT^^DCM"
MRG = "MRG|P1^^^^MR"
RESULT = "OBR|1||F7|24627-2^CT Chest^LN|||20250301101500||||||||||||||||||F"


def typed(kind: str, control_id: str, *segments: str) -> bytes:
    return message(changed(changed(MSH, 9, kind), 10, control_id), *segments)


def omi(control_id: str, control: str = "NW", status: str = "SC") -> bytes:
    orc = changed(changed(ORC, 1, control), 5, status)
    return typed("OMI^O23^OMI_O23", control_id, PID, orc, "TQ1|1||||||||S", OBR, IPC)


def code(answer: bytes) -> str:
    return answer.decode().strip("\x0b\x1c\r").split("\r")[1].split("|")[1]


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def port(bed: TestBed) -> Iterator[int]:
    limits = ListenerLimits(max_message_bytes=200_000, message_timeout_s=5, drain_timeout_s=2)
    server = Hl7Server(bed.service.intake, "127.0.0.1", 0, Reading(), limits=limits)
    server.start()
    yield server.port
    server.stop()


def story(bed: TestBed) -> StudyStory:
    found = bed.service.story(STUDY)
    assert found is not None
    return found


def images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    bed.clock.pass_(QUIET.total_seconds() + 1)
    bed.service.scheduler.complete_due_studies()


def test_an_order_from_its_coming_to_its_cancel(bed: TestBed, port: int) -> None:
    """An independent sender keeps one connection; each answer is there before the next message."""
    with MLLPClient("127.0.0.1", port) as ris:
        assert code(ris.send_message(omi("M1"))) == "AA"
        images(bed)
        (waiting,) = story(bed).workitems
        uid = waiting.uid
        begun = bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
        assert not isinstance(begun, Refused)
        assert code(ris.send_message(omi("M2", "SC", "IP"))) == "AA"
        assert code(ris.send_message(omi("M3", "XO"))) == "AA"
        assert code(ris.send_message(omi("M4", "CA", "CA"))) == "AA"
        assert code(ris.send_message(omi("M4", "CA", "CA"))) == "AA"
    (asked,) = story(bed).workitems
    assert asked.status.cancel_requested_at is not None
    told = [(change.control, change.effect) for change in story(bed).told.orders]
    assert told[0] == ("NW", "kept for images to come")
    assert told[-1] == ("CA", "1 workitem in progress asked to stop")
    assert len(told) == 4


def test_a_merge_and_a_report_reach_work_that_waits(bed: TestBed, port: int) -> None:
    assert code(send_message("127.0.0.1", port, omi("M1"))) == "AA"
    images(bed)
    survivor = changed(changed(PID, 3, "P9^^^HOSP^MR"), 5, "Müller^Jörg^Karl")
    merge = typed("ADT^A40^ADT_A39", "M2", "EVN||20260504", survivor, MRG)
    assert code(send_message("127.0.0.1", port, merge)) == "AA"
    report = typed("ORU^R01^ORU_R01", "M3", PID, RESULT, "OBX|1|TX|1^Text^L||Clear||||||F")
    assert code(send_message("127.0.0.1", port, report)) == "AA"
    (waiting,) = story(bed).workitems
    found = bed.service.worklist.retrieve_workitem(waiting.uid)
    assert not isinstance(found, Refused)
    assert dicom_json.text(found, "PatientID") == "P9"
    assert dicom_json.text(found, "PatientName") == "Müller^Jörg^Karl"
    assert [prior.report_number for prior in story(bed).told.priors] == ["F7"]


def test_an_update_of_a_patient(bed: TestBed, port: int) -> None:
    images(bed)
    update = typed("ADT^A08^ADT_A01", "M1", "EVN||20260504", changed(PID, 8, "F"), "PV1|1|O")
    assert code(send_message("127.0.0.1", port, update)) == "AA"
    (waiting,) = story(bed).workitems
    found = bed.service.worklist.retrieve_workitem(waiting.uid)
    assert not isinstance(found, Refused)
    assert dicom_json.text(found, "PatientSex") == "F"


@pytest.mark.parametrize(
    ("raw", "answer", "error"),
    [
        (omi("M1", "CA", "CA"), "AE", "204"),
        (typed("ADT^A23", "M1", PID), "AR", "201"),
        (typed("ADT^A40", "M1", PID), "AR", "100"),
        (typed("ORU^R01", "M1", PID), "AR", "100"),
        (typed("MDM^T02", "M1", PID), "AR", "200"),
    ],
)
def test_what_cannot_be_taken_is_told(bed: TestBed, port: int, raw: bytes, answer: str, error: str) -> None:
    said = send_message("127.0.0.1", port, raw)
    assert code(said) == answer
    assert f"|{error}^" in said.decode()


def test_only_senders_with_a_certificate_get_in(bed: TestBed, tmp_path: Path) -> None:
    authority, stranger = CertificateAuthority(tmp_path), CertificateAuthority(tmp_path, "stranger-ca")
    ours, theirs = authority.issue("localhost"), authority.issue("ris")
    tls = Hl7Tls(certificate_file=ours.certificate, key_file=ours.key, client_ca_file=authority.certificate)
    server = Hl7Server(bed.service.intake, "127.0.0.1", 0, Reading(), tls=mllp_tls_context(tls))
    server.start()
    try:
        trusted = ssl.create_default_context(cafile=str(authority.certificate))
        with pytest.raises(RetryableDeliveryError):
            send_message("localhost", server.port, omi("M1"), timeout_s=5, tls=trusted)
        foreign = stranger.issue("foreign")
        trusted.load_cert_chain(foreign.certificate, foreign.key)
        with pytest.raises(RetryableDeliveryError):
            send_message("localhost", server.port, omi("M1"), timeout_s=5, tls=trusted)
        known = ssl.create_default_context(cafile=str(authority.certificate))
        known.load_cert_chain(theirs.certificate, theirs.key)
        assert code(send_message("localhost", server.port, omi("M1"), tls=known)) == "AA"
    finally:
        server.stop()


SAMPLES = (
    omi("M1"),
    typed("ORM^O01", "M1", PID, ORC, OBR, f"ZDS|{STUDY}"),
    typed("OMG^O19", "M1", PID, ORC, OBR, "ZXX|y"),
    typed("ADT^A40", "M1", "EVN|", changed(PID, 3, "P9"), MRG),
    typed("ORU^R01", "M1", PID, RESULT, "OBX|1|FT|1^Text^L||Clear\\.br\\\\X41\\||||||F"),
)


def damaged(dice: random.Random) -> bytes:
    """A message with some bytes changed, left out, doubled, or with separators where none belong."""
    raw = bytearray(dice.choice(SAMPLES).replace(b"|M1|", f"|Z{dice.getrandbits(40)}|".encode()))
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(raw))
        match dice.randrange(5):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at : at + dice.randint(1, 40)]
            case 2:
                raw[at:at] = raw[at : at + dice.randint(1, 200)]
            case 3:
                raw[at:at] = bytes(dice.choices(b"|^~\\&\r\n\x0b\x1c\x1b\x00\xff", k=dice.randint(1, 30)))
            case 4:
                raw[at:at] = dice.choice(
                    [b"~" * 5000, b"^" * 5000, b"\\X" * 500, b"\x1b$B" * 200, b"9" * 3000]
                )
        raw = raw or bytearray(b"M")
    return bytes(raw)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams_are_answered_or_ended_and_harm_nobody(bed: TestBed, port: int, seed: int) -> None:
    """400 damaged messages: no hang, and the door works for everybody else all the while."""
    dice = random.Random(seed)
    connection = socket.create_connection(("127.0.0.1", port), 10)
    with MLLPClient("127.0.0.1", port) as steady:
        for number in range(100):
            reader, ended, answered = FrameReader(), False, False
            with suppress(ConnectionError):
                connection.sendall(b"\x0b" + damaged(dice) + b"\x1c\r")
                connection.sendall(framed(typed("ADT^A02", f"S{seed}-{number}", PID)))
            while not ended and not answered:
                try:
                    data = connection.recv(65536)
                except ConnectionError:
                    data = b""
                ended = not data
                answered = any(
                    isinstance(event, Frame) and b"|S%d-%d" % (seed, number) in event.payload
                    for event in reader.feed(data)
                )
            if ended:
                connection.close()
                connection = socket.create_connection(("127.0.0.1", port), 10)
            if number % 25 == 0:
                assert code(steady.send_message(typed("ADT^A03", f"T{seed}-{number}", PID))) == "AA"
    connection.close()
    assert code(send_message("127.0.0.1", port, omi("LAST"))) == "AA"
