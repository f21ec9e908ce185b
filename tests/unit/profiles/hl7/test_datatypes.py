# SPDX-License-Identifier: Apache-2.0
"""HL7 data types in DICOM form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from profiles.codes import Code
from profiles.hl7 import datatypes
from profiles.hl7.message import Encoding, Repetition
from profiles.order import Priority

EAST = timezone(timedelta(hours=2))


def value(raw: str) -> Repetition:
    return Repetition(raw, Encoding())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260504", datetime(2026, 5, 4, tzinfo=EAST)),
        ("2026050409", datetime(2026, 5, 4, 9, tzinfo=EAST)),
        ("202605040910", datetime(2026, 5, 4, 9, 10, tzinfo=EAST)),
        ("20260504091011", datetime(2026, 5, 4, 9, 10, 11, tzinfo=EAST)),
        ("20260504091011.25", datetime(2026, 5, 4, 9, 10, 11, 250000, tzinfo=EAST)),
        ("20260504091011-0530", datetime(2026, 5, 4, 14, 40, 11, tzinfo=UTC)),
        ("20260504+0000", datetime(2026, 5, 4, tzinfo=UTC)),
        ("2026", None),
        ("202605", None),
        ("20261304", None),
        ("20260230", None),
        ("2026050425", None),
        ("20260504+2500", None),
        ("00010101+1400", None),
        ("99991231-1400", None),
        ("٢٠٢٦٠٥٠٤", None),
        ("4 May 2026", None),
        ("", None),
    ],
)
def test_times(text: str, expected: datetime | None) -> None:
    assert datatypes.time_of(text, EAST) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("19700101", "19700101"),
        ("197001011230", "19700101"),
        ("1970", ""),
        ("197001", ""),
        ("19700132", None),
        ("1970-01-01", None),
        ("19700101x", None),
    ],
)
def test_dates(text: str, expected: str | None) -> None:
    assert datatypes.date_of(text) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param("Roe^Jane^Q^Jr^Dr^MD^L", "Roe^Jane^Q^Dr^Jr", id="prefix-before-suffix"),
        pytest.param("Roe", "Roe", id="family-only"),
        pytest.param("von Roe&von&Roe^Jane", "von Roe^Jane", id="compound-family-name"),
        pytest.param(r"O\S\Roe\E\=x^Jane", "O Roe x^Jane", id="delimiters-of-pn-inside"),
        pytest.param("Alias^A^^^^^A~Roe^Jane^^^^^L", "Roe^Jane", id="legal-before-alias"),
        pytest.param(
            "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            id="representations",
        ),
        pytest.param("山田^太郎^^^^^L^I", "=山田^太郎", id="ideographic-only"),
        pytest.param('""', "", id="delete"),
        pytest.param("", "", id="empty"),
    ],
)
def test_patient_names(field: str, expected: str) -> None:
    values = [value(part) for part in field.split("~")]
    assert datatypes.patient_name_of(values) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Roe^Jane",
        "Roe^Jane^Q^Dr^Jr",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "=山田^太郎",
        "Roe",
        "A&B|C~D^E",
    ],
)
def test_names_go_to_hl7_and_back(name: str) -> None:
    field = datatypes.xpn_of(name, Encoding())
    assert datatypes.patient_name_of([value(part) for part in field.split("~")]) == name


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("CTCHEST^CT chest^99LOC", Code("CTCHEST", "99LOC", "CT chest")),
        ("CTCHEST^CT chest", Code("CTCHEST", "L", "CT chest")),
        ("CTCHEST", Code("CTCHEST", "L", "CTCHEST")),
        ("^CT chest^99LOC", None),
        ("", None),
    ],
)
def test_codes(field: str, expected: Code | None) -> None:
    assert datatypes.code_of(value(field)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S", Priority.HIGH),
        ("STAT", Priority.HIGH),
        ("A", Priority.HIGH),
        ("P", Priority.HIGH),
        ("C", Priority.HIGH),
        ("R", Priority.LOW),
        ("r", Priority.LOW),
        ("T", Priority.MEDIUM),
        ("TM30", Priority.MEDIUM),
        ("TL2", Priority.MEDIUM),
        ("PRN", Priority.MEDIUM),
        ("X", None),
        ("TX", None),
    ],
)
def test_priorities(text: str, expected: Priority | None) -> None:
    """Table 0485; R is what the site says it is."""
    assert datatypes.priority_of(text, routine=Priority.LOW) == expected


def test_a_line_is_one_value_of_a_dicom_attribute() -> None:
    assert datatypes.line_of("a\\b\r\n\tc\x07 " + "x" * 100) == "a b c " + "x" * 58
