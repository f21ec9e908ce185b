# SPDX-License-Identifier: Apache-2.0
"""A worklist in memory: the Worklist port over the machine and a dictionary.

For tests and tools that need a worklist without a database; the contract suite holds it against the same
cases as the service. A change is committed by claiming the next version (``dict.setdefault`` is atomic), so
two callers never both win; no lock is held and nothing is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TypeVar

import orjson

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.ups.matching import matches
from profiles.ups.returning import search_result
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import MOST_COUNTED, SearchPage, WorkitemQuery
from task_manager.workitem import machine
from task_manager.workitem.columns import search_order
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update
from task_manager.workitem.machine import Applied, StateReport
from task_manager.workitem.model import Workitem

_T = TypeVar("_T")


class MemoryWorklist:
    """Implements :class:`task_manager.ports.Worklist`.

    Attributes
    ----------
    reports
        Every event report, in the order of the commits.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.reports: list[StateReport] = []
        self._clock = clock
        self._current: dict[str, Workitem] = {}
        self._commits: dict[tuple[str, int], object] = {}

    def find(self, uid: str) -> Workitem | None:
        """The workitem with its lock and version, as only the task manager sees it."""
        return self._current.get(uid)

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        """The command done before the future is returned."""
        del actor
        return _settled(self._create(command) if isinstance(command, Create) else self._apply(uid, command))

    def fetch(self, uid: str) -> Future[bytes | Refused]:
        """UPS Get as text, done before the future is returned."""
        found = self.retrieve_workitem(uid)
        return _settled(found if isinstance(found, Refused) else orjson.dumps(found))

    def search(self, query: WorkitemQuery) -> Future[SearchPage]:
        """UPS Find."""
        found = self._matching(query)
        page = found[query.offset : query.offset + query.limit]
        wanted = query.returned
        results = tuple(
            orjson.dumps(item if wanted is None else search_result(item, wanted)) for item in page
        )
        remaining = min(MOST_COUNTED, max(0, len(found) - query.offset - len(page)))
        return _settled(SearchPage(results=results, remaining=remaining))

    def create_workitem(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """UPS Create."""
        return self.submit(uid, Create(uid=uid, attributes=attributes), actor=actor).result()

    def retrieve_workitem(self, uid: str) -> DicomJson | Refused:
        """UPS Get."""
        found = self._current.get(uid)
        return found.attributes if found is not None else Refused(RefusalCode.NO_SUCH_INSTANCE, _UNKNOWN)

    def search_workitems(self, query: WorkitemQuery) -> Sequence[DicomJson]:
        """UPS Find as data sets."""
        return [orjson.loads(one) for one in self.search(query).result().results]

    def update_workitem(
        self, uid: str, changes: DicomJson, *, transaction_uid: str, actor: Actor
    ) -> Accepted | Refused:
        """UPS Set."""
        return self._apply(uid, Update(changes=changes, transaction_uid=transaction_uid))

    def change_state(self, uid: str, state: str, *, transaction_uid: str, actor: Actor) -> Accepted | Refused:
        """Change UPS State."""
        return self._apply(uid, ChangeState(state=state, transaction_uid=transaction_uid))

    def request_cancel(self, uid: str, details: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Request UPS Cancel."""
        return self._apply(uid, RequestCancel(details=details, requesting_ae=actor.name))

    def _matching(self, query: WorkitemQuery) -> list[DicomJson]:
        found = sorted(
            (item for item in list(self._current.values()) if matches(query.matching, item.attributes)),
            key=lambda item: search_order(item.attributes, item.created_at, item.uid),
        )
        return [item.attributes for item in found]

    def _create(self, command: Create) -> Accepted | Refused:
        while True:
            existing = self._current.get(command.uid)
            outcome = machine.create(command, now=self._clock(), existing=existing)
            if isinstance(outcome, Refused) or self._commit(outcome):
                return outcome if isinstance(outcome, Refused) else outcome.accepted

    def _apply(self, uid: str, command: Command) -> Accepted | Refused:
        while True:
            before = self._current.get(uid)
            outcome = machine.apply(before, command, now=self._clock())
            if isinstance(outcome, Refused):
                return outcome
            if outcome.workitem is before or self._commit(outcome):
                return outcome.accepted

    def _commit(self, applied: Applied) -> bool:
        """Make `applied` current unless another change of the same version was first."""
        workitem, mine = applied.workitem, object()
        if self._commits.setdefault((workitem.uid, workitem.version), mine) is not mine:
            return False
        self._current[workitem.uid] = workitem
        self.reports.extend(applied.reports)
        return True


_UNKNOWN = (Fault("SOPInstanceUID", "names no workitem here"),)


def _settled(result: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(result)
    return future
