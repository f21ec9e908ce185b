# SPDX-License-Identifier: Apache-2.0
"""Several processes on one PostgreSQL: what they do at one moment comes out as if one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from conformance.peers.process import wait_until
from profiles.order import OrderControl
from task_manager.outcome import Accepted
from task_manager.store.studies import add_study, locked_study
from task_manager.study.assembly import after_instance
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader
from task_manager.study.sources import Pause
from tests.instances import STUDY, ct
from tests.service import QUIET, TestBed, make_service
from tests.unit.task_manager.steps import (
    ORDER,
    complete,
    order,
    sr_and_seg,
    workitem,
)


@pytest.mark.peers
def test_a_report_that_begins_a_study_beside_an_image_takes_no_deadline_away(
    tmp_path: Path, postgresql_dsn: str
) -> None:
    bed = make_service(tmp_path, postgresql_dsn)
    image = read_header(_file(tmp_path, ct(1)))
    assert isinstance(image, InstanceHeader)
    begun = after_instance(None, image, now=bed.clock(), pause=Pause(QUIET, 2 * QUIET))
    assert begun is not None
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:
            assert add_study(connection, begun, patient_id="P1", accession_number="A1")
            report = pool.submit(bed.receive, sr_and_seg()[0])
            wait_until(lambda: _is_anyone_waiting(bed), "the report waits for the study")
        assert isinstance(report.result(), Accepted)
    assert bed.service.scheduler.next_deadline() == bed.clock() + QUIET
    bed.database.close()


@pytest.mark.peers
def test_an_order_is_canceled_with_the_work_that_is_just_being_made_of_it(
    tmp_path: Path, postgresql_dsn: str
) -> None:
    bed = make_service(tmp_path, postgresql_dsn)
    order(bed)
    for number in (1, 2):
        bed.receive(ct(number))
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:  # the last thing a completion writes is its workitem
            connection.execute(text("LOCK TABLE workitem IN SHARE MODE"))
            completing = pool.submit(complete, bed)
            wait_until(lambda: _is_anyone_waiting(bed), "the completion waits")
            canceling = pool.submit(order, bed, replace(ORDER, control=OrderControl.CANCEL), "M2")
            wait_until(lambda: _is_anyone_waiting(bed, 2), "the cancelation waits for the completion")
        completing.result()
        assert isinstance(canceling.result(), Accepted)
    assert workitem(bed).state == "CANCELED"
    bed.database.close()


@pytest.mark.peers
def test_a_study_that_two_processes_find_due_is_complete_once(tmp_path: Path, postgresql_dsn: str) -> None:
    bed = make_service(tmp_path, postgresql_dsn)
    other = make_service(tmp_path, postgresql_dsn, clock=bed.clock)
    for number in (1, 2):
        bed.receive(ct(number))
    bed.clock.pass_(QUIET.total_seconds())
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:
            assert locked_study(connection, STUDY) is not None
            both = [pool.submit(one.service.scheduler.complete_due_studies) for one in (bed, other)]
            wait_until(lambda: _is_anyone_waiting(bed, 2), "both wait for the study")
        assert sorted(one.result() for one in both) == [0, 1]
    story = bed.service.story(STUDY)
    assert story is not None
    assert (story.study.revision, len(story.workitems)) == (1, 1)
    other.database.close()
    bed.database.close()


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "one.dcm"
    path.write_bytes(content)
    return path


def _is_anyone_waiting(bed: TestBed, number: int = 1) -> bool:
    with bed.database.read() as connection:
        waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        return int(connection.execute(text(waiting)).scalar_one()) >= number
