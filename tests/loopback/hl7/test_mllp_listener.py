# SPDX-License-Identifier: Apache-2.0
"""The MLLP door over real sockets, with the ``mllp_send`` program and client of PyPI hl7 as senders."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hl7.client import MLLPClient

from conformance.peers.certificates import CertificateAuthority
from informatics_gateway.hl7.listener import ListenerLimits, MllpListener
from informatics_gateway.hl7.mllp import FrameReader, framed
from informatics_gateway.hl7.sender import send_message
from profiles.hl7.options import Reading, ReadingOptions
from task_manager.errors import RetryableDeliveryError, StoreError
from tests.unit.informatics_gateway.hl7.intakes import MemoryIntake
from tests.unit.profiles.hl7.messages import MSH, OBR, ORC, PID, PV1, ZDS, changed, message, with_field


class RunningListener:
    """A listener on a loop of its own, so that tests may block."""

    def __init__(self, listener: MllpListener) -> None:
        self.listener = listener
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(listener.start(), self.loop).result(10)
        self.port = listener.port

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.listener.stop(), self.loop).result(30)

    def end(self) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@contextlib.contextmanager
def listening(
    intake: MemoryIntake,
    *,
    limits: ListenerLimits | None = None,
    tls: ssl.SSLContext | None = None,
    reading: Reading | None = None,
) -> Iterator[RunningListener]:
    running = RunningListener(MllpListener(intake, port=0, limits=limits, tls=tls, reading=reading))
    try:
        yield running
    finally:
        running.end()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def exchange(connection: socket.socket, raw: bytes) -> bytes:
    connection.sendall(framed(raw))
    return receive(connection)


def receive(connection: socket.socket) -> bytes:
    reader = FrameReader()
    while True:
        data = connection.recv(65536)
        assert data, "closed before an answer came"
        for event in reader.feed(data):
            return event.payload  # type: ignore[union-attr]


def is_closed(connection: socket.socket) -> bool:
    """Whether the peer ends the connection before the socket's own limit of 10 s, sending nothing more."""
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


def code(answer: bytes) -> str:
    return answer.decode().split("\r")[1].split("|")[1]


def numbered(control_id: str) -> bytes:
    return with_field("MSH", 10, control_id)


# Independent senders


def mllp_send(port: int, text: str, folder: Path) -> str:
    program = shutil.which("mllp_send", path=str(Path(sys.executable).parent))
    assert program, "mllp_send of the hl7 package is not installed; run: make setup"
    path = folder / "order.hl7"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [program, "--loose", "-p", str(port), "-f", str(path), "127.0.0.1"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    return done.stdout.decode()


def test_mllp_send_sends_a_file_with_two_orders(tmp_path: Path) -> None:
    intake = MemoryIntake()
    name = "Müller^Jörg~山田^太郎^^^^^L^I"
    first = message(MSH, changed(PID, 5, name), PV1, ORC, OBR, ZDS).decode()
    text = first.replace("\r", "\n") + numbered("RIS0003").decode().replace("\r", "\r\n")
    with listening(intake) as running:
        printed = mllp_send(running.port, text, tmp_path)
    assert printed.count("MSA|AA|RIS000") == 2
    names = [order.patient_name for orders in intake.orders.values() for order in orders]
    assert names == ["Müller^Jörg=山田^太郎", "Roe^Jane"]


def test_the_client_of_pypi_hl7_keeps_its_connection() -> None:
    intake = MemoryIntake()
    with listening(intake) as running:
        with MLLPClient("127.0.0.1", running.port) as client:
            answers = [client.send_message(numbered(str(n))).strip(b"\x0b\x1c\r") for n in (1, 2, 2)]
    assert [code(answer) for answer in answers] == ["AA"] * 3
    assert len(intake.orders) == 2


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [("8859/1", "iso8859-1", "Müller"), ("8859/5", "iso8859-5", "Иванов"), ("BIG-5", "big5", "許功蓋")],
)
def test_names_in_other_character_sets(declared: str, codec: str, name: str) -> None:
    intake = MemoryIntake()
    text = message(changed(MSH, 18, declared), changed(PID, 5, f"{name}^X"), PV1, ORC, OBR, ZDS).decode()
    with listening(intake) as running:
        answer = send_message("127.0.0.1", running.port, text.encode(codec))
    assert code(answer) == "AA"
    assert [o.patient_name for orders in intake.orders.values() for o in orders] == [f"{name}^X"]


# Answers


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (message(), "AA"),
        (with_field("OBR", 4, ""), "AE"),
        (with_field("MSH", 12, "2.7"), "AR"),
        (message(MSH, "garbage"), "AR"),
    ],
)
def test_a_bad_message_does_not_end_the_connection(raw: bytes, expected: str) -> None:
    with listening(MemoryIntake()) as running, connect(running.port) as connection:
        assert code(exchange(connection, raw)) == expected
        assert code(exchange(connection, numbered("NEXT"))) == "AA"


def test_a_store_that_fails_once_gets_the_message_again() -> None:
    calls = []

    def fail_first() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StoreError("disk full")

    with listening(MemoryIntake(before=fail_first)) as running:
        answers = [send_message("127.0.0.1", running.port, message()) for _ in range(2)]
    assert [code(answer) for answer in answers] == ["AE", "AA"]
    assert b"207&" in answers[0]


@pytest.mark.parametrize("raw", [b"", b"hello", b"GET / HTTP/1.1"])
def test_a_frame_without_a_header_ends_the_connection(raw: bytes) -> None:
    with listening(MemoryIntake()) as running, connect(running.port) as connection:
        connection.sendall(framed(raw))
        assert is_closed(connection)


def test_both_acknowledgements_come_on_the_connection_in_order() -> None:
    reading = Reading(default=ReadingOptions(both_acknowledgements=True))
    segment = changed(changed(MSH, 15, "AL"), 16, "AL")
    raw = message().replace(MSH.encode(), segment.encode())
    with listening(MemoryIntake(), reading=reading) as running, connect(running.port) as connection:
        connection.sendall(framed(raw))
        reader, answers = FrameReader(), []
        while len(answers) < 2:
            answers += [event.payload for event in reader.feed(connection.recv(65536))]  # type: ignore[union-attr]
    assert [code(answer) for answer in answers] == ["CA", "AA"]


def test_pipelined_messages_are_answered_in_order() -> None:
    with listening(MemoryIntake()) as running, connect(running.port) as connection:
        connection.sendall(b"".join(framed(numbered(f"N{n}")) for n in range(20)))
        reader, answers = FrameReader(), []
        while len(answers) < 20:
            answers += [event.payload for event in reader.feed(connection.recv(65536))]  # type: ignore[union-attr]
    assert [a.decode().split("\r")[1] for a in answers] == [f"MSA|AA|N{n}" for n in range(20)]


def test_a_message_in_single_bytes_with_garbage_before_it() -> None:
    with listening(MemoryIntake()) as running, connect(running.port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\nnoise" + framed(message()):
            connection.sendall(bytes([byte]))
        assert code(receive(connection)) == "AA"


def test_many_senders_at_once() -> None:
    intake = MemoryIntake()
    with listening(intake) as running, ThreadPoolExecutor(16) as pool:
        raws = [numbered(f"M{n}") for n in range(100)]
        answers = list(pool.map(lambda raw: send_message("127.0.0.1", running.port, raw), raws))
    assert [code(answer) for answer in answers] == ["AA"] * 100
    assert len(intake.orders) == 100


# Limits


@pytest.mark.parametrize("size", [120_000, 700_000])
def test_a_message_over_the_limit_is_rejected_and_the_connection_ends(size: int) -> None:
    limits = ListenerLimits(max_message_bytes=100_000)
    with listening(MemoryIntake(), limits=limits) as running, connect(running.port) as connection:
        answer = exchange(connection, message() + b"NTE|1||" + b"x" * size + b"\r")
        assert code(answer) == "AR"
        assert b"|RIS0002|" in answer
        assert is_closed(connection)


def test_a_stream_without_frames_ends() -> None:
    with listening(MemoryIntake()) as running, connect(running.port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x" * 200_000)
        assert is_closed(connection)


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        pytest.param(ListenerLimits(idle_timeout_s=0.2), b"", id="idle"),
        pytest.param(ListenerLimits(idle_timeout_s=0.2), b"noise", id="noise-is-idle"),
        pytest.param(ListenerLimits(message_timeout_s=0.2), b"\x0bMSH|^~", id="never-ended"),
    ],
)
def test_silent_connections_end(limits: ListenerLimits, sent: bytes) -> None:
    with listening(MemoryIntake(), limits=limits) as running, connect(running.port) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_slow_sender_cannot_hold_a_connection() -> None:
    """A byte now and then, or a message begun anew, must not move the deadline of the message."""
    limits = ListenerLimits(message_timeout_s=0.5)
    with listening(MemoryIntake(), limits=limits) as running, connect(running.port) as connection:
        start = time.monotonic()
        connection.settimeout(0.02)
        ended = False
        while not ended and time.monotonic() - start < 10:
            try:
                connection.sendall(b"\x0bM")
                ended = connection.recv(10) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended
        assert time.monotonic() - start < 5


def test_connections_are_limited_and_come_free_again() -> None:
    limits = ListenerLimits(max_connections=1)
    with listening(MemoryIntake(), limits=limits) as running:
        with connect(running.port) as first:
            assert code(exchange(first, numbered("A"))) == "AA"
            with connect(running.port) as second:
                assert is_closed(second)
            assert code(exchange(first, numbered("B"))) == "AA"
        deadline = time.monotonic() + 10
        answer = b""
        while not answer and time.monotonic() < deadline:
            with contextlib.suppress(RetryableDeliveryError):
                answer = send_message("127.0.0.1", running.port, numbered("C"))
        assert code(answer) == "AA"


def test_a_sender_that_resets_its_connection_harms_nobody() -> None:
    with listening(MemoryIntake()) as running:
        for part in (b"", b"\x0bMSH|^~\\&|", framed(message())):
            connection = connect(running.port)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(part)
            connection.close()
        assert code(send_message("127.0.0.1", running.port, numbered("AFTER"))) == "AA"


# Start, stop, TLS


def test_stopping_answers_what_is_being_processed_and_ends_the_rest() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert leave.wait(10)

    with listening(MemoryIntake(before=hold)) as running, ThreadPoolExecutor(2) as pool:
        with connect(running.port) as idle:
            answer = pool.submit(send_message, "127.0.0.1", running.port, message())
            assert entered.wait(10)
            stopped = pool.submit(running.stop)
            assert is_closed(idle)
            assert not stopped.done()
            leave.set()
            assert code(answer.result(10)) == "AA"
            stopped.result(10)
        with pytest.raises(RetryableDeliveryError):
            send_message("127.0.0.1", running.port, message(), timeout_s=2)


def test_the_port_is_known_only_while_listening() -> None:
    listener = MllpListener(MemoryIntake(), port=0)
    with pytest.raises(RuntimeError):
        _ = listener.port
    asyncio.run(listener.stop())


def test_tls(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    issued = authority.issue("localhost")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(issued.certificate, issued.key)
    client = ssl.create_default_context(cafile=str(authority.certificate))
    with listening(MemoryIntake(), tls=server) as running:
        assert code(send_message("localhost", running.port, message(), tls=client)) == "AA"
        with pytest.raises(RetryableDeliveryError):
            send_message("localhost", running.port, message(), timeout_s=5)
        untrusting = ssl.create_default_context()
        with pytest.raises(RetryableDeliveryError):
            send_message("localhost", running.port, message(), timeout_s=5, tls=untrusting)
        assert code(send_message("localhost", running.port, message(), tls=client)) == "AA"


# The sender


@pytest.mark.parametrize(
    "answer", [None, b"", b"no frame", b"\x0bhalf an answer"], ids=["silent", "closed", "junk", "cut"]
)
def test_the_sender_says_when_no_answer_comes(answer: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                if answer is None:
                    assert done.wait(10)
                else:
                    connection.sendall(answer)

        served = pool.submit(serve)
        with pytest.raises(RetryableDeliveryError):
            send_message("127.0.0.1", server.getsockname()[1], message(), timeout_s=0.5)
        done.set()
        served.result(10)


def test_the_sender_says_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RetryableDeliveryError):
        send_message("127.0.0.1", port, message(), timeout_s=2)
