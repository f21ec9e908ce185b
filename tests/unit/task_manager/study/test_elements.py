# SPDX-License-Identifier: Apache-2.0
"""Data sets read with what was met before, and items that never end: neither changes what is said or held."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from task_manager.study.elements import ElementReader, EncodingError, KnownElements, Limits

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def element(tag: int, value: bytes, vr: bytes = b"LO") -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def sequence(tag: int, length: int, items: bytes) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, length) + items


def read(content: bytes, known: KnownElements | None = None) -> object:
    return ElementReader(content, explicit=True, little_endian=True, known=known).read(0)


class TestKnown:
    @pytest.mark.parametrize(
        ("met", "content"),
        [
            pytest.param(
                element(0x00080104, b"HEAD"),
                sequence(
                    0x00081032, 16, struct.pack("<HHL", 0xFFFE, 0xE000, 8) + element(0x00080104, b"HEAD")
                ),
                id="longer-than-its-item",
            ),
            pytest.param(
                sequence(
                    0x00081032,
                    UNDEFINED,
                    ITEM + element(0x00020010, b"1.2 ", b"UI") + ITEM_END + SEQUENCE_END,
                ),
                element(0x00020010, b"1.2 ", b"UI"),
                id="of-the-file-meta-information",
            ),
        ],
    )
    def test_what_is_wrong_stays_wrong(self, met: bytes, content: bytes) -> None:
        known: KnownElements = {}
        read(met, known)
        for memory in (None, known):
            with pytest.raises(EncodingError):
                read(content, memory)

    def test_only_short_values_are_remembered(self) -> None:
        known: KnownElements = {}
        ElementReader(
            element(0x00104000, b"x" * 1024, b"LT") + element(0x00204000, b"y" * 1026, b"LT"),
            explicit=True,
            little_endian=True,
            limits=Limits(value=4096),
            known=known,
        ).read(0)
        assert [key for key, _ in known.values()] == ["00104000"]


def test_an_item_that_is_too_long_does_not_fill_the_memory() -> None:
    many = b"".join(element(0x00090000 + number, b"") for number in range(0x1000, 0x10000))
    content = sequence(0x00081032, UNDEFINED, ITEM + many + ITEM_END + SEQUENCE_END)
    tracemalloc.start()
    try:
        assert read(content) == {}
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 6 * 1024 * 1024
