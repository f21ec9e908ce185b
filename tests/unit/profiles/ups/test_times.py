# SPDX-License-Identifier: Apache-2.0
"""Dates and times as intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.ups.times import datetime_span, dicom_datetime, time_span
from profiles.ups.values import fits


def utc(year: int, month: int, day: int, *clock: int) -> datetime:
    hour, minute, second, microsecond = (*clock, *(0,) * (4 - len(clock)))
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", utc(2026, 1, 1), utc(2027, 1, 1)),
        ("202602", utc(2026, 2, 1), utc(2026, 3, 1)),
        ("202612", utc(2026, 12, 1), utc(2027, 1, 1)),
        ("20260228", utc(2026, 2, 28), utc(2026, 3, 1)),
        ("2026030112", utc(2026, 3, 1, 12), utc(2026, 3, 1, 13)),
        ("202603011230", utc(2026, 3, 1, 12, 30), utc(2026, 3, 1, 12, 31)),
        ("20260301123015", utc(2026, 3, 1, 12, 30, 15), utc(2026, 3, 1, 12, 30, 16)),
        ("20260301123015.5", utc(2026, 3, 1, 12, 30, 15, 500000), utc(2026, 3, 1, 12, 30, 15, 600000)),
        ("20260301120000+0100", utc(2026, 3, 1, 11), utc(2026, 3, 1, 11, 0, 1)),
        ("20260301000000-0500", utc(2026, 3, 1, 5), utc(2026, 3, 1, 5, 0, 1)),
        ("20260301235960", utc(2026, 3, 2), utc(2026, 3, 2, 0, 0, 1)),
        (" 2026 ", utc(2026, 1, 1), utc(2027, 1, 1)),
    ],
)
def test_spans(text: str, start: datetime, end: datetime) -> None:
    span = datetime_span(text)
    assert span is not None
    assert (span.start, span.end) == (start, end)
    assert span.holds(start)
    assert not span.holds(end)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "26",
        "20261301",
        "20260230",
        "2026030125",
        "x",
        "2026+1900",
        "20260301-2030",
        "2026.5",
        "9999",
        "0000",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert datetime_span(text) is None


def test_the_default_offset() -> None:
    span = datetime_span("2026030112", timezone(timedelta(hours=2)))
    assert span is not None
    assert span.start == utc(2026, 3, 1, 10)


@pytest.mark.parametrize(("text", "hours"), [("00", 1.0), ("1230", 1 / 60), ("123015", 1 / 3600)])
def test_times_of_day(text: str, hours: float) -> None:
    span = time_span(text)
    assert span is not None
    assert span.end - span.start == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "1", "24", "1260", "123061", "12.5", "12:30"])
def test_what_is_no_time_of_day(text: str) -> None:
    assert time_span(text) is None


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))
def test_written_times_are_read_back(moment: datetime) -> None:
    text = dicom_datetime(moment)
    span = datetime_span(text)
    assert fits("DT", text)
    assert span is not None
    assert span.start == moment
