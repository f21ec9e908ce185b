# SPDX-License-Identifier: Apache-2.0
"""Reading attributes and content items of objects that anybody may have written.

Every function answers with an empty value where an attribute is absent or cannot be decoded; the caller
decides what that means. Nothing here raises on bad data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from profiles.codes import Code

_UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    NotImplementedError,
    ArithmeticError,
    BytesLengthException,
)
_DATE_TIME = re.compile(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?\s*([+-]\d{4})?")


def text(dataset: Dataset, keyword: str) -> str:
    """The attribute as text without padding; the first of several values."""
    try:
        value = dataset[keyword].value
        if isinstance(value, MultiValue | list):
            value = value[0] if value else None
        return "" if value is None else str(value).strip(" \0")
    except _UNREADABLE:
        return ""


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence."""
    try:
        element = dataset[keyword]
        return (
            [item for item in element.value or () if isinstance(item, Dataset)] if element.VR == "SQ" else []
        )
    except _UNREADABLE:
        return []


def number(dataset: Dataset, keyword: str) -> float | None:
    """The attribute as a finite number."""
    try:
        value = float(text(dataset, keyword))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """The attribute as an integer."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value.is_integer() else None


def numbers(dataset: Dataset, keyword: str, count: int) -> list[float] | None:
    """The attribute as exactly `count` finite numbers."""
    try:
        found = [float(value) for value in dataset[keyword].value]
    except _UNREADABLE:
        return None
    return found if len(found) == count and all(math.isfinite(value) for value in found) else None


def code(dataset: Dataset, keyword: str) -> Code | None:
    """The first code of a code sequence; retired SNOMED codes (SRT) become their SCT equivalents."""
    for item in items(dataset, keyword)[:1]:
        value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
        scheme = text(item, "CodingSchemeDesignator")
        if scheme in ("SRT", "SNM3", "99SDM"):
            value, scheme = _without_retirement(value, scheme)
        if value and scheme:
            return Code(value, scheme, text(item, "CodeMeaning"))
    return None


def _without_retirement(value: str, scheme: str) -> tuple[str, str]:
    """The SCT equivalent of a retired SNOMED code, or the code as it is."""
    # the table takes a second to import, and only old reports need it
    from pydicom.sr._snomed_dict import mapping

    found = mapping["SRT"].get(value)
    return (value, scheme) if found is None else (str(found), "SCT")


def is_named(item: Dataset, name: Code) -> bool:
    """Whether a content item has this concept name."""
    found = code(item, "ConceptNameCodeSequence")
    return found is not None and found.same_concept(name)


def children(item: Dataset, name: Code, value_type: str) -> Iterator[Dataset]:
    """The content items one level down that have this concept name and value type."""
    for child in items(item, "ContentSequence"):
        if text(child, "ValueType") == value_type and is_named(child, name):
            yield child


def child_code(item: Dataset, name: Code) -> Code | None:
    """The value of the first CODE of this name one level down."""
    return next((code(child, "ConceptCodeSequence") for child in children(item, name, "CODE")), None)


def child_texts(item: Dataset, name: Code) -> list[str]:
    """The values of all TEXTs of this name one level down."""
    return [text(child, "TextValue") for child in children(item, name, "TEXT")]


def child_text(item: Dataset, name: Code) -> str:
    """The value of the first TEXT of this name one level down."""
    return next(iter(child_texts(item, name)), "")


def child_uid(item: Dataset, name: Code) -> str:
    """The value of the first UIDREF of this name one level down."""
    return next((text(child, "UID") for child in children(item, name, "UIDREF")), "")


def moment(written: str, zone: tzinfo) -> datetime | None:
    """The aware time of a DT text, in its own offset if it has one, else in `zone`; None if it is no time."""
    parts = _DATE_TIME.fullmatch(written.strip())
    if parts is None:
        return None
    date, hours, minutes, seconds, fraction, offset = parts.groups()
    own = offset_of(offset) if offset else None
    try:
        start = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), int(hours or 0), int(minutes or 0),
                         tzinfo=own or zone)  # fmt: skip
        return start + timedelta(
            seconds=min(int(seconds or 0), 59), microseconds=int((fraction or "0").ljust(6, "0"))
        )
    except (ValueError, OverflowError):
        return None


def offset_of(written: str) -> tzinfo | None:
    """The zone of an offset such as ``+0100`` (PS3.3 C.12.1 TimezoneOffsetFromUTC); None if it is none."""
    if re.fullmatch(r"[+-]\d{4}", written) is None or int(written[1:3]) > 14 or int(written[3:]) > 59:
        return None
    offset = timedelta(hours=int(written[1:3]), minutes=int(written[3:]))
    return timezone(offset if written[0] == "+" else -offset)
