# SPDX-License-Identifier: Apache-2.0
"""A search over what is stored, at the level of studies, series or instances (PS3.18 10.6, PS3.4 C.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from profiles.dicom_json import DicomJson, tag_key, values
from profiles.ups.matching import data_set_matches


class Level(StrEnum):
    """What an answer of a search describes."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsQuery:
    """What is searched for.

    Attributes
    ----------
    matching
        Keys of any level as DICOM JSON: single values, wildcards, ranges of dates and times, lists of UIDs,
        and sequences with one item of keys.
    offset, limit
        Matches to skip, and the most to give.
    """

    level: Level
    matching: DicomJson = field(default_factory=dict)
    offset: int = 0
    limit: int = 100

    def uids(self, keyword: str) -> tuple[str, ...]:
        """The UIDs that a key lists; none if it is no key."""
        return tuple(str(value) for value in values(self.matching, keyword) if value)

    def exact(self, keyword: str) -> str:
        """The text that a key asks for literally; empty if it does not, or holds wildcards."""
        found = values(self.matching, keyword)
        text = str(found[0]).strip(" ") if found and found[0] is not None else ""
        return "" if "*" in text or "?" in text else text

    def prefix(self, keyword: str) -> str:
        """What comes before the first wildcard of a key."""
        found = values(self.matching, keyword)
        text = str(found[0]).strip(" ") if found and found[0] is not None else ""
        return re.split(r"[*?]", text, maxsplit=1)[0]


class Holdings(Protocol):
    """What QIDO-RS needs."""

    def search(self, query: HoldingsQuery) -> Sequence[DicomJson]:
        """Matches as the whole of what is known of each, with the numbers that are counted here.

        Studies come newest first; series by study and UID; instances by series and instance number.
        """


OF_SERIES = frozenset(
    map(
        tag_key,
        (
            "ModalitiesInStudy",
            "SOPClassesInStudy",
            "NumberOfStudyRelatedSeries",
            "NumberOfStudyRelatedInstances",
            "NumberOfSeriesRelatedInstances",
        ),
    )
)
"""Attributes that are made from what is below a study or series."""


def split_keys(matching: DicomJson) -> tuple[DicomJson, DicomJson]:
    """Keys that stored headers answer, and those that what is below a study or series answers."""
    own = {tag: key for tag, key in matching.items() if tag not in OF_SERIES}
    return own, {tag: key for tag, key in matching.items() if tag in OF_SERIES}


def fits(keys: DicomJson, attributes: DicomJson) -> bool:
    """Whether `attributes` match `keys`; a list in a stored Modalities in Study matches by any value."""
    return not keys or data_set_matches(keys, attributes)
