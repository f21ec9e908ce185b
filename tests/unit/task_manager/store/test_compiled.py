# SPDX-License-Identifier: Apache-2.0
"""Statements in the driver's own words: several under way at once, and errors as those of the store."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from task_manager.errors import ConflictError
from task_manager.store.compiled import change, fetch, pipelined
from tests.service import TestBed

_ADD = "INSERT INTO purged_workitem (uid, purged_at) VALUES ('{}', '2026-01-01T00:00:00.000000Z')"
_ALL = "SELECT uid FROM purged_workitem ORDER BY uid"


def _kept(bed: TestBed) -> list[str]:
    with bed.database.read() as connection:
        return list(connection.execute(text(_ALL)).scalars())


def test_changes_under_way_are_all_made_and_seen_by_a_select(bed: TestBed) -> None:
    with bed.database.write() as connection:
        with pipelined(connection):
            change(connection, _ADD.format("1"), ())
            change(connection, _ADD.format("2"), ())
            assert fetch(connection, _ALL, ()) == [("1",), ("2",)]
            change(connection, _ADD.format("3"), ())
        assert connection.execute(text(_ALL)).scalars().all() == ["1", "2", "3"]
    assert _kept(bed) == ["1", "2", "3"]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_key_that_is_taken_is_a_conflict_and_nothing_is_kept(bed: TestBed, after: int) -> None:
    def write() -> None:
        with bed.database.write() as connection, pipelined(connection):
            change(connection, _ADD.format("1"), ())
            change(connection, _ADD.format("1"), ())
            for number in range(after):
                change(connection, _ADD.format(f"2.{number}"), ())

    with pytest.raises(ConflictError):
        write()
    assert _kept(bed) == []
    with bed.database.write() as connection, pipelined(connection):
        change(connection, _ADD.format("1"), ())
    assert _kept(bed) == ["1"]


def test_an_error_of_ours_leaves_nothing(bed: TestBed) -> None:
    def write() -> None:
        with bed.database.write() as connection, pipelined(connection):
            change(connection, _ADD.format("1"), ())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert _kept(bed) == []
