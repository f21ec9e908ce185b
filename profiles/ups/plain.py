# SPDX-License-Identifier: Apache-2.0
"""The ordinary case at a glance: elements and whole items that may be kept exactly as they came.

Nearly all that a peer sends is good, and most items are alike: what is known of the keys of one item holds
for all that have the same. Whatever is not found plain here is read, and judged, by ``dataset.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from pydicom.datadict import dictionary_VR

_MOST_ELEMENTS = 16
_TAG = re.compile(r"[0-9A-F]{8}")
FOREIGN_GROUPS = frozenset({"0002", "0004", "0006", "7FE0", "FFFA", "FFFC", "FFFE"})
"""Groups of file meta information, directories, pixel data and the data structure: no workitem has any."""

_DATE = r"(?!0000)[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|1[0-9]|2[0-8])"
_TIME = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9](?:\.[0-9]{1,6})?"
_TEXT = r'(?= *[^ "])[^\x00-\x1f\x7f"\\]'
PLAIN: Mapping[str, str] = {
    "AE": r"[!#-\[\]-~](?:[ !#-\[\]-~]{0,14}[!#-\[\]-~])?",
    "CS": r"[A-Z0-9_](?:[A-Z0-9_ ]{0,14}[A-Z0-9_])?",
    "DA": _DATE,
    "DT": rf"{_DATE}{_TIME}(?:[+-](?:0[0-9]|1[0-4])[0-5][0-9])?",
    "LO": _TEXT + "{1,64}",
    "LT": _TEXT + "{1,10240}",
    "SH": _TEXT + "{1,16}",
    "ST": _TEXT + "{1,1024}",
    "TM": _TIME,
    "UC": _TEXT + "+",
    "UI": r"[12]\.[1-9][0-9.]{0,61}",
    "UR": r"[^\s\x00-\x20\x7f\"<>\\^`{|}]+",
    "UT": _TEXT + "+",
}
"""VR to a pattern of texts that ``values.checked`` keeps and JSON does not escape; not all that are good.

Of a UID it tells only the characters: :func:`_components_are_plain` tells the rest.
"""

_FULLMATCH = {vr: re.compile(pattern).fullmatch for vr, pattern in PLAIN.items()}
_AS_IT_IS = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
)


@lru_cache(maxsize=8192)
def _expected(key: str) -> tuple[str, Callable[[str], object] | None] | None:
    """The one VR of a known attribute and the test of its plain texts; None for any other key."""
    if _TAG.fullmatch(key) is None or key.endswith("0000") or key[:4] in FOREIGN_GROUPS or key[:4] == "0000":
        return None
    try:
        vr = dictionary_VR(int(key, 16))
    except KeyError:
        return None
    return None if " " in vr else (vr, _FULLMATCH.get(vr))


def is_plain_element(key: object, raw: object) -> bool:
    """Whether an element is one good text, or empty, under a known key and its VR."""
    if type(key) is not str or type(raw) is not dict:
        return False
    expected = _expected(key)
    if expected is None or raw.get("vr") != expected[0]:
        return False
    if len(raw) == 1:
        return True
    value = raw.get("Value")
    return (
        len(raw) == 2
        and type(value) is list
        and len(value) == 1
        and type(value[0]) is str
        and expected[1] is not None
        and expected[1](value[0]) is not None
        and (expected[0] != "UI" or _components_are_plain(f'{value[0]}"'))
    )


def are_plain_items(items: list[Any]) -> bool:
    """Whether all items have the keys of the first, and plain elements only; none is a sequence."""
    first = items[0] if items else None
    if type(first) is not dict or len(first) > _MOST_ELEMENTS:
        return False
    test = _items_test(tuple(first))
    if test is None:
        return False
    try:
        text = orjson.dumps(items, option=_AS_IT_IS).decode()
    except TypeError:  # a value that JSON cannot hold
        return False
    return test.fullmatch(text) is not None and (not test.uids or _components_are_plain(text))


class _ItemsTest(NamedTuple):
    """The test of the JSON text of items of certain keys, and whether they have UIDs."""

    fullmatch: Callable[[str], object]
    uids: bool


@lru_cache(maxsize=2048)
def _items_test(keys: tuple[object, ...]) -> _ItemsTest | None:
    """The test for items with these keys, in ascending order; None if such items have to be read."""
    elements, vrs = [], set()
    for index, key in enumerate(keys):
        expected = _expected(key) if type(key) is str else None
        if expected is None or expected[1] is None or (index and str(key) <= str(keys[index - 1])):
            return None
        vr = expected[0]
        vrs.add(vr)
        elements.append(rf'"{key}":\{{"vr":"{vr}"(?:,"Value":\["{PLAIN[vr]}"\]|)\}}')
    item = rf"\{{{','.join(elements)}\}}"
    return _ItemsTest(re.compile(rf"\[{item}(?:,{item})*\]").fullmatch, "UI" in vrs)


def _components_are_plain(text: str) -> bool:
    """Whether the UIDs in a text have no component that is empty or has a leading zero; not all such pass."""
    if '."' in text or ".." in text:
        return False
    return ".0" not in text or ".0" not in text.replace(".0.", ".")
