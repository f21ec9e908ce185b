# SPDX-License-Identifier: Apache-2.0
"""Everything known about one study, gathered for people: `airway explain`, the API and the demo.

Names of patients are not in it; identifiers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from profiles import dicom_json
from profiles.sole.events import OperationalEvent
from profiles.ups.states import ProcedureStepState
from task_manager.delivery.breaker import Health
from task_manager.delivery.commitment import Asked
from task_manager.delivery.plan import output_sop_instance_uids, ship_order
from task_manager.dispatch.leases import replaced_uids
from task_manager.fetching.model import Fetch
from task_manager.outbox import FINISHED, Job, delivery_lane
from task_manager.patient_story import ToldStory, told_story
from task_manager.rules.explain import RuleExplanation, from_json
from task_manager.store import (
    commitments,
    deliveries,
    fetches,
    identities,
    jobs,
    leases,
    orders,
    removals,
    reports,
    requests,
    studies,
    subtasks,
    succession,
    superseding,
    workitems,
)
from task_manager.store.database import Connection, Database
from task_manager.store.deliveries import Decision
from task_manager.store.records import Record
from task_manager.store.removals import RemovedObjects
from task_manager.store.requests import KeptRequest
from task_manager.store.subtasks import Subtask
from task_manager.store.superseding import Superseded
from task_manager.study.model import Instance, Study
from task_manager.waiting_story import WaitingStory, waiting_story
from task_manager.workitem.columns import expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStory:
    """The order joined to the study."""

    order_number: str
    accession_number: str
    requested_procedure: str
    priority: str
    status: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemStatus:
    """Who has a workitem, until when, and what came before and after it.

    Attributes
    ----------
    claimed_by
        Who claimed it last, as their door knew them; empty if nobody did.
    heard_at
        When its performer was last heard.
    lease_until
        When it is taken back if its performer is not heard again; only while IN PROGRESS.
    expires_at
        When it is canceled if nobody has begun it.
    tries
        Which try this is.
    attention
        Why a person has to decide; empty if nobody has to.
    replaces, replaced_by
        UIDs of what it replaces, the latest first, and of what replaces it (empty if nothing does).
    parent
        UID of the workitem it is a part of.
    subtasks
        What it was handed on as, the oldest first.
    superseded
        Why its results no longer count; None if they do.
    """

    uid: str
    label: str
    rule: str
    app: str
    state: str
    created_at: datetime
    modified_at: datetime
    final_at: datetime | None
    claimed_by: str
    claimed_at: datetime | None
    heard_at: datetime | None
    lease_until: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    reason: str
    progress: str
    tries: int
    attention: str
    replaces: tuple[str, ...]
    replaced_by: str
    parent: str
    subtasks: tuple[Subtask, ...]
    superseded: Superseded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFate:
    """What became of one delivery beside its job: what was asked to be committed, what persons decided.

    `health` tells how the destination fares where it does not answer; None where it does, or was not asked.
    """

    commitments: tuple[Asked, ...] = ()
    decisions: tuple[Decision, ...] = ()
    health: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemStory:
    """One workitem: its states with times, its outputs and its deliveries.

    `missing_outputs` counts the results it names that were never stored here; they are not delivered. `fates`
    has more on each delivery, by the key of its job.
    """

    uid: str
    rule: str
    label: str
    state: str
    states: tuple[tuple[str, str, datetime], ...]
    reason: str
    progress: str
    outputs: tuple[Instance, ...]
    missing_outputs: int
    deliveries: tuple[Job, ...]
    fates: Mapping[str, DeliveryFate]
    status: WorkitemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStory:
    """One study from its order to its deliveries.

    `explanations` holds (revision, rule-set version, explanation) for every rule and every revision; `told`
    what other systems said about the order and the patient; `removed` what policies removed of it.
    """

    study: Study
    order: OrderStory | None
    explanations: tuple[tuple[int, str, RuleExplanation], ...]
    workitems: tuple[WorkitemStory, ...]
    events: tuple[OperationalEvent, ...]
    told: ToldStory
    requests: tuple[KeptRequest, ...] = ()
    completeness: WaitingStory = field(default_factory=WaitingStory)
    fetches: tuple[Fetch, ...] = ()
    removed: tuple[RemovedObjects, ...] = ()


def study_story(database: Database, study_instance_uid: str) -> StudyStory | None:
    """The story of a study; None if it was never seen."""
    with database.read() as connection:
        found = studies.whole_study(connection, study_instance_uid)
        if found is None:
            return None
        study = identities.identified(connection, found)
        accession_number = dicom_json.text(study.attributes, "AccessionNumber")
        joined = orders.order_of_study(
            connection,
            study_instance_uid=study_instance_uid,
            accession_number=accession_number,
            patient_id=dicom_json.text(study.attributes, "PatientID"),
            revoked=True,
        )
        order = None
        patient_id = dicom_json.text(study.attributes, "PatientID")
        if joined is not None:
            key, content = joined
            accession_number = accession_number or content.accession_number
            times = orders.order_times(connection, key)
            order = OrderStory(
                order_number=key,
                accession_number=content.accession_number,
                requested_procedure=content.requested_procedure_description,
                priority=content.priority.value,
                status=times[1] if times else "",
                received_at=times[0] if times else study.first_received_at,
            )
        return StudyStory(
            study=study,
            order=order,
            explanations=tuple(
                (revision, version, from_json(content))
                for revision, version, content, _ in studies.explanations_of(connection, study_instance_uid)
            ),
            workitems=tuple(
                _workitem_story(connection, record)
                for record in workitems.records_of_study(connection, study_instance_uid)
            ),
            events=tuple(
                jobs.events_about(
                    connection, study_instance_uid=study_instance_uid, accession_number=accession_number
                )
            ),
            told=told_story(
                connection,
                order_key=order.order_number if order else "",
                patient_id=patient_id,
                issuer=dicom_json.text(study.attributes, "IssuerOfPatientID"),
            ),
            removed=tuple(removals.removed_of_study(connection, study_instance_uid)),
            completeness=waiting_story(connection, study),
            fetches=tuple(fetches.fetches_of_study(connection, study_instance_uid)),
            requests=tuple(
                requests.requests_of_study(
                    connection,
                    study_instance_uid=study_instance_uid,
                    accession_number=dicom_json.text(study.attributes, "AccessionNumber"),
                    patient_id=patient_id,
                )
            ),
        )


def workitem_status(database: Database, uid: str) -> WorkitemStatus | None:
    """Where a workitem stands; None if it is unknown, or was deleted."""
    with database.read() as connection:
        record = workitems.record_by_uid(connection, uid)
        return None if record is None else _status(connection, record)


def _status(connection: Connection, record: Record) -> WorkitemStatus:
    workitem, dispatch = record.workitem, record.dispatch
    progress = dicom_json.items(workitem.attributes, "ProcedureStepProgressInformationSequence")
    first = progress[0] if progress else {}
    successor = succession.successor(connection, workitem) if workitem.is_final else None
    parent = subtasks.subtask_of_child(connection, workitem.uid)
    requested = workitem.cancel_requested
    running = workitem.state is ProcedureStepState.IN_PROGRESS
    return WorkitemStatus(
        uid=workitem.uid,
        label=dicom_json.text(workitem.attributes, "ProcedureStepLabel"),
        rule=record.origin.rule,
        app=dispatch.app,
        state=workitem.state.value,
        created_at=workitem.created_at,
        modified_at=workitem.modified_at,
        final_at=workitem.modified_at if workitem.is_final else None,
        claimed_by=dispatch.claimed_by,
        claimed_at=workitem.claimed_at,
        heard_at=workitem.heard_at,
        lease_until=leases.lease_of(connection, workitem.uid) if running else None,
        expires_at=expires_at(workitem.attributes),
        cancel_requested_at=requested.requested_at if requested else None,
        reason=dicom_json.text(first, "ReasonForCancellation"),
        progress=dicom_json.text(first, "ProcedureStepProgress"),
        tries=dispatch.tries,
        attention=dispatch.attention,
        replaces=replaced_uids(workitem.attributes),
        replaced_by=successor.uid if successor else "",
        parent=parent.parent_uid if parent else "",
        subtasks=tuple(subtasks.subtasks_of_parent(connection, workitem.uid)),
        superseded=superseding.superseded(connection, workitem.uid),
    )


def _workitem_story(connection: Connection, record: Record) -> WorkitemStory:
    workitem = record.workitem
    outputs = output_sop_instance_uids(workitem.attributes)
    stored = studies.find_instances(connection, sop_instance_uids=outputs) if outputs else []
    planned = jobs.jobs_of_workitem(connection, workitem.uid)
    status = _status(connection, record)
    changes = _state_changes(reports.reports_of(connection, workitem.uid))
    if not changes:  # its event reports were deleted as too old
        changes = ((status.state, status.claimed_by, workitem.modified_at),)
    return WorkitemStory(
        uid=workitem.uid,
        rule=status.rule,
        label=status.label,
        state=status.state,
        states=changes,
        reason=status.reason,
        progress=status.progress,
        outputs=ship_order(stored),
        missing_outputs=len(outputs) - len(stored) - removals.count_removed(connection, outputs),
        deliveries=tuple(planned),
        fates=_fates(connection, planned),
        status=status,
    )


def _fates(connection: Connection, planned: Sequence[Job]) -> dict[str, DeliveryFate]:
    decisions = deliveries.decisions_of(connection, [job.key for job in planned])
    return {
        job.key: DeliveryFate(
            commitments=tuple(commitments.commitments_of(connection, job.key)),
            decisions=tuple(decisions.get(job.key, ())),
            health=None
            if job.state in FINISHED
            else deliveries.health_of(connection, job.lane.removeprefix(delivery_lane(""))),
        )
        for job in planned
    }


def _state_changes(reports: list[tuple[int, str, str, datetime]]) -> tuple[tuple[str, str, datetime], ...]:
    """(state, actor, time) of each report whose state differs from the one before."""
    changes: list[tuple[str, str, datetime]] = []
    for _, state, actor, at in reports:
        if not changes or changes[-1][0] != state:
            changes.append((state, actor, at))
    return tuple(changes)
