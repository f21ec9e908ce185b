# SPDX-License-Identifier: Apache-2.0
"""Reading and writing attributes of the DICOM JSON model (PS3.18 F.2) by keyword.

DICOM JSON is the stored and the worked form of workitems and series headers: plain dictionaries, no pydicom
dataset on any hot path. Keywords are resolved with the data dictionary of pydicom.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

DicomJson = dict[str, Any]


@cache
def tag_key(keyword: str) -> str:
    """The eight upper-case hex digits that key `keyword` in DICOM JSON.

    Raises
    ------
    KeyError
        If the keyword is not in the data dictionary (PS3.6).
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return f"{tag:08X}"


@cache
def _vr(keyword: str) -> str:
    return dictionary_VR(keyword).split(" or ")[0]


def values(attributes: DicomJson, keyword: str) -> list[Any]:
    """All values of an attribute; empty if it is absent or has no value."""
    element = attributes.get(tag_key(keyword))
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def first(attributes: DicomJson, keyword: str) -> Any | None:
    """The first value of an attribute, or None."""
    found = values(attributes, keyword)
    return found[0] if found else None


def text(attributes: DicomJson, keyword: str) -> str:
    """The first value as text (a person name gives its alphabetic group); empty if there is none."""
    value = first(attributes, keyword)
    if value is None:
        return ""
    if isinstance(value, dict):
        return str(value.get("Alphabetic", ""))
    return str(value)


def items(attributes: DicomJson, keyword: str) -> list[DicomJson]:
    """The items of a sequence; empty if it is absent or empty."""
    return [item for item in values(attributes, keyword) if isinstance(item, dict)]


def element(keyword: str, *content: Any) -> DicomJson:
    """The one-attribute dictionary for `keyword`; without content the attribute is present and empty.

    A person name may be given as text; it becomes its alphabetic group.
    """
    vr = _vr(keyword)
    if not content or (len(content) == 1 and content[0] in ("", None)):
        return {tag_key(keyword): {"vr": vr}}
    if vr == "PN":
        content = tuple({"Alphabetic": c} if isinstance(c, str) else c for c in content)
    return {tag_key(keyword): {"vr": vr, "Value": list(content)}}


def merged(parts: Iterable[DicomJson]) -> DicomJson:
    """One dictionary of all parts, in ascending tag order (PS3.18 F.2.2)."""
    whole: DicomJson = {}
    for part in parts:
        whole.update(part)
    return dict(sorted(whole.items()))
