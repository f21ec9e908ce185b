# SPDX-License-Identifier: Apache-2.0
"""`airway explain`: the story of a study in words."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from informatics_gateway.commands.console import OUT, fail
from informatics_gateway.configuration import database_url, load_settings
from profiles.uids import is_uid
from task_manager.rules.explain import render
from task_manager.store.database import Database
from task_manager.story import StudyStory, WorkitemStory, study_story
from task_manager.study.assembly import patient_ids
from task_manager.study.model import StudyState


def explain(study_instance_uid: str, data: Path, config: Path | None) -> None:
    """Print why a study did or did not run; the server need not be running."""
    settings = load_settings(config)
    if not is_uid(study_instance_uid):
        fail("That is not a Study Instance UID.")
    url = database_url(settings, data)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        fail(f"There is no database in {data}. Name the folder that `airway serve` uses with --data.")
    database = Database(url)
    try:
        story = study_story(database, study_instance_uid)
    finally:
        database.close()
    if story is None:
        fail(
            "This study was never received. Was it sent to this Airway? See its log for refused instances.",
            status=1,
        )
    OUT.print(story_text(story), markup=False)


def story_text(story: StudyStory) -> str:
    """The story of a study as lines of text."""
    return "\n".join((*_study_lines(story), *_rule_lines(story), *_work_lines(story)))


def _study_lines(story: StudyStory) -> list[str]:
    study = story.study
    instances = sum(series.number_of_instances for series in study.series)
    received = f"{_at(study.first_received_at)} to {_at(study.last_received_at)}"
    results = sum(len(workitem.outputs) for workitem in story.workitems)
    of_them = f" ({results} of them results)" if results else ""
    lines = [
        f"Study {study.study_instance_uid}",
        f"  received   {instances} instances{of_them} in {len(study.series)} series, {received}",
    ]
    if study.state is StudyState.COMPLETE and study.completed_at and study.evidence:
        lines.append(
            f"  complete   {_at(study.completed_at)} by {study.evidence.value}, revision {study.revision}"
        )
    elif study.deadline_at:
        lines.append(f"  receiving  counts as complete at {_at(study.deadline_at)} if nothing more comes")
    patients = len(patient_ids(study))
    if patients > 1:
        lines.append(f"  ! images of {patients} patients under this UID: nothing is scheduled")
    if story.order is None:
        lines.append("  order      none joined (by Study Instance UID, or accession number and patient)")
    else:
        order = story.order
        lines.append(
            f"  order      {order.order_number} (accession {order.accession_number or 'none'}, "
            f"{order.priority}, {order.status}) received {_at(order.received_at)}"
        )
    return lines


def _rule_lines(story: StudyStory) -> list[str]:
    revision = story.study.revision
    explanations = [explanation for number, _, explanation in story.explanations if number == revision]
    if not explanations:
        waiting = story.study.state is StudyState.RECEIVING
        return ["", "Rules are tried when the study is complete." if waiting else "No rules are configured."]
    return ["", f"Rules (revision {revision})", *render(explanations).splitlines()]


def _work_lines(story: StudyStory) -> list[str]:
    if not story.workitems:
        revoked = story.order is not None and story.order.status == "REVOKED"
        return ["", "No workitem was created" + (": the order is revoked." if revoked else ".")]
    return ["", "Workitems", *(line for workitem in story.workitems for line in _workitem_lines(workitem))]


def _workitem_lines(workitem: WorkitemStory) -> list[str]:
    lines = [f"  {workitem.label} {workitem.uid} (rule {workitem.rule or 'none, created by a peer'})"]
    lines.extend(f"    {_at(at)} {state} by {actor or 'a peer'}" for state, actor, at in workitem.states)
    if workitem.reason:
        lines.append(f"    reason: {workitem.reason}")
    lines.extend(
        f"    result {output.sop_class_uid} {output.sop_instance_uid}" for output in workitem.outputs
    )
    if workitem.missing_outputs:
        lines.append(f"    ! {workitem.missing_outputs} results it names were never stored here")
    for job in workitem.deliveries:
        done = f" {_at(job.done_at)} {job.summary}" if job.done_at else ""
        trouble = f" (attempt {job.attempts}: {job.last_error})" if job.last_error else ""
        lines.append(f"    {job.lane} {job.state.value}{done}{trouble}")
    return lines


def _at(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
