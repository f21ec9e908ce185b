# SPDX-License-Identifier: Apache-2.0
"""Is this one value right for its VR? PS3.5 6.2 and the value column of PS3.18 table F.2.3-1.

:func:`checked` knows one value and one VR; attributes, sequences and paths are ``dataset.py``'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from profiles.uids import is_uid

_MAX_CHARACTERS: Mapping[str, int] = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
_ONE_LINE = frozenset({"SH", "LO", "UC"})
_NO_DELIMITER = frozenset({"SH", "LO", "UC"})
_INTEGER_RANGE: Mapping[str, tuple[int, int]] = {
    "US": (0, 2**16 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "UV": (0, 2**64 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "IS": (-(2**31), 2**31 - 1),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_CS = re.compile(r"[A-Z0-9_ ]{1,16}")
_AE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_AS = re.compile(r"\d{3}[DWMY]", re.ASCII)
_DA = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_TM = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_DT = re.compile(
    r"(\d{4})(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])(?:([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)"
    r"(?:\.\d{1,6})?)?)?)?)?)?(?:[+-](?:0\d|1[0-4])[0-5]\d)?",
    re.ASCII,
)
_DS = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_IS = re.compile(r"[+-]?\d{1,11}", re.ASCII)
_UR = re.compile(r"[^\s\x00-\x20\x7f\"<>\\^`{|}]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_AT = re.compile(r"[0-9A-Fa-f]{8}")

STRING_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
NUMBER_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
ALL_VRS = STRING_VRS | NUMBER_VRS | BINARY_VRS | {"PN", "SQ"}
_STRIPPED = frozenset({"AE", "AS", "AT", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


class InvalidValueError(ValueError):
    """The value does not fit; the message says what is allowed and never repeats the value."""


def _real_date(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _date(value: str) -> str:
    match = _DA.fullmatch(value)
    if match is None or not _real_date(*match.groups()):
        raise InvalidValueError("needs a date YYYYMMDD")
    return value


def _datetime(value: str) -> str:
    match = _DT.fullmatch(value)
    if match is None or int(match[1]) == 0:
        raise InvalidValueError("needs a date and time YYYYMMDDHHMMSS.FFFFFF&ZZXX")
    if match[3] is not None and not _real_date(match[1], match[2], match[3]):
        raise InvalidValueError("names a day that its month does not have")
    return value


def _pattern(pattern: re.Pattern[str], message: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise InvalidValueError(message)
        return value

    return check


def _uid(value: str) -> str:
    if not is_uid(value):
        raise InvalidValueError("needs a well-formed UID of at most 64 characters")
    return value


def _application_entity(value: str) -> str:
    if _AE.fullmatch(value) is None or not value.strip():
        raise InvalidValueError("needs an AE title of 1 to 16 printable ASCII characters")
    return value


_TEXT_CHECKS: Mapping[str, Callable[[str], str]] = {
    "AE": _application_entity,
    "AS": _pattern(_AS, "needs an age such as 045Y"),
    "AT": _pattern(_AT, "needs eight hexadecimal digits"),
    "CS": _pattern(_CS, "needs 1 to 16 of A-Z, 0-9, space and underscore"),
    "DA": _date,
    "DT": _datetime,
    "TM": _pattern(_TM, "needs a time HHMMSS.FFFFFF"),
    "UI": _uid,
    "UR": _pattern(_UR, "needs a URI without spaces"),
}


def _text(vr: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValueError("needs a string")
    if vr in _STRIPPED:
        value = value.strip(" \0")
        return _TEXT_CHECKS[vr](value) if value else ""
    if len(value) > _MAX_CHARACTERS.get(vr, len(value)):
        raise InvalidValueError(f"has more than {_MAX_CHARACTERS[vr]} characters")
    if (_CONTROL if vr in _ONE_LINE else _CONTROL_BUT_LAYOUT).search(value):
        raise InvalidValueError("holds a control character")
    if vr in _NO_DELIMITER and "\\" in value:
        raise InvalidValueError("holds a backslash, which separates values")
    return value


def _name(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        groups = value.split("=")
        if len(groups) > len(_NAME_GROUPS):
            raise InvalidValueError("has more than three component groups")
        value = dict(zip(_NAME_GROUPS, groups, strict=False))
    if not isinstance(value, dict) or not set(value) <= set(_NAME_GROUPS):
        raise InvalidValueError("needs an object with Alphabetic, Ideographic and Phonetic")
    for group in value.values():
        if not isinstance(group, str):
            raise InvalidValueError("needs a string in each component group")
        if len(group) > 64 or group.count("^") > 4:
            raise InvalidValueError("has a component group over 64 characters or five components")
        if _CONTROL.search(group) or "\\" in group or "=" in group:
            raise InvalidValueError("holds a control or delimiter character")
    return {name: value[name] for name in _NAME_GROUPS if value.get(name)}


def _integer(vr: str, value: Any) -> int | str:
    low, high = _INTEGER_RANGE[vr]
    number = value
    if isinstance(value, str):
        value = value.strip(" \0")
        if _IS.fullmatch(value) is None:
            raise InvalidValueError("needs a whole number")
        number = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise InvalidValueError(f"needs a whole number from {low} to {high}")
    return value if vr == "IS" else number


def _decimal(vr: str, value: Any) -> float | int | str:
    if isinstance(value, str):
        value = value.strip(" \0")
        if len(value) > 16 or _DS.fullmatch(value) is None:
            raise InvalidValueError("needs a decimal number of at most 16 characters")
        if not math.isfinite(float(value)):
            raise InvalidValueError("needs a finite number")
        return value if vr == "DS" else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError("needs a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError("needs a finite number")
    return value


def checked(vr: str, value: Any) -> Any:
    """`value` as it is kept: insignificant padding stripped, names as objects, everything else untouched.

    Raises
    ------
    InvalidValueError
        If the value does not fit the VR; sequences are not values and fail too.
    """
    if vr == "PN":
        return _name(value)
    if vr in _INTEGER_RANGE:
        return _integer(vr, value)
    if vr in NUMBER_VRS:
        return _decimal(vr, value)
    if vr in STRING_VRS:
        return _text(vr, value)
    raise InvalidValueError("cannot be given as Value")


def checked_binary(value: Any) -> str:
    """`value` if it is base64 text of InlineBinary.

    Raises
    ------
    InvalidValueError
        If it is not.
    """
    if not isinstance(value, str) or len(value) % 4 or _BASE64.fullmatch(value) is None:
        raise InvalidValueError("needs base64 text")
    return value


def fits(vr: str, value: Any) -> bool:
    """Whether `value` is right for `vr`."""
    try:
        checked(vr, value)
    except InvalidValueError:
        return False
    return True


def is_ae_title(text: str) -> bool:
    """Whether `text` names an application entity as it stands: spaces around it do no harm, NUL does."""
    return _AE.fullmatch(text) is not None and not text.isspace()
