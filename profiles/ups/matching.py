# SPDX-License-Identifier: Apache-2.0
"""Does a workitem match these keys? Attribute matching of PS3.4 C.2.2.2 and K.2.2 on DICOM JSON.

Documented choices (PS3.4 CC.4.2): person names match without regard to case, a name key of one component
group matches any group; every attribute can be matched but those the table excludes; no fuzzy, empty value or
multiple value matching. Times without an offset are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from profiles.dicom_json import DicomJson, tag_key
from profiles.faults import Fault
from profiles.ups.attributes import TOP_ROWS, by_tag
from profiles.ups.dataset import entry, path_of
from profiles.ups.table import Row
from profiles.ups.times import Span, datetime_span, time_span
from profiles.ups.values import BINARY_VRS, NUMBER_VRS

_WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_NEVER_MATCHED = frozenset({tag_key("SpecificCharacterSet"), tag_key("TimezoneOffsetFromUTC")})
_NEVER_ASKED = frozenset({tag_key("TransactionUID")})
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def wildcard_matches(pattern: str, text: str) -> bool:
    """Whether `text` fits `pattern` with ``*`` (any run) and ``?`` (one character), in linear memory.

    A loop with one point of return, not a regular expression: keys are hostile and may hold many asterisks.
    """
    p = t = 0
    star, resume = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, resume = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p, t = p + 1, t + 1
        elif star >= 0:
            resume += 1
            p, t = star + 1, resume
        else:
            return False
    return all(character == "*" for character in pattern[p:])


@dataclass(frozen=True, slots=True)
class Range:
    """A range or single value of a date or time key; None at an end that is open."""

    low: Span | None
    high: Span | None

    def holds(self, span: Span) -> bool:
        """Whether a stored value begins inside the range, both ends included."""
        return (self.low is None or span.start >= self.low.start) and (
            self.high is None or span.start < self.high.end
        )


def _span(vr: str, text: str) -> Span | None:
    return time_span(text) if vr == "TM" else datetime_span(text)


def parse_range(vr: str, text: str) -> Range | None:
    """The range that a DA, TM or DT key means; None if it means none.

    A hyphen may also begin a UTC offset: a reading as a range that does not run backwards is preferred
    (PS3.4 C.2.2.2.5).
    """
    text = text.strip()
    for index, character in enumerate(text):
        if character != "-":
            continue
        before, after = text[:index], text[index + 1 :]
        low, high = _span(vr, before), _span(vr, after)
        if (before and low is None) or (after and high is None) or (low is None and high is None):
            continue
        if low is None or high is None or low.start < high.end:
            return Range(low, high)
    single = _span(vr, text)
    return None if single is None else Range(single, single)


def _name_groups(value: Any) -> list[str]:
    text = (
        "=".join(str(value.get(group) or "") for group in _GROUPS) if isinstance(value, dict) else str(value)
    )
    return [group.rstrip("^ ").casefold() for group in text.split("=")]


def _name_matches(key: Any, stored: Any) -> bool:
    wanted, present = _name_groups(key), _name_groups(stored)
    if sum(1 for group in wanted if group) == 1 and wanted[0]:
        return any(group and wildcard_matches(wanted[0], group) for group in present)
    present += [""] * (len(wanted) - len(present))
    return all(not want or wildcard_matches(want, have) for want, have in zip(wanted, present, strict=False))


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _value_matches(vr: str, key: Any, stored: Any) -> bool:
    if vr == "PN":
        return _name_matches(key, stored)
    if vr in _RANGE_VRS:
        wanted, span = parse_range(vr, str(key)), _span(vr, str(stored))
        return wanted is not None and span is not None and wanted.holds(span)
    if vr in NUMBER_VRS:
        number = _number(key)
        return number is not None and number == _number(stored)
    if vr == "UI":
        return str(stored) in str(key).split("\\")
    wanted_text, text = str(key).strip(" "), str(stored).strip(" ")
    if vr in _WILD_VRS and ("*" in wanted_text or "?" in wanted_text):
        return wildcard_matches(wanted_text, text)
    return wanted_text == text


def key_vr(key: str, element: DicomJson) -> str:
    """The VR by which a key is matched: the dictionary's, else the one given."""
    vrs = entry(key).vrs
    return vrs[0] if vrs else str(element.get("vr", "UN"))


def is_universal(vr: str, values: list[Any]) -> bool:
    """Whether it is a key without a real value: it matches everything, present or not (C.2.2.2.3)."""
    if vr == "SQ":
        return all(_is_universal_item(item) for item in values)
    return all(value in (None, "", {}) or (vr in _WILD_VRS and _only_stars(vr, value)) for value in values)


def _is_universal_item(item: Any) -> bool:
    """Whether all keys of an item are universal: they ask for attributes to be returned, no more."""
    return not item or (
        isinstance(item, dict)
        and all(is_universal(key_vr(key, element), _values(element)) for key, element in item.items())
    )


def _only_stars(vr: str, value: Any) -> bool:
    texts = _name_groups(value) if vr == "PN" else [str(value)]
    return all(set(text) <= {"*"} for text in texts)


def _values(element: Any) -> list[Any]:
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def matches(keys: DicomJson, attributes: DicomJson) -> bool:
    """Whether `attributes` (a whole workitem) match all `keys`, given in DICOM JSON.

    A stored attribute without a value matches universal keys only (K.2.2.1.1.1).
    """
    return _item_matches(attributes, keys, TOP_ROWS)


def data_set_matches(keys: DicomJson, attributes: DicomJson) -> bool:
    """Whether the attributes of any data set, such as a study, match all `keys` (PS3.4 C.2.2.2)."""
    return _item_matches(attributes, keys, ())


def _item_matches(item: DicomJson, keys: DicomJson, rows: tuple[Row, ...]) -> bool:
    index = by_tag(rows)
    for key, element in keys.items():
        row = index.get(key)
        if key in _NEVER_MATCHED or (row is not None and row.match == "-"):
            continue
        wanted = _values(element)
        vr = key_vr(key, element)
        if is_universal(vr, wanted):
            continue
        stored = _values(item.get(key))
        if vr == "SQ":
            nested = row.items if row is not None else ()
            if not isinstance(wanted[0], dict):
                return False
            if not any(_item_matches(one, wanted[0], nested) for one in stored):
                return False
        elif not any(
            _value_matches(vr, one, value)
            for one in wanted
            if one not in (None, "")
            for value in stored
            if value not in (None, "", {})
        ):
            return False
    return True


def key_faults(keys: DicomJson) -> tuple[Fault, ...]:
    """Everything that makes `keys` no legal request, with paths; matching itself never fails."""
    return tuple(_key_faults(keys, ""))


def _key_faults(keys: DicomJson, prefix: str) -> list[Fault]:
    faults: list[Fault] = []
    for key, element in keys.items():
        path, wanted = prefix + path_of(key), _values(element)
        vr = key_vr(key, element)
        if key in _NEVER_ASKED:
            faults.append(Fault(path, "may not be queried"))
        elif vr in BINARY_VRS and entry(key).vrs:
            faults.append(Fault(path, "holds binary data, which cannot be matched"))
        elif vr == "SQ":
            if len(wanted) > 1 or not all(isinstance(item, dict) for item in wanted):
                faults.append(Fault(path, "needs at most one item of keys"))
            else:
                faults += [fault for item in wanted for fault in _key_faults(item, path + ".")]
        elif len(wanted) > 1 and vr != "UI":
            faults.append(Fault(path, "takes one value; only UIDs may be a list"))
        else:
            faults += [Fault(path, message) for value in wanted if (message := _value_fault(vr, value))]
    return faults


def _value_fault(vr: str, value: Any) -> str:
    if value in (None, "", {}):
        return ""
    if vr in _RANGE_VRS and parse_range(vr, str(value)) is None:
        return f"needs a {vr} value or a range of two joined by a hyphen"
    if vr in NUMBER_VRS and _number(value) is None:
        return "needs a number"
    if vr == "UI" and not all(
        set(uid) <= set("0123456789.") and len(uid) <= 64 for uid in str(value).split("\\")
    ):
        return "needs UIDs"
    if len(str(value)) > 1024:
        return "is longer than any value"
    return ""
