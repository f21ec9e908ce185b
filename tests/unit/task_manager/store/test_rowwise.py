# SPDX-License-Identifier: Apache-2.0
"""Many rows in one statement: the same on SQLite, which binds them, and on PostgreSQL, which reads JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from task_manager.store.rowwise import inserting, updating
from task_manager.store.tables import METADATA
from tests.service import TestBed, make_service

_TABLE = METADATA.tables["subscription"]
_NAMES = ("workitem_uid", "receiving_ae", "deletion_lock", "filtered", "from_report")
_ADD = inserting(_TABLE, _NAMES, unless=_NAMES[:2])
_MOVE = updating(_TABLE, ("receiving_ae", "from_report"), key="receiving_ae")
_TEXTS = ("plain", 'it\'s "quoted"', "back\\slash", "%(rows)s :rows ?", "Änne 漢字", "")


def _row(ae: str, **changed: Any) -> dict[str, Any]:
    return {
        "workitem_uid": "1.2.3",
        "receiving_ae": ae,
        "deletion_lock": True,
        "filtered": False,
        "from_report": 2**40,
        "not_of_the_table": "left out",
        **changed,
    }


def _kept(bed: TestBed) -> list[tuple[Any, ...]]:
    with bed.database.read() as connection:
        statement = select(*(_TABLE.c[name] for name in _NAMES)).order_by(_TABLE.c.receiving_ae)
        return [tuple(row) for row in connection.execute(statement)]


@pytest.mark.parametrize("count", [0, 1, 6])
def test_rows_are_written_as_they_are(bed: TestBed, count: int) -> None:
    with bed.database.write() as connection:
        _ADD.run(connection, [_row(ae) for ae in _TEXTS[:count]])
    assert sorted(_kept(bed)) == sorted(("1.2.3", ae, True, False, 2**40) for ae in _TEXTS[:count])


def test_a_row_that_exists_stays_as_it_is(bed: TestBed) -> None:
    with bed.database.write() as connection:
        _ADD.run(connection, [_row("A")])
        _ADD.run(connection, [_row("A", from_report=7), _row("B", from_report=7, deletion_lock=False)])
    assert _kept(bed) == [("1.2.3", "A", True, False, 2**40), ("1.2.3", "B", False, False, 7)]


def test_each_row_gets_its_own_values(bed: TestBed) -> None:
    with bed.database.write() as connection:
        _ADD.run(connection, [_row(name) for name in ("A", "B", "C")])
        _MOVE.run(connection, [_row("C", from_report=3), _row("A", from_report=1), _row("X", from_report=9)])
    assert [(row[1], row[4]) for row in _kept(bed)] == [("A", 1), ("B", 2**40), ("C", 3)]


@pytest.mark.parametrize(("characters", "statements"), [(10, 1), (2**21, 2), (5 * 2**20, 4)])
@pytest.mark.peers
def test_long_rows_go_in_several_statements(
    postgresql_dsn: str, characters: int, statements: int, tmp_path: Path
) -> None:
    table = METADATA.tables["workitem_content"]
    rows = [{"number": number, "attributes": "x" * characters, "summary": "{}"} for number in range(1, 5)]
    bed = make_service(tmp_path, postgresql_dsn)
    with bed.database.write() as connection:
        inserting(table, tuple(rows[0])).run(connection, rows)
    with bed.database.read() as connection:
        [kept] = connection.execute(
            text("SELECT count(*), min(length(attributes)), count(DISTINCT cmin::text) FROM workitem_content")
        )
    bed.database.close()
    assert tuple(kept) == (4, characters, statements)
