# SPDX-License-Identifier: Apache-2.0
"""Stored reports as ORU^R01 to receivers that are not ours, to our own door, and to hostile ones."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from conformance.peers.certificates import CertificateAuthority
from informatics_gateway.hl7.result_deliverer import Hl7Deliverer, MllpAddress
from informatics_gateway.hl7.server import Hl7Server
from informatics_gateway.hl7_door import mllp_tls_context
from informatics_gateway.hl7_settings import Hl7Tls
from informatics_gateway.result_destinations import client_tls_context
from profiles.dicom_json import element, merged
from profiles.hl7.options import Reading
from profiles.hl7.result_options import Acknowledgement, ResultOptions
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, StoppedDeliveryError
from task_manager.ports import Deliverer, Shipment
from tests.loopback.fhir.stored_report import NOW, shipment, write_report
from tests.receivers import foreign_receiver
from tests.reported import COMPREHENSIVE_3D_SR_STORAGE, SEGMENTATION_STORAGE, request_item, workitem
from tests.unit.informatics_gateway.hl7.intakes import MemoryIntake

OPTIONS = ResultOptions(receiving_application="RIS", include_text=False)
HEAD = "MSH|^~\\&|RIS|HOSP|AIRWAY||20260504||ACK^R01^ACK|77|P|2.5.1\r"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Shipment:
    """A segmentation and the report on it, for an order."""
    segmentation, report = write_report(tmp_path_factory.mktemp("objects"))
    return shipment(
        workitem(request_item()),
        (SEGMENTATION_STORAGE, segmentation),
        (COMPREHENSIVE_3D_SR_STORAGE, report),
    )


def deliverer(port: int, options: ResultOptions = OPTIONS, **address: Any) -> Hl7Deliverer:
    reached = MllpAddress(**{"host": "127.0.0.1", "port": port, "timeout_s": 10.0, **address})
    return Hl7Deliverer(reached, options, clock=lambda: NOW)


def control_id(raw: bytes) -> str:
    return raw.split(b"\r", 1)[0].split(b"|")[9].decode()


# Receivers of others


def test_a_foreign_receiver_reads_the_result(stored: Shipment) -> None:
    with foreign_receiver() as ris:
        receipt = deliverer(ris.port).deliver(stored)
    (message,) = ris.received
    assert receipt.sent_at == NOW
    assert receipt.summary == f"ORU^R01 {message.segment('MSH')(10)}, status P: AA"
    assert str(message.segment("PID")(5)).startswith("Müller^Jörg")
    assert str(message.segment("OBR")(18)) == "ACC-77"
    values = {str(segment(3)).split("^")[0]: str(segment(5)) for segment in message.segments("OBX")}
    assert values["118565006"] == "2310.257"
    assert values["AW0001"].startswith("114008^")


def test_sending_again_is_the_same_message(stored: Shipment) -> None:
    with foreign_receiver() as ris:
        for _ in range(2):
            deliverer(ris.port).deliver(stored)
    first, second = ris.received
    assert str(first) == str(second)


def test_a_receiver_of_one_message_a_connection(stored: Shipment) -> None:
    """hl7apy's server closes after each answer."""

    class Handler(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            parsed = parse_message(self.incoming_message)
            taken.append(parsed.msh.msh_10.value)
            return f"\x0b{HEAD}MSA|AA|{parsed.msh.msh_10.value}\r\x1c\r"

    taken: list[str] = []
    server = MLLPServer("127.0.0.1", 0, {"ORU^R01^ORU_R01": (Handler,)})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        for _ in range(2):
            deliverer(server.server_address[1]).deliver(stored)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert len(taken) == 2
    assert taken[0] == taken[1]


def test_our_own_door_takes_it_as_an_earlier_report(stored: Shipment) -> None:
    intake = MemoryIntake()
    server = Hl7Server(intake, "127.0.0.1", 0, Reading())
    server.start()
    try:
        for _ in range(2):
            assert deliverer(server.port).deliver(stored).summary.endswith(": AA")
    finally:
        server.stop()


def test_mutual_tls(stored: Shipment, tmp_path: Path) -> None:
    authority, stranger = CertificateAuthority(tmp_path), CertificateAuthority(tmp_path, "stranger-ca")
    theirs, ours = authority.issue("ris"), authority.issue("airway")
    other = stranger.issue("somebody")
    door = Hl7Tls(
        certificate_file=theirs.certificate, key_file=theirs.key, client_ca_file=authority.certificate
    )
    server = Hl7Server(MemoryIntake(), "127.0.0.1", 0, Reading(), tls=mllp_tls_context(door))
    server.start()
    good = client_tls_context(authority.certificate, ours.certificate, ours.key, where="tls")
    try:
        deliverer(server.port, tls=good, server_name="ris").deliver(stored)
        bad: dict[str, tuple[ssl.SSLContext | None, str]] = {
            "no TLS": (None, ""),
            "no certificate": (client_tls_context(authority.certificate, None, None, where="tls"), "ris"),
            "a stranger's": (
                client_tls_context(authority.certificate, other.certificate, other.key, where="tls"),
                "ris",
            ),
            "not trusted": (client_tls_context(None, ours.certificate, ours.key, where="tls"), "ris"),
            "another name": (good, "pacs"),
        }
        for context, name in bad.values():
            with pytest.raises(RetryableDeliveryError):
                deliverer(server.port, tls=context, server_name=name, timeout_s=3).deliver(stored)
    finally:
        server.stop()


# What answers come to


Peer = Callable[[socket.socket, bytes], None]


@contextmanager
def peer(behave: Peer) -> Iterator[int]:
    """A receiver that does to each connection what a test wants, after it read one frame."""
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                raw = b""
                while b"\x1c\r" not in raw:
                    raw += connection.recv(65536)
                try:
                    behave(connection, raw.strip(b"\x0b\x1c\r"))
                except ConnectionError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def answering(*bodies: str) -> Peer:
    """Answers, with ``<ID>`` for the control id of the message."""

    def behave(connection: socket.socket, raw: bytes) -> None:
        for body in bodies:
            connection.sendall(b"\x0b" + body.replace("<ID>", control_id(raw)).encode() + b"\x1c\r")

    return behave


@pytest.mark.parametrize(
    "code",
    [pytest.param("AA", id="AA"), pytest.param("CA", id="CA, although not asked for")],
)
def test_what_counts_as_taken(stored: Shipment, code: str) -> None:
    with peer(answering(f"{HEAD}MSA|{code}|<ID>\r")) as port:
        assert deliverer(port).deliver(stored).summary.endswith(f": {code}")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "MSA|AE|<ID>\rERR||PID^1^3|204|E||||Jörg Müller is not here\r",
            "AE (204 Unknown key identifier at PID-3)",
        ),
        ("MSA|AR|<ID>\rERR||MSH^1^12|203|E\r", "AR (203 Unsupported version id at MSH-12)"),
        ("MSA|CE|<ID>\r", "CE"),
        ("MSA|CR|<ID>\r", "CR"),
        ("MSA|AE|<ID>\rERR||PID^1^3|204|E\rERR|||207|E\r", "AE (204 Unknown key identifier at PID-3; 207"),
    ],
)
def test_a_refusal_is_for_a_person(
    stored: Shipment, body: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with peer(answering(HEAD + body)) as port, pytest.raises(FinalDeliveryError) as refused:
        deliverer(port).deliver(stored)
    assert str(refused.value).startswith(f"the receiver answered {told}")
    assert "ller" not in str(refused.value) + caplog.text


@pytest.mark.parametrize("code", ["206", "207"])
def test_trouble_of_the_receiver_itself_passes(stored: Shipment, code: str) -> None:
    with (
        peer(answering(f"{HEAD}MSA|AE|<ID>\rERR|||{code}|E\r")) as port,
        pytest.raises(RetryableDeliveryError),
    ):
        deliverer(port).deliver(stored)


def test_an_answer_to_another_message_is_passed_over(stored: Shipment) -> None:
    with peer(answering(f"{HEAD}MSA|AE|OTHER\r", f"{HEAD}MSA|AA|<ID>\r")) as port:
        assert deliverer(port).deliver(stored).summary.endswith(": AA")
    with peer(answering(f"{HEAD}MSA|AA|OTHER\r")) as port, pytest.raises(RetryableDeliveryError):
        deliverer(port, timeout_s=0.5).deliver(stored)


def test_the_accept_acknowledgement_does_not_end_a_wait_for_the_other(stored: Shipment) -> None:
    wanted = replace(OPTIONS, acknowledgement=Acknowledgement.APPLICATION)
    both = answering(f"{HEAD}MSA|CA|<ID>\r", f"{HEAD}MSA|AE|<ID>\rERR|||204|E\r")
    with peer(both) as port, pytest.raises(FinalDeliveryError):
        deliverer(port, wanted).deliver(stored)
    with peer(both) as port:
        first = replace(OPTIONS, acknowledgement=Acknowledgement.ACCEPT)
        assert deliverer(port, first).deliver(stored).summary.endswith(": CA")


def _hang(connection: socket.socket, raw: bytes) -> None:
    connection.recv(1)


def _cut(connection: socket.socket, raw: bytes) -> None:
    connection.sendall(b"\x0b" + HEAD.encode())


def _dribble(connection: socket.socket, raw: bytes) -> None:
    for byte in b"\x0b" + HEAD.encode() * 1000:
        connection.sendall(bytes([byte]))
        threading.Event().wait(0.05)


def _flood(connection: socket.socket, raw: bytes) -> None:
    connection.sendall(b"x" * (1024 * 1024))


def _endless(connection: socket.socket, raw: bytes) -> None:
    connection.sendall(b"\x0b")
    for _ in range(64):
        connection.sendall(b"A" * (1024 * 1024))


@pytest.mark.parametrize(
    ("behave", "unreachable"),
    [
        pytest.param(_hang, True, id="hangs"),
        pytest.param(lambda connection, raw: None, True, id="closes"),
        pytest.param(_cut, True, id="is cut"),
        pytest.param(_dribble, True, id="dribbles"),
        pytest.param(_flood, True, id="sends no frame"),
        pytest.param(_endless, True, id="sends an endless frame"),
        pytest.param(answering("garbage"), False, id="answers garbage"),
        pytest.param(answering(""), False, id="answers nothing in a frame"),
        pytest.param(answering(f"{HEAD}MSA|XX|<ID>\r"), False, id="answers with no code"),
    ],
)
def test_a_receiver_that_gives_no_answer_is_tried_again(
    stored: Shipment, behave: Peer, unreachable: bool
) -> None:
    with peer(behave) as port, pytest.raises(RetryableDeliveryError) as failed:
        deliverer(port, timeout_s=0.6).deliver(stored)
    assert failed.value.unreachable is unreachable


def test_nobody_listens(stored: Shipment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RetryableDeliveryError) as failed:
        deliverer(port, timeout_s=2).deliver(stored)
    assert failed.value.unreachable


# What cannot be sent


def test_a_shipment_without_a_report(stored: Shipment) -> None:
    images = replace(stored, instances=stored.instances[:1], paths=stored.paths[:1])
    with pytest.raises(FinalDeliveryError, match="no structured report"):
        deliverer(1).deliver(images)


def test_a_character_set_that_lacks_the_patients_name(stored: Shipment) -> None:
    with pytest.raises(FinalDeliveryError, match="8859/5 lacks a character"):
        deliverer(1, replace(OPTIONS, character_set="8859/5")).deliver(stored)


def test_its_turn_is_awaited_and_may_not_come(stored: Shipment) -> None:
    def stopped() -> None:
        raise StoppedDeliveryError("the process ends")

    with foreign_receiver() as ris:
        with pytest.raises(StoppedDeliveryError):
            deliverer(ris.port).deliver(stored, stopped)
        assert not ris.received


# Results that take the place of others


def test_a_result_whose_place_was_taken_is_not_sent(stored: Shipment) -> None:
    with foreign_receiver() as ris:
        receipt = deliverer(ris.port).deliver(replace(stored, is_superseded=True))
    assert receipt.summary.startswith("not sent")
    assert not receipt.sent
    assert not ris.received


@pytest.mark.parametrize(("always", "status"), [(False, "P"), (True, "C")])
def test_a_result_that_takes_the_place_of_another(stored: Shipment, always: bool, status: str) -> None:
    later = replace(stored, supersedes=("2.25.76",))
    with foreign_receiver() as ris:
        deliverer(ris.port, replace(OPTIONS, correct_unverified=always)).deliver(later)
    (message,) = ris.received
    assert str(message.segment("OBR")(25)) == status


# Failed runs


def _canceled(stored: Shipment) -> Shipment:
    progress = merged(
        [
            element("ProcedureStepCancellationDateTime", "20260504101500+0200"),
            element(
                "ProcedureStepDiscontinuationReasonCodeSequence",
                merged([element("CodeMeaning", "Timed out")]),
            ),
        ]
    )
    told = merged([stored.workitem, element("ProcedureStepProgressInformationSequence", progress)])
    return replace(stored, workitem=told, instances=(), paths=())


def test_failed_runs_are_told_where_that_is_wanted(stored: Shipment) -> None:
    with foreign_receiver() as ris:
        told = Hl7Deliverer(MllpAddress(host="127.0.0.1", port=ris.port), OPTIONS, failed_runs=True)
        assert ", status X: AA" in told.deliver_failure(_canceled(stored)).summary
        untold = deliverer(ris.port).deliver_failure(_canceled(stored))
    assert ("not told" in untold.summary, untold.sent) == (True, False)
    (message,) = ris.received
    assert str(message.segment("OBR")(25)) == "X"
    assert "Timed out" in str(message.segment("OBX")(5))
    assert str(message.segment("MSH")(7)) == "20260504101500+0200"


def test_it_is_a_deliverer() -> None:
    one: Deliverer = deliverer(1)
    assert one is not None
