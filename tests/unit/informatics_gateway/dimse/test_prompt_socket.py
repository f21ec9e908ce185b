# SPDX-License-Identifier: Apache-2.0
"""Reading PDUs ahead: the bytes are those sent, in the sizes asked for, and never those of the next PDU."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from informatics_gateway.dimse.prompt_socket import PromptSocket


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[socket.socket, PromptSocket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = socket.create_connection(listening.getsockname())
        plain, _ = listening.accept()
    receiver = PromptSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    receiver.settimeout(10)
    with sender, receiver:
        yield sender, receiver


def pdu(length: int, kind: int = 4) -> bytes:
    return struct.pack(">BxL", kind, length) + bytes(i % 251 for i in range(length))


def read(receiver: PromptSocket, count: int, at_most: int = 4096) -> bytes:
    """`count` bytes as the library reads them."""
    found = bytearray()
    while len(found) < count:
        piece = receiver.recv(min(at_most, count - len(found)))
        assert 0 < len(piece) <= at_most
        found += piece
    return bytes(found)


@pytest.mark.parametrize("at_most", [1, 4096, 1 << 20], ids=["single bytes", "as the library", "all at once"])
@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param((0,), id="empty PDU"),
        pytest.param((4, 0, 5000), id="small ones"),
        pytest.param((700_000, 3), id="larger than one read"),
    ],
)
def test_bytes_come_as_they_were_sent(
    ends: tuple[socket.socket, PromptSocket], lengths: tuple[int, ...], at_most: int
) -> None:
    sender, receiver = ends
    sent = b"".join(map(pdu, lengths))
    thread = threading.Thread(target=sender.sendall, args=(sent,))
    thread.start()
    found = b"".join(read(receiver, 6, at_most) + read(receiver, length, at_most) for length in lengths)
    thread.join()
    assert found == sent


def test_the_next_pdu_stays_where_the_library_looks_for_it(ends: tuple[socket.socket, PromptSocket]) -> None:
    sender, receiver = ends
    sender.sendall(pdu(100) + pdu(4, kind=5))
    assert read(receiver, 106) == pdu(100)
    assert select.select([receiver], [], [], 10)[0] == [receiver]
    assert read(receiver, 10) == pdu(4, kind=5)
    assert select.select([receiver], [], [], 0)[0] == []


def test_a_peer_that_hangs_up_inside_a_pdu_ends_the_reading(
    ends: tuple[socket.socket, PromptSocket],
) -> None:
    sender, receiver = ends
    sender.sendall(pdu(100)[:50])
    sender.close()
    assert read(receiver, 50) == pdu(100)[:50]
    assert receiver.recv(50) == b""
    receiver.shutdown(socket.SHUT_RDWR)


def test_looking_without_taking_takes_nothing(ends: tuple[socket.socket, PromptSocket]) -> None:
    sender, receiver = ends
    sender.sendall(pdu(10))
    assert receiver.recv(6, socket.MSG_PEEK) == pdu(10)[:6]
    assert read(receiver, 16) == pdu(10)
