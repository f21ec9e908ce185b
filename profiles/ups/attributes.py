# SPDX-License-Identifier: Apache-2.0
"""Looking up what an attribute of a workitem needs, by tag and by path.

The table itself is ``table.py``; this module resolves its macros and indexes it. Attributes without a row are
optional in every service and kept as they are ("all other attributes of the module", 3/3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from profiles.dicom_json import tag_key
from profiles.ups.states import InputReadinessState, ProcedureStepState
from profiles.ups.table import MODULES, Row


def _resolved(rows: tuple[Row, ...], match: str) -> tuple[Row, ...]:
    """`rows` with the match code ``*`` of macros replaced by that of their sequence."""
    resolved = []
    for row in rows:
        code = match if row.match == "*" else row.match
        resolved.append(replace(row, match=code, items=_resolved(row.items, code)))
    return tuple(resolved)


TABLE: Mapping[str, tuple[Row, ...]] = {name: _resolved(rows, "-") for name, rows in MODULES.items()}
"""Module to its rows, macros resolved."""

TOP_ROWS: tuple[Row, ...] = tuple(row for rows in TABLE.values() for row in rows)

_INDEXES: dict[int, tuple[tuple[Row, ...], Mapping[str, Row]]] = {}


def by_tag(rows: tuple[Row, ...]) -> Mapping[str, Row]:
    """`rows` keyed by DICOM JSON tag; built once for each tuple of the table."""
    found = _INDEXES.get(id(rows))
    if found is None:
        found = _INDEXES[id(rows)] = (rows, {tag_key(row.keyword): row for row in rows})
    return found[1]


def row_at(*keywords: str) -> Row | None:
    """The row at a path of keywords from the top of the workitem, or None if the table has none."""
    rows, found = TOP_ROWS, None
    for keyword in keywords:
        found = by_tag(rows).get(tag_key(keyword))
        if found is None:
            return None
        rows = found.items
    return found


SCHEDULED_MODULE_TAGS = frozenset(tag_key(row.keyword) for row in TABLE["Scheduled Procedure Information"])
"""A change of any of these sets Scheduled Procedure Step Modification DateTime (PS3.3 C.30.2)."""

_UNIVERSAL_ENTITY_TYPES = frozenset({"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"})

ENUMERATED_VALUES: Mapping[str, frozenset[str]] = {
    tag_key(keyword): allowed
    for keyword, allowed in {
        "ScheduledProcedureStepPriority": frozenset({"HIGH", "MEDIUM", "LOW"}),
        "InputReadinessState": frozenset(InputReadinessState),
        "ProcedureStepState": frozenset(ProcedureStepState),
        "PatientSex": frozenset({"M", "F", "O"}),
        "TypeOfPatientID": frozenset({"TEXT", "RFID", "BARCODE"}),
        "UniversalEntityIDType": _UNIVERSAL_ENTITY_TYPES,
        "ValueType": frozenset(
            {"DATETIME", "DATE", "TIME", "PNAME", "UIDREF", "TEXT", "CODE", "NUMERIC", "COMPOSITE", "IMAGE"}
        ),
    }.items()
}
"""Tag to its enumerated values (PS3.3 C.30, 10.2, 10.14, C.2.3)."""
