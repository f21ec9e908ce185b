# SPDX-License-Identifier: Apache-2.0
"""DICOM dates and times as intervals, so that values of different precision compare by meaning.

A value of limited precision stands for everything it covers: ``2025`` is the whole year (PS3.5 6.2, DT).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_DT = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?(?:([+-])(\d{2})([0-5]\d))?", re.ASCII
)
_TM = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?", re.ASCII)
_EPOCH_DAY = (1970, 1, 1)
_FURTHEST_WEST, _FURTHEST_EAST = timedelta(hours=-12), timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Span:
    """The time a value covers: from `start` up to but not including `end`, aware UTC."""

    start: datetime
    end: datetime

    def holds(self, moment: datetime) -> bool:
        """Whether `moment` is inside."""
        return self.start <= moment < self.end


def _offset(sign: str | None, hours: str | None, minutes: str | None, default: timezone) -> timezone | None:
    if sign is None or hours is None or minutes is None:
        return default
    delta = timedelta(hours=int(hours), minutes=int(minutes))
    delta = -delta if sign == "-" else delta
    return timezone(delta) if _FURTHEST_WEST <= delta <= _FURTHEST_EAST else None


def _fraction_end(start: datetime, digits: str) -> datetime:
    return start + timedelta(microseconds=10 ** (6 - len(digits)))


def datetime_span(text: str, default: timezone = UTC) -> Span | None:
    """The span of a DT (or DA) value; None if it is not one. `default` is the offset of values without."""
    match = _DT.fullmatch(text.strip())
    if match is None:
        return None
    year, *parts, fraction, sign, hours, minutes = match.groups()
    zone = _offset(sign, hours, minutes, default)
    if zone is None or (fraction and parts[-1] is None):
        return None
    numbers = [int(part) for part in parts if part is not None]
    month, day, hour, minute, second = (*numbers, *(1, 1, 0, 0, 0)[len(numbers) :])
    leap = second == 60
    try:
        start = datetime(int(year), month, day, hour, minute, 59 if leap else second, tzinfo=zone)
        start += timedelta(seconds=1 if leap else 0, microseconds=int((fraction or "").ljust(6, "0")))
        if fraction:
            end = _fraction_end(start, fraction)
        elif len(numbers) == 0:
            end = start.replace(year=start.year + 1)
        elif len(numbers) == 1:
            end = (start.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            end = (
                start
                + (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))[
                    len(numbers) - 2
                ]
            )
        return Span(start.astimezone(UTC), end.astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def time_span(text: str) -> Span | None:
    """The span of a TM value on one and the same day; None if it is not one."""
    match = _TM.fullmatch(text.strip())
    if match is None or (match[4] and match[3] is None):
        return None
    clock = "".join(part or "" for part in match.groups()[:3]) + (f".{match[4]}" if match[4] else "")
    return datetime_span("".join(f"{n:02d}" for n in _EPOCH_DAY) + clock)


def dicom_datetime(moment: datetime) -> str:
    """DT text of an aware `moment`, in UTC with offset and microseconds where there are any.

    UTC is written because a negative offset in a single value cannot be told from a range (PS3.4 C.2.2.2.5).
    """
    moment = moment.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment.year:04d}{moment:%m%d%H%M%S}{fraction}+0000"
