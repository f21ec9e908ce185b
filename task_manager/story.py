# SPDX-License-Identifier: Apache-2.0
"""Everything known about one study, gathered for people: `airway explain`, the API and the demo.

Names of patients are not in it; identifiers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from profiles import dicom_json
from profiles.sole.events import OperationalEvent
from task_manager.delivery.plan import output_sop_instance_uids, ship_order
from task_manager.outbox import Job
from task_manager.rules.explain import RuleExplanation, from_json
from task_manager.store import jobs, orders, reports, studies, workitems
from task_manager.store.database import Connection, Database
from task_manager.study.model import Instance, Study
from task_manager.workitem.model import Workitem


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
class WorkitemStory:
    """One workitem: its states with times, its outputs and its deliveries.

    `missing_outputs` counts the results it names that were never stored here; they are not delivered.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStory:
    """One study from its order to its deliveries.

    `explanations` holds (revision, rule-set version, explanation) for every rule and every revision.
    """

    study: Study
    order: OrderStory | None
    explanations: tuple[tuple[int, str, RuleExplanation], ...]
    workitems: tuple[WorkitemStory, ...]
    events: tuple[OperationalEvent, ...]


def study_story(database: Database, study_instance_uid: str) -> StudyStory | None:
    """The story of a study; None if it was never seen."""
    with database.read() as connection:
        study = studies.whole_study(connection, study_instance_uid)
        if study is None:
            return None
        accession_number = dicom_json.text(study.attributes, "AccessionNumber")
        joined = orders.order_of_study(
            connection,
            study_instance_uid=study_instance_uid,
            accession_number=accession_number,
            patient_id=dicom_json.text(study.attributes, "PatientID"),
            revoked=True,
        )
        order = None
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
                _workitem_story(connection, workitem, origin)
                for workitem, origin in workitems.workitems_of_study(connection, study_instance_uid)
            ),
            events=tuple(
                jobs.events_about(
                    connection, study_instance_uid=study_instance_uid, accession_number=accession_number
                )
            ),
        )


def _workitem_story(connection: Connection, workitem: Workitem, origin: workitems.Origin) -> WorkitemStory:
    outputs = output_sop_instance_uids(workitem.attributes)
    stored = studies.find_instances(connection, sop_instance_uids=outputs) if outputs else []
    progress = dicom_json.items(workitem.attributes, "ProcedureStepProgressInformationSequence")
    first = progress[0] if progress else {}
    return WorkitemStory(
        uid=workitem.uid,
        rule=origin.rule,
        label=dicom_json.text(workitem.attributes, "ProcedureStepLabel"),
        state=workitem.state.value,
        states=_state_changes(reports.reports_of(connection, workitem.uid)),
        reason=dicom_json.text(first, "ReasonForCancellation"),
        progress=dicom_json.text(first, "ProcedureStepProgress"),
        outputs=ship_order(stored),
        missing_outputs=len(outputs) - len(stored),
        deliveries=tuple(jobs.jobs_of_workitem(connection, workitem.uid)),
    )


def _state_changes(reports: list[tuple[int, str, str, datetime]]) -> tuple[tuple[str, str, datetime], ...]:
    """(state, actor, time) of each report whose state differs from the one before."""
    changes: list[tuple[str, str, datetime]] = []
    for _, state, actor, at in reports:
        if not changes or changes[-1][0] != state:
            changes.append((state, actor, at))
    return tuple(changes)
