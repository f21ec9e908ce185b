# SPDX-License-Identifier: Apache-2.0
"""The workitems of the store behind the Protocol the UPS doors use.

Writes of the doors are gathered: what arrives while one transaction commits goes into the next one. Reads of
single workitems are gathered too. What happens to a workitem is decided in ``transaction.py`` and below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import orjson

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.dispatch.model import LeaseLimits
from task_manager.errors import ConflictError, StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import SearchPage, WorkitemQuery
from task_manager.store import searching, workitems
from task_manager.store.batching import Batches
from task_manager.store.contents import Contents
from task_manager.store.database import Connection, Database
from task_manager.transaction import Follower, Interceptor, WorklistTransaction
from task_manager.workitem.columns import is_decided
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update

_MOST_FOUND = 1000
_MOST_SEARCHES = 8
_TRIES_AFTER_CONFLICT = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    uid: str
    command: Create | Command
    actor: Actor


class StoredWorklist:
    """Implements :class:`task_manager.ports.Worklist` on the database.

    Parameters
    ----------
    followers, interceptors, limits, sinks
        See :class:`task_manager.transaction.WorklistTransaction`.
    wake, wake_jobs, wake_tellings, wake_new
        Called after commits that leave something to tell, that leave jobs to do, that leave nothing to do but
        to tell events, and that made workitems or changed what is scheduled of them.
    """

    def __init__(
        self,
        database: Database,
        *,
        followers: Sequence[Follower] = (),
        interceptors: Sequence[Interceptor] = (),
        limits: Callable[[str], LeaseLimits] = lambda _: LeaseLimits(),
        sinks: Sequence[str] = (),
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        wake_jobs: Callable[[], None] = lambda: None,
        wake_tellings: Callable[[], None] = lambda: None,
        wake_new: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._contents = Contents()
        database.when_connected(self._contents.forget)
        self._followers = tuple(followers)
        self._interceptors = tuple(interceptors)
        self._limits = limits
        self._sinks = tuple(sinks)
        self._clock = clock
        self._wake = wake
        self._wake_jobs = wake_jobs
        self._wake_tellings = wake_tellings
        self._wake_new = wake_new
        self._writes: Batches[_Asked, Accepted | Refused] = Batches(
            self._write, name="worklist-writes", shared=_store_is_away
        )
        self._reads: Batches[str, bytes | Refused] = Batches(
            self._read, name="worklist-reads", shared=_store_is_away
        )
        waiting = 1 if database.is_sqlite else 2
        self._searches: Batches[WorkitemQuery, SearchPage] = Batches(
            self._search,
            name="worklist-searches",
            most=_MOST_SEARCHES,
            threads=waiting,
            shared=_store_is_away,
        )
        self._examinations: Batches[WorkitemQuery, SearchPage] = Batches(
            self._search, name="worklist-examinations", most=1, threads=waiting, shared=_store_is_away
        )

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        """Create, Set, Change State or Request Cancel; the answer comes when it is durable."""
        return self._writes.ask(_Asked(uid, command, actor))

    def fetch(self, uid: str) -> Future[bytes | Refused]:
        """UPS Get (CC.2.7) as DICOM JSON text."""
        return self._reads.ask(uid)

    def search(self, query: WorkitemQuery) -> Future[SearchPage]:
        """UPS Find (CC.2.8), HIGH priority first, then by scheduled start and arrival.

        Searches that columns decide do not wait for those that look into workitems. On SQLite each kind
        has one thread: threads that step through rows at the same time hold each other up.
        """
        bounded = WorkitemQuery(
            matching=query.matching,
            offset=query.offset,
            limit=min(max(query.limit, 0), _MOST_FOUND),
            returned=query.returned,
        )
        return (self._searches if is_decided(query.matching) else self._examinations).ask(bounded)

    def create_workitem(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """UPS Create (PS3.4 CC.2.5)."""
        return self.submit(uid, Create(uid=uid, attributes=attributes), actor=actor).result()

    def retrieve_workitem(self, uid: str) -> DicomJson | Refused:
        """UPS Get (CC.2.7)."""
        found = self.fetch(uid).result()
        if isinstance(found, Refused):
            return found
        attributes: DicomJson = orjson.loads(found)
        return attributes

    def search_workitems(self, query: WorkitemQuery) -> Sequence[DicomJson]:
        """The results of `search` as data sets."""
        return [orjson.loads(result) for result in self.search(query).result().results]

    def update_workitem(
        self, uid: str, changes: DicomJson, *, transaction_uid: str, actor: Actor
    ) -> Accepted | Refused:
        """UPS Set (CC.2.6)."""
        return self.submit(
            uid, Update(changes=changes, transaction_uid=transaction_uid), actor=actor
        ).result()

    def change_state(self, uid: str, state: str, *, transaction_uid: str, actor: Actor) -> Accepted | Refused:
        """Change UPS State (CC.2.1)."""
        return self.submit(
            uid, ChangeState(state=state, transaction_uid=transaction_uid), actor=actor
        ).result()

    def request_cancel(self, uid: str, details: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Request UPS Cancel (CC.2.2)."""
        return self.submit(
            uid, RequestCancel(details=details, requesting_ae=actor.name), actor=actor
        ).result()

    # Within the task manager

    @contextmanager
    def transact(self) -> Iterator[WorklistTransaction]:
        """A transaction of its own; durable on return, nothing written if the block raises."""
        with self._database.write() as connection, self.within(connection, self._clock()) as work:
            yield work
        work.committed()
        if work.leaves_jobs:
            self._wake_jobs()
        elif work.leaves_events:
            self._wake_tellings()
        if work.leaves_new:
            self._wake_new()
        if work.leaves_reports or work.leaves_jobs or work.leaves_events:
            self._wake()

    @contextmanager
    def within(self, connection: Connection, now: datetime) -> Iterator[WorklistTransaction]:
        """Workitems within a transaction of the caller; written to it on return."""
        work = WorklistTransaction(
            connection,
            now=now,
            followers=self._followers,
            interceptors=self._interceptors,
            limits=self._limits,
            sinks=self._sinks,
            contents=self._contents,
        )
        yield work
        work.flush()

    def _write(self, asked: Sequence[_Asked]) -> Sequence[Accepted | Refused]:
        """Do what was asked, in the order asked, in one transaction."""
        tries = 1 if len(asked) > 1 else _TRIES_AFTER_CONFLICT
        while True:
            tries -= 1
            try:
                with self.transact() as work:
                    work.hold(one.uid for one in asked)
                    return [_done(work, one) for one in asked]
            except ConflictError:
                if tries <= 0:
                    raise

    def _search(self, queries: Sequence[WorkitemQuery]) -> Sequence[SearchPage]:
        with self._database.read() as connection:
            return searching.search_pages(connection, queries, self._contents)

    def _read(self, uids: Sequence[str]) -> Sequence[bytes | Refused]:
        with self._database.read() as connection:
            found = workitems.texts(connection, uids, self._contents)
            return [
                _missing(connection, uid) if text is None else text
                for uid, text in zip(uids, found, strict=True)
            ]


def _store_is_away(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, ConflictError)


def _done(work: WorklistTransaction, asked: _Asked) -> Accepted | Refused:
    command = asked.command
    if isinstance(command, Create):
        return work.create(command.uid, command.attributes, actor=asked.actor)
    return work.apply(asked.uid, command, actor=asked.actor)


def _missing(connection: Connection, uid: str) -> Refused:
    if workitems.is_purged(connection, uid):
        return Refused(RefusalCode.NO_LONGER_HERE, (Fault("SOPInstanceUID", "was deleted here"),))
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))
