# SPDX-License-Identifier: Apache-2.0
"""A worklist with its subscriptions and journal, and what a watcher is told, for tests of events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from profiles.dicom_json import DicomJson, element
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.actor import Actor
from task_manager.notices import Channel, Notice
from task_manager.outcome import Accepted, Refused
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal
from task_manager.store.tables import METADATA
from task_manager.subscriptions import StoredSubscriptions
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import minimal, performed

ACTOR = Actor(door="dicomweb", name="TESTER", address="127.0.0.1")
LOCK = "2.25.1"
PATIENCE_S = 20.0
DICOM_PEERS = frozenset({"PEER1", "PEER2"})


@dataclass
class Office:
    """Everything about watchers that stands on one database."""

    database: Database
    most_pending: int = 2000
    fallback: tuple[str, ...] = ()
    deletion_locks: bool = True
    clock: Callable[[], datetime] = lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    wakers: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worklist = StoredWorklist(self.database, clock=self.clock, wake=self.wake)
        self.subscriptions = StoredSubscriptions(
            self.database,
            clock=self.clock,
            wake=self.wake,
            deletion_locks=self.deletion_locks,
            known_ae=DICOM_PEERS.__contains__,
        )
        self.journal = StoredJournal(
            self.database, most_pending=self.most_pending, fallback=self.fallback, clock=self.clock
        )

    def wake(self) -> None:
        for waker in self.wakers:
            waker()

    # What is asked of workitems

    def create(self, uid: str, **given: Any) -> None:
        must(self.worklist.create_workitem(uid, minimal(**given), actor=ACTOR))

    def claim(self, uid: str) -> None:
        must(self.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=ACTOR))

    def progress(self, uid: str, percent: int) -> None:
        item = element("ProcedureStepProgress", str(percent))
        changes = element("ProcedureStepProgressInformationSequence", item)
        must(self.worklist.update_workitem(uid, changes, transaction_uid=LOCK, actor=ACTOR))

    def complete(self, uid: str) -> None:
        must(self.worklist.update_workitem(uid, performed(), transaction_uid=LOCK, actor=ACTOR))
        must(self.worklist.change_state(uid, "COMPLETED", transaction_uid=LOCK, actor=ACTOR))

    def request_cancel(self, uid: str, reason: str = "no longer needed") -> None:
        details = element("ReasonForCancellation", reason)
        must(self.worklist.request_cancel(uid, details, actor=ACTOR))

    # What is asked of subscriptions

    def subscribe(
        self,
        target: str,
        receiving_ae: str = "WATCHER",
        *,
        lock: bool = False,
        matching: DicomJson | None = None,
        channel: Channel = Channel.WEBSOCKET,
    ) -> Accepted | Refused:
        return self.subscriptions.subscribe(
            target,
            receiving_ae,
            deletion_lock=lock,
            matching=matching or {},
            channel=channel,
            actor=ACTOR,
        )

    def unsubscribe(self, target: str, receiving_ae: str = "WATCHER") -> Accepted | Refused:
        return self.subscriptions.unsubscribe(target, receiving_ae, actor=ACTOR)

    def suspend(self, target: str, receiving_ae: str = "WATCHER") -> Accepted | Refused:
        return self.subscriptions.suspend(target, receiving_ae, actor=ACTOR)

    def told(self, receiving_ae: str = "WATCHER", position: int = 0) -> list[tuple[str, int, str]]:
        """What an AE is owed after `position`: (workitem, event type, state told)."""
        return brief(self.journal.pending(receiving_ae, position))


def emptied(database: Database) -> Database:
    """A database without a row, as if it were new: numbers begin at 1 again."""
    with database.write() as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier
        tables = [quoted(table.name) for table in METADATA.sorted_tables]
        if database.is_sqlite:
            for table in tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")
        else:
            connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
    return database


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a deadline; `what` is said when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.01)


def must(outcome: Accepted | Refused) -> Accepted:
    assert isinstance(outcome, Accepted), outcome
    return outcome


def brief(notices: Sequence[Notice]) -> list[tuple[str, int, str]]:
    """(workitem, event type, state) of notices; of event 4 the status of the manager."""
    return [
        (
            "all" if notice.workitem_uid == GLOBAL_SUBSCRIPTION_UID else notice.workitem_uid,
            notice.event_type,
            state_told(orjson.loads(notice.content)),
        )
        for notice in notices
    ]


def state_told(message: DicomJson) -> str:
    """Procedure Step State of a report; of event 4 SCP Status and the two lists; else empty."""
    for tag in ("00741000", "00741242"):
        if tag in message:
            parts = [tag, *(["00741244"] if tag == "00741242" else [])]
            return ", ".join(str(message[part]["Value"][0]) for part in parts)
    return ""
