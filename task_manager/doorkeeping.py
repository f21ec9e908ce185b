# SPDX-License-Identifier: Apache-2.0
"""What the doors work on where room may run out: they refuse what adds content, before the disk is full.

Everything else passes: changes of workitems, cancels, subscriptions and reading cost little and finish work.
Images are not looked at here; the object store asks for room itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.order import MessageKey, Order
from profiles.patient import IdentityChange, PriorReport
from task_manager.actor import Actor
from task_manager.errors import NoRoomError, StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import MessageIntake, SearchPage, WorkitemQuery, Worklist
from task_manager.workitem.commands import Command, Create


class Room(Protocol):
    """Who knows how much is taken."""

    def takes_messages(self) -> bool:
        """Whether anything that adds content is taken."""


def refusal_of(error: StoreError) -> RefusalCode:
    """What a store that failed comes to for who asked."""
    return RefusalCode.NO_ROOM if isinstance(error, NoRoomError) else RefusalCode.OUT_OF_RESOURCES


def no_room() -> Refused:
    """The refusal of what adds content while there is no room."""
    return Refused(RefusalCode.NO_ROOM, (Fault("", "there is no room; the same may be sent again later"),))


class GuardedMessages:
    """Takes messages while there is room; see :class:`task_manager.ports.MessageIntake`."""

    def __init__(self, intake: MessageIntake, room: Room) -> None:
        self._intake = intake
        self._room = room

    def receive_order(
        self,
        received: Sequence[Order],
        *,
        key: MessageKey,
        raw: bytes,
        actor: Actor,
        accept_unknown: bool = False,
    ) -> Accepted | Refused:
        """Commit all orders of one message, or none."""
        if not self._room.takes_messages():
            return no_room()
        return self._intake.receive_order(
            received, key=key, raw=raw, actor=actor, accept_unknown=accept_unknown
        )

    def receive_identities(
        self, changes: Sequence[IdentityChange], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit all changes of one message."""
        if not self._room.takes_messages():
            return no_room()
        return self._intake.receive_identities(changes, key=key, raw=raw, actor=actor)

    def receive_reports(
        self, reports: Sequence[PriorReport], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit all reports of one message."""
        if not self._room.takes_messages():
            return no_room()
        return self._intake.receive_reports(reports, key=key, raw=raw, actor=actor)


class GuardedWorklist:
    """Creates workitems while there is room; see :class:`task_manager.ports.Worklist`."""

    def __init__(self, worklist: Worklist, room: Room) -> None:
        self._worklist = worklist
        self._room = room

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        """Create, Set, Change State or Request Cancel, by command."""
        if isinstance(command, Create) and not self._room.takes_messages():
            refused: Future[Accepted | Refused] = Future()
            refused.set_result(no_room())
            return refused
        return self._worklist.submit(uid, command, actor=actor)

    def fetch(self, uid: str) -> Future[bytes | Refused]:
        """UPS Get as DICOM JSON text."""
        return self._worklist.fetch(uid)

    def search(self, query: WorkitemQuery) -> Future[SearchPage]:
        """UPS Find."""
        return self._worklist.search(query)

    def create_workitem(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """UPS Create."""
        if not self._room.takes_messages():
            return no_room()
        return self._worklist.create_workitem(uid, attributes, actor=actor)

    def retrieve_workitem(self, uid: str) -> DicomJson | Refused:
        """UPS Get."""
        return self._worklist.retrieve_workitem(uid)

    def search_workitems(self, query: WorkitemQuery) -> Sequence[DicomJson]:
        """The results of `search` as data sets."""
        return self._worklist.search_workitems(query)

    def update_workitem(
        self, uid: str, changes: DicomJson, *, transaction_uid: str, actor: Actor
    ) -> Accepted | Refused:
        """UPS Set."""
        return self._worklist.update_workitem(uid, changes, transaction_uid=transaction_uid, actor=actor)

    def change_state(self, uid: str, state: str, *, transaction_uid: str, actor: Actor) -> Accepted | Refused:
        """Change UPS State."""
        return self._worklist.change_state(uid, state, transaction_uid=transaction_uid, actor=actor)

    def request_cancel(self, uid: str, details: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Request UPS Cancel."""
        return self._worklist.request_cancel(uid, details, actor=actor)
