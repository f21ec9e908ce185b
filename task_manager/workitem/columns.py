# SPDX-License-Identifier: Apache-2.0
"""What a store indexes of a workitem, and how the keys of a search narrow it by these values.

Columns only narrow: ``profiles.ups.matching.matches`` still decides, so a column may never exclude a workitem
that matches. Nothing here knows SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from profiles.dicom_json import DicomJson, items, text, values
from profiles.ups.times import datetime_span

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
    ("ReferencedRequestSequence", "AccessionNumber"): "accession_number",
}


def _start(attributes: DicomJson) -> datetime:
    span = datetime_span(text(attributes, "ScheduledProcedureStepStartDateTime"))
    return span.start if span is not None else _LATEST


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


def _exact(keys: DicomJson, keyword: str) -> str:
    """The text of a key that a column can narrow by; empty for any other kind of key."""
    wanted = values(keys, keyword)
    if len(wanted) != 1 or not isinstance(wanted[0], str):
        return ""
    value = wanted[0].strip(" ")
    return "" if len(value) > _MOST_CHARACTERS or set(value) & set("*?\\") else value


def searched_columns(matching: DicomJson) -> dict[str, tuple[str | int, ...]]:
    """Column name to the values of which a matching workitem has one; ``state`` is among the names."""
    wanted: dict[str, tuple[str | int, ...]] = {}
    state, priority = (
        _exact(matching, "ProcedureStepState"),
        _exact(matching, "ScheduledProcedureStepPriority"),
    )
    if state:
        wanted["state"] = (state,)
    if priority in _PRIORITY_RANKS:
        wanted["priority_rank"] = (_PRIORITY_RANKS[priority],)
    for keyword, column in _TEXT_COLUMNS.items():
        if value := _exact(matching, keyword):
            wanted[column] = (value,)
    for (sequence, keyword), column in _ITEM_COLUMNS.items():
        for item in items(matching, sequence)[:1]:
            if value := _exact(item, keyword):
                wanted[column] = (value, SEVERAL)
    return wanted


def search_order(
    attributes: DicomJson, created_at: datetime, uid: str
) -> tuple[int, datetime, datetime, str]:
    """Sort key of search answers: HIGH priority first, then scheduled start, then arrival, then UID."""
    rank = _PRIORITY_RANKS.get(text(attributes, "ScheduledProcedureStepPriority"), 1)
    return rank, _start(attributes), created_at, uid
