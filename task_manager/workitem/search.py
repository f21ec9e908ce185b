# SPDX-License-Identifier: Apache-2.0
"""What a store may index of a workitem, and which part of a search such columns decide.

A store keeps :class:`SearchColumns` beside the attributes, narrows by :attr:`SearchPlan.conditions`, and
applies ``profiles.ups.matching.matches`` with :attr:`SearchPlan.rest` to what is left. Nothing here knows
SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from profiles.dicom_json import DicomJson, element, items, tag_key, text, values
from profiles.ups.matching import Range, is_universal, key_vr, parse_range
from profiles.ups.times import datetime_span

MAX_INDEXED_CHARACTERS = 64
"""Keys longer than any indexed value are left to matching."""

_PRIORITY_ORDER = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
_LATEST = datetime.max.replace(tzinfo=UTC)


class Column(StrEnum):
    """Names of the values worth indexing."""

    STATE = "state"
    PRIORITY = "priority"
    PATIENT_ID = "patient_id"
    WORKLIST_LABEL = "worklist_label"
    PROCEDURE_STEP_LABEL = "procedure_step_label"
    INPUT_READINESS = "input_readiness"
    WORKITEM_CODE = "workitem_code"
    WORKITEM_CODE_SCHEME = "workitem_code_scheme"
    ACCESSION_NUMBER = "accession_number"
    STATION_NAME_CODE = "station_name_code"
    START_AT = "start_at"
    SCHEDULE_MODIFIED_AT = "schedule_modified_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchColumns:
    """The indexed values of one workitem.

    Texts are empty when the attribute has no value. `accession_numbers` and `station_name_codes` have one
    entry for each item of their sequence. Times are aware UTC, None when absent; a time of limited precision
    is the start of what it covers.
    """

    state: str
    priority: str
    patient_id: str
    worklist_label: str
    procedure_step_label: str
    input_readiness: str
    workitem_code: str
    workitem_code_scheme: str
    accession_numbers: tuple[str, ...]
    station_name_codes: tuple[str, ...]
    start_at: datetime | None
    schedule_modified_at: datetime | None


def _moment(attributes: DicomJson, keyword: str) -> datetime | None:
    span = datetime_span(text(attributes, keyword))
    return span.start if span is not None else None


def _of_items(attributes: DicomJson, sequence: str, keyword: str) -> tuple[str, ...]:
    return tuple(value for item in items(attributes, sequence) if (value := text(item, keyword)))


def search_columns(attributes: DicomJson) -> SearchColumns:
    """The values of a workitem that are worth indexing."""
    codes = items(attributes, "ScheduledWorkitemCodeSequence")
    code = codes[0] if codes else {}
    return SearchColumns(
        state=text(attributes, "ProcedureStepState"),
        priority=text(attributes, "ScheduledProcedureStepPriority"),
        patient_id=text(attributes, "PatientID").strip(" "),
        worklist_label=text(attributes, "WorklistLabel").strip(" "),
        procedure_step_label=text(attributes, "ProcedureStepLabel").strip(" "),
        input_readiness=text(attributes, "InputReadinessState"),
        workitem_code=text(code, "CodeValue").strip(" "),
        workitem_code_scheme=text(code, "CodingSchemeDesignator").strip(" "),
        accession_numbers=tuple(
            number.strip(" ")
            for number in _of_items(attributes, "ReferencedRequestSequence", "AccessionNumber")
        ),
        station_name_codes=tuple(
            name.strip(" ") for name in _of_items(attributes, "ScheduledStationNameCodeSequence", "CodeValue")
        ),
        start_at=_moment(attributes, "ScheduledProcedureStepStartDateTime"),
        schedule_modified_at=_moment(attributes, "ScheduledProcedureStepModificationDateTime"),
    )


def search_order(
    attributes: DicomJson, created_at: datetime, uid: str
) -> tuple[int, datetime, datetime, str]:
    """Sort key of search answers: HIGH priority first, then scheduled start, then arrival, then UID."""
    return (
        _PRIORITY_ORDER.get(text(attributes, "ScheduledProcedureStepPriority"), len(_PRIORITY_ORDER)),
        _moment(attributes, "ScheduledProcedureStepStartDateTime") or _LATEST,
        created_at,
        uid,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Equals:
    """The column holds exactly `value` (for sequences: an item does). Case-sensitive."""

    column: Column
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """The column is a time from `low` up to but not including `before`; None leaves an end open."""

    column: Column
    low: datetime | None
    before: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """A search split in what columns decide and what must be matched on the attributes.

    All `conditions` must hold. With an empty `rest` they decide alone, so a store may count and page by them.
    """

    conditions: tuple[Equals | Within, ...]
    rest: DicomJson


_TEXT_KEYS = {
    "ProcedureStepState": Column.STATE,
    "ScheduledProcedureStepPriority": Column.PRIORITY,
    "PatientID": Column.PATIENT_ID,
    "WorklistLabel": Column.WORKLIST_LABEL,
    "ProcedureStepLabel": Column.PROCEDURE_STEP_LABEL,
    "InputReadinessState": Column.INPUT_READINESS,
}
_TIME_KEYS = {
    "ScheduledProcedureStepStartDateTime": Column.START_AT,
    "ScheduledProcedureStepModificationDateTime": Column.SCHEDULE_MODIFIED_AT,
}
_ITEM_KEYS = {
    ("ScheduledWorkitemCodeSequence", "CodeValue"): Column.WORKITEM_CODE,
    ("ScheduledWorkitemCodeSequence", "CodingSchemeDesignator"): Column.WORKITEM_CODE_SCHEME,
    ("ReferencedRequestSequence", "AccessionNumber"): Column.ACCESSION_NUMBER,
    ("ScheduledStationNameCodeSequence", "CodeValue"): Column.STATION_NAME_CODE,
}
_ONE_ITEM_ONLY = frozenset({"ScheduledWorkitemCodeSequence"})


def _exact(keys: DicomJson, keyword: str) -> str | None:
    """The text of a single-value key that a column can decide, or None."""
    wanted = values(keys, keyword)
    if len(wanted) != 1 or not isinstance(wanted[0], str):
        return None
    value = wanted[0].strip(" ")
    if not value or len(value) > MAX_INDEXED_CHARACTERS or "*" in value or "?" in value:
        return None
    return value


def search_plan(matching: DicomJson) -> SearchPlan:
    """Split the keys of a search.

    A condition on a sequence of several items is necessary and, as the only key of its sequence, sufficient;
    with more keys the sequence stays in the rest, since one item must satisfy all of them.
    """
    conditions: list[Equals | Within] = []
    rest = {
        key: part
        for key, part in matching.items()
        if not is_universal(key_vr(key, part), part.get("Value") or [])
    }
    for keyword, column in _TEXT_KEYS.items():
        value = _exact(rest, keyword)
        if value is not None:
            conditions.append(Equals(column=column, value=value))
            del rest[tag_key(keyword)]
    for keyword, column in _TIME_KEYS.items():
        span = _range(rest, keyword)
        if span is not None:
            low = span.low.start if span.low else None
            conditions.append(Within(column=column, low=low, before=span.high.end if span.high else None))
            del rest[tag_key(keyword)]
    for (sequence, keyword), column in _ITEM_KEYS.items():
        for item in items(matching, sequence)[:1]:
            value = _exact(item, keyword)
            if value is None:
                continue
            conditions.append(Equals(column=column, value=value))
            left = items(rest, sequence)[0] if sequence in _ONE_ITEM_ONLY and items(rest, sequence) else item
            left = {key: part for key, part in left.items() if key != tag_key(keyword)}
            if not left:
                rest.pop(tag_key(sequence), None)
            elif sequence in _ONE_ITEM_ONLY:
                rest[tag_key(sequence)] = element(sequence, left)[tag_key(sequence)]
    return SearchPlan(conditions=tuple(conditions), rest=rest)


def _range(keys: DicomJson, keyword: str) -> Range | None:
    wanted: list[Any] = values(keys, keyword)
    return parse_range("DT", str(wanted[0])) if len(wanted) == 1 and wanted[0] else None
