# SPDX-License-Identifier: Apache-2.0
"""Rows of content: never changed, never numbered again, and known without being read again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text as sql

from conformance.peers.process import wait_until
from profiles.dicom_json import DicomJson, element, text
from profiles.ups.states import ProcedureStepState
from task_manager.outcome import Accepted
from task_manager.store.contents import Content, Contents, add_contents, contents_by_number, drop_contents
from task_manager.workitem.commands import ChangeState, Rearrange, Update
from tests.contract.workitems import minimal
from tests.service import PERFORMER, TestBed, make_service

UID, LOCK = "2.25.40", "2.25.41"
PROGRESS = element("ProcedureStepProgressInformationSequence", element("ProcedureStepProgress", "40"))


def _patient(name: str) -> DicomJson:
    return element("PatientID", name)


def _content(length: int) -> Content:
    return Content(b" " * length, b"{}")


def test_a_part_is_written_read_and_then_known(bed: TestBed) -> None:
    known = Contents()
    with bed.database.write() as connection:
        written = add_contents(connection, [_patient("P1"), _patient("P2")], known)
    numbers = list(written)
    with bed.database.read() as connection:
        found, learned = contents_by_number(connection, numbers, known)
        assert [text(found[number].part, "PatientID") for number in numbers] == ["P1", "P2"]
        assert [content.attributes for content in learned.values()] == [
            content.attributes for content in written.values()
        ]
        known.add(learned)
    with bed.database.write() as connection:
        drop_contents(connection, numbers)
    with bed.database.read() as connection:
        again, learned = contents_by_number(connection, numbers, known)
    assert (again, learned) == (found, {})


def test_a_number_never_names_anything_else(bed: TestBed) -> None:
    known = Contents()
    numbers: list[int] = []
    for name in ("P1", "P2", "P3"):
        with bed.database.write() as connection:
            drop_contents(connection, numbers[-1:])
            numbers += add_contents(connection, [_patient(name)], known)
    assert len(set(numbers)) == 3
    with bed.database.read() as connection:
        left = connection.execute(sql("SELECT number FROM workitem_content")).scalars().all()
    assert list(left) == numbers[-1:]


def test_the_oldest_make_room() -> None:
    known = Contents(most_bytes=100)
    for number in range(5):
        known.add({number: _content(40)})
    assert [number for number in range(5) if known.get(number) is not None] == [3, 4]
    known.add({4: _content(40)})
    assert known.get(3) is not None
    known.add({9: _content(101)})
    assert known.get(9) is None


def test_what_was_rolled_back_is_not_remembered(bed: TestBed) -> None:
    worklist = bed.service.worklist

    def create(name: str) -> None:
        outcome = worklist.create_workitem(UID, minimal(PatientID=name), actor=PERFORMER)
        assert isinstance(outcome, Accepted)

    def create_in_vain() -> None:
        with worklist.transact() as work:
            work.create(UID, minimal(PatientID="P1"), actor=PERFORMER)
            work.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        create_in_vain()
    create("P2")
    worklist.change_state(UID, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    with worklist.transact() as work:
        held = work.get(UID)
    assert held is not None
    assert text(held.attributes, "PatientID") == "P2"


def test_a_server_that_came_back_is_asked_again(bed: TestBed) -> None:
    """A standby that took over may lack the last commits, and give their numbers to others."""
    worklist = bed.service.worklist
    worklist.create_workitem(UID, minimal(PatientID="P1"), actor=PERFORMER)
    with bed.database.write() as connection:
        connection.execute(sql("UPDATE workitem_content SET attributes = replace(attributes, 'P1', 'P2')"))
    bed.database.close()
    with worklist.transact() as work:
        held = work.get(UID)
    assert held is not None
    assert text(held.attributes, "PatientID") == "P2"


def test_a_step_leaves_the_content_and_a_rescheduling_renews_it(bed: TestBed) -> None:
    worklist = bed.service.worklist
    worklist.create_workitem(UID, minimal(PatientID="P1"), actor=PERFORMER)

    def number() -> int:
        with bed.database.read() as connection:
            [row] = connection.execute(
                sql("SELECT number FROM workitem_content JOIN workitem ON number = content_number")
            ).scalars()
            assert connection.execute(sql("SELECT count(*) FROM workitem_content")).scalar() == 1
        return int(row)

    first = number()
    for command in (
        ChangeState(state="IN PROGRESS", transaction_uid=LOCK),
        Update(changes=PROGRESS, transaction_uid=LOCK),
    ):
        assert isinstance(worklist.submit(UID, command, actor=PERFORMER).result(), Accepted)
        assert number() == first
    with worklist.transact() as work:
        changes = element("CommentsOnTheScheduledProcedureStep", "urgent")
        assert isinstance(work.apply(UID, Rearrange(changes=changes), actor=PERFORMER), Accepted)
    assert number() != first
    found = worklist.retrieve_workitem(UID)
    assert isinstance(found, dict)
    assert text(found, "CommentsOnTheScheduledProcedureStep") == "urgent"
    assert text(found, "ProcedureStepState") == ProcedureStepState.IN_PROGRESS.value


@pytest.mark.peers
def test_who_waited_for_a_row_sees_the_content_of_who_had_it(postgresql_dsn: str, tmp_path: Path) -> None:
    """On PostgreSQL a statement that waited sees the locked row as it is, others as they were."""
    bed = make_service(tmp_path, postgresql_dsn)
    try:
        worklist = bed.service.worklist
        worklist.create_workitem(UID, minimal(PatientID="P1"), actor=PERFORMER)
        changed = Event()

        def waits() -> str:
            assert changed.wait(10)
            with worklist.transact() as work:
                held = work.get(UID)
            return text(held.attributes, "CommentsOnTheScheduledProcedureStep") if held else "not there"

        with ThreadPoolExecutor(1) as pool:
            with worklist.transact() as work:
                changes = element("CommentsOnTheScheduledProcedureStep", "urgent")
                work.apply(UID, Rearrange(changes=changes), actor=PERFORMER)
                answer = pool.submit(waits)
                changed.set()
                wait_until(lambda: _is_anyone_waiting(bed), "the other waits for the row")
            assert answer.result(10) == "urgent"
    finally:
        bed.database.close()


def _is_anyone_waiting(bed: TestBed) -> bool:
    with bed.database.read() as connection:
        return bool(connection.execute(sql("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())
