# SPDX-License-Identifier: Apache-2.0
"""The workitems of the store behind the Protocol the UPS doors use.

Every command goes through ``workitem.machine``; this room loads, writes exactly what the machine returned,
and writes in the same transaction what follows from it: event reports, operational events, delivery jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.ups.matching import matches
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.delivery.consequences import Consequences
from task_manager.errors import ConflictError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import WorkitemQuery
from task_manager.store import workitems
from task_manager.store.database import Connection, Database
from task_manager.store.workitems import Origin
from task_manager.workitem import machine
from task_manager.workitem.columns import search_columns, searched_columns
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update

_LOG = logging.getLogger(__name__)
_MOST_FOUND = 1000


class StoredWorklist:
    """Implements :class:`task_manager.ports.Worklist` on the database.

    Parameters
    ----------
    consequences
        What else a change of state writes, in the same transaction.
    """

    def __init__(
        self,
        database: Database,
        consequences: Consequences,
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._consequences = consequences
        self._clock = clock
        self._wake = wake

    def create_workitem(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """UPS Create (PS3.4 CC.2.5)."""
        now = self._clock()
        try:
            with self._database.write() as connection:
                outcome = self.create_within(
                    connection, Create(uid=uid, attributes=attributes), Origin(), actor=actor, now=now
                )
        except ConflictError:
            return Refused(RefusalCode.DUPLICATE_INSTANCE, (Fault("SOPInstanceUID", "is in use"),))
        self._wake()
        return outcome

    def create_within(
        self, connection: Connection, command: Create, origin: Origin, *, actor: Actor, now: datetime
    ) -> Accepted | Refused:
        """Create a workitem in a transaction of the caller."""
        if workitems.workitem_by_uid(connection, command.uid) is not None:
            return Refused(RefusalCode.DUPLICATE_INSTANCE, (Fault("SOPInstanceUID", "is in use"),))
        applied = machine.create(command, now=now)
        if isinstance(applied, Refused):
            return applied
        columns = search_columns(applied.workitem.attributes)
        workitems.add_workitem(connection, applied.workitem, origin, columns)
        workitems.add_reports(connection, command.uid, applied.reports, actor.name, now)
        _LOG.info("workitem created", extra={"action": "workitem.created", "workitem": command.uid})
        return applied.accepted

    def retrieve_workitem(self, uid: str) -> DicomJson | Refused:
        """UPS Get (CC.2.7)."""
        with self._database.read() as connection:
            found = workitems.workitem_by_uid(connection, uid)
        return _unknown() if found is None else found.attributes

    def search_workitems(self, query: WorkitemQuery) -> Sequence[DicomJson]:
        """UPS Find (CC.2.8), HIGH priority first, then by scheduled start and arrival."""
        found: list[DicomJson] = []
        skip = query.offset
        limit = min(query.limit, _MOST_FOUND)
        if limit <= 0:
            return found
        with (
            self._database.read() as connection,
            closing(workitems.candidates(connection, searched_columns(query.matching))) as stored,
        ):
            for attributes in stored:
                if not matches(query.matching, attributes):
                    continue
                if skip:
                    skip -= 1
                    continue
                found.append(attributes)
                if len(found) >= limit:
                    break
        return found

    def count_workitems(self, matching: DicomJson) -> int:
        """How many workitems match the keys."""
        with self._database.read() as connection:
            found = workitems.candidates(connection, searched_columns(matching))
            return sum(1 for attributes in found if matches(matching, attributes))

    def update_workitem(
        self, uid: str, changes: DicomJson, *, transaction_uid: str, actor: Actor
    ) -> Accepted | Refused:
        """UPS Set (CC.2.6)."""
        return self._apply(uid, Update(changes=changes, transaction_uid=transaction_uid), actor)

    def change_state(self, uid: str, state: str, *, transaction_uid: str, actor: Actor) -> Accepted | Refused:
        """Change UPS State (CC.2.1)."""
        return self._apply(uid, ChangeState(state=state, transaction_uid=transaction_uid), actor)

    def request_cancel(self, uid: str, details: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Request UPS Cancel (CC.2.2)."""
        return self._apply(uid, RequestCancel(details=details, requesting_ae=actor.name), actor)

    def cancel_unstarted(
        self, connection: Connection, uid: str, *, reason: str, actor: Actor, now: datetime
    ) -> Accepted | Refused:
        """Request cancellation in a transaction of the caller; a running one is only told of the wish."""
        details = dicom_json.element("ReasonForCancellation", reason)
        return self._apply_within(connection, uid, RequestCancel(details=details), actor, now)

    def _apply(self, uid: str, command: Command, actor: Actor) -> Accepted | Refused:
        now = self._clock()
        with self._database.write() as connection:
            outcome = self._apply_within(connection, uid, command, actor, now)
        if isinstance(outcome, Accepted):
            self._wake()
        return outcome

    def _apply_within(
        self, connection: Connection, uid: str, command: Command, actor: Actor, now: datetime
    ) -> Accepted | Refused:
        before = workitems.workitem_by_uid(connection, uid, lock=True)
        if before is None:
            return _unknown()
        applied = machine.apply(before, command, now=now)
        if isinstance(applied, Refused):
            return applied
        after = applied.workitem
        if after != before and not workitems.save_workitem(
            connection, before, after, search_columns(after.attributes)
        ):
            return Refused(
                RefusalCode.PROCESSING_FAILURE, (Fault("", "changed by another at the same time"),)
            )
        workitems.add_reports(connection, uid, applied.reports, actor.name or actor.door, now)
        if after.state is not before.state:
            self._consequences.after_change(connection, before, after, actor or WORKER, now)
            _LOG.info(
                "workitem state changed",
                extra={"action": f"workitem.{_ACTION[after.state]}", "workitem": uid},
            )
        return applied.accepted


_ACTION = {
    ProcedureStepState.SCHEDULED: "scheduled",
    ProcedureStepState.IN_PROGRESS: "in_progress",
    ProcedureStepState.COMPLETED: "completed",
    ProcedureStepState.CANCELED: "canceled",
}


def _unknown() -> Refused:
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "no such workitem"),))
