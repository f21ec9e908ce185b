# SPDX-License-Identifier: Apache-2.0
"""Reading attributes that anybody may have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from profiles.air.items import code, items, moment, number, offset_of, text, whole_number
from profiles.codes import Code


def with_value(keyword: str, value: Any) -> Dataset:
    dataset = Dataset()
    setattr(dataset, keyword, value)
    return dataset


def raw(tag: int, vr: str, value: bytes) -> Dataset:
    """A dataset as a file gave it, its value not yet decoded."""
    return Dataset({Tag(tag): RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)})


@pytest.mark.parametrize(
    ("dataset", "keyword", "expected"),
    [
        pytest.param(with_value("PatientID", " P1 "), "PatientID", "P1", id="padded"),
        pytest.param(with_value("PatientID", None), "PatientID", "", id="empty"),
        pytest.param(Dataset(), "PatientID", "", id="absent"),
        pytest.param(with_value("SoftwareVersions", ["1", "2"]), "SoftwareVersions", "1", id="first"),
        pytest.param(with_value("SoftwareVersions", []), "SoftwareVersions", "", id="none of several"),
        pytest.param(raw(0x00280010, "US", b"\1"), "Rows", "", id="one byte of two"),
        pytest.param(raw(0x00100020, "??", b"x"), "PatientID", "", id="unknown VR"),
        pytest.param(Dataset(), "NoSuchKeyword", "", id="unknown keyword"),
    ],
)
def test_text(dataset: Dataset, keyword: str, expected: str) -> None:
    assert text(dataset, keyword) == expected


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        pytest.param(raw(0x0040A30A, "DS", b"1.5 "), 1.5, id="a number"),
        pytest.param(raw(0x0040A30A, "DS", b"1e3"), 1000.0, id="exponent"),
        pytest.param(raw(0x0040A30A, "DS", b"one"), None, id="no number"),
        pytest.param(raw(0x0040A30A, "DS", b"nan"), None, id="not a number"),
        pytest.param(raw(0x0040A30A, "DS", b"inf"), None, id="infinite"),
        pytest.param(Dataset(), None, id="absent"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom's, of the malformed values
def test_number(dataset: Dataset, expected: float | None) -> None:
    assert number(dataset, "NumericValue") == expected


@pytest.mark.parametrize(("written", "expected"), [(b"3", 3), (b"-1", -1), (b"", None)])
def test_whole_number(written: bytes, expected: int | None) -> None:
    assert whole_number(raw(0x00200013, "IS", written), "InstanceNumber") == expected


def test_a_fraction_is_no_whole_number() -> None:
    assert whole_number(raw(0x0040A30A, "DS", b"1.5"), "NumericValue") is None


def coded(**attributes: str) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return with_value("ConceptNameCodeSequence", [item])


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        pytest.param(
            coded(CodeValue="39607008", CodingSchemeDesignator="SCT", CodeMeaning="Lung"),
            Code("39607008", "SCT", "Lung"), id="code",
        ),
        pytest.param(
            coded(CodeValue="T-28000", CodingSchemeDesignator="SRT", CodeMeaning="Lung"),
            Code("39607008", "SCT", "Lung"), id="retired code",
        ),
        pytest.param(
            coded(CodeValue="Z-1", CodingSchemeDesignator="SRT", CodeMeaning="?"),
            Code("Z-1", "SRT", "?"), id="retired code without successor",
        ),
        pytest.param(
            coded(LongCodeValue="1" * 20, CodingSchemeDesignator="SCT", CodeMeaning="Long"),
            Code("1" * 20, "SCT", "Long"), id="long code",
        ),
        pytest.param(coded(CodeValue="1"), None, id="no scheme"),
        pytest.param(coded(CodingSchemeDesignator="SCT"), None, id="no value"),
        pytest.param(with_value("ConceptNameCodeSequence", []), None, id="no item"),
        pytest.param(Dataset(), None, id="absent"),
    ],
)  # fmt: skip
def test_code(dataset: Dataset, expected: Code | None) -> None:
    assert code(dataset, "ConceptNameCodeSequence") == expected


@pytest.mark.parametrize(
    "dataset", [Dataset(), with_value("PatientID", "x")], ids=["absent", "other attribute"]
)
def test_what_is_no_sequence_has_no_items(dataset: Dataset) -> None:
    assert items(dataset, "ContentSequence") == []
    assert items(dataset, "PatientID") == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("20260302091011", datetime(2026, 3, 2, 9, 10, 11, tzinfo=UTC), id="to the second"),
        pytest.param("20260302091011.25", datetime(2026, 3, 2, 9, 10, 11, 250000, tzinfo=UTC), id="fraction"),
        pytest.param("202603020910", datetime(2026, 3, 2, 9, 10, tzinfo=UTC), id="to the minute"),
        pytest.param("20260302", datetime(2026, 3, 2, tzinfo=UTC), id="day"),
        pytest.param(
            "20260302091011+0530",
            datetime(2026, 3, 2, 9, 10, 11, tzinfo=timezone(timedelta(hours=5, minutes=30))), id="offset",
        ),
        pytest.param("20260302235960", datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC), id="leap second"),
        pytest.param("20260230", None, id="no such day"),
        pytest.param("2026030225", None, id="no such hour"),
        pytest.param("", None, id="empty"),
        pytest.param("00000000", None, id="zeros"),
        pytest.param("99991231235959", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="last"),
    ],
)  # fmt: skip
def test_moment(written: str, expected: datetime | None) -> None:
    assert moment(written, UTC) == expected


@pytest.mark.parametrize("written", ["", "0100", "+1500", "+0160", "+01:00", "+01", "٠٠٠٠٠"])
def test_a_malformed_offset_is_none(written: str) -> None:
    assert offset_of(written) is None
