# SPDX-License-Identifier: Apache-2.0
"""The bytes of a connection as PDUs: whole in any cut, ended by silence, by drops, by the peer and by us."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from informatics_gateway.dimse.pdu_stream import ConnectionEndedError, PduStream, StalledError
from tests.dicom_wire import pdu


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield ours, peer


@pytest.mark.parametrize("length", [0, 1, 6, 65536, 262144, 1_000_000])
def test_pdus_come_whole_whatever_their_length(
    ends: tuple[socket.socket, socket.socket], length: int
) -> None:
    ours, peer = ends
    body = bytes(range(256)) * (length // 256) + bytes(length % 256)
    sender = threading.Thread(target=peer.sendall, args=(pdu(4, body) + pdu(5, bytes(4)),))
    sender.start()
    stream = PduStream(ours, timeout_s=5)
    assert stream.header() == (4, length)
    assert stream.read(length) == body
    assert stream.wait(5)
    assert stream.header() == (5, 4)
    assert stream.read(4) == bytes(4)
    sender.join(timeout=5)
    assert not stream.wait(0)


def test_what_was_given_out_is_kept_until_it_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    content = bytes(range(256)) * 8192  # eight times the buffer
    sender = threading.Thread(target=peer.sendall, args=(content,))
    sender.start()
    kept: list[memoryview] = []
    whole: list[bytes] = []

    def tell() -> None:
        whole.extend(bytes(piece) for piece in kept)
        kept.clear()

    stream = PduStream(ours, timeout_s=5, before_refill=tell)
    left = len(content)
    while left:
        kept.append(stream.piece(min(left, 999)))
        left -= len(kept[-1])
    tell()
    sender.join(timeout=5)
    assert b"".join(whole) == content


def test_a_peer_that_hangs_up_ends_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    peer.sendall(b"\4\0\0")
    peer.close()
    with pytest.raises(ConnectionEndedError):
        PduStream(ours, timeout_s=5).header()


def test_silence_ends_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    peer.sendall(b"\4\0\0")
    stream = PduStream(ours, timeout_s=0.1)
    stream.begin()
    with pytest.raises(StalledError):
        stream.header()


def test_a_drop_now_and_then_does_not_keep_it_open(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.02):
            peer.sendall(b"\0")

    dripping = threading.Thread(target=drip)
    dripping.start()
    stream = PduStream(ours, timeout_s=0.5)
    stream.begin()
    began = time.monotonic()
    try:
        with pytest.raises(StalledError):
            stream.read(1000)
    finally:
        done.set()
        dripping.join(timeout=5)
    assert time.monotonic() - began < 5


def test_who_waits_is_woken_and_who_is_to_end_ends(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    waking, woken = socket.socketpair()
    ending = threading.Event()
    with waking, woken:
        stream = PduStream(ours, timeout_s=30, waker=woken, interrupted=ending.is_set)
        waking.send(b"\0")
        assert not stream.wait(30)
        waking.send(b"\0")  # not to end: goes on
        peer.sendall(b"\4\0\0\0\0\0")
        assert stream.header() == (4, 0)
        ending.set()
        waking.send(b"\0")
        with pytest.raises(ConnectionEndedError):
            stream.header()


def test_what_comes_after_the_end_is_dropped(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = ends
    stream = PduStream(ours, timeout_s=5)
    peer.sendall(bytes(1000))
    assert stream.wait(5)
    assert stream.drop()
    assert not stream.drop()
    peer.close()
    assert not stream.drop()
