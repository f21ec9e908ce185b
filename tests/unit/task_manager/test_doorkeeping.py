# SPDX-License-Identifier: Apache-2.0
"""What the doors refuse where there is no room, and what they let pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from profiles.dicom_json import element
from task_manager.actor import Actor
from task_manager.doorkeeping import GuardedMessages, GuardedWorklist, refusal_of
from task_manager.errors import ConflictError, NoRoomError, StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import WorkitemQuery
from task_manager.workitem.commands import Create
from tests.contract.workitems import minimal
from tests.service import PERFORMER, TestBed
from tests.unit.task_manager.steps import KEY, ORDER, RIS

UID = "1.2.3.1"
QUERY = WorkitemQuery(matching={})


@dataclass
class Room:
    """Says what it is told to say."""

    takes: bool = True

    def takes_messages(self) -> bool:
        return self.takes


def code(outcome: object) -> RefusalCode | None:
    return outcome.code if isinstance(outcome, Refused) else None


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda door: door.receive_order([ORDER], key=KEY, raw=b"MSH|", actor=RIS), id="order"),
        pytest.param(
            lambda door: door.receive_identities((), key=KEY, raw=b"MSH|", actor=RIS), id="identities"
        ),
        pytest.param(lambda door: door.receive_reports((), key=KEY, raw=b"MSH|", actor=RIS), id="reports"),
    ],
)
def test_messages_are_refused_until_there_is_room(
    bed: TestBed, send: Callable[[GuardedMessages], Accepted | Refused]
) -> None:
    room = Room(takes=False)
    door = GuardedMessages(bed.service.intake, room)
    assert code(send(door)) is RefusalCode.NO_ROOM
    room.takes = True
    accepted = send(door)
    assert isinstance(accepted, Accepted)
    assert accepted.warnings == (), "a refused message was not taken as received before"


def test_only_new_workitems_are_refused(bed: TestBed) -> None:
    room = Room()
    door = GuardedWorklist(bed.service.worklist, room)
    actor = Actor(door="dicomweb", name="RIS", address="127.0.0.1")
    assert isinstance(door.create_workitem(UID, minimal(), actor=actor), Accepted)
    room.takes = False
    assert code(door.create_workitem("1.2.3.2", minimal(), actor=actor)) is RefusalCode.NO_ROOM
    created = door.submit("1.2.3.2", Create(uid="1.2.3.2", attributes=minimal()), actor=actor).result()
    assert code(created) is RefusalCode.NO_ROOM
    lock = "1.2.3.9"
    claimed = door.change_state(UID, "IN PROGRESS", transaction_uid=lock, actor=PERFORMER)
    assert isinstance(claimed, Accepted)
    changes = element("WorklistLabel", "B")
    assert isinstance(door.update_workitem(UID, changes, transaction_uid=lock, actor=PERFORMER), Accepted)
    assert isinstance(door.request_cancel(UID, {}, actor=actor), Accepted)
    assert len(door.search_workitems(QUERY)) == 1
    assert not isinstance(door.retrieve_workitem(UID), Refused)
    assert len(door.search(QUERY).result().results) == 1
    assert isinstance(door.fetch(UID).result(), bytes)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoRoomError("full"), RefusalCode.NO_ROOM),
        (StoreError("away"), RefusalCode.OUT_OF_RESOURCES),
        (ConflictError("beaten"), RefusalCode.OUT_OF_RESOURCES),
    ],
)
def test_a_full_store_is_told_from_one_that_is_away(error: StoreError, expected: RefusalCode) -> None:
    assert refusal_of(error) is expected
