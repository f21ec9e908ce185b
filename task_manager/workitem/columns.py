# SPDX-License-Identifier: Apache-2.0
"""What a store indexes of a workitem, and how the keys of a search narrow it by these values.

Columns only narrow: ``profiles.ups.matching.matches`` still decides, so a column may never exclude a workitem
that matches. Nothing here knows SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from profiles.dicom_json import DicomJson, items, tag_key, text, values
from profiles.ups.times import datetime_span
from task_manager.workitem.parts import FIRST_MOVING

SEVERAL = "\\"
"""Stands in a column whose sequence has several items; no SH value holds a backslash."""

_PRIORITY_RANKS: Mapping[str, int] = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
_LATEST = datetime.max.replace(tzinfo=UTC)
_MOST_CHARACTERS = 64

_TEXT_COLUMNS: Mapping[str, str] = {
    "InputReadinessState": "readiness",
    "ProcedureStepLabel": "label",
    "WorklistLabel": "worklist_label",
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_instance_uid",
}
_ITEM_COLUMNS: Mapping[tuple[str, str], str] = {
    ("ScheduledWorkitemCodeSequence", "CodeValue"): "code_value",
    ("ScheduledWorkitemCodeSequence", "CodingSchemeDesignator"): "code_scheme",
    ("ScheduledStationNameCodeSequence", "CodeValue"): "station_name",
    ("ScheduledStationClassCodeSequence", "CodeValue"): "station_class",
    ("ScheduledHumanPerformersSequence", "HumanPerformerOrganization"): "organization",
    ("ReferencedRequestSequence", "AccessionNumber"): "accession_number",
}


def _start(attributes: DicomJson) -> datetime:
    span = datetime_span(text(attributes, "ScheduledProcedureStepStartDateTime"))
    return span.start if span is not None else _LATEST


def expires_at(attributes: DicomJson) -> datetime | None:
    """When the step becomes pointless (Scheduled Procedure Step Expiration DateTime); None if never."""
    span = datetime_span(text(attributes, "ScheduledProcedureStepExpirationDateTime"))
    return span.end if span is not None else None


def _of_items(attributes: DicomJson, sequence: str, keyword: str) -> str:
    found = items(attributes, sequence)
    if len(found) > 1:
        return SEVERAL
    return text(found[0], keyword).strip(" ") if found else ""


def search_columns(attributes: DicomJson) -> dict[str, str | int]:
    """Column name to value: everything worth indexing but the state, which the workitem itself has.

    ``priority_rank`` sorts HIGH first; ``scheduled_start`` is UTC text that sorts by time. A column of a
    sequence holds the value of its only item, :data:`SEVERAL` for more, and is empty for none.
    """
    columns: dict[str, str | int] = {
        "priority_rank": _PRIORITY_RANKS.get(text(attributes, "ScheduledProcedureStepPriority"), 1),
        "scheduled_start": f"{_start(attributes):%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    for keyword, column in _TEXT_COLUMNS.items():
        columns[column] = text(attributes, keyword).strip(" ")
    for (sequence, keyword), column in _ITEM_COLUMNS.items():
        columns[column] = _of_items(attributes, sequence, keyword)
    return columns


_SEARCHED_TAGS = tuple(
    tag_key(keyword)
    for keyword in (
        *_TEXT_COLUMNS,
        *dict.fromkeys(sequence for sequence, _ in _ITEM_COLUMNS),
        *("ScheduledProcedureStepPriority", "ScheduledProcedureStepStartDateTime"),
        "ScheduledProcedureStepExpirationDateTime",
    )
)


_SEARCHED_MOVING_TAGS = tuple(tag for tag in _SEARCHED_TAGS if tag >= FIRST_MOVING)


def same_columns(before: DicomJson, after: DicomJson) -> bool:
    """Whether `after`, made from `before` and with the same lasting part, certainly has the same columns.

    So it has if no searched attribute of the other part was set.
    """
    return all(before.get(tag) is after.get(tag) for tag in _SEARCHED_MOVING_TAGS)


def _exact(keys: DicomJson, keyword: str) -> str:
    """The text of a key that a column can narrow by; empty for any other kind of key."""
    wanted = values(keys, keyword)
    if len(wanted) != 1 or not isinstance(wanted[0], str):
        return ""
    value = wanted[0].strip(" ")
    return "" if len(value) > _MOST_CHARACTERS or set(value) & set("*?\\") else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What columns can say about the keys of a search.

    Attributes
    ----------
    equal
        Column name to the values of which a matching workitem has one; ``uid`` and ``state`` are among them.
    exact
        Whether the columns say all: a workitem matches when each column has the first of its values. Where
        one has :data:`SEVERAL`, the workitem itself has to be looked at.
    """

    equal: Mapping[str, tuple[str | int, ...]]
    exact: bool


def narrowing(matching: DicomJson) -> Narrowing:
    """The columns that narrow a search, and whether they decide it."""
    equal: dict[str, tuple[str | int, ...]] = {}
    exact = True
    for tag, element in matching.items():
        if not element.get("Value"):
            continue
        covered = _narrow(tag, matching, equal)
        exact = exact and covered
    return Narrowing(equal=equal, exact=exact)


def is_decided(matching: DicomJson) -> bool:
    """Whether columns decide a search, but for workitems with several items in a sequence."""
    return narrowing(matching).exact


_STATE = tag_key("ProcedureStepState")
_PRIORITY = tag_key("ScheduledProcedureStepPriority")
_BY_TAG = {tag_key(keyword): (keyword, column) for keyword, column in _TEXT_COLUMNS.items()}
_BY_TAG[_STATE] = ("ProcedureStepState", "state")
_BY_TAG[tag_key("SOPInstanceUID")] = ("SOPInstanceUID", "uid")
_OF_ONE_ITEM = frozenset({"ScheduledWorkitemCodeSequence"})
_SEQUENCES = {tag_key(sequence): sequence for sequence, _ in _ITEM_COLUMNS}


def _narrow(tag: str, matching: DicomJson, equal: dict[str, tuple[str | int, ...]]) -> bool:
    """Add what the key under `tag` narrows; whether nothing more is to be looked at for it."""
    if tag == _PRIORITY:
        priority = _exact(matching, "ScheduledProcedureStepPriority")
        if priority in _PRIORITY_RANKS:
            equal["priority_rank"] = (_PRIORITY_RANKS[priority],)
        return priority in _PRIORITY_RANKS
    if tag in _BY_TAG:
        keyword, column = _BY_TAG[tag]
        if value := _exact(matching, keyword):
            equal[column] = (value,)
            return True
        return False
    if tag not in _SEQUENCES:
        return False
    sequence = _SEQUENCES[tag]
    found = items(matching, sequence)
    covered = len(found) == 1
    for item_tag, element in found[0].items() if found else ():
        if not element.get("Value"):
            continue
        column = next(
            (
                name
                for (of, keyword), name in _ITEM_COLUMNS.items()
                if of == sequence and tag_key(keyword) == item_tag and _exact(found[0], keyword)
            ),
            "",
        )
        if column:
            value = str(element["Value"][0]).strip(" ")
            equal[column] = (value,) if sequence in _OF_ONE_ITEM else (value, SEVERAL)
        covered = covered and bool(column)
    return covered


def search_order(
    attributes: DicomJson, created_at: datetime, uid: str
) -> tuple[int, datetime, datetime, str]:
    """Sort key of search answers: HIGH priority first, then scheduled start, then arrival, then UID."""
    rank = _PRIORITY_RANKS.get(text(attributes, "ScheduledProcedureStepPriority"), 1)
    return rank, _start(attributes), created_at, uid
