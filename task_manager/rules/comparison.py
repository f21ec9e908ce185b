# SPDX-License-Identifier: Apache-2.0
"""How values compare: as text without case, with wild cards, or as numbers, dates, times and ages.

Pure functions over text; a value that cannot be read as the kind asked for gives None, never an error.
"""

from __future__ import annotations

import math
import re
from datetime import date

NUMERIC_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"(\d{4})([-.]?)(\d{2})\2(\d{2})", re.ASCII)
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?", re.ASCII)
_DATE_TIME = re.compile(r"(\d{4}-?\d{2}-?\d{2})[T ]?([0-9:.]*?)([+-]\d{4})?", re.ASCII)
_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_DAY_S = 86_400


def same_text(one: str, other: str) -> bool:
    """Whether two texts are equal, ignoring case and surrounding blanks."""
    return one.strip().casefold() == other.strip().casefold()


def equal(vr: str, value: str, wanted: str) -> bool:
    """Whether a value of representation `vr` is `wanted`; ``1.50`` and ``1.5`` are one number."""
    if vr in NUMERIC_VRS:
        one, other = number(value), number(wanted)
        if one is not None and other is not None:
            return one == other
    return same_text(value, wanted)


def like(value: str, pattern: str) -> bool:
    """Whether the whole of `value` is like `pattern` (``*``, ``?``), ignoring case.

    What lies between stars is taken where it is found first, so no value makes this go back and forth.
    """
    text, wild = value.strip().casefold(), pattern.strip().casefold()
    first, *middle = wild.split("*")
    if not middle:
        return len(text) == len(wild) and _stands_at(text, wild, 0)
    last = middle.pop()
    at, end = len(first), len(text) - len(last)
    if at > end or not _stands_at(text, first, 0) or not _stands_at(text, last, end):
        return False
    for part in middle:
        at = _found(text, part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _found(text: str, part: str, at: int, end: int) -> int:
    """Where `part` (with ``?``) first stands in ``text[at:end]``, or -1."""
    if "?" not in part:
        return text.find(part, at, end)
    places = range(at, end - len(part) + 1)
    return next((place for place in places if _stands_at(text, part, place)), -1)


def _stands_at(text: str, part: str, at: int) -> bool:
    if "?" not in part:
        return text.startswith(part, at)
    return all(wanted in ("?", found) for wanted, found in zip(part, text[at : at + len(part)], strict=True))


def number(text: str) -> float | None:
    """The number that `text` is, or None; no infinities, no NaN."""
    found = float(text) if _NUMBER.fullmatch(text.strip()) else None
    return found if found is not None and math.isfinite(found) else None


def comparable(vr: str, text: str) -> float | None:
    """Where `text` lies on the scale of `vr`, or None if it does not.

    Dates (DA) in days, times (TM) in seconds, date-times (DT) in seconds, ages (AS) in years, a plain number
    for an age being years; everything else by number, or by date when written with dashes.
    """
    text = text.strip()
    match vr:
        case "DA":
            return _days(text)
        case "TM":
            return _seconds(text)
        case "DT":
            return _moment(text)
        case "AS":
            age = _AGE.fullmatch(text)
            return int(age.group(1)) * _YEARS[age.group(2)] if age else number(text)
        case _:
            found = number(text)
            return found if found is not None else _days(text)


def _days(text: str) -> float | None:
    found = _DATE.fullmatch(text)
    if not found:
        return None
    try:
        return float(date(int(found.group(1)), int(found.group(3)), int(found.group(4))).toordinal())
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + second + float(found.group(4) or 0)


def _moment(text: str) -> float | None:
    """Seconds, UTC when the text has an offset; without one the text is taken as UTC."""
    found = _DATE_TIME.fullmatch(text)
    days = _days(found.group(1)) if found else None
    if found is None or days is None:
        return None
    seconds = _seconds(found.group(2)) if found.group(2) else 0.0
    if seconds is None:
        return None
    offset = found.group(3)
    if not offset:
        return days * _DAY_S + seconds
    shift = int(offset[1:3]) * 3600 + int(offset[3:]) * 60
    return days * _DAY_S + seconds + (shift if offset[0] == "-" else -shift)
