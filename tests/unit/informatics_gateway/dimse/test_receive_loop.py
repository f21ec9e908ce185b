# SPDX-License-Identifier: Apache-2.0
"""The receive loop over a pair of sockets, with literal bytes: right ones in every cut, and wrong ones."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from informatics_gateway.dimse.pdu_stream import ConnectionEndedError, PduStream, StalledError
from informatics_gateway.dimse.receive_loop import (
    MAX_MESSAGE_BYTES,
    DisorderError,
    Negotiated,
    ReceiveLoop,
)
from informatics_gateway.dimse.storage_scp import StorageProvider
from task_manager.actor import Actor
from task_manager.errors import StoreError
from tests.dicom_wire import (
    COMMAND,
    EXPLICIT,
    IMPLICIT,
    LAST,
    command,
    echo_command,
    element,
    elements,
    item,
    message,
    pdu,
    status_of,
    store_command,
)
from tests.instances import STUDY, FolderIntake, ct, data_set_bytes

ECHO, CT_CONTEXT = 1, 3
UID = f"{STUDY}.1.1"
DATA = data_set_bytes(ct(1, pixels=65536))


@dataclass
class Bench:
    """A loop, the peer's end of its connection, and what it sent and handed on."""

    peer: socket.socket
    stream: PduStream
    loop: ReceiveLoop
    intake: FolderIntake
    sent: list[bytes] = field(default_factory=list)
    handed: list[tuple[int, int, bytes]] = field(default_factory=list)

    def take(self, content: bytes, *, close: bool = True) -> None:
        """Take all PDUs of `content`, which a thread sends."""

        def send() -> None:
            with suppress(OSError):  # who reads may give up before the end
                self.peer.sendall(content)
                if close:
                    self.peer.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            while self.stream.wait(5 if close else 0.3):
                kind, length = self.stream.header()
                assert kind == 4
                self.loop.take(length)
        except ConnectionEndedError:
            self.loop.abandon()
        except DisorderError:
            self.peer.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            sender.join(timeout=10)

    def statuses(self) -> list[int]:
        """The statuses answered."""
        return [status_of(elements(answer[12:])) for answer in self.sent]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ours, peer = socket.socketpair()
    intake = FolderIntake(tmp_path)
    with ours, peer:
        stream = PduStream(ours, timeout_s=1.0)
        sent: list[bytes] = []
        handed: list[tuple[int, int, bytes]] = []
        negotiated = Negotiated(
            contexts={ECHO: IMPLICIT, CT_CONTEXT: EXPLICIT},
            storage=frozenset({CT_CONTEXT}),
            largest_pdu=0,
            actor=Actor(door="dicom", name="RAW"),
        )
        loop = ReceiveLoop(
            stream,
            StorageProvider(intake),
            negotiated,
            send=sent.append,
            hand_over=lambda *fragment: handed.append(fragment),
        )
        yield Bench(peer=peer, stream=stream, loop=loop, intake=intake, sent=sent, handed=handed)


def store(number: int = 1, **options: int) -> bytes:
    request = store_command(f"{STUDY}.1.{number}", message_id=number)
    return message(CT_CONTEXT, request, data_set_bytes(ct(number, pixels=65536)), **options)


class TestStored:
    @pytest.mark.parametrize("piece", [1, 7, 100, 4096, 16384, 131072, 10**7])
    def test_fragments_of_any_length_are_stored_untouched(self, bench: Bench, piece: int) -> None:
        small = data_set_bytes(ct(1)) if piece < 100 else DATA
        bench.take(message(CT_CONTEXT, store_command(UID), small, piece=piece))
        assert bench.statuses() == [0x0000]
        assert data_set_bytes(bench.intake.stored()[UID]) == small
        assert bench.intake.leftovers() == []
        assert bench.handed == []

    def test_all_in_one_pdu(self, bench: Bench) -> None:
        cut = len(DATA) // 2
        body = item(CT_CONTEXT, COMMAND | LAST, store_command(UID)) + item(CT_CONTEXT, 0, DATA[:cut])
        bench.take(pdu(4, body + item(CT_CONTEXT, 0, b"") + item(CT_CONTEXT, LAST, DATA[cut:])))
        assert bench.statuses() == [0x0000]
        assert data_set_bytes(bench.intake.stored()[UID]) == DATA

    def test_a_command_in_many_fragments_and_reserved_bits_set(self, bench: Bench) -> None:
        request = store_command(UID)
        parts = [pdu(4, item(CT_CONTEXT, COMMAND | 0xF0, request[at : at + 5])) for at in range(0, 90, 5)]
        parts.append(pdu(4, item(CT_CONTEXT, COMMAND | LAST | 0xF0, request[90:])))
        bench.take(b"".join(parts) + pdu(4, item(CT_CONTEXT, LAST | 0xF0, DATA)))
        assert bench.statuses() == [0x0000]

    def test_many_after_each_other_with_other_messages_between(self, bench: Bench) -> None:
        echo = message(ECHO, echo_command(9))
        find = message(ECHO, command(0x0020, message_id=7, sop_class="1.2"), b"identifier", piece=4)
        bench.take(echo + store(1) + store(2) + find + store(3, piece=999) + echo)
        assert bench.statuses() == [0x0000] * 3
        assert [int.from_bytes(elements(answer[12:])[0x0120], "little") for answer in bench.sent] == [1, 2, 3]
        assert sorted(bench.intake.stored()) == [f"{STUDY}.1.{number}" for number in (1, 2, 3)]
        assert bench.handed == [
            (ECHO, 3, echo_command(9)),
            (ECHO, 3, command(0x0020, message_id=7, sop_class="1.2")),
            (ECHO, 0, b"iden"),
            (ECHO, 0, b"tifi"),
            (ECHO, 2, b"er"),
            (ECHO, 3, echo_command(9)),
        ]

    def test_the_answer_names_what_was_asked(self, bench: Bench) -> None:
        bench.take(message(CT_CONTEXT, store_command(UID, message_id=0xFFFF), DATA))
        (answer,) = bench.sent
        assert answer[10:12] == bytes((CT_CONTEXT, 3))
        found = elements(answer[12:])
        assert found[0x0000] == struct.pack("<L", len(answer) - 12 - 12)
        assert found[0x0002].rstrip(b"\0") == b"1.2.840.10008.5.1.4.1.1.2"
        assert found[0x0100] == struct.pack("<H", 0x8001)
        assert found[0x0120] == struct.pack("<H", 0xFFFF)
        assert found[0x0800] == struct.pack("<H", 0x0101)
        assert found[0x1000].rstrip(b"\0").decode() == UID

    def test_an_answer_is_cut_to_what_the_peer_takes(self, bench: Bench, tmp_path: Path) -> None:
        loop = ReceiveLoop(
            bench.stream,
            StorageProvider(bench.intake),
            Negotiated(
                contexts={CT_CONTEXT: EXPLICIT},
                storage=frozenset({CT_CONTEXT}),
                largest_pdu=50,
                actor=Actor(door="dicom", name="RAW"),
            ),
            send=bench.sent.append,
            hand_over=lambda *_: None,
        )
        bench.loop = loop
        bench.take(message(CT_CONTEXT, store_command(UID), DATA))
        (answer,) = bench.sent
        at, whole, lengths = 0, b"", []
        while at < len(answer):
            (length,) = struct.unpack_from(">L", answer, at + 2)
            lengths.append(length)
            whole += answer[at + 12 : at + 6 + length]
            at += 6 + length
        assert max(lengths) <= 50
        assert status_of(elements(whole)) == 0x0000


class TestRefused:
    @pytest.mark.parametrize(
        ("context", "request_bytes", "data", "status"),
        [
            pytest.param(ECHO, store_command(UID), DATA, 0x0122, id="not-a-storage-context"),
            pytest.param(CT_CONTEXT, store_command(UID, data_set=0x0101), b"", 0xC000, id="no-data-set"),
            pytest.param(CT_CONTEXT, command(1, sop_class="1.2.3"), DATA, 0xC000, id="no-instance"),
            pytest.param(CT_CONTEXT, command(1), DATA, 0xC000, id="no-uids"),
            pytest.param(CT_CONTEXT, store_command(UID, sop_class="1.2.3"), DATA, 0xA900, id="other-class"),
            pytest.param(CT_CONTEXT, store_command(UID), DATA[:-9], 0xC000, id="truncated"),
            pytest.param(CT_CONTEXT, store_command(UID), b"\xff" * 999, 0xC000, id="garbage"),
            pytest.param(CT_CONTEXT, store_command(UID), b"\0", 0xC000, id="one-byte"),
        ],
    )
    def test_with_a_status_and_the_association_goes_on(
        self, bench: Bench, context: int, request_bytes: bytes, data: bytes, status: int
    ) -> None:
        bench.take(message(context, request_bytes, data) + store(2))
        assert bench.statuses() == [status, 0x0000]
        assert list(bench.intake.stored()) == [f"{STUDY}.1.2"]
        assert bench.intake.leftovers() == []

    @pytest.mark.parametrize(
        ("error", "status"), [(StoreError("full"), 0xA700), (RuntimeError("x"), 0xC211)], ids=repr
    )
    def test_when_we_fail_and_taken_when_we_do_not_any_more(
        self, bench: Bench, error: Exception, status: int
    ) -> None:
        bench.intake.broken = error
        bench.take(store(1), close=False)
        bench.intake.broken = None
        bench.take(store(1))
        assert bench.statuses() == [status, 0x0000]
        assert bench.intake.leftovers() == []


def absurd(length: int) -> bytes:
    """A PDU whose one item claims `length` bytes."""
    return struct.pack(">BBL", 4, 0, 8) + struct.pack(">LBB", length, CT_CONTEXT, 3) + b"xx"


class TestDisorder:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(pdu(4, item(CT_CONTEXT, LAST, b"x")), id="data-without-command"),
            pytest.param(pdu(4, item(99, 3, store_command(UID))), id="unknown-context"),
            pytest.param(pdu(4, item(CT_CONTEXT, 3, b"")), id="empty-command"),
            pytest.param(pdu(4, item(CT_CONTEXT, 3, b"\0\0\0")), id="short-command"),
            pytest.param(pdu(4, item(CT_CONTEXT, 3, b"\x08\0\x18\0\x02\0\0\0ab")), id="other-group"),
            pytest.param(
                pdu(4, item(CT_CONTEXT, 3, struct.pack("<HHL", 0, 0x100, 0xFFFFFFFF))), id="endless-element"
            ),
            pytest.param(
                pdu(4, item(CT_CONTEXT, 3, element(0x0100, b"\1\0") + element(0x0800, b"\0\0"))),
                id="no-message-id",
            ),
            pytest.param(absurd(0xFFFFFFFF), id="item-longer-than-its-pdu"),
            pytest.param(absurd(0), id="item-without-header"),
            pytest.param(absurd(1), id="item-of-one-byte"),
            pytest.param(pdu(4, b"\0\0\0"), id="pdu-shorter-than-an-item"),
            pytest.param(
                message(CT_CONTEXT, store_command(UID)) + pdu(4, item(CT_CONTEXT, 3, echo_command())),
                id="command-inside-data",
            ),
            pytest.param(
                message(CT_CONTEXT, store_command(UID)) + pdu(4, item(ECHO, 0, b"x")), id="context-changes"
            ),
            pytest.param(
                pdu(4, item(CT_CONTEXT, 1, b"\0\0")) + pdu(4, item(ECHO, 1, b"\0\0")), id="command-moves"
            ),
            pytest.param(b"".join(pdu(4, item(ECHO, 1, bytes(1000))) for _ in range(70)), id="long-command"),
        ],
    )
    def test_is_told_and_leaves_nothing(self, bench: Bench, content: bytes) -> None:
        with pytest.raises(DisorderError):
            bench.take(content)
        bench.loop.abandon()
        assert bench.intake.leftovers() == []
        assert bench.intake.instances == []
        assert bench.sent == []

    def test_a_long_message_of_another_kind_is_not_held(self, bench: Bench) -> None:
        piece = pdu(4, item(ECHO, 0, bytes(1 << 20)))
        content = message(ECHO, command(0x0020, sop_class="1.2")) + piece * (MAX_MESSAGE_BYTES // (1 << 20))
        with pytest.raises(DisorderError, match="too long"):
            bench.take(content)


class TestEnds:
    @pytest.mark.parametrize("cut", [1, 5, 6, 11, 12, 100, 140, 1000, 40000])
    def test_a_stream_cut_anywhere_leaves_nothing(self, bench: Bench, cut: int) -> None:
        bench.take(store(1)[:cut])
        assert bench.intake.leftovers() == []
        assert bench.sent == []

    def test_silence_inside_an_object_ends(self, bench: Bench) -> None:
        with pytest.raises(StalledError):
            bench.take(store(1)[:5000], close=False)
        bench.loop.abandon()
        assert bench.intake.leftovers() == []
