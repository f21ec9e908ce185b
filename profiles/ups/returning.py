# SPDX-License-Identifier: Apache-2.0
"""What a search answers of each matching workitem: the return keys of PS3.18 11.9.2."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from profiles.dicom_json import DicomJson, tag_key
from profiles.ups.attributes import TOP_ROWS
from profiles.ups.dataset import entry

_TRANSACTION_UID = tag_key("TransactionUID")
_ALWAYS = frozenset(tag_key(row.keyword) for row in TOP_ROWS if row.returned in ("1", "2"))
_IF_PRESENT = frozenset(tag_key(row.keyword) for row in TOP_ROWS if row.returned in ("1C", "2C"))
_ORDERED = tuple(sorted(_ALWAYS | _IF_PRESENT))


def always_returned() -> frozenset[str]:
    """Top-level tags that every result has, whatever was asked for."""
    return _ALWAYS


def _empty(tag: str) -> DicomJson:
    vrs = entry(tag).vrs
    return {"vr": vrs[0] if vrs else "UN"}


_EMPTY = {tag: _empty(tag) for tag in _ALWAYS}


def search_result(attributes: DicomJson, asked: Collection[str]) -> DicomJson:
    """The part of a workitem that a search returns, in ascending tag order.

    Attributes with return type 1 and 2, those with 1C and 2C that are there, and all `asked` for (top-level
    tags of match keys and included fields); what is asked for or type 2 and not there comes empty. Sequences
    are whole.
    """
    more = [tag for tag in asked if tag not in _ALWAYS and tag != _TRANSACTION_UID]
    result: DicomJson = {}
    for tag in sorted({*_ORDERED, *more}) if more else _ORDERED:
        element = attributes.get(tag)
        if element is not None:
            result[tag] = element
        elif tag in _ALWAYS:
            result[tag] = _EMPTY[tag]
        elif tag in more:
            result[tag] = _empty(tag)
    return result


def search_result_between(attributes: DicomJson, first: str, end: str) -> DicomJson:
    """What of the tags from `first` to before `end` every search returns, whatever was asked for."""
    return {
        tag: attributes.get(tag, _EMPTY.get(tag))
        for tag in _between(first, end)
        if tag in attributes or tag in _ALWAYS
    }


@lru_cache
def _between(first: str, end: str) -> tuple[str, ...]:
    return tuple(tag for tag in _ORDERED if first <= tag < end)
