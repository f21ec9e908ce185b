# SPDX-License-Identifier: Apache-2.0
"""HL7 v2 data types in DICOM form and back: names, times, codes, priorities.

Functions here return what the value means, or None where it means nothing; what a missing value comes to
is decided by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from profiles.codes import Code
from profiles.hl7.message import Encoding, Repetition
from profiles.order import Priority

_TIME = re.compile(
    r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,4}))?)?)?)?(?:([+-])(\d{2})(\d{2}))?",
    re.ASCII,
)
# Interval priorities (table 0485): TS, TM, TH, TD, TW, TL with an optional number
_TIMING_CRITICAL = re.compile(r"T([SMHDWL][0-9]{0,4})?")
MAX_TEXT = 64


def time_of(text: str, zone: tzinfo) -> datetime | None:
    """The aware time of a TS or DTM value with at least a day; `zone` where it names none.

    References
    ----------
    HL7 v2.5.1 chapter 2.A.22 (DTM).
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    if not 1800 <= int(year) <= 2999:
        return None
    try:
        if sign:
            offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
            zone = timezone(offset if sign == "+" else -offset)
        return datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(6, "0")),
            tzinfo=zone,
        )
    except ValueError:
        return None


def date_of(text: str) -> str | None:
    """The DICOM DA of a TS or DT value: empty if it names no whole day, None if it is no date."""
    if re.fullmatch(r"\d{4}(\d{2})?", text, re.ASCII):
        return ""
    return None if time_of(text, UTC) is None else text[:8]


def line_of(text: str, limit: int = MAX_TEXT) -> str:
    """`text` as one value of a DICOM LO: no control characters, no backslash, at most `limit` characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\\]+", " ", text).split())[:limit].strip()


def _name_part(text: str) -> str:
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\\^=]+", " ", text).split())


def person_name_of(value: Repetition, *, first: int = 1) -> str:
    """The DICOM PN group of an XPN (`first` 1) or XCN (`first` 2) value.

    HL7 has family, given, middle, suffix, prefix; DICOM has the prefix before the suffix. Of a compound
    family name (FN) the surname is taken.

    References
    ----------
    HL7 v2.5.1 chapter 2.A.88, 2.A.86; PS3.5 6.2.1.
    """
    family, given, middle, suffix, prefix = (_name_part(value.text(first + n)) for n in range(5))
    return "^".join([family, given, middle, prefix, suffix]).rstrip("^")


def patient_name_of(values: Sequence[Repetition]) -> str:
    """The PN of PID-5: alphabetic, ideographic and phonetic groups by XPN-8, legal names (L) first.

    References
    ----------
    HL7 tables 0200, 4000; PS3.5 6.2.1.2.
    """
    groups = {"A": "", "I": "", "P": ""}
    for value in sorted(values, key=lambda value: value.text(7) not in ("L", "D", "")):
        code = value.text(8).upper()
        group = code if code in groups else "A"
        groups[group] = groups[group] or person_name_of(value)
    return "=".join(groups.values()).rstrip("=")


def xpn_of(name: str, encoding: Encoding) -> str:
    """PID-5 for a DICOM PN, one repetition per group."""
    repetitions = []
    for group, code in zip(name.split("=", 2), "AIP", strict=False):
        parts = [*group.split("^", 5), "", "", "", "", ""][:5]
        family, given, middle, prefix, suffix = (encoding.encoded(part) for part in parts)
        if any(parts):
            fields = [family, given, middle, suffix, prefix, "", "L", code]
            repetitions.append(encoding.component.join(fields))
    return encoding.repetition.join(repetitions)


def code_of(value: Repetition, *, first: int = 1) -> Code | None:
    """The code of a CE or CWE value; None without an identifier.

    A value without a coding system is a local code (CE.3 in HL7 v2.5.1 chapter 2.A.12): scheme ``L``.
    """
    identifier, meaning, scheme = (line_of(value.text(first + n)) for n in range(3))
    return Code(identifier, scheme[:16] or "L", meaning or identifier) if identifier else None


def priority_of(text: str, *, routine: Priority) -> Priority | None:
    """The UPS priority of a table 0485 value; None if the table has no such value.

    References
    ----------
    HL7 table 0485; PS3.3 C.30.2: HIGH is urgent or STAT, LOW is routine, MEDIUM lies between. Sites that
    keep LOW for batch work read R as MEDIUM.
    """
    value = text.upper()
    if value in ("S", "STAT", "A", "ASAP", "P", "C"):
        return Priority.HIGH
    if value in ("R", "ROUTINE"):
        return routine
    if value == "PRN" or _TIMING_CRITICAL.fullmatch(value):
        return Priority.MEDIUM
    return None
