# SPDX-License-Identifier: Apache-2.0
"""How one receiver wants its results: what sites and products do differently, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum

from profiles.codes import Code
from profiles.hl7.characters import CODECS
from profiles.hl7.message import Encoding

RESULT_VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")
"""Versions results can be written in."""

RESULT_CHARACTER_SETS = tuple(
    name for name, codec in CODECS.items() if name and not codec.startswith("iso2022")
)
"""Sets of HL7 table 0211 that results can be written in: those that need no switching."""

_Z_SEGMENT = re.compile(r"Z[A-Z0-9]{2}\|[^\x00-\x1f\x7f]{0,2000}")
_MSH_FIELD = re.compile(r"[^|~\\&\x00-\x1f\x7f]{0,227}")


class Acknowledgement(StrEnum):
    """What is asked for: by the original rules, or enhanced with one of its two levels (MSH-15, MSH-16)."""

    ORIGINAL = "original"
    ACCEPT = "accept"
    APPLICATION = "application"


class Service(StrEnum):
    """What OBR-4 names: the procedure that was ordered, or what the app does."""

    ORDER = "order"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOptions:
    """How one receiver wants its results.

    Attributes
    ----------
    sending_application, sending_facility, receiving_application, receiving_facility
        MSH-3 to MSH-6 as they go out; components are separated by ``^``.
    version, character_set, processing_id
        MSH-12, MSH-18 and MSH-11.
    correct_unverified
        Whether a result that nobody verified is told as C when it takes the place of an earlier one.
    include_text
        Whether the results are also told as plain text.
    code_systems
        Coding scheme designator to the name the receiver knows it by (HL7 table 0396).
    concepts
        Code of the SR to the receiver's own, such as a LOINC code.
    extra_segments
        Z segments at the end of every message, as they go out.
    time_zone
        Zone of study times; None tells them without a zone.
    """

    sending_application: str = "AIRWAY"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    version: str = "2.5.1"
    character_set: str = "UNICODE UTF-8"
    processing_id: str = "P"
    acknowledgement: Acknowledgement = Acknowledgement.ORIGINAL
    service: Service = Service.ORDER
    correct_unverified: bool = False
    include_text: bool = True
    code_systems: Mapping[str, str] = field(default_factory=dict)
    concepts: Mapping[tuple[str, str], Code] = field(default_factory=dict)
    extra_segments: tuple[str, ...] = ()
    time_zone: tzinfo | None = None

    @property
    def encoding(self) -> Encoding:
        """Separators and codec of the messages."""
        return Encoding(codec=CODECS[self.character_set])

    def concept(self, code: Code) -> Code:
        """`code` as the receiver knows it."""
        own = self.concepts.get((code.value, code.scheme), code)
        scheme = self.code_systems.get(own.scheme, own.scheme)
        return Code(own.value, scheme, own.meaning or code.meaning)


def concept_of(text: str) -> Code:
    """The code that ``VALUE^MEANING^SCHEME`` spells.

    Raises
    ------
    ValueError
        If it spells none.
    """
    parts = text.split("^")
    if len(parts) != 3 or not all(part.strip() for part in parts):
        raise ValueError("is no code; write VALUE^MEANING^SCHEME")
    value, meaning, scheme = (part.strip() for part in parts)
    return Code(value, scheme, meaning)


def concept_key(text: str) -> tuple[str, str]:
    """Value and scheme that ``VALUE^SCHEME`` spells.

    Raises
    ------
    ValueError
        If it spells none.
    """
    parts = text.split("^")
    if len(parts) != 2 or not all(part.strip() for part in parts):
        raise ValueError("names no code of a report; write VALUE^SCHEME")
    return parts[0].strip(), parts[1].strip()


def is_header_field(text: str) -> bool:
    """Whether `text` can stand in MSH-3 to MSH-6 as it is."""
    return _MSH_FIELD.fullmatch(text) is not None


def is_z_segment(text: str) -> bool:
    """Whether `text` is one Z segment, with ``|`` between its fields."""
    return _Z_SEGMENT.fullmatch(text) is not None
