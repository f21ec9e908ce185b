# SPDX-License-Identifier: Apache-2.0
"""From a peer's DICOM JSON to attributes in the one form we keep: PS3.18 F.2, lenient in, strict out.

Input is hostile: nesting, faults and tags are bounded, and every fault is collected with its keyword path.
Which attributes a workitem needs is not asked here but in ``task_manager/workitem/validate.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.ups.plain import FOREIGN_GROUPS, are_plain_items, is_plain_element
from profiles.ups.values import ALL_VRS, BINARY_VRS, InvalidValueError, checked, checked_binary

MAX_DEPTH = 16
"""Deepest nesting of sequences that is read."""

MAX_FAULTS = 200
"""Faults after the first this many are counted, not listed."""

MAX_COUNTED = 20_000
"""Nothing more is looked at after this many faults that are not listed."""

MAX_ITEMS = 200_000
"""Items of all sequences of one data set; more would keep others waiting while they are looked at."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_MEMBERS = frozenset({"vr", "Value", "InlineBinary", "BulkDataURI"})


@dataclass(frozen=True, slots=True)
class Entry:
    """What the data dictionary (PS3.6) says of a tag; without keyword for private and unknown ones."""

    keyword: str
    vrs: tuple[str, ...]
    most_values: int | None


@lru_cache(maxsize=8192)
def entry(key: str) -> Entry:
    """The dictionary entry of a DICOM JSON key of eight upper-case hex digits."""
    tag = int(key, 16)
    try:
        vrs = tuple(dictionary_VR(tag).split(" or "))
        multiplicity = dictionary_VM(tag)
    except KeyError:
        return Entry("", (), None)
    most = multiplicity.split("-")[-1]
    return Entry(keyword_for_tag(tag), vrs, int(most) if most.isdigit() else None)


def path_of(key: str) -> str:
    """How faults name a tag: its keyword, or ``(gggg,eeee)``."""
    return entry(key).keyword or f"({key[:4]},{key[4:]})"


@dataclass(slots=True)
class FaultList:
    """Faults in order of discovery, bounded, with how many items were looked at to find them."""

    faults: list[Fault] = field(default_factory=list)
    unlisted: int = 0
    items: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there are so many that looking for more is of no use."""
        return self.unlisted >= MAX_COUNTED

    def add(self, path: str, message: str) -> None:
        """Add one fault, or count it once the list is full."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(path, message))
        else:
            self.unlisted += 1

    def listed(self) -> tuple[Fault, ...]:
        """The faults, with a last one that tells how many were not listed."""
        if self.unlisted:
            number = f"{self.unlisted} or" if self.is_over else f"{self.unlisted}"
            return (*self.faults, Fault("", f"{number} more faults are not listed"))
        return tuple(self.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDataset:
    """Attributes in ascending tag order, and all faults; the attributes are of use only without faults."""

    attributes: DicomJson
    faults: tuple[Fault, ...]


def read_dataset(payload: object) -> ReadDataset:
    """Read one DICOM JSON data set.

    Keys become upper case, VRs those of the dictionary, names objects; padding that has no meaning, texts
    of spaces alone, empty ``Value`` arrays and group lengths go; an element that is no attribute of any
    workitem is a fault.
    """
    found = FaultList()
    if not isinstance(payload, dict):
        return ReadDataset(attributes={}, faults=(Fault("", "needs a DICOM JSON object"),))
    attributes = _read_items(payload, "", 0, found)
    return ReadDataset(attributes=attributes, faults=found.listed())


def _read_items(item: dict[Any, Any], prefix: str, depth: int, found: FaultList) -> DicomJson:
    attributes: DicomJson = {}
    for raw_key, raw in item.items():
        if is_plain_element(raw_key, raw) and raw_key not in attributes:
            attributes[raw_key] = raw
            continue
        if not isinstance(raw_key, str) or _TAG.fullmatch(raw_key) is None:
            found.add(prefix.rstrip("."), "has a key that is not eight hexadecimal digits")
            continue
        key = raw_key.upper()
        if key.endswith("0000"):
            continue
        path = prefix + path_of(key)
        if key in attributes:
            found.add(path, "is given twice")
        elif key[:4] in FOREIGN_GROUPS or (key[:4] == "0000" and depth):
            found.add(path, "is no attribute of a workitem")
        elif not isinstance(raw, dict):
            found.add(path, "needs an object with vr and Value")
        else:
            attributes[key] = _read_element(key, raw, path, depth, found)
    keys = list(attributes)
    in_order = sorted(keys)
    return attributes if keys == in_order else {key: attributes[key] for key in in_order}


def _vr(key: str, given: object) -> str:
    """The VR to read an element by: the dictionary's; the one given where it has none, empty if none is."""
    known = entry(key).vrs
    if given in known:
        return str(given)
    if known:
        return known[0]
    return given if isinstance(given, str) and given in ALL_VRS else ""


def _read_element(key: str, raw: dict[Any, Any], path: str, depth: int, found: FaultList) -> DicomJson:
    vr = _vr(key, raw.get("vr"))
    if not vr:
        found.add(path, "is not in the data dictionary and needs a vr")
        return {"vr": "UN"}
    if not _MEMBERS.issuperset(raw):
        found.add(path, "has members besides vr, Value, InlineBinary and BulkDataURI")
    if "BulkDataURI" in raw:
        found.add(path, "may not be bulk data: workitems have none")
    elif vr in BINARY_VRS:
        return _read_binary(vr, raw, path, found)
    elif "InlineBinary" in raw:
        found.add(path, f"has VR {vr} and may not be InlineBinary")
    value = raw.get("Value")
    if value is None:
        return {"vr": vr}
    if not isinstance(value, list):
        found.add(path, "needs Value as an array")
        return {"vr": vr}
    if vr == "SQ":
        return _read_sequence(value, path, depth, found)
    return _read_values(key, vr, value, path, found)


def _read_binary(vr: str, raw: dict[Any, Any], path: str, found: FaultList) -> DicomJson:
    if raw.get("Value"):
        found.add(path, f"has VR {vr} and needs InlineBinary")
    binary = raw.get("InlineBinary")
    if binary is None or binary == "":
        return {"vr": vr}
    try:
        return {"vr": vr, "InlineBinary": checked_binary(binary)}
    except InvalidValueError as fault:
        found.add(path, str(fault))
        return {"vr": vr}


def _read_sequence(value: list[Any], path: str, depth: int, found: FaultList) -> DicomJson:
    if depth >= MAX_DEPTH:
        found.add(path, f"is nested deeper than {MAX_DEPTH} sequences")
        return {"vr": "SQ"}
    found.items += len(value)
    if found.items > MAX_ITEMS:
        found.add(path, f"brings the items to more than {MAX_ITEMS} in all")
        return {"vr": "SQ"}
    if are_plain_items(value):
        return {"vr": "SQ", "Value": [dict(item) for item in value]}
    read = []
    for index, item in enumerate(value):
        if found.is_over:
            break
        if not isinstance(item, dict):
            found.add(f"{path}[{index}]", "needs an object as item")
        else:
            read.append(_read_items(item, f"{path}[{index}].", depth + 1, found))
    return {"vr": "SQ", "Value": read} if read else {"vr": "SQ"}


def _read_values(key: str, vr: str, value: list[Any], path: str, found: FaultList) -> DicomJson:
    read: list[Any] = []
    most = entry(key).most_values
    if most is not None and len(value) > most:
        found.add(path, f"has {len(value)} values and may have {most}")
        return {"vr": vr}
    for index, single in enumerate(value):
        if found.is_over:
            break
        if single is None or single == "" or single == {}:
            read.append(None)
            continue
        try:
            kept = checked(vr, single)
        except InvalidValueError as fault:
            found.add(path if len(value) == 1 else f"{path}[{index}]", str(fault))
            continue
        read.append(None if kept == {} or (isinstance(kept, str) and not kept.strip(" ")) else kept)
    if all(single is None for single in read):
        return {"vr": vr}
    return {"vr": vr, "Value": read}
