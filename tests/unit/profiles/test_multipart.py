# SPDX-License-Identifier: Apache-2.0
"""The multipart parser: any split of the bytes gives the same parts; anything else is a MultipartError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.multipart import (
    PART_END,
    MultipartError,
    MultipartParser,
    PartBegan,
    PartData,
    PartEnded,
    closing,
    part_head,
)

Part = tuple[dict[str, str], bytes]


def parse(body: bytes, size: int = 1 << 20, *, boundary: str = "B", max_parts: int = 10) -> list[Part]:
    parser = MultipartParser(boundary, max_parts=max_parts, max_part_bytes=1000)
    parts: list[Part] = []
    for at in range(0, len(body), size):
        headers: dict[str, str] = {}
        for event in parser.feed(body[at : at + size]):
            match event:
                case PartBegan(headers):
                    parts.append((headers, b""))
                case PartData(data):
                    parts[-1] = (parts[-1][0], parts[-1][1] + data)
                case PartEnded():
                    assert parts
    parser.close()
    return parts


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    ("body", "parts"),
    [
        pytest.param(b"--B\r\nA: b\r\n\r\nbody\r\n--B--", [({"a": "b"}, b"body")], id="one"),
        pytest.param(b"--B\r\n\r\nbody\r\n--B--\r\n", [({}, b"body")], id="no-headers"),
        pytest.param(b"--B\r\nA: b\r\n\r\n\r\n--B--", [({"a": "b"}, b"")], id="empty-body"),
        pytest.param(b"--B\r\nA: b\r\n\r\n--B--", [({"a": "b"}, b"")], id="boundary-right-after-headers"),
        pytest.param(b"hello\r\n--B \t\r\nA:b\r\n\r\nx\r\n--B--bye", [({"a": "b"}, b"x")], id="around"),
        pytest.param(
            b"--B\r\n\r\n\r\n-\r\n--\r\n\r\n--B--", [({}, b"\r\n-\r\n--\r\n")], id="almost-boundaries"
        ),
        pytest.param(
            b"--B\r\nX-Y: 1: 2\r\nZ:\r\n\r\na\r\n--B\r\n\r\nb\r\n--B--",
            [({"x-y": "1: 2", "z": ""}, b"a"), ({}, b"b")],
            id="two",
        ),
    ],
)
def test_parts(body: bytes, parts: list[Part], size: int) -> None:
    assert parse(body, size) == parts


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"--B", id="only-a-boundary"),
        pytest.param(b"--B\r\nA: b\r\n\r\nbody", id="no-closing"),
        pytest.param(b"--C\r\n\r\nbody\r\n--C--", id="other-boundary"),
        pytest.param(b"--Bx\r\n\r\nbody\r\n--Bx--", id="longer-boundary"),
        pytest.param(b"--B\r\nno colon\r\n\r\nbody\r\n--B--", id="header-without-colon"),
        pytest.param(b"--B\r\n: b\r\n\r\nbody\r\n--B--", id="header-without-name"),
        pytest.param(b"--B\r\nA: " + b"x" * 20_000, id="endless-header"),
        pytest.param(b"x" * 40_000, id="endless-preamble"),
        pytest.param(b"--B" + b" " * 40_000, id="endless-boundary-line"),
    ],
)
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(MultipartError) as caught:
        parse(body, 100)
    assert not caught.value.too_large


@pytest.mark.parametrize(
    "body",
    [b"--B\r\n\r\n" + b"x" * 1001 + b"\r\n--B--", b"--B\r\n\r\nx\r\n" * 11 + b"--B--"],
    ids=["part-size", "part-count"],
)
def test_limits(body: bytes) -> None:
    with pytest.raises(MultipartError) as caught:
        parse(body, 50)
    assert caught.value.too_large


@pytest.mark.parametrize("boundary", ["", "x" * 129, "ü", "a\nb"])
def test_boundaries_that_are_none(boundary: str) -> None:
    with pytest.raises(MultipartError):
        MultipartParser(boundary, max_parts=1, max_part_bytes=1)


@given(
    bodies=st.lists(st.binary(max_size=60).filter(lambda body: b"\r\n--B" not in body), max_size=4),
    size=st.integers(1, 50),
)
def test_what_is_framed_is_parsed_back(bodies: list[bytes], size: int) -> None:
    framed = b"".join(part_head("B", "application/dicom") + body + PART_END for body in bodies)
    assert [body for _, body in parse(framed + closing("B"), size)] == bodies


@given(
    body=st.lists(st.sampled_from([b"\r\n", b"--", b"B", b"--B", b"A: b", b"x", b"\r", b"\n", b" "])),
    size=st.integers(1, 9),
)
def test_noise_is_parsed_or_refused_the_same_however_it_is_split(body: list[bytes], size: int) -> None:
    whole = b"".join(body)
    results = []
    for step in (size, 1 << 20):
        try:
            results.append(parse(whole, step))
        except MultipartError:
            results.append([({}, b"refused")])
    assert results[0] == results[1]
