# SPDX-License-Identifier: Apache-2.0
"""Character sets that are switched within a message (HL7 chapter 2.7.2, ISO 2022)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.hl7.characters import declared_set, decoded_text
from profiles.hl7.message import Message, Unreadable, read_message
from tests.unit.profiles.hl7.messages import MSH, PID, changed


def name_in(declared: str, name: bytes) -> str:
    """PID-5.1 of a message that declares a set; its last component is plain."""
    head = changed(MSH, 18, declared).encode("ascii")
    pid = changed(PID, 5, "NAME^X").encode("ascii").replace(b"NAME", name)
    found = read_message(head + b"\r" + pid + b"\r")
    assert isinstance(found, Message), found
    assert found.segments[1].text(5, 2) == "X"
    return found.segments[1].text(5)


@pytest.mark.parametrize(
    ("declared", "name", "expected"),
    [
        pytest.param("~ISO IR87", b"\x1b$B;3ED\x1b(B", "山田", id="kanji"),
        pytest.param("ASCII~ISO IR87", b"Yamada\x1b$B;3ED\x1b(B", "Yamada山田", id="kanji-after-ascii"),
        pytest.param("~ISO IR87", b"\x1b$B^|O!\x1b(B", "滯蓮", id="bytes-like-separators"),
        pytest.param("ISO IR14~ISO IR87", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ", id="half-width-katakana"),
        pytest.param("ISO IR14~ISO IR87", b"\xd4\xcf\x1b$B;3\x1b(J", "ﾔﾏ山", id="katakana-and-kanji"),
        pytest.param("~ISO IR14", b"\x1b(ITO@^\x1b(B", "ﾔﾏﾀﾞ", id="katakana-in-seven-bits"),
        pytest.param("~ISO IR159", b"\x1b$(D0\x21\x1b(B", "丂", id="supplementary-kanji"),
        pytest.param("~KS X 1001", b"\x1b$)C\xb1\xe8\x1b(B", "김", id="hangul"),
        pytest.param("8859/1~8859/5", b"M\xfcller \x1b-L\xb8\xd2", "Müller Ив", id="latin-and-cyrillic"),
        pytest.param("~ISO IR87", rb"\M2442\;3ED\C2842" + b"\\", "山田", id="escapes-of-HL7"),
        pytest.param("8859/1~ISO IR87", b"M\xfcller", "Müller", id="never-switched"),
        pytest.param("8859/1~KLINGON", b"M\xfcller", "Müller", id="unknown-further-set"),
        pytest.param("ISO IR87", b"\x1b$B;3ED\x1b(B", "山田", id="kanji-as-the-default"),
    ],
)
def test_switched_sets(declared: str, name: bytes, expected: str) -> None:
    assert name_in(declared, name) == expected


@pytest.mark.parametrize(
    ("declared", "name"),
    [("~ISO IR87", b"M\xfcller"), ("~ISO IR87", b"\x1b$B\x22\x7e;\x1b(B"), ("~KS X 1001", b"\x1b$)C\xb1")],
    ids=["byte outside ascii", "half a character", "half a hangul"],
)
def test_bytes_of_no_declared_set_are_refused(declared: str, name: bytes) -> None:
    head = changed(MSH, 18, declared).encode("ascii")
    found = read_message(head + b"\r" + b"PID|1||1||" + name + b"\r")
    assert isinstance(found, Unreadable)
    assert [str(fault.location) for fault in found.faults] == ["MSH-18"]


def test_each_segment_begins_in_the_default_set() -> None:
    declared = declared_set(["", "ISO IR87"])
    assert declared is not None
    assert decoded_text(b"A\x1b$B;3\rB;3", declared, b"\\") == "A山\rB;3"


@given(st.binary(max_size=60), st.sampled_from(["~ISO IR87", "ISO IR14~ISO IR159", "8859/1~KS X 1001"]))
def test_any_bytes_are_text_or_refused(junk: bytes, declared: str) -> None:
    head = changed(MSH, 18, declared).encode("ascii")
    assert isinstance(read_message(head + b"\rPID|1||1||" + junk), Message | Unreadable)
