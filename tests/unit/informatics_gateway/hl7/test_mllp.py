# SPDX-License-Identifier: Apache-2.0
"""MLLP framing: whole, cut, joined, damaged and hostile streams."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from informatics_gateway.hl7.mllp import MAX_GARBAGE_BYTES, Frame, FrameReader, Oversize, Unframed, framed
from task_manager.errors import InputError


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        pytest.param(b"\x0bA\x1c\r", [b"A"], id="one"),
        pytest.param(b"\x0bA\x1c\r\x0bB\x1c\r", [b"A", b"B"], id="two-in-one-segment"),
        pytest.param(b"\x0bA\x1c\x0bB\x1c", [b"A", b"B"], id="no-cr-after-end"),
        pytest.param(b"junk\r\n\x0bA\x1c\r\njunk\x0bB\x1c\r", [b"A", b"B"], id="bytes-between-frames"),
        pytest.param(b"\x0bA\x0bB\x1c\r", [b"B"], id="begun-anew"),
        pytest.param(b"\x0b\x0b\x0bB\x1c\r", [b"B"], id="start-repeated"),
        pytest.param(b"A\x1c\r", [], id="no-start"),
        pytest.param(b"\x0bA\r", [], id="no-end"),
        pytest.param(b"\x1c\r\x1c\r", [], id="ends-only"),
        pytest.param(b"\x0b\x1c\r", [b""], id="empty"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_streams(stream: bytes, payloads: list[bytes]) -> None:
    expected = [Frame(payload) for payload in payloads]
    assert FrameReader().feed(stream) == expected
    slow = FrameReader()
    assert [event for byte in stream for event in slow.feed(bytes([byte]))] == expected


def test_inside_is_known() -> None:
    reader = FrameReader()
    states = []
    for data in (b"x", b"\x0b", b"A", b"\x1c", b"\r"):
        reader.feed(data)
        states.append(reader.inside)
    assert states == [False, True, True, False, False]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_message_over_the_limit_is_told_once_with_its_head(size: int) -> None:
    reader = FrameReader(max_message_bytes=10)
    stream = b"\x0bMSH|^~\\&|ABCDEF" + b"x" * 5000 + b"\x1c\r\x0bB\x1c\r"
    events = [e for at in range(0, len(stream), size) for e in reader.feed(stream[at : at + size])]
    (event,) = events
    assert isinstance(event, Oversize)
    assert event.head.startswith(b"MSH|^~\\&|A")
    assert len(event.head) <= 4096
    assert reader.feed(b"\x0bC\x1c\r") == []


def test_a_message_of_exactly_the_limit_passes() -> None:
    assert FrameReader(max_message_bytes=3).feed(b"\x0bABC\x1c\r") == [Frame(b"ABC")]


@pytest.mark.parametrize(
    "piece",
    [b"no frame at all ", b"\x0bnever ended ", b"\x1c\r"],
    ids=["garbage", "begun-anew-for-ever", "ends"],
)
def test_streams_without_messages_end(piece: bytes) -> None:
    reader = FrameReader()
    events = []
    for _ in range(MAX_GARBAGE_BYTES // (len(piece) - 1) + 2):
        events += reader.feed(piece)
    assert [type(event) for event in events] == [Unframed]


@example([b"\x0b" + b"a" * 21 + b"\x0b"], 1)  # too long, and begun anew in the same piece
@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_any_stream_gives_the_same_however_it_is_cut(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)
    whole = FrameReader(max_message_bytes=20)
    cut = FrameReader(max_message_bytes=20)
    events = whole.feed(stream)
    parts = [e for at in range(0, len(stream), size) for e in cut.feed(stream[at : at + size])]
    assert [e for e in parts if isinstance(e, Frame)] == [e for e in events if isinstance(e, Frame)]
    assert [type(e) for e in parts] == [type(e) for e in events]


@given(st.lists(st.binary(max_size=30).filter(lambda b: not set(b) & {0x0B, 0x1C})))
def test_what_is_framed_comes_out_again(messages: list[bytes]) -> None:
    stream = b"".join(framed(message) for message in messages)
    assert FrameReader().feed(stream) == [Frame(message) for message in messages]


@pytest.mark.parametrize("message", [b"a\x0bb", b"a\x1cb"])
def test_framing_bytes_cannot_be_sent(message: bytes) -> None:
    with pytest.raises(InputError):
        framed(message)


@pytest.mark.parametrize("unit", [b"\x0b", b"\x0bA\x1c", b"\x0b\x0b\x1c", b"x"])
def test_hostile_streams_take_linear_time(unit: bytes) -> None:
    """A megabyte in pieces of 64 KiB; the limit allows for a slow machine."""
    reader = FrameReader()
    piece = unit * (65536 // len(unit))
    start = time.process_time()
    for _ in range(16):
        reader.feed(piece)
    assert time.process_time() - start < 20
