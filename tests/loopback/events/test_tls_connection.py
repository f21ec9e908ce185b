# SPDX-License-Identifier: Apache-2.0
"""The life of a TLS connection for events: kept, ended in order, replaced when the peer ended it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.peers.certificates import CertificateAuthority
from informatics_gateway.events.transports import TlsTransport
from task_manager.errors import RetryableDeliveryError


class TlsServer:
    """Runs one conversation per accepted connection, in order, on a thread."""

    def __init__(self, folder: Path) -> None:
        self.authority = CertificateAuthority(folder)
        issued = self.authority.issue("localhost")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(issued.certificate, issued.key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(10)
        self.pool = ThreadPoolExecutor(1)

    def converse(self, *conversations: Callable[[ssl.SSLSocket], bytes]) -> Future[list[bytes]]:
        def run() -> list[bytes]:
            heard = []
            for conversation in conversations:
                plain, _ = self.socket.accept()
                plain.settimeout(10)
                with self.context.wrap_socket(
                    plain, server_side=True, suppress_ragged_eofs=False
                ) as connection:
                    heard.append(conversation(connection))
            return heard

        return self.pool.submit(run)

    def transport(self, **options: float) -> TlsTransport:
        return TlsTransport(
            "localhost", self.socket.getsockname()[1], ca_file=self.authority.certificate, **options
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TlsServer]:
    found = TlsServer(tmp_path)
    yield found
    found.pool.shutdown()
    found.socket.close()


def read_to_the_end(connection: ssl.SSLSocket) -> bytes:
    """All bytes until close_notify; a connection merely cut raises ssl.SSLEOFError."""
    heard = b""
    while data := connection.recv(65536):
        heard += data
    return heard


def test_messages_share_a_connection_that_ends_with_close_notify(server: TlsServer) -> None:
    heard = server.converse(read_to_the_end)
    transport = server.transport()
    for message in (b"one", "zwölf".encode(), b"x" * 100_000):
        transport.write(message)
    transport.close()
    transport.close()
    assert heard.result(10) == [b"3 one" + "6 zwölf".encode() + b"100000 " + b"x" * 100_000]


@pytest.mark.parametrize("politely", [True, False], ids=["close_notify", "cut"])
def test_a_peer_that_ended_the_connection_is_found_before_writing(server: TlsServer, politely: bool) -> None:
    written, ended = threading.Event(), threading.Event()

    def read_one_and_end(connection: ssl.SSLSocket) -> bytes:
        heard = connection.recv(65536)
        assert written.wait(10)
        connection.setblocking(False)
        if politely:
            with contextlib.suppress(ssl.SSLWantReadError):  # sent; the answer to it is not awaited
                connection.unwrap()
        connection.close()
        ended.set()
        return heard

    heard = server.converse(read_one_and_end, read_to_the_end)
    transport = server.transport()
    transport.write(b"one")
    written.set()
    assert ended.wait(10)
    transport.write(b"two")
    transport.close()
    assert heard.result(10) == [b"3 one", b"3 two"]


def test_a_closed_transport_opens_again(server: TlsServer) -> None:
    heard = server.converse(read_to_the_end, read_to_the_end)
    transport = server.transport()
    for message in (b"one", b"two"):
        transport.write(message)
        transport.close()
    assert heard.result(10) == [b"3 one", b"3 two"]


def test_a_peer_that_does_not_speak_tls(server: TlsServer) -> None:
    def answer_in_clear() -> None:
        plain, _ = server.socket.accept()
        with plain:
            plain.recv(10)
            plain.sendall(b"220 mail.example.org ESMTP\r\n")

    served = server.pool.submit(answer_in_clear)
    with pytest.raises(RetryableDeliveryError):
        server.transport(timeout_s=5).write(b"one")
    served.result(10)


def test_a_peer_that_never_answers_is_given_up(server: TlsServer) -> None:
    """The kernel accepts the connection; nobody answers the handshake."""
    with pytest.raises(RetryableDeliveryError, match="TimeoutError"):
        server.transport(timeout_s=0.3).write(b"one")
