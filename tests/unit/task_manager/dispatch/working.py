# SPDX-License-Identifier: Apache-2.0
"""A task manager that assigns, pushes and verifies, with performers that have worklists of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

from profiles.codes import Code
from profiles.dicom_json import DicomJson, first, items, text
from task_manager.actor import Actor
from task_manager.delivery.consequences import Consequences
from task_manager.dispatch.assignment import station_of
from task_manager.dispatching import Dispatching, DispatchSettings
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.outbox import Job, push_lane
from task_manager.outcome import Accepted, Refused
from task_manager.store import jobs, reports, subtasks, workitems
from task_manager.store.database import Database
from task_manager.store.records import Origin, Record
from task_manager.store.subtasks import Subtask
from task_manager.workitem.memory import MemoryWorklist
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import code, instances, minimal, progress
from tests.service import PERFORMER, Clock

LUNG, BRAIN = Code("AW1001", "99AIRWAY", "Lung CT quantification"), Code("B1", "99AIRWAY", "Brain")
CODES = {"lung": LUNG, "brain": BRAIN}
BASE = "http://manager.test/dicom-web"
X = "1.2.3.77"


class RemotePerformer:
    """A performer that is the manager of its own workitems; implements PushTarget in memory.

    Attributes
    ----------
    reachable
        Whether it answers.
    accepts
        Whether it takes new workitems.
    updates
        Workitems that were changed, in order.
    cancels
        Workitems whose cancel was asked for, in order.
    watched
        Workitems subscribed to now.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.worklist = MemoryWorklist(clock)
        self.reachable = True
        self.accepts = True
        self.cancels: list[str] = []
        self.updates: list[str] = []
        self.watched: set[str] = set()
        self.gone: set[str] = set()

    def _answer(self) -> None:
        if not self.reachable:
            raise RetryableDeliveryError("no answer (ConnectError)")

    def create(self, uid: str, attributes: DicomJson) -> None:
        self._answer()
        if not self.accepts:
            raise FinalDeliveryError("HTTP 400")
        outcome = self.worklist.create_workitem(uid, attributes, actor=PERFORMER)
        assert isinstance(outcome, Accepted) or outcome.code == "duplicate-instance", outcome

    def retrieve(self, uid: str) -> DicomJson | None:
        self._answer()
        found = self.worklist.retrieve_workitem(uid)
        return None if isinstance(found, Refused) or uid in self.gone else found

    def update(self, uid: str, changes: DicomJson) -> None:
        self._answer()
        self.worklist.update_workitem(uid, changes, transaction_uid="", actor=PERFORMER)
        self.updates.append(uid)

    def request_cancel(self, uid: str, details: DicomJson) -> None:
        self._answer()
        self.cancels.append(uid)
        self.worklist.request_cancel(uid, details, actor=PERFORMER)

    def watch(self, uid: str) -> None:
        self._answer()
        self.watched.add(uid)

    def release(self, uid: str) -> None:
        self._answer()
        self.watched.discard(uid)

    def listen(self, heard: Callable[[str], None]) -> None:
        raise AssertionError("nobody listens here")

    # What it does with its own workitems

    def claim(self, uid: str) -> None:
        accepted(self.worklist.change_state(uid, "IN PROGRESS", transaction_uid="1.9.1", actor=PERFORMER))

    def tell(self, uid: str, changes: DicomJson) -> None:
        accepted(self.worklist.update_workitem(uid, changes, transaction_uid="1.9.1", actor=PERFORMER))

    def end(self, uid: str, state: str) -> None:
        accepted(self.worklist.change_state(uid, state, transaction_uid="1.9.1", actor=PERFORMER))


class WorkingBed:
    """The manager. The steps of the worker are taken one by one with `push`."""

    def __init__(self, database: Database, settings: DispatchSettings) -> None:
        self.database = database
        self.clock = Clock()
        uids = count(1)
        dispatching = Dispatching(
            settings,
            CODES,
            base_url=lambda: BASE,
            new_uid=lambda: f"2.25.{next(uids)}",
        )
        self.worklist = StoredWorklist(
            database,
            followers=(*dispatching.followers, Consequences(sinks=("log",))),
            interceptors=dispatching.interceptors,
            sinks=("log",),
            clock=self.clock,
            wake=lambda: None,
        )
        self.remote = {
            offer.ae_title: RemotePerformer(self.clock) for offer in settings.performers if offer.url
        }
        self.steps = {
            name: dispatching.push_step(
                name,
                target,
                self.worklist,
                database,
                poll=timedelta(seconds=5),
                clock=self.clock,
                wake=lambda: None,
            )
            for name, target in self.remote.items()
        }

    def create(
        self,
        uid: str = X,
        *,
        app: Code = LUNG,
        origin: Origin | None = None,
        actor: Actor = PERFORMER,
        **given: object,
    ) -> None:
        """A workitem that asks for an app; `given` by keyword goes over."""
        content: dict[str, object] = {
            "StudyInstanceUID": "1.2.3",
            "PatientID": "P1",
            "ScheduledWorkitemCodeSequence": code(app.value, app.scheme, app.meaning),
            "InputInformationSequence": instances(),
            **given,
        }
        with self.worklist.transact() as work:
            accepted(work.create(uid, minimal(**content), actor=actor, origin=origin))

    def record(self, uid: str = X) -> Record:
        with self.database.read() as connection:
            found = workitems.record_by_uid(connection, uid)
        assert found is not None, uid
        return found

    def attributes(self, uid: str = X) -> DicomJson:
        return self.record(uid).workitem.attributes

    def state(self, uid: str = X) -> str:
        return self.record(uid).workitem.state.value

    def station(self, uid: str = X) -> str:
        return station_of(self.attributes(uid))

    def claim(self, uid: str, lock: str = "1.2.9") -> None:
        accepted(self.worklist.change_state(uid, "IN PROGRESS", transaction_uid=lock, actor=PERFORMER))

    def tell(self, uid: str, changes: DicomJson, lock: str = "1.2.9") -> None:
        accepted(self.worklist.update_workitem(uid, changes, transaction_uid=lock, actor=PERFORMER))

    def end(self, uid: str, state: str, lock: str = "1.2.9") -> None:
        accepted(self.worklist.change_state(uid, state, transaction_uid=lock, actor=PERFORMER))

    def events(self, uid: str = X) -> list[tuple[int, str]]:
        """(event type, state) of all reports of a workitem."""
        with self.database.read() as connection:
            return [(type_, state) for type_, state, _, _ in reports.reports_of(connection, uid)]

    def children(self, uid: str = X) -> list[Subtask]:
        with self.database.read() as connection:
            return subtasks.subtasks_of_parent(connection, uid)

    def push(self, ae_title: str, *, seconds: float = 6) -> int:
        """Let time pass, then do the jobs of a push performer that are due; how many there were."""
        self.clock.pass_(seconds)
        done = 0
        while job := self._claimed(ae_title):
            due = self.steps[ae_title].perform(job)
            with self.database.write() as connection:
                if due is None:
                    jobs.finish_job(connection, job, summary="", now=self.clock())
                else:
                    jobs.postpone_job(connection, job, error="", due_at=due)
            done += 1
        return done

    def _claimed(self, ae_title: str) -> Job | None:
        with self.database.write() as connection:
            return jobs.claim_job(
                connection,
                push_lane(ae_title),
                worker="w",
                now=self.clock(),
                until=self.clock() + timedelta(minutes=10),
            )


def accepted(outcome: Accepted | Refused) -> None:
    assert isinstance(outcome, Accepted), outcome


def progress_of(attributes: DicomJson) -> str:
    """Procedure Step Progress."""
    found = items(attributes, "ProcedureStepProgressInformationSequence")
    return text(found[0], "ProcedureStepProgress") if found else ""


def reason_of(attributes: DicomJson) -> str:
    """Code Value of why it was canceled."""
    found = items(attributes, "ProcedureStepProgressInformationSequence")
    codes = items(found[0], "ProcedureStepDiscontinuationReasonCodeSequence") if found else []
    return text(codes[0], "CodeValue") if codes else ""


def canceled(value: str) -> DicomJson:
    """An update that says why a workitem is about to be canceled."""
    return progress(ProcedureStepDiscontinuationReasonCodeSequence=code(value, "DCM", "Reason"))


def rejection() -> DicomJson:
    """Details of a cancel request by which a performer rejects its assignment."""
    found = items(canceled("110530"), "ProcedureStepProgressInformationSequence")[0]
    assert first(found, "ProcedureStepDiscontinuationReasonCodeSequence")
    return found
