# SPDX-License-Identifier: Apache-2.0
"""What a workitem's change of state brings with it: operational events and delivery jobs.

Called inside the transaction of the change: nothing is told that is not committed, nothing committed is
forgotten. Which objects go where is decided in ``plan.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.sole.events import EventType, OperationalEvent, Outcome
from profiles.ups.states import ProcedureStepState
from task_manager.actor import Actor
from task_manager.delivery.plan import output_sop_instance_uids, ship_order
from task_manager.dispatch.leases import replacement_uid
from task_manager.outbox import JobKind, delivery_lane
from task_manager.store import jobs, studies
from task_manager.store.database import Connection
from task_manager.study.model import Instance
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import Command
from task_manager.workitem.model import Workitem


class Consequences:
    """The follower that writes the events and jobs of a change of state.

    Parameters
    ----------
    sinks
        Names of the event repositories.
    told
        Events of our own that somebody wants to be told of; others are not written.
    failures
        Destinations that are told of runs that brought no result.
    """

    def __init__(
        self, *, sinks: Sequence[str], told: Collection[EventType] = (), failures: Collection[str] = ()
    ) -> None:
        self._sinks = tuple(sinks)
        self._told = frozenset(told)
        self._failures = frozenset(failures)

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Of a workitem that only waits something is told only to those who want it."""
        if EventType.WORKITEM_SCHEDULED in self._told:
            work.record(
                workitem_event(workitem.uid, workitem.attributes, EventType.WORKITEM_SCHEDULED, work.now)
            )

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Write what follows from ``before.state`` to ``after.state``."""
        if after.state is before.state:
            return
        if after.state is ProcedureStepState.IN_PROGRESS:
            work.record(_event_of(after, EventType.PROCESSING_STARTED, actor, work.now))
        elif after.state is ProcedureStepState.COMPLETED:
            self._after_completion(work, after, actor)
        elif after.state is ProcedureStepState.CANCELED and before.state is ProcedureStepState.IN_PROGRESS:
            work.record(
                _event_of(
                    after,
                    EventType.PROCESSING_COMPLETED,
                    actor,
                    work.now,
                    outcome=Outcome.SERIOUS_FAILURE,
                    description=_discontinuation_reason(after.attributes),
                )
            )
            self._after_failure(work, after)
        elif after.state is ProcedureStepState.CANCELED and EventType.WORKITEM_CANCELED in self._told:
            work.record(_event_of(after, EventType.WORKITEM_CANCELED, actor, work.now))

    def _after_failure(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Have those told that want it, unless it is tried again."""
        if not self._failures or work.get(replacement_uid(workitem.uid)) is not None:
            return
        for destination in work.origin(workitem.uid).destinations:
            if destination in self._failures:
                work.plan(
                    key=f"fail:{workitem.uid}:{destination}",
                    lane=delivery_lane(destination),
                    kind=JobKind.DELIVER,
                    workitem_uid=workitem.uid,
                )

    def _after_completion(self, work: WorklistTransaction, workitem: Workitem, actor: Actor) -> None:
        work.record(_event_of(workitem, EventType.PROCESSING_COMPLETED, actor, work.now))
        outputs = output_sop_instance_uids(workitem.attributes)
        stored = (
            ship_order(studies.find_instances(work.connection, sop_instance_uids=outputs)) if outputs else ()
        )
        if not stored:
            return
        instances = tuple((instance.sop_class_uid, instance.sop_instance_uid) for instance in stored)
        work.record(_event_of(workitem, EventType.RESULTS_STORED, actor, work.now, instances=instances))
        for destination in work.origin(workitem.uid).destinations:
            work.plan(
                key=f"deliver:{workitem.uid}:{destination}",
                lane=delivery_lane(destination),
                kind=JobKind.DELIVER,
                workitem_uid=workitem.uid,
            )

    def exported(
        self,
        connection: Connection,
        workitem: Workitem,
        destination: str,
        now: datetime,
        sent: Sequence[Instance],
    ) -> None:
        """Write the event of a finished delivery."""
        event = workitem_event(
            workitem.uid,
            workitem.attributes,
            EventType.EXPORTED,
            now,
            qualifier=destination,
            machine="AIRWAY",
            destination=destination,
            instances=tuple((instance.sop_class_uid, instance.sop_instance_uid) for instance in sent),
        )
        jobs.record_event(connection, event, self._sinks, now)

    def given_up(self, connection: Connection, workitem: Workitem, destination: str, now: datetime) -> None:
        """Write the event of a delivery that was left to a person, if somebody wants to be told."""
        if EventType.DELIVERY_GIVEN_UP not in self._told:
            return
        event = workitem_event(
            workitem.uid,
            workitem.attributes,
            EventType.DELIVERY_GIVEN_UP,
            now,
            qualifier=f"{destination}:{now.isoformat()}",
            destination=destination,
            outcome=Outcome.SERIOUS_FAILURE,
        )
        jobs.record_event(connection, event, self._sinks, now)


def _event_of(
    workitem: Workitem,
    type_: EventType,
    actor: Actor,
    now: datetime,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    description: str = "",
    instances: tuple[tuple[str, str], ...] = (),
) -> OperationalEvent:
    return workitem_event(
        workitem.uid,
        workitem.attributes,
        type_,
        now,
        machine=actor.name or actor.door,
        machine_address=actor.address or "127.0.0.1",
        outcome=outcome,
        outcome_description=description,
        instances=instances,
    )


def workitem_event(
    uid: str,
    attributes: DicomJson,
    type_: EventType,
    now: datetime,
    *,
    qualifier: str = "",
    machine: str = "AIRWAY",
    machine_address: str = "127.0.0.1",
    outcome: Outcome = Outcome.SUCCESS,
    outcome_description: str = "",
    destination: str = "",
    instances: tuple[tuple[str, str], ...] = (),
) -> OperationalEvent:
    """The event of type `type_` about a workitem, with patient, study and order taken from its attributes."""
    requests = dicom_json.items(attributes, "ReferencedRequestSequence")
    request = requests[0] if requests else {}
    return OperationalEvent(
        key=":".join(part for part in (type_.name.lower(), uid, qualifier) if part),
        type=type_,
        occurred_at=now,
        outcome=outcome,
        outcome_description=outcome_description,
        machine=machine,
        machine_address=machine_address,
        function=dicom_json.text(attributes, "ProcedureStepLabel"),
        patient_id=dicom_json.text(attributes, "PatientID"),
        issuer_of_patient_id=dicom_json.text(attributes, "IssuerOfPatientID"),
        study_instance_uid=dicom_json.text(attributes, "StudyInstanceUID"),
        accession_number=dicom_json.text(request, "AccessionNumber"),
        order_number=dicom_json.text(request, "PlacerOrderNumberImagingServiceRequest")
        or dicom_json.text(request, "FillerOrderNumberImagingServiceRequest"),
        workitem_uid=uid,
        destination=destination,
        instances=instances,
    )


def _discontinuation_reason(attributes: DicomJson) -> str:
    for progress in dicom_json.items(attributes, "ProcedureStepProgressInformationSequence"):
        for code in dicom_json.items(progress, "ProcedureStepDiscontinuationReasonCodeSequence"):
            return dicom_json.text(code, "CodeMeaning")
    return "canceled"
