# SPDX-License-Identifier: Apache-2.0
"""Two replicas on one PostgreSQL serve one worklist: claims, queues and reports, under load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text as sql

from conformance.peers.process import wait_until
from profiles.dicom_json import element, text
from profiles.order import OrderControl
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.errors import ConflictError
from task_manager.notices import Channel, Notice
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import WorkitemQuery
from task_manager.workitem.commands import ChangeState, Command, Create, Update
from tests.contract.workitems import minimal, performed
from tests.instances import ct
from tests.service import PERFORMER, TestBed, make_service
from tests.unit.task_manager.steps import ORDER, complete, order, workitem

pytestmark = pytest.mark.peers

_S = 30.0
_WATCHER = "WATCHER"


@pytest.fixture
def replicas(tmp_path: Path, postgresql_dsn: str) -> Iterator[tuple[TestBed, TestBed]]:
    made = tuple(make_service(tmp_path / name, postgresql_dsn) for name in ("one", "two"))
    yield made[0], made[1]
    for bed in made:
        bed.database.close()


def _uid(number: int) -> str:
    return f"1.2.3.{number + 1}"


def _create(bed: TestBed, numbers: Sequence[int]) -> None:
    commands = [Create(uid=_uid(number), attributes=minimal()) for number in numbers]
    asked = [bed.service.worklist.submit(one.uid, one, actor=PERFORMER) for one in commands]
    assert all(isinstance(one.result(_S), Accepted) for one in asked)


def test_of_fifty_claims_of_each_workitem_one_wins(replicas: tuple[TestBed, TestBed]) -> None:
    items, claimers = 20, 50
    _create(replicas[0], range(items))

    def claim(number: int) -> list[Accepted | Refused]:
        worklist = replicas[number % 2].service.worklist
        order = [(number * 7 + step) % items for step in range(items)]  # each begins elsewhere
        command = ChangeState(state="IN PROGRESS", transaction_uid=f"1.9.{number + 1}")
        futures = {at: worklist.submit(_uid(at), command, actor=PERFORMER) for at in order}
        return [futures[at].result(_S) for at in range(items)]

    with ThreadPoolExecutor(claimers) as pool:
        answers = list(pool.map(claim, range(claimers)))
    for at in range(items):
        told = [answer[at] for answer in answers]
        assert sum(isinstance(one, Accepted) for one in told) == 1
        refused = {one.code for one in told if isinstance(one, Refused)}
        assert refused == {RefusalCode.WRONG_TRANSACTION_UID}


def test_twenty_performers_empty_a_queue_and_each_report_is_read_once_and_in_order(
    replicas: tuple[TestBed, TestBed],
) -> None:
    items, performers = 100, 20
    subscribed = replicas[0].service.subscriptions.subscribe(
        GLOBAL_SUBSCRIPTION_UID,
        _WATCHER,
        deletion_lock=False,
        matching={},
        channel=Channel.WEBSOCKET,
        actor=PERFORMER,
    )
    assert isinstance(subscribed, Accepted)
    stopping = threading.Event()
    read: list[list[Notice]] = [[], []]

    def watch(number: int) -> None:
        position = 0
        while True:
            ending = stopping.is_set()
            notices, position = replicas[number].service.journal.after(position, limit=50)
            read[number] += notices
            if ending and not notices:
                return
            stopping.wait(0.01)

    def perform(number: int) -> list[str]:
        worklist = replicas[number % 2].service.worklist
        lock = f"1.9.{number + 1}"
        mine: list[str] = []
        waiting = element("ProcedureStepState", "SCHEDULED")
        while found := worklist.search(WorkitemQuery(matching=waiting, limit=10)).result().results:
            for uid in (text(orjson.loads(one), "SOPInstanceUID") for one in found):
                steps: list[Command] = [
                    ChangeState(state="IN PROGRESS", transaction_uid=lock),
                    Update(changes=performed(), transaction_uid=lock),
                    ChangeState(state="COMPLETED", transaction_uid=lock),
                ]
                answers = [worklist.submit(uid, step, actor=PERFORMER) for step in steps]
                accepted = [isinstance(answer.result(_S), Accepted) for answer in answers]
                assert len(set(accepted)) == 1  # all three, or none
                mine += [uid] * accepted[0]
        return mine

    with ThreadPoolExecutor(performers + 2) as pool:
        watching = [pool.submit(watch, number) for number in (0, 1)]
        _create(replicas[0], range(items // 2))
        _create(replicas[1], range(items // 2, items))
        done = [uid for mine in pool.map(perform, range(performers)) for uid in mine]
        stopping.set()
        for one in watching:
            one.result(_S)
    assert Counter(done) == Counter(_uid(number) for number in range(items))
    for notices in read:
        numbers = [notice.number for notice in notices]
        assert all(before < after for before, after in pairwise(numbers))
        told: dict[str, list[str]] = {}
        for notice in notices:
            assert notice.receiving_aes == {_WATCHER}
            told.setdefault(notice.workitem_uid, []).append(notice.content)
        assert set(told) == set(done)
        for contents in told.values():
            told_states = [text(orjson.loads(one), "ProcedureStepState") for one in contents]
            assert told_states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert read[0] == read[1]


def test_of_two_that_wait_for_each_other_one_is_told_to_do_it_again(
    replicas: tuple[TestBed, TestBed],
) -> None:
    _create(replicas[0], range(2))
    meeting = threading.Barrier(2)

    def cross(number: int) -> bool:
        try:
            with replicas[number].service.worklist.transact() as work:
                assert work.get(_uid(number)) is not None
                meeting.wait(_S)
                assert work.get(_uid(1 - number)) is not None
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(cross, (0, 1))) == [False, True]


def test_an_order_is_canceled_though_work_on_it_is_in_the_way(replicas: tuple[TestBed, TestBed]) -> None:
    bed = replicas[0]
    order(bed)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    uid = workitem(bed).uid
    canceling = replace(ORDER, control=OrderControl.CANCEL)
    with ThreadPoolExecutor(1) as pool:
        with replicas[1].database.write() as connection:
            connection.execute(sql("SELECT 1 FROM workitem WHERE uid = :uid FOR UPDATE"), {"uid": uid})
            answer = pool.submit(order, bed, canceling, "M2")
            wait_until(lambda: _is_anyone_waiting(bed), "the cancelation waits for the workitem")
            connection.execute(sql("UPDATE imaging_order SET status = status"))  # which waits for the order
        assert isinstance(answer.result(_S), Accepted)
    assert workitem(bed).state == "CANCELED"


def _is_anyone_waiting(bed: TestBed) -> bool:
    with bed.database.read() as connection:
        return bool(connection.execute(sql("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())
