# SPDX-License-Identifier: Apache-2.0
"""The query of a search for studies, series or instances: PS3.18 8.3.4 and 10.6.1, from text to keys.

Every attribute of the stored header can be matched, by keyword or tag, members of sequences by a dotted path.
What is asked and not done is a warning; what cannot be read is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from informatics_gateway.dicomweb.ups_query import MAX_PARAMETERS, UNSUPPORTED_MODES, attribute_path
from profiles.dicom_json import DicomJson, element, tag_key
from profiles.faults import Fault
from profiles.ups.dataset import entry, path_of
from profiles.ups.matching import key_faults
from task_manager.study.query import HoldingsQuery, Level

MAX_LIMIT = 5000
DEFAULT_LIMIT = 1000
MAX_OFFSET = 2**31 - 1

RETURNED: Mapping[Level, tuple[str, ...]] = {
    Level.STUDY: (
        *("StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy"),
        *("ReferringPhysicianName", "TimezoneOffsetFromUTC", "PatientName", "PatientID"),
        *("PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDescription"),
        *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "SpecificCharacterSet"),
    ),
    Level.SERIES: (
        *("SpecificCharacterSet", "Modality", "TimezoneOffsetFromUTC", "SeriesDescription"),
        *("SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances", "BodyPartExamined"),
        *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Laterality"),
        *("RequestAttributesSequence", "SeriesDate", "SeriesTime", "StudyInstanceUID"),
    ),
    Level.INSTANCE: (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "InstanceAvailability"),
        *("TimezoneOffsetFromUTC", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
        *("StudyInstanceUID", "SeriesInstanceUID", "AvailableTransferSyntaxUID"),
    ),
}
"""What an answer has without being asked: PS3.18 tables 10.6.3-3 to 10.6.3-5 and a little more."""

_CONTROLS = frozenset(("limit", "offset", "includefield", "accept", "charset"))
_SEPARATOR = re.compile(r"[,\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search as asked.

    Attributes
    ----------
    query
        With a limit one higher than the page: whether there are more is then known.
    returned
        Top-level tags to return; None for all.
    """

    query: HoldingsQuery
    page: int
    returned: frozenset[str] | None
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    keys: DicomJson = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    everything: bool = False
    numbers: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def parse_search(
    query: str, level: Level, *, study: str = "", series: str = ""
) -> Search | tuple[Fault, ...]:
    """The search that a raw query string asks for, or all that is wrong with it.

    Parameters
    ----------
    study, series
        UIDs of the URL; empty where it names none.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return (Fault("", f"the query is not percent-encoded UTF-8 of at most {MAX_PARAMETERS} parameters"),)
    reading = _Reading()
    for name, value in pairs:
        _read(name, value, reading)
    reading.faults += key_faults(reading.keys)
    if reading.faults:
        return tuple(reading.faults)
    for keyword, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series)):
        if uid:
            reading.keys.update(element(keyword, uid))
    page = min(reading.numbers.get("limit", DEFAULT_LIMIT), MAX_LIMIT)
    return Search(
        query=HoldingsQuery(
            level=level, matching=reading.keys, offset=reading.numbers.get("offset", 0), limit=page + 1
        ),
        page=page,
        returned=None if reading.everything else _returned(level, study, series) | reading.asked,
        warnings=tuple(dict.fromkeys(reading.warnings)),
    )


def _returned(level: Level, study: str, series: str) -> frozenset[str]:
    """A search that is not below a study returns what tells the study, and so for series (10.6.3.3)."""
    keywords = set(RETURNED[level])
    if level is not Level.STUDY and not study:
        keywords.update(RETURNED[Level.STUDY])
    if level is Level.INSTANCE and not series:
        keywords.update(RETURNED[Level.SERIES])
    return frozenset(map(tag_key, keywords))


def _read(name: str, value: str, reading: _Reading) -> None:
    if name in ("limit", "offset"):
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= MAX_OFFSET):
            reading.faults.append(Fault(name, "must be an unsigned whole number in range"))
        else:
            reading.numbers[name] = int(value)
    elif name == "includefield":
        for wanted in filter(None, value.split(",")):
            path = attribute_path(wanted)
            if wanted == "all":
                reading.everything = True
            elif path is None:
                reading.warnings.append("An includefield names no attribute and was ignored")
            else:
                reading.asked.add(path[0])
    elif name in UNSUPPORTED_MODES:
        if value == "true":
            reading.warnings.append(UNSUPPORTED_MODES[name])
    elif name not in _CONTROLS:
        path = attribute_path(name)
        if path is None:
            reading.warnings.append("A parameter names no attribute and was ignored")
        else:
            _read_key(path, value, reading)


def _read_key(path: tuple[str, ...], value: str, reading: _Reading) -> None:
    named = ".".join(path_of(tag) for tag in path)
    reading.asked.add(path[0])
    if any("SQ" not in entry(tag).vrs for tag in path[:-1]):
        reading.faults.append(Fault(named, "leads through an attribute that is no sequence"))
        return
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        reading.faults.append(Fault(named, "holds a control character"))
        return
    level = reading.keys
    for tag in path[:-1]:
        level = level.setdefault(tag, {"vr": "SQ"}).setdefault("Value", [{}])[0]
    tag = path[-1]
    vrs = entry(tag).vrs
    vr = vrs[0] if vrs else "UN"
    if vr == "SQ":
        if value:
            reading.faults.append(Fault(named, "is a sequence; match an attribute of its items"))
        level.setdefault(tag, {"vr": "SQ"})
    elif tag in level:
        reading.faults.append(Fault(named, "is given more than once"))
    elif not value:
        level[tag] = {"vr": vr}
    elif vr == "UI":
        level[tag] = {"vr": vr, "Value": [uid for uid in _SEPARATOR.split(value) if uid]}
    else:
        level[tag] = {"vr": vr, "Value": [value]}
