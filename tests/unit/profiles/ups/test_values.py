# SPDX-License-Identifier: Apache-2.0
"""Values against their VR: PS3.5 6.2."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.ups.values import (
    ALL_VRS,
    InvalidValueError,
    checked,
    checked_binary,
    fits,
    is_ae_title,
)

GOOD: list[tuple[str, Any, Any]] = [
    ("AE", " PACS1 ", "PACS1"),
    ("AS", "045Y", "045Y"),
    ("AT", "00404021", "00404021"),
    ("CS", "IN PROGRESS", "IN PROGRESS"),
    ("CS", "READY ", "READY"),
    ("DA", "20240229", "20240229"),
    ("DS", "1.50", "1.50"),
    ("DS", -2.5, -2.5),
    ("DS", "1E-3", "1E-3"),
    ("DT", "2024", "2024"),
    ("DT", "20240229235960.123456+1400", "20240229235960.123456+1400"),
    ("FD", "1.5", 1.5),
    ("FL", 2, 2),
    ("IS", "+12", "+12"),
    ("IS", 12, 12),
    ("LO", " text kept as it is ", " text kept as it is "),
    ("LT", "two\r\nlines\t\\", "two\r\nlines\t\\"),
    (
        "PN",
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"},
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"},
    ),
    ("PN", "Yamada^Tarou=山田^太郎", {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}),
    ("PN", {"Alphabetic": ""}, {}),
    ("SH", "x" * 16, "x" * 16),
    ("TM", "2359", "2359"),
    ("TM", "235959.5", "235959.5"),
    ("UC", "y" * 500, "y" * 500),
    ("UI", "1.2.840 ", "1.2.840"),
    ("UL", 4294967295, 4294967295),
    ("UR", "https://a.test/x?y=1#z", "https://a.test/x?y=1#z"),
    ("US", "7", 7),
    ("US", 7.0, 7),
    ("SS", -32768, -32768),
    ("UT", "long", "long"),
    ("CS", "   ", ""),
]
BAD: list[tuple[str, Any]] = [
    ("AE", "more than sixteen"),
    ("AE", "back\\slash"),
    ("AS", "45"),
    ("AT", "0040402"),
    ("CS", "lower"),
    ("CS", "A" * 17),
    ("DA", "20230229"),
    ("DA", "2024-01-01"),
    ("DA", "２０２４０１０１"),
    ("DS", "1,5"),
    ("DS", "1" * 17),
    ("DS", "9e9999"),
    ("DS", True),
    ("DS", float("nan")),
    ("DS", float("inf")),
    ("DT", "20240230"),
    ("DT", "0000"),
    ("DT", "20240101120000+1900"),
    ("DT", "2024010112.5"),
    ("FD", "one"),
    ("IS", "2147483648"),
    ("IS", 1.5),
    ("IS", "1e3"),
    ("IS", False),
    ("LO", "x" * 65),
    ("LO", "a\\b"),
    ("LO", "a\nb"),
    ("LO", 5),
    ("LT", "bell\x07"),
    ("LT", "nul\x00"),
    ("LT", "x" * 10241),
    ("PN", {"Alphabetic": 5}),
    ("PN", {"Romaji": "x"}),
    ("PN", "a=b=c=d"),
    ("PN", {"Alphabetic": "a^b^c^d^e^f"}),
    ("PN", {"Alphabetic": "x" * 65}),
    ("PN", {"Alphabetic": "a\x00"}),
    ("SH", "x" * 17),
    ("SL", 2**31),
    ("TM", "2400"),
    ("TM", "12:30"),
    ("UI", "1.02.3"),
    ("UI", "1." + "2" * 64),
    ("UI", "a.b"),
    ("UL", -1),
    ("UR", "with space"),
    ("US", 10**30),
    ("OB", "AAAA"),
    ("SQ", {}),
    ("UN", "x"),
]


@pytest.mark.parametrize(("vr", "value", "kept"), GOOD, ids=[f"{vr} {value!r:.30}" for vr, value, _ in GOOD])
def test_values_that_fit(vr: str, value: Any, kept: Any) -> None:
    assert checked(vr, value) == kept
    assert fits(vr, value)


@pytest.mark.parametrize(("vr", "value"), BAD, ids=[f"{vr} {value!r:.30}" for vr, value in BAD])
def test_values_that_do_not_fit(vr: str, value: Any) -> None:
    with pytest.raises(InvalidValueError):
        checked(vr, value)
    assert not fits(vr, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PACS1", True),
        (" PACS 1 ", True),
        ("A" * 17, False),
        ("", False),
        ("  ", False),
        ("PACS1\0", False),
        ("\0", False),
        ("PACS\n", False),
        ("back\\slash", False),
        ("été", False),
    ],
)
def test_ae_titles(text: str, expected: bool) -> None:
    assert is_ae_title(text) is expected


@pytest.mark.parametrize("binary", ["", "QUJD", "QUI=", "QQ=="])
def test_base64_is_binary(binary: str) -> None:
    assert checked_binary(binary) == binary


@pytest.mark.parametrize("binary", ["QUJ", "Q U=", 5, None, "====="])
def test_other_text_is_not_binary(binary: Any) -> None:
    with pytest.raises(InvalidValueError):
        checked_binary(binary)


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dictionaries(st.sampled_from(["Alphabetic", "Phonetic", "x"]), st.text() | st.integers())
)


@settings(max_examples=300, deadline=None)
@given(vr=st.sampled_from(sorted(ALL_VRS)), value=ANYTHING)
def test_any_value_is_kept_or_refused(vr: str, value: Any) -> None:
    if fits(vr, value):
        kept = checked(vr, value)
        assert kept in ("", {}) or checked(vr, kept) == kept
