# SPDX-License-Identifier: Apache-2.0
"""Data sets from the network as DICOM JSON and back; pydicom and its encoder are the other hand."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom.dsutils import decode, encode

from informatics_gateway.dimse.ups_dataset import (
    MAX_DATA_SET_BYTES,
    TRANSFER_SYNTAXES,
    read_data_set,
)
from informatics_gateway.dimse.ups_encoding import pydicom_data_set
from profiles.dicom_json import DicomJson, element, first, items, merged, tag_key, text, values
from profiles.ups.dataset import MAX_DEPTH, read_dataset
from task_manager.outcome import RefusalCode, Refused
from tests.contract.workitems import code, instances, minimal, performed, request

SYNTAXES = pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda uid: uid.name
)
EXPLICIT = str(ExplicitVRLittleEndian)


def encoded(data_set: Dataset, syntax: Any = ExplicitVRLittleEndian) -> bytes:
    """The bytes of `data_set` as pydicom writes them."""
    found = encode(data_set, syntax.is_implicit_VR, syntax.is_little_endian)
    assert found is not None
    return found


def read(data_set: Dataset, syntax: Any = ExplicitVRLittleEndian) -> DicomJson:
    found = read_data_set(encoded(data_set, syntax), str(syntax))
    assert not isinstance(found, Refused), found
    return found


def explicit(tag: int, vr: str, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "UN", "SQ", "UT", "OW"):
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


@SYNTAXES
def test_a_workitem_survives_both_ways(syntax: Any) -> None:
    wanted = merged(
        [
            minimal(
                PatientName={"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"},
                InputInformationSequence=instances(),
                ReferencedRequestSequence=request(),
                ScheduledWorkitemCodeSequence=code(),
                PregnancyStatus=4,
                PatientWeight=72.5,
            ),
            performed(),
        ]
    )
    found = read(pydicom_data_set(wanted), syntax)
    assert found.pop(tag_key("SpecificCharacterSet")) == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert found == read_dataset(wanted).attributes


@pytest.mark.parametrize(
    ("vr", "tag", "value", "kept"),
    [
        ("AE", 0x00741234, "WATCHER ", "WATCHER"),
        ("AT", 0x00209165, 0x00181030, "00181030"),
        ("DA", 0x00100030, "19700101", "19700101"),
        ("DS", 0x00741004, "40.50", 40.5),
        ("DS", 0x00741004, "0", 0),
        ("DS", 0x00741004, ".123456789012345", ".123456789012345"),
        ("FD", 0x00189073, 0.1, 0.1),
        ("FL", 0x00089459, 0.5, 0.5),
        ("IS", 0x00200013, "7", 7),
        ("LT", 0x00400400, "a\\b  ", "a\\b"),
        ("SL", 0x00186020, -3, -3),
        ("SS", 0x00189219, -3, -3),
        ("SV", 0x00720082, -(2**40), -(2**40)),
        ("TM", 0x00100032, "120000.5", "120000.5"),
        ("UC", 0x00080119, "long\\", "long"),
        ("UI", 0x0020000D, "1.2.3", "1.2.3"),
        ("UL", 0x00720078, 2**31, 2**31),
        ("UR", 0x0074100A, "http://a/b ", "http://a/b"),
        ("US", 0x001021C0, 4, 4),
        ("UT", 0x0040A160, "text", "text"),
        ("UV", 0x00720083, 2**60, 2**60),
    ],
)
@SYNTAXES
def test_values_of_each_vr(syntax: Any, vr: str, tag: int, value: Any, kept: Any) -> None:
    data_set = Dataset()
    data_set.add(DataElement(tag, vr, value, validation_mode=0))
    found = read(data_set, syntax)[f"{tag:08X}"]
    assert (found["vr"], found["Value"][0]) == (vr, kept)


@pytest.mark.parametrize(("vr", "tag"), [("OW", 0x00282000), ("OB", 0x00282000), ("OF", 0x7FE00008)])
@SYNTAXES
def test_binary_words_are_told_in_little_endian(syntax: Any, vr: str, tag: int) -> None:
    size = {"OB": 1, "OW": 2, "OF": 4}[vr]
    order = "<" if syntax.is_little_endian else ">"
    raw = struct.pack(f"{order}2{ {1: 'B', 2: 'H', 4: 'I'}[size] }", 1, 2)
    data_set = Dataset()
    data_set.add(DataElement(tag, vr, raw))
    found = read(data_set, syntax)[f"{tag:08X}"]
    expected = struct.pack(f"<2{ {1: 'B', 2: 'H', 4: 'I'}[size] }", 1, 2)
    again = pydicom_data_set({f"{tag:08X}": found})[tag].value
    assert again == (expected if not syntax.is_implicit_VR or vr != "OB" else raw)


def test_private_attributes_are_kept() -> None:
    data_set = Dataset()
    block = data_set.private_block(0x0099, "AIRWAY TEST", create=True)
    block.add_new(0x01, "LO", "kept")
    explicit_vr = read(data_set)
    assert explicit_vr["00990010"]["Value"] == ["AIRWAY TEST"]
    assert explicit_vr["00991001"] == {"vr": "LO", "Value": ["kept"]}
    implicit_vr = read(data_set, ImplicitVRLittleEndian)
    assert implicit_vr["00990010"]["Value"] == ["AIRWAY TEST"]
    assert implicit_vr["00991001"] == {"vr": "UN", "InlineBinary": "a2VwdA=="}


@pytest.mark.parametrize(
    ("terms", "raw", "name"),
    [
        ("", b"M\xfcller", "Müller"),
        ("ISO_IR 100", b"M\xfcller", "Müller"),
        ("ISO_IR_100", b"M\xfcller", "Müller"),
        ("ISO_IR 192", "Ōkubo".encode(), "Ōkubo"),
        ("ISO_IR 144", b"\xbb\xee\xda", "Люк"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("\\ISO 2022 IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"),
        ("\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3", "Hong=洪"),
        ("ISO 2022 IR 6\\ISO 2022 IR 100", b"A\x1b-A\xc4^\xc4", "AÄ^Ä"),
    ],
    ids=["none", "Latin-1", "underscore", "UTF-8", "Cyrillic", "GB18030", "Japanese", "Korean", "escape"],
)
def test_the_peers_character_set(terms: str, raw: bytes, name: str) -> None:
    padded = raw + b" " * (len(raw) % 2)
    bytes_of_terms = terms.encode() + b" " * (len(terms) % 2)
    found = read_data_set(
        explicit(0x00080005, "CS", bytes_of_terms) + explicit(0x00100010, "PN", padded), EXPLICIT
    )
    assert not isinstance(found, Refused)
    value = first(found, "PatientName")
    assert value == dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))


def test_character_sets_of_items_become_one() -> None:
    inner = explicit(0x00080005, "CS", b"ISO_IR 100") + explicit(0x00080104, "LO", b"K\xf6ln")
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    outer = explicit(0x00080005, "CS", b"ISO_IR 192") + explicit(0x00404018, "SQ", item)
    found = read_data_set(outer + explicit(0x00741204, "LO", "Größe ".encode()), EXPLICIT)
    assert not isinstance(found, Refused)
    assert items(found, "ScheduledWorkitemCodeSequence") == [element("CodeMeaning", "Köln")]
    assert text(found, "ProcedureStepLabel") == "Größe"


def test_what_is_sent_is_unicode_only_where_it_must_be() -> None:
    plain = pydicom_data_set(element("ProcedureStepLabel", "plain"))
    assert "SpecificCharacterSet" not in plain
    inside = pydicom_data_set(element("ScheduledWorkitemCodeSequence", code(meaning="Größe")))
    assert inside.SpecificCharacterSet == "ISO_IR 192"
    again = decode(BytesIO(encoded(inside)), False, True)
    assert again.ScheduledWorkitemCodeSequence[0].CodeMeaning == "Größe"


def test_undefined_lengths_and_unknown_vrs_are_read() -> None:
    data_set = Dataset()
    inner = Dataset()
    inner.CodeValue = "A"
    data_set.ScheduledWorkitemCodeSequence = [inner, inner]
    data_set["ScheduledWorkitemCodeSequence"].is_undefined_length = True
    for item in data_set.ScheduledWorkitemCodeSequence:
        item.is_undefined_length_sequence_item = True
    assert len(items(read(data_set), "ScheduledWorkitemCodeSequence")) == 2
    implicit_item = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"A "
    body = struct.pack("<HHL", 0xFFFE, 0xE000, len(implicit_item)) + implicit_item
    found = read_data_set(explicit(0x00404018, "UN", body) + explicit(0x00741204, "UN", b"label "), EXPLICIT)
    assert not isinstance(found, Refused)
    assert items(found, "ScheduledWorkitemCodeSequence") == [element("CodeValue", "A")]
    assert text(found, "ProcedureStepLabel") == "label"


def test_numbers_are_written_as_long_as_they_may_be() -> None:
    sent = pydicom_data_set(element("ProcedureStepProgress", 0.1 + 0.2))
    again = read(sent)
    assert len(str(sent.ProcedureStepProgress)) <= 16
    assert first(again, "ProcedureStepProgress") == pytest.approx(0.3)


def test_empty_values_stay_empty() -> None:
    data_set = Dataset()
    data_set.PatientID = ""
    data_set.ReferencedRequestSequence = []
    data_set.OtherPatientNames = ["a", "", "b"]
    found = read(data_set)
    assert found[tag_key("PatientID")] == {"vr": "LO"}
    assert found[tag_key("ReferencedRequestSequence")] == {"vr": "SQ"}
    assert values(found, "OtherPatientNames") == [{"Alphabetic": "a"}, None, {"Alphabetic": "b"}]


def nested(depth: int) -> bytes:
    body = explicit(0x00080100, "SH", b"A ")
    for _ in range(depth):
        body = explicit(0x00404018, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body)
    return body


@pytest.mark.parametrize(
    ("raw", "code_", "path"),
    [
        (b"\x08", RefusalCode.MALFORMED, ""),
        (explicit(0x00741204, "LO", b"label ")[:-2], RefusalCode.MALFORMED, "ProcedureStepLabel"),
        (explicit(0x00741204, "XX", b"label "), RefusalCode.MALFORMED, "ProcedureStepLabel"),
        (explicit(0x00404018, "SQ", b"12345678"), RefusalCode.MALFORMED, "ScheduledWorkitemCodeSequence"),
        (nested(MAX_DEPTH + 1), RefusalCode.MALFORMED, "ScheduledWorkitemCodeSequence"),
        (bytes(MAX_DATA_SET_BYTES + 1), RefusalCode.MALFORMED, ""),
        (explicit(0x001021C0, "US", b"123"), RefusalCode.INVALID_ATTRIBUTES, "PregnancyStatus"),
        (explicit(0x00209165, "AT", b"12"), RefusalCode.INVALID_ATTRIBUTES, "DimensionIndexPointer"),
        (explicit(0x00080005, "CS", b"ISO_IR 999"), RefusalCode.INVALID_ATTRIBUTES, "SpecificCharacterSet"),
        (
            explicit(0x00080005, "CS", b"ISO_IR 192") + explicit(0x00741204, "LO", b"\xff\xfe"),
            RefusalCode.INVALID_ATTRIBUTES,
            "ProcedureStepLabel",
        ),
        (explicit(0x00741204, "LO", b"a ") * 2, RefusalCode.INVALID_ATTRIBUTES, "ProcedureStepLabel"),
    ],
    ids=[
        "one byte",
        "broken off",
        "no such VR",
        "no item",
        "too deep",
        "too long",
        "odd number",
        "half a tag",
        "character set",
        "no text",
        "twice",
    ],
)
def test_what_cannot_be_read_is_told(raw: bytes, code_: RefusalCode, path: str) -> None:
    found = read_data_set(raw, EXPLICIT)
    assert isinstance(found, Refused)
    assert found.code is code_
    assert path in found.faults[0].path


def test_all_unreadable_values_are_told() -> None:
    raw = (
        explicit(0x00101000, "LO", b"ok")
        + explicit(0x001021C0, "US", b"1")
        + explicit(0x0028_0010, "US", b"1")
    )
    found = read_data_set(raw, EXPLICIT)
    assert isinstance(found, Refused)
    assert [fault.path for fault in found.faults] == ["PregnancyStatus", "Rows"]


def test_other_transfer_syntaxes_are_told() -> None:
    found = read_data_set(b"", str(JPEGBaseline8Bit))
    assert isinstance(found, Refused)
    assert found.code is RefusalCode.MALFORMED


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=200), syntax=st.sampled_from(TRANSFER_SYNTAXES))
def test_no_bytes_raise(raw: bytes, syntax: str) -> None:
    found = read_data_set(raw, syntax)
    assert isinstance(found, Refused) or list(found) == sorted(found)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), syntax=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian]))
def test_no_damage_to_a_workitem_raises(data: st.DataObject, syntax: Any) -> None:
    raw = bytearray(encoded(pydicom_data_set(minimal(InputInformationSequence=instances())), syntax))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = read_data_set(raw, str(syntax))
    if not isinstance(found, Refused):
        written = DicomBytesIO()
        written.is_implicit_VR, written.is_little_endian = True, True
        kept = read_dataset(found)
        if not kept.faults:
            write_dataset(written, pydicom_data_set(kept.attributes))
            assert written.tell() > 0
