# SPDX-License-Identifier: Apache-2.0
"""Decoding and splitting of HL7 v2 messages."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.hl7.characters import CODECS
from profiles.hl7.message import (
    MAX_SEGMENTS,
    Encoding,
    ErrorCode,
    Location,
    Message,
    Unreadable,
    location_of,
    read_message,
)
from tests.unit.profiles.hl7.messages import MSH, PID, changed, message


def read(raw: bytes) -> Message:
    found = read_message(raw)
    assert isinstance(found, Message), found
    return found


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        pytest.param(message(), ["MSH", "PID", "PV1", "ORC", "OBR", "ZDS"], id="cr"),
        pytest.param(message(MSH, PID)[:-1], ["MSH", "PID"], id="no-last-cr"),
        pytest.param(message(MSH, PID).replace(b"\r", b"\r\n"), ["MSH", "PID"], id="crlf"),
        pytest.param(message(MSH, PID).replace(b"\r", b"\n"), ["MSH", "PID"], id="lf"),
        pytest.param(b"\xef\xbb\xbf\r\n" + message(MSH, PID), ["MSH", "PID"], id="bom-and-blank-lines"),
        pytest.param(message(MSH, "NTE|1||a\nb", PID), ["MSH", "NTE", "PID"], id="lf-inside-a-text"),
        pytest.param(message(MSH, "ZZZ|x", "AL1"), ["MSH", "ZZZ", "AL1"], id="unknown-segments-kept"),
        pytest.param(message(MSH, "\x00", PID), ["MSH", "PID"], id="nul-line"),
    ],
)
def test_segments_are_split(raw: bytes, names: list[str]) -> None:
    assert [segment.name for segment in read(raw).segments] == names


def test_fields_have_the_numbers_of_the_standard() -> None:
    header = read(message()).segments[0]
    assert (header.text(1), header.raw(2), header.text(9, 2), header.text(12)) == (
        "|",
        "^~\\&",
        "O01",
        "2.3.1",
    )
    assert header.text(99) == ""


def test_separators_are_those_of_the_message() -> None:
    raw = b"MSH$%*!@$RIS$HOSP$A$B$2026$$ORM%O01$C1$P$2.5.1\rPID$1$$4!F!2%%%N@1.2@ISO*5\r"
    found = read(raw)
    assert found.header.message_type == "ORM"
    first, second = found.segments[1].repetitions(3)
    assert (first.text(1), first.text(4, 2), second.text(1)) == ("4$2", "1.2", "5")


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\X41E4\x", "Aä x".replace(" ", "")),
        (r"line\.br\next", "line\nnext"),
        (r"\H\bold\N\ ", "bold "),
        (r"\C2842\\M2442\\Zx\t", "\ufffd\ufffdt"),
        (r"\E\X41\E\ ", "\\X41\\ "),
        (r"odd \ backslash", r"odd \ backslash"),
        (r"\unknown\ ", r"\unknown\ "),
        (r"\X4\ ", r"\X4\ "),
        ("\\" * 7, "\\" * 7),
    ],
)
def test_escape_sequences(text: str, decoded: str) -> None:
    assert Encoding(codec="iso8859-1").decoded(text) == decoded


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_encoded_text_decodes_to_itself(text: str) -> None:
    encoding = Encoding()
    encoded = encoding.encoded(text)
    assert encoding.decoded(encoded) == text
    assert not set(encoded) & set("|^~&")


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("8859/1", "iso8859-1", "Müller"),
        ("8859/5", "iso8859-5", "Иванов"),
        ("8859/7", "iso8859-7", "Διονυσιος"),
        ("8859/8", "iso8859-8", "שרון"),
        ("8859/15", "iso8859-15", "Œuvre€"),
        ("UNICODE UTF-8", "utf-8", "山田"),
        ("GB 18030-2000", "gb18030", "王小东"),
        ("KS X 1001", "euc_kr", "김희중"),
        ("BIG-5", "big5", "許功蓋"),
        ("ISO IR87", "iso2022_jp", "山田"),
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("ASCII~ISO IR87", "iso2022_jp", "山田"),
        ("", "utf-8", "Łukasz"),
        ("", "iso8859-1", "Åse"),
    ],
)
def test_character_sets(declared: str, codec: str, name: str) -> None:
    """Table 0211; trail bytes of Big5 hold ``|`` and ``\\`` and may not be taken for separators."""
    text = "\r".join([changed(MSH, 18, declared), changed(PID, 5, f"{name}^X")])
    found = read(text.encode(codec))
    assert found.segments[1].text(5) == name
    assert found.segments[1].text(5, 2) == "X"


def test_every_codec_of_the_table_exists() -> None:
    assert {"".encode(codec) for codec in CODECS.values()} == {b""}


@pytest.mark.parametrize(
    ("declared", "bytes_of_name", "code"),
    [
        ("UNICODE UTF-8", b"M\xfcller", ErrorCode.DATA_TYPE),
        ("UNICODE UTF-16", b"x", ErrorCode.TABLE_VALUE),
        ("CNS 11643-1992", b"x", ErrorCode.TABLE_VALUE),
        ("KLINGON", b"x", ErrorCode.TABLE_VALUE),
    ],
)
def test_a_declared_set_is_never_second_guessed(declared: str, bytes_of_name: bytes, code: ErrorCode) -> None:
    raw = message(changed(MSH, 18, declared), "PID|1||1||NAME").replace(b"NAME", bytes_of_name)
    found = read_message(raw)
    assert isinstance(found, Unreadable)
    assert found.header is not None
    assert found.header.control_id == "RIS0002"
    assert [(fault.code, str(fault.location)) for fault in found.faults] == [(code, "MSH-18")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"MSH",
        b"MSH|",
        b"MSH|^~\\",
        b"MSH|^~^&|A",
        b"MSH|^~\\|ORM",
        b"MSHabcdefgh",
        b"MSH \t\n\r   ",
        b"PID|1",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        "MSH¦^~\\&¦A".encode(),
        b"\x00" * 100,
    ],
)
def test_without_a_usable_header_there_is_nothing_to_answer(raw: bytes) -> None:
    found = read_message(raw)
    assert isinstance(found, Unreadable)
    assert found.header is None


@pytest.mark.parametrize("line", ["pid|1", "PI", "PID^1", "|||", "some text", "MSH|^~\\&|again"])
def test_lines_that_are_no_segments_are_all_told(line: str) -> None:
    found = read_message(message(MSH, line, PID, line))
    assert isinstance(found, Unreadable)
    assert [fault.code for fault in found.faults] == [ErrorCode.SEGMENT_SEQUENCE] * 2
    assert [fault.text for fault in found.faults] == ["line 2 is no segment", "line 4 is no segment"]


def test_segments_are_limited() -> None:
    found = read_message(message(MSH, *["NTE|1"] * MAX_SEGMENTS))
    assert isinstance(found, Unreadable)
    assert [fault.code for fault in found.faults] == [ErrorCode.CARDINALITY]


@pytest.mark.parametrize("filler", ["~", "^", "&", "|", "\\", "\\F", "\\F\\", "~^&"])
def test_a_megabyte_of_separators_takes_no_time(filler: str) -> None:
    """A parser whose time grows with the square would take hours; two seconds allow for a slow machine."""
    segment = changed(PID, 3, filler * (1_000_000 // len(filler)))
    start = time.process_time()
    found = read(message(MSH, segment))
    values = [value.text(4, 2) for value in found.segments[1].repetitions(3)]
    assert len(values) <= 64
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("OBR-4", Location("OBR", 1, 4)),
        ("OBR[2]-4.1", Location("OBR", 2, 4, 1, 1)),
        ("PID-3[2].4", Location("PID", 1, 3, 2, 4)),
        ("ORC", Location("ORC")),
        ("study.StudyInstanceUID", Location()),
        ("", Location()),
    ],
)
def test_paths_and_locations(path: str, location: Location) -> None:
    assert location_of(path) == location
    if location.segment:
        assert str(location) == path


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for candidate in (raw, b"MSH|^~\\&|" + raw, message() + raw, b"MSH" + raw):
        assert isinstance(read_message(candidate), Message | Unreadable)


def test_a_segment_of_separators_is_kept_whole_in_few_parts() -> None:
    found = read_message(message(MSH, "ZZZ" + "|" * 100_000))
    assert isinstance(found, Message)
    assert len(found.segments[1].fields) < 2000
    assert found.segments[1].text_as_sent == "ZZZ" + "|" * 100_000
