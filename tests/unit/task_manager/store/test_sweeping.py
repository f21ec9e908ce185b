# SPDX-License-Identifier: Apache-2.0
"""What is asked again and again finds its rows by an index, however long the worklist is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from task_manager.store import attention, leases, orders, studies
from task_manager.store.database import Database
from tests.unit.task_manager.steps import ORDER

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    made.migrate()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        pytest.param(lambda c: leases.due_leases(c, NOW, limit=50), "workitem_lease", id="leases due"),
        pytest.param(leases.next_lease, "workitem_lease", id="next lease"),
        pytest.param(lambda c: leases.expired(c, NOW, limit=50), "workitem_expiry", id="expired"),
        pytest.param(leases.next_expiry, "workitem_expiry", id="next expiration"),
        pytest.param(
            lambda c: studies.is_recorded(c, "objects/ab/1.2/1.2.3.dcm"),
            "instance_study",
            id="left by a crash",
        ),
        pytest.param(
            lambda c: attention.waiting_workitems(c, limit=9), "workitem_attention", id="for a person"
        ),
        pytest.param(attention.count_workitems, "workitem_attention", id="how many for a person"),
    ],
)
def test_index_is_used(database: Database, ask: Callable[[Connection], Any], index: str) -> None:
    told = _plan(database, ask)
    assert f"INDEX {index}" in told
    assert "TEMP B-TREE" not in told


def test_each_way_to_the_work_of_an_order_goes_by_an_index(database: Database) -> None:
    order = replace(ORDER, study_instance_uid="1.2.3")
    told = _plan(database, lambda connection: orders.unfinished_work(connection, "K1", order))
    used = set(re.findall(r"SEARCH workitem USING INDEX (\w+)", told))
    assert used in (
        {"workitem_order", "workitem_study", by_either}
        for by_either in ("workitem_accession", "workitem_patient")
    )
    assert "SCAN workitem" not in told


def _plan(database: Database, ask: Callable[[Connection], Any]) -> str:
    """How SQLite goes about the last statement of `ask`."""
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as connection:
        ask(connection)
        statement, parameters = asked[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    return " ".join(str(row[3]) for row in plan)
