# SPDX-License-Identifier: Apache-2.0
"""A tick costs the same however many studies are open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from task_manager.store.tables import METADATA
from tests.instances import STUDY, ct
from tests.service import START, TestBed, make_service

_STUDY = METADATA.tables["study"]


def open_studies(bed: TestBed, number: int) -> None:
    """Studies that receive images and are not due for an hour."""
    rows = [
        {
            "study_instance_uid": f"{STUDY}.5.{index}",
            "state": "RECEIVING",
            "revision": 0,
            "patient_id": "",
            "accession_number": "",
            "attributes": "{}",
            "first_received_at": START,
            "last_received_at": START,
            "deadline_at": START + timedelta(hours=1),
            "evidence": "",
            "receiving_since": START,
        }
        for index in range(number)
    ]
    with bed.database.write() as connection:
        connection.execute(insert(_STUDY), rows)


@contextmanager
def statements(bed: TestBed) -> Iterator[list[str]]:
    """The statements that run in the block."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(bed.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(bed.database.engine, "before_cursor_execute", note)


def tick(bed: TestBed) -> int:
    bed.service.scheduler.complete_due_studies()
    bed.service.scheduler.next_deadline()
    with statements(bed) as seen:
        bed.service.scheduler.complete_due_studies()
        bed.service.scheduler.next_deadline()
    return len(seen)


def test_a_tick_takes_as_many_statements_with_many_open_studies_as_with_none(bed: TestBed) -> None:
    before = tick(bed)
    open_studies(bed, 3000)

    assert tick(bed) == before


def test_one_of_the_statements_is_about_studies(bed: TestBed) -> None:
    open_studies(bed, 100)
    with statements(bed) as seen:
        bed.service.scheduler.complete_due_studies()

    assert sum("FROM study" in one for one in seen) == 1


def test_a_tick_looks_at_no_study_that_is_not_due(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    open_studies(bed, 10_000)
    tick(bed)
    looked = 0

    def count() -> None:
        nonlocal looked
        looked += 1

    with bed.database.read() as connection:
        raw: Any = connection.connection.driver_connection
    raw.set_progress_handler(count, 1000)  # called for each 1000 steps of SQLite's machine
    tick(bed)
    raw.set_progress_handler(None, 0)

    assert looked < 3
    bed.database.close()


@pytest.mark.parametrize("studies", [1, 20])
def test_studies_that_go_on_waiting_are_written_together(bed: TestBed, studies: int) -> None:
    for number in range(studies):
        bed.receive(ct(1, study=f"{STUDY}.6.{number}"))
        with bed.database.write() as connection:
            connection.execute(_STUDY.update().values(deadline_at=START))
    bed.clock.pass_(3)
    with statements(bed) as seen:
        event.listen(bed.database.engine, "commit", lambda connection: seen.append("COMMIT"))
        bed.service.scheduler.complete_due_studies()

    written = [one for one in seen if one.startswith(("UPDATE", "INSERT", "COMMIT"))]
    kinds = [kind for kind, _ in groupby(one.split()[0] for one in written)]
    assert [kind for kind in kinds if kind != "COMMIT"] == ["UPDATE", "INSERT"]
