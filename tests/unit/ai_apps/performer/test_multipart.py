# SPDX-License-Identifier: Apache-2.0
"""multipart/related in pieces of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_apps.performer.multipart import (
    Event,
    MultipartError,
    MultipartReader,
    PartData,
    PartEnd,
    PartStart,
    content_type,
    framed_file,
)


def parts_of(message: bytes, size: int, boundary: str = "b-1") -> list[tuple[dict[str, str], bytes]]:
    reader = MultipartReader(boundary)
    events: list[Event] = []
    for at in range(0, len(message), size):
        events += reader.feed(message[at : at + size])
    reader.finish()
    parts: list[tuple[dict[str, str], bytes]] = []
    for event in events:
        match event:
            case PartStart(headers):
                parts.append((headers, b""))
            case PartData(data):
                parts[-1] = (parts[-1][0], parts[-1][1] + data)
            case PartEnd():
                assert parts
    return parts


@given(
    bodies=st.lists(st.binary(max_size=60).filter(lambda body: b"--b-1" not in body), max_size=4),
    size=st.integers(1, 50),
)
def test_round_trip_in_pieces_of_any_size(bodies: list[bytes], size: int) -> None:
    message = b"".join(b"\r\n--b-1\r\nX: y\r\n\r\n" + body for body in bodies) + b"\r\n--b-1--\r\n"
    assert [body for _, body in parts_of(message, size)] == bodies


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (b"--b-1--", []),
        (b"preamble\r\n--b-1\r\n\r\nA\r\n--b-1--\r\nepilogue --b-1", [({}, b"A")]),
        (
            b"--b-1 \t\r\nContent-Type: a/b\r\nX-Y: z:1\r\n\r\n\r\n--b-1--",
            [({"content-type": "a/b", "x-y": "z:1"}, b"")],
        ),
        (b"--b-1\r\n\r\nA--b-1 no\r\n-b-1\r\n--b-1--", [({}, b"A--b-1 no\r\n-b-1")]),
    ],
)
def test_messages(message: bytes, parts: list[tuple[dict[str, str], bytes]]) -> None:
    for size in (1, 3, 1000):
        assert parts_of(message, size) == parts


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"--b-1\r\n\r\nA",
        b"--b-1 x\r\n\r\nA\r\n--b-1--",
        b"--b-1\r\nno colon\r\n\r\nA\r\n--b-1--",
        b"--b-1\r\nX: " + b"y" * 20_000 + b"\r\n\r\nA\r\n--b-1--",
        b"--b-1" + b" " * 20_000,
        b"--b-1\r\n\r\nA\r\n--b-",
    ],
)
def test_malformed(message: bytes) -> None:
    with pytest.raises(MultipartError):
        parts_of(message, 7)


@pytest.mark.parametrize("boundary", ["", "x" * 201])
def test_no_usable_boundary(boundary: str) -> None:
    with pytest.raises(MultipartError):
        MultipartReader(boundary)


@pytest.mark.parametrize(
    ("header", "media_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "multipart/related", "abc"),
        ('Multipart/Related; Boundary="a b"', "multipart/related", "a b"),
        ("application/dicom; transfer-syntax=1.2", "application/dicom", None),
        ("", "text/plain", None),
        ("garbage", "text/plain", None),
    ],
)
def test_content_type(header: str, media_type: str, boundary: str | None) -> None:
    found, parameters = content_type(header)
    assert (found, parameters.get("boundary")) == (media_type, boundary)


def test_framed_file_is_read_back(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3000
    (tmp_path / "x").write_bytes(content)
    length, pieces = framed_file(tmp_path / "x", "b-1")
    message = b"".join(pieces)
    assert len(message) == length
    assert parts_of(message, 4096) == [({"content-type": "application/dicom"}, content)]
