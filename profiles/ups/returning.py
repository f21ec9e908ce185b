# SPDX-License-Identifier: Apache-2.0
"""What a search answers of each matching workitem: the return keys of PS3.18 11.9.2."""

from __future__ import annotations

from collections.abc import Collection

from profiles.dicom_json import DicomJson, tag_key
from profiles.ups.attributes import TOP_ROWS
from profiles.ups.dataset import entry

_ALWAYS = tuple(tag_key(row.keyword) for row in TOP_ROWS if row.returned in ("1", "2"))
_IF_PRESENT = tuple(tag_key(row.keyword) for row in TOP_ROWS if row.returned in ("1C", "2C"))
_TRANSACTION_UID = tag_key("TransactionUID")


def search_result(attributes: DicomJson, asked: Collection[str]) -> DicomJson:
    """The part of a workitem that a search returns, in ascending tag order.

    Attributes with return type 1 and 2, those with 1C and 2C that are there, and all `asked` for (top-level
    tags of match keys and included fields); what is asked for or type 2 and not there comes empty. Sequences
    are whole.
    """
    tags = {*_ALWAYS, *(tag for tag in _IF_PRESENT if tag in attributes), *asked}
    tags.discard(_TRANSACTION_UID)
    result: DicomJson = {}
    for tag in sorted(tags):
        element = attributes.get(tag)
        vrs = entry(tag).vrs
        result[tag] = element if element is not None else {"vr": vrs[0] if vrs else "UN"}
    return result
