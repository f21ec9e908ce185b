# SPDX-License-Identifier: Apache-2.0
"""Merges and orders beside other transactions on PostgreSQL come out as if one had come after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from conformance.peers.process import wait_until
from profiles import dicom_json
from profiles.patient import IdentityChange, IdentityKind, PatientIdentity
from profiles.request import RequestKind
from task_manager.outcome import Accepted, Refused
from task_manager.requesting import RequestingKind
from task_manager.store import orders
from tests.contract.workitems import code, instances, minimal
from tests.instances import ct
from tests.service import PERFORMER, TestBed, make_service
from tests.unit.task_manager.steps import KEY, ORDER, RIS, complete, order, workitem

pytestmark = pytest.mark.peers


@pytest.fixture
def bed(tmp_path: Path, postgresql_dsn: str) -> Iterator[TestBed]:
    made = make_service(tmp_path, postgresql_dsn)
    yield made
    made.database.close()


def test_a_merge_waits_for_an_order_that_is_just_being_added(bed: TestBed) -> None:
    one_after_the_other(bed, "message", lambda: order(bed), lambda: merge(bed))
    with bed.database.read() as connection:
        kept = orders.order_by_key(connection, "PL1")
    assert kept is not None
    assert kept.patient_id == "P9"


def test_a_merge_reaches_work_that_is_just_being_made(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    one_after_the_other(bed, "workitem", lambda: complete(bed), lambda: merge(bed))
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    assert dicom_json.text(found, "PatientID") == "P9"


def test_a_merge_waits_for_a_workitem_that_asks(tmp_path: Path, postgresql_dsn: str) -> None:
    bed = make_service(tmp_path, postgresql_dsn, requesting=[RequestingKind(code="AW1001")])
    asking = minimal(
        PatientID="P1", ScheduledWorkitemCodeSequence=code(), InputInformationSequence=instances()
    )
    worklist = bed.service.worklist
    one_after_the_other(
        bed,
        "request",
        lambda: worklist.create_workitem("1.2.9", asking, actor=PERFORMER),
        lambda: merge(bed),
    )
    asked = bed.service.requests.order_of(RequestKind.WORKITEM, "1.2.9")
    assert asked is not None
    assert asked.patient_id == "P9"
    bed.database.close()


def test_two_new_orders_of_one_number_are_both_kept(bed: TestBed) -> None:
    one, other = (replace(ORDER, placer_issuer=name, patient_id=f"P{name}") for name in "AB")
    one_after_the_other(bed, "message", lambda: order(bed, one), lambda: order(bed, other, "M2"))
    with bed.database.read() as connection:
        kept = [orders.order_by_key(connection, key) for key in ("PL1", "PL1^B")]
    assert [order.patient_id for order in kept if order] == ["PA", "PB"]


def merge(bed: TestBed) -> None:
    change = IdentityChange(
        kind=IdentityKind.MERGED, patient=PatientIdentity(patient_id="P9", issuer="HOSP"), former_id="P1"
    )
    key = replace(KEY, control_id="I1")
    outcome = bed.service.intake.receive_identities([change], key=key, raw=b"MSH|", actor=RIS)
    assert isinstance(outcome, Accepted)


def one_after_the_other(
    bed: TestBed, table: str, first: Callable[[], object], second: Callable[[], object]
) -> None:
    """Begin `second` while `first` stands just before its commit, at its last write to `table`."""
    with ThreadPoolExecutor() as pool:
        with bed.database.write() as connection:
            connection.execute(text(f"LOCK TABLE {table} IN SHARE MODE"))
            begun = pool.submit(first)
            wait_until(lambda: _waiting(bed) >= 1, "the first stands before its commit")
            beside = pool.submit(second)
            wait_until(lambda: _waiting(bed) >= 2, "the second waits too")
        begun.result()
        beside.result()


def _waiting(bed: TestBed) -> int:
    with bed.database.read() as connection:
        waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        return int(connection.execute(text(waiting)).scalar_one())
