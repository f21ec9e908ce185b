# SPDX-License-Identifier: Apache-2.0
"""One replica of the dispatch rooms on a database, with a clock that tests turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from profiles.codes import Code
from profiles.dicom_json import DicomJson
from task_manager.delivery.consequences import Consequences
from task_manager.dispatch.leases import replacement_uid
from task_manager.dispatch.model import LeaseLimits, PerformerOffer, RetentionLimits
from task_manager.dispatch.replacement import Replacement
from task_manager.dispatch.sweeps import Sweeps
from task_manager.outcome import Accepted, Refused
from task_manager.store import workitems
from task_manager.store.database import Database
from task_manager.store.records import Dispatch, Origin, Record
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import minimal, performed, progress
from tests.service import PERFORMER, Clock

UID, LOCK = "1.2.3.1", "1.2.3.999"
STUDY = {"StudyInstanceUID": "1.2.3", "PatientID": "P1"}
LIMITS = LeaseLimits(silence=timedelta(minutes=15), run=timedelta(hours=2), tries=3)


class DispatchBed:
    """What a process that manages the worklist has, with nothing else in it."""

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        *,
        limits: Mapping[str, LeaseLimits] | None = None,
        retention: RetentionLimits | None = None,
        performers: Sequence[PerformerOffer] = (),
    ) -> None:
        self.database = database
        self.clock = clock or Clock()
        apps = limits or {}

        def limits_of(app: str) -> LeaseLimits:
            return apps.get(app, LIMITS)

        self.replacement = Replacement(limits_of, performers=performers)
        self.worklist = StoredWorklist(
            database,
            followers=(self.replacement, Consequences(sinks=("log",))),
            limits=limits_of,
            sinks=("log",),
            clock=self.clock,
            wake=lambda: None,
        )
        self.sweeps = Sweeps(
            self.worklist.transact,
            database,
            limits_of,
            retention or RetentionLimits(),
            clock=self.clock,
        )

    def replica(self, **given: Any) -> DispatchBed:
        """Another process on the same database at the same time."""
        return DispatchBed(self.database, self.clock, **given)

    def create(
        self, uid: str = UID, *, origin: Origin | None = None, dispatch: Dispatch | None = None, **given: Any
    ) -> None:
        """A workitem of a study; `given` by keyword goes over."""
        with self.worklist.transact() as work:
            outcome = work.create(
                uid, minimal(**{**STUDY, **given}), actor=PERFORMER, origin=origin, dispatch=dispatch
            )
        assert isinstance(outcome, Accepted), outcome

    def claim(self, uid: str = UID, *, lock: str = LOCK) -> None:
        """Go IN PROGRESS."""
        self._accepted(self.worklist.change_state(uid, "IN PROGRESS", transaction_uid=lock, actor=PERFORMER))

    def update(self, changes: DicomJson, uid: str = UID, *, lock: str = LOCK) -> None:
        """Tell something of work IN PROGRESS."""
        self._accepted(self.worklist.update_workitem(uid, changes, transaction_uid=lock, actor=PERFORMER))

    def cancel(self, reason: Code, uid: str = UID, *, lock: str = LOCK) -> None:
        """Cancel as its performer, with a reason."""
        self.update(progress(ProcedureStepDiscontinuationReasonCodeSequence=reason.to_json()), uid, lock=lock)
        self._accepted(self.worklist.change_state(uid, "CANCELED", transaction_uid=lock, actor=PERFORMER))

    def complete(self, uid: str = UID, *, lock: str = LOCK) -> None:
        """Claim and complete as its performer."""
        self.claim(uid, lock=lock)
        self.update(performed(), uid, lock=lock)
        self._accepted(self.worklist.change_state(uid, "COMPLETED", transaction_uid=lock, actor=PERFORMER))

    def record(self, uid: str = UID) -> Record:
        """All that is kept of a workitem."""
        with self.database.read() as connection:
            found = workitems.record_by_uid(connection, uid)
        assert found is not None, uid
        return found

    def state(self, uid: str = UID) -> str:
        """Its state."""
        return self.record(uid).workitem.state.value

    def exists(self, uid: str) -> bool:
        """Whether there is such a workitem."""
        with self.database.read() as connection:
            return workitems.record_by_uid(connection, uid) is not None

    def pass_(self, **duration: float) -> None:
        """Let time pass."""
        self.clock.now += timedelta(**duration)

    def lose(self, uid: str = UID) -> str:
        """Claim, be silent, be swept; the UID of what takes its place."""
        self.claim(uid)
        self.pass_(minutes=16)
        assert self.sweeps.run_due() == 1
        return replacement_uid(uid)

    @staticmethod
    def _accepted(outcome: Accepted | Refused) -> None:
        assert isinstance(outcome, Accepted), outcome
