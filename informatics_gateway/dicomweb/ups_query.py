# SPDX-License-Identifier: Apache-2.0
"""The query of a workitem search: PS3.18 8.3 and 11.9, from text to keys, with every fault.

Unknown parameters are ignored as 8.3 asks; a known one with a bad value is a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qsl

from pydicom.datadict import tag_for_keyword

from profiles.dicom_json import DicomJson, tag_key, text
from profiles.faults import Fault
from profiles.ups.dataset import MAX_DEPTH, entry, path_of
from profiles.ups.matching import key_faults
from profiles.ups.offsets import is_offset, with_offset
from task_manager.ports import WorkitemQuery

MAX_RESULTS = 500
"""Results are never more, whatever limit is asked."""

DEFAULT_RESULTS = 100
MAX_PARAMETERS = 200
_FURTHEST_OFFSET = 2**31 - 1

UNSUPPORTED_MODES = {
    "fuzzymatching": (
        "The fuzzymatching parameter is not supported. Only literal matching has been performed."
    ),
    "emptyvaluematching": (
        "The emptyvaluematching parameter is not supported. Empty Value Matching has not been performed."
    ),
    "multiplevaluematching": (
        "The multiplevaluematching parameter is not supported. "
        "Multiple Value Matching has not been performed."
    ),
}
"""Parameter to the Warning text of PS3.18 8.3.4 when it is asked for."""

_TIMEZONE_OFFSET = tag_key("TimezoneOffsetFromUTC")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_LOST_PLUS_SIGN = re.compile(r" ?\d{4}")
_LOST_PLUS = re.compile(r"(?<=\d) (?=\d{4}(?:-|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search as asked.

    Attributes
    ----------
    query
        Keys, page and what to return, the limit already the server's.
    warnings
        Texts of the Warning headers that the answer must carry.
    """

    query: WorkitemQuery
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    keys: DicomJson = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    included: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seen: set[tuple[str, ...]] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)


@lru_cache(maxsize=256)
def parse_search(query: str) -> Search | tuple[Fault, ...]:
    """The search that a raw query string asks for, or all that is wrong with it.

    Performers ask the same again and again: answers are remembered, and nobody may change one.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        return (Fault("", "the query is not percent-encoded UTF-8"),)
    except ValueError:
        return (Fault("", f"the query has more than {MAX_PARAMETERS} parameters"),)
    reading = _Reading()
    for name, value in pairs:
        _read(name, value, reading)
    _place_in_zone(reading)
    reading.faults += key_faults(reading.keys)
    everything = "all" in reading.included
    if everything and len(reading.included) > 1:
        reading.faults.append(Fault("includefield", "all stands alone"))
    if reading.faults:
        return tuple(reading.faults)
    return Search(
        query=WorkitemQuery(
            matching=reading.keys,
            offset=min(reading.numbers.get("offset", 0), _FURTHEST_OFFSET),
            limit=min(reading.numbers.get("limit", DEFAULT_RESULTS), MAX_RESULTS),
            returned=None if everything else frozenset(reading.asked),
        ),
        warnings=tuple(reading.warnings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionWish:
    """What a subscribe asks for.

    Attributes
    ----------
    deletion_lock
        Whether workitems are to be kept until the subscriber has seen them.
    matching
        Keys of the filter as DICOM JSON; empty if none are given.
    """

    deletion_lock: bool
    matching: DicomJson


def _place_in_zone(reading: _Reading) -> None:
    """Give times without offset that of Timezone Offset From UTC, which is no key itself (11.9.1.2)."""
    offset = text(reading.keys, "TimezoneOffsetFromUTC")
    reading.keys.pop(_TIMEZONE_OFFSET, None)
    reading.asked.discard(_TIMEZONE_OFFSET)
    if not offset:
        return
    if _LOST_PLUS_SIGN.fullmatch(offset):
        offset = f"+{offset.strip()}"
    if is_offset(offset):
        _offset_times(reading.keys, offset)
    else:
        reading.faults.append(Fault("TimezoneOffsetFromUTC", "needs an offset such as +0100"))


def _offset_times(keys: DicomJson, offset: str) -> None:
    for element in keys.values():
        found = element.get("Value", [])
        if element["vr"] == "SQ":
            for item in found:
                _offset_times(item, offset)
        elif element["vr"] == "DT":
            element["Value"] = [with_offset(one, offset) for one in found]


_COMMON = frozenset({"deletionlock", "filter", "accept", "charset", "limit", "offset", "includefield"})


def parse_subscription(query: str) -> SubscriptionWish | tuple[Fault, ...]:
    """The wish of a subscribe (PS3.18 11.10), or all that is wrong with it.

    The filter may be one encoded ``filter``, one with bare ``=`` and ``,``, several, or plain match
    parameters as in the edition of 2019: all keys must match.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return (Fault("", f"the query is not percent-encoded UTF-8 of at most {MAX_PARAMETERS} parameters"),)
    reading = _Reading()
    locks = {value for name, value in pairs if name == "deletionlock"}
    if not locks <= {"true", "false"} or len(locks) > 1:
        reading.faults.append(Fault("deletionlock", "must be true or false"))
    for name, value in pairs:
        if name == "filter":
            _read_filter(value, reading)
        elif name not in _COMMON and name not in UNSUPPORTED_MODES:
            path = attribute_path(name)
            if path is not None:
                _read_key(path, value, reading)
    _place_in_zone(reading)
    reading.faults += key_faults(reading.keys)
    if reading.faults:
        return tuple(reading.faults)
    return SubscriptionWish(deletion_lock="true" in locks, matching=reading.keys)


def _read_filter(text: str, reading: _Reading) -> None:
    """Read ``attribute=value,attribute=value``; what follows a comma without naming an attribute is value."""
    keys: list[tuple[tuple[str, ...], str]] = []
    for part in text.split(","):
        name, separator, value = part.partition("=")
        path = attribute_path(name.strip()) if separator else None
        if path is not None:
            keys.append((path, value))
        elif keys and part:
            keys[-1] = (keys[-1][0], f"{keys[-1][1]},{part}")
        elif part:
            reading.faults.append(Fault("filter", "needs attribute=value, separated by commas"))
    if len(keys) > MAX_PARAMETERS:
        reading.faults.append(Fault("filter", f"has more than {MAX_PARAMETERS} keys"))
        return
    for path, value in keys:
        _read_key(path, value, reading)


def _read(name: str, value: str, reading: _Reading) -> None:
    if name in ("limit", "offset"):
        _read_number(name, value, reading)
    elif name in UNSUPPORTED_MODES:
        if value not in ("true", "false"):
            reading.faults.append(Fault(name, "must be true or false"))
        elif value == "true":
            reading.warnings.append(UNSUPPORTED_MODES[name])
    elif name == "includefield":
        _read_included(value, reading)
    else:
        path = attribute_path(name)
        if path is not None:
            _read_key(path, value, reading)


def _read_number(name: str, value: str, reading: _Reading) -> None:
    if name in reading.numbers:
        reading.faults.append(Fault(name, "is given more than once"))
    elif not (value.isascii() and value.isdigit() and len(value) <= 18):
        reading.faults.append(Fault(name, "must be an unsigned whole number"))
    else:
        reading.numbers[name] = int(value)


def _read_included(value: str, reading: _Reading) -> None:
    for name in filter(None, value.split(",")):
        reading.included.append(name)
        path = attribute_path(name)
        if path is not None:
            reading.asked.add(path[0])
        elif name != "all":
            reading.faults.append(Fault("includefield", "names no attribute by keyword or tag"))


def attribute_path(name: str) -> tuple[str, ...] | None:
    """The tags that a dotted path of keywords or tags names; None if it is no attribute."""
    parts = name.split(".")
    if len(parts) > MAX_DEPTH:
        return None
    path = []
    for part in parts:
        if _TAG.fullmatch(part):
            path.append(part.upper())
            continue
        tag = tag_for_keyword(part) if _KEYWORD.fullmatch(part) else None
        if tag is None:
            return None
        path.append(f"{tag:08X}")
    return tuple(path)


def _read_key(path: tuple[str, ...], value: str, reading: _Reading) -> None:
    named = ".".join(path_of(tag) for tag in path)
    if path in reading.seen:
        reading.faults.append(Fault(named, "is given more than once"))
        return
    reading.seen.add(path)
    reading.asked.add(path[0])
    if any("SQ" not in entry(tag).vrs for tag in path[:-1]):
        reading.faults.append(Fault(named, "leads through an attribute that is no sequence"))
        return
    level = reading.keys
    for tag in path[:-1]:
        sequence = level.setdefault(tag, {"vr": "SQ"})
        level = sequence.setdefault("Value", [{}])[0]
    vrs = entry(path[-1]).vrs
    vr = vrs[0] if vrs else "UN"
    if vr == "SQ":
        if value:
            reading.faults.append(Fault(named, "is a sequence; match an attribute of its items"))
        level.setdefault(path[-1], {"vr": "SQ"})
    elif any(ord(character) < 32 for character in value):
        reading.faults.append(Fault(named, "holds a control character"))
    else:
        level[path[-1]] = _element(vr, value)


def _element(vr: str, value: str) -> DicomJson:
    if not value:
        return {"vr": vr}
    if vr == "UI":
        return {"vr": vr, "Value": [uid for uid in re.split(r"[,\\]", value) if uid]}
    if vr == "DT":
        value = _LOST_PLUS.sub("+", value)
    return {"vr": vr, "Value": [value]}
