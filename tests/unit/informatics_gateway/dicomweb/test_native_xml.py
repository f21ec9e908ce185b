# SPDX-License-Identifier: Apache-2.0
"""The Native DICOM Model both ways, and XML that is hostile: PS3.19 A.1."""

from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from informatics_gateway.dicomweb.native_xml import (
    MAX_ELEMENTS,
    MAX_LEVELS,
    NAMESPACE,
    NativeXmlError,
    read,
    write,
)
from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.dataset import entry, read_dataset
from tests.contract.workitems import minimal, performed


def keyword(tag: str) -> str:
    return entry(tag).keyword


def model(*attributes: str) -> bytes:
    return f'<NativeDicomModel xmlns="{NAMESPACE}">{"".join(attributes)}</NativeDicomModel>'.encode()


def attribute(tag: str, vr: str, content: str = "", more: str = "") -> str:
    return f'<DicomAttribute tag="{tag}" vr="{vr}"{more}>{content}</DicomAttribute>'


PRIVATE = {
    "00991010": {"vr": "LO", "Value": ["ours"]},
    "00990010": {"vr": "LO", "Value": ["ACME 1.0"]},
}
DATA_SETS = [
    pytest.param({}, id="empty"),
    pytest.param(minimal(), id="workitem"),
    pytest.param(performed(), id="nested-sequences"),
    pytest.param(element("PatientName", "Doe^Jane^^Dr"), id="person-name"),
    pytest.param(
        {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]}},
        id="person-name-groups",
    ),
    pytest.param(element("PatientID", "a<b>&\"c'"), id="markup"),
    pytest.param(element("CommentsOnTheScheduledProcedureStep", " one\r\ntwo\t "), id="layout"),
    pytest.param({"00181153": {"vr": "IS", "Value": ["5", None, "7"]}}, id="empty-value-between"),
    pytest.param({"00189089": {"vr": "FD", "Value": [0.1, -2.0, 1e300]}}, id="numbers"),
    pytest.param({"00280010": {"vr": "US", "Value": [512]}}, id="whole-number"),
    pytest.param({"00420011": {"vr": "OB", "InlineBinary": "AAEC"}}, id="binary"),
    pytest.param(dict(sorted(PRIVATE.items())), id="private"),
    pytest.param({"00991010": {"vr": "LO", "Value": ["ours"]}}, id="private-without-creator"),
]


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_there_and_back(data_set: DicomJson) -> None:
    text = write(data_set, keyword)
    assert ElementTree.fromstring(text).tag == f"{{{NAMESPACE}}}NativeDicomModel"
    assert read_dataset(read(text)).attributes == read_dataset(data_set).attributes


def test_the_form_of_the_standard() -> None:
    data_set = merged([element("PatientName", "Doe^Jane"), PRIVATE, element("ReferencedRequestSequence", {})])
    root = ElementTree.fromstring(write(data_set, keyword))
    shown = [(one.get("tag"), one.get("vr"), one.get("keyword")) for one in root]
    assert shown == [
        ("00100010", "PN", "PatientName"),
        ("0040A370", "SQ", "ReferencedRequestSequence"),
        ("00990010", "LO", None),
    ]
    assert root[2].get("privateCreator") == "ACME 1.0"
    assert [part.tag.rpartition("}")[2] for part in root[0].iter()][1:] == [
        "PersonName",
        "Alphabetic",
        "FamilyName",
        "GivenName",
    ]
    assert root[1][0].get("number") == "1"


@pytest.mark.parametrize("text", ["bell\x07", "form\x0cfeed", "\ufffe", "\x1b[0m"])
def test_what_xml_cannot_hold_becomes_a_space(text: str) -> None:
    ElementTree.fromstring(write({"00400400": {"vr": "LT", "Value": [text]}}, keyword))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            b"<NativeDicomModel>"
            + attribute("00100020", "LO", "<Value>P</Value>").encode()
            + b"</NativeDicomModel>",
            {"00100020": {"vr": "LO", "Value": ["P"]}},
            id="no-namespace-no-number",
        ),
        pytest.param(
            model('<DicomAttribute keyword="PatientID" vr="LO"/>'),
            {"00100020": {"vr": "LO"}},
            id="by-keyword",
        ),
        pytest.param(model(attribute("0010004a", "LO")), {"0010004A": {"vr": "LO"}}, id="lower-case-tag"),
        pytest.param(
            model(attribute("00990010", "LO", '<Value number="1">x</Value>', ' privateCreator="ACME 1.0"')),
            {"00990010": {"vr": "LO", "Value": ["ACME 1.0"]}, "00991010": {"vr": "LO", "Value": ["x"]}},
            id="private-block-00",
        ),
        pytest.param(
            model(attribute("00100020", "LO", '<Value number="2">b</Value><Value number="1">a</Value>')),
            {"00100020": {"vr": "LO", "Value": ["a", "b"]}},
            id="out-of-order",
        ),
        pytest.param(
            model(attribute("00280010", "US", '<Value number="1">many</Value>')),
            {"00280010": {"vr": "US", "Value": ["many"]}},
            id="no-number-stays-for-the-check",
        ),
    ],
)
def test_lenient_reading(text: bytes, expected: DicomJson) -> None:
    assert read(text) == expected


def deep(levels: int) -> bytes:
    return b"<NativeDicomModel>" + b"<Item>" * levels + b"</Item>" * levels + b"</NativeDicomModel>"


BOMB = b'<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="json"),
        pytest.param(b"<NativeDicomModel>", id="unclosed"),
        pytest.param(b"<html/>", id="another-root"),
        pytest.param(b'<x:NativeDicomModel xmlns:x="urn:x"/>', id="another-namespace"),
        pytest.param(BOMB, id="entities"),
        pytest.param(b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>', id="external-subset"),
        pytest.param(b"<NativeDicomModel>&xxe;</NativeDicomModel>", id="unknown-entity"),
        pytest.param(b"<?php x?><NativeDicomModel/>", id="processing-instruction"),
        pytest.param(b'<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>', id="unknown-encoding"),
        pytest.param(b'<?xml version="1.0" encoding="utf-7"?><NativeDicomModel/>', id="stateful-encoding"),
        pytest.param("<NativeDicomModel>\xff</NativeDicomModel>".encode("latin-1"), id="not-utf-8"),
        pytest.param(deep(MAX_LEVELS + 1), id="deep"),
        pytest.param(
            b"<NativeDicomModel>" + b"<a/>" * (MAX_ELEMENTS + 1) + b"</NativeDicomModel>", id="many"
        ),
        pytest.param(model("<Value/>"), id="value-without-attribute"),
        pytest.param(model(attribute("0010", "LO")), id="tag"),
        pytest.param(model('<DicomAttribute vr="LO"/>'), id="no-tag"),
        pytest.param(model('<DicomAttribute keyword="NoSuchThing" vr="LO"/>'), id="keyword"),
        pytest.param(model(attribute("00100020", "LO") * 2), id="twice"),
        pytest.param(model(attribute("00100020", "LO", "<Other/>")), id="unknown-content"),
        pytest.param(model(attribute("00100020", "LO", '<Value number="0">a</Value>')), id="number-0"),
        pytest.param(
            model(attribute("00100020", "LO", '<Value number="99999">a</Value>')), id="number-large"
        ),
        pytest.param(
            model(attribute("00100020", "LO", '<Value number="1">a</Value><Value number="1">b</Value>')),
            id="number-twice",
        ),
        pytest.param(
            model(attribute("00100010", "PN", "<PersonName><Nickname/></PersonName>")), id="name-group"
        ),
        pytest.param(
            model(attribute("00100010", "PN", "<PersonName><Alphabetic><x/></Alphabetic></PersonName>")),
            id="name-part",
        ),
    ],
)
def test_what_is_no_model_is_refused(text: bytes) -> None:
    with pytest.raises(NativeXmlError):
        read(text)


def test_no_free_block_for_a_private_creator() -> None:
    taken = [attribute(f"009900{block:02X}", "LO", "<Value>OTHER</Value>") for block in range(0x10, 0x100)]
    mine = attribute("00990001", "LO", "", ' privateCreator="ACME"')
    with pytest.raises(NativeXmlError, match="no free block"):
        read(model(*taken, mine))


def test_bulk_data_is_passed_on_to_be_refused() -> None:
    found = read(model(attribute("00420011", "OB", '<BulkData uri="file:///etc/passwd"/>')))
    assert found == {"00420011": {"vr": "OB", "BulkDataURI": "file:///etc/passwd"}}
    assert read_dataset(found).faults


PIECES = st.sampled_from(
    [
        "<DicomAttribute>",
        '<DicomAttribute tag="00100010" vr="PN">',
        '<DicomAttribute tag="00404021" vr="SQ">',
        "</DicomAttribute>",
        '<Item number="1">',
        "</Item>",
        "<PersonName>",
        "</PersonName>",
        "<Value>x</Value>",
        '<Value number="-1"/>',
        "<InlineBinary>!</InlineBinary>",
        "&amp;",
        "<!-- -->",
        "<![CDATA[<]]>",
        "&#0;",
        "\x00",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=12))
def test_any_other_text_is_read_or_refused(pieces: list[str]) -> None:
    with suppress(NativeXmlError):
        assert isinstance(read_dataset(read(model(*pieces))).faults, tuple)
