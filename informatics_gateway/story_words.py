# SPDX-License-Identifier: Apache-2.0
"""The story of a study in words: for `airway explain` and the API.

Names of patients are not in it; identifiers are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from informatics_gateway.delivery_words import delivery_lines
from informatics_gateway.study_words import NO_IMAGES, awaited_json, completeness_lines, iso, waits_for_images
from profiles.request import REQUEST_ORDER
from profiles.ups.states import ProcedureStepState
from task_manager.outbox import FINISHED, JobState
from task_manager.rules.explain import RuleExplanation, RuleVerdict, render, to_json
from task_manager.store.orders import OrderStatus
from task_manager.store.reviews import review_key
from task_manager.story import StudyStory, WorkitemStatus, WorkitemStory
from task_manager.study.assembly import patient_ids
from task_manager.study.model import StudyState

_WAITS = (RuleVerdict.WAITING, RuleVerdict.REVIEW)


def story_text(story: StudyStory, lanes: Collection[str] | None = None) -> str:
    """The story of a study as lines of text; jobs of a lane that is not among `lanes` are marked."""
    return "\n".join(story_lines(story, lanes))


def story_lines(story: StudyStory, lanes: Collection[str] | None = None) -> list[str]:
    """The same, line by line."""
    return "\n".join((*_study_lines(story), *_rule_lines(story), *_work_lines(story, lanes))).splitlines()


def awaited_now(story: StudyStory) -> list[dict[str, Any]]:
    """What a study, its rules, their workitems and deliveries wait for now, as plain JSON values.

    `rule` is empty for the study itself, `until` null where nobody knows.
    """
    found = [awaited_json(one) for one in story.completeness.waiting]
    if waits_for_images(story.study):
        found.append(_awaited("", NO_IMAGES))
    told = {one["rule"] for one in found}
    for one in _explanations(story):
        if one.verdict in _WAITS and one.rule not in told:
            what = one.note if one.verdict is RuleVerdict.WAITING else f"a person: {one.review}"
            found.append(_awaited(one.rule, what.removeprefix("waits for ")))
    for workitem in story.workitems:
        found.extend(_workitem_waits(workitem))
    return found


def explanations_json(story: StudyStory) -> list[dict[str, Any]]:
    """Every rule applied to every revision of a study, oldest revision first, as plain JSON values."""
    return [
        {"revision": revision, "rule_set_version": version, **orjson.loads(to_json(explanation))}
        for revision, version, explanation in story.explanations
    ]


def _workitem_waits(workitem: WorkitemStory) -> Iterator[dict[str, Any]]:
    uid, attention = workitem.uid, workitem.status.attention
    if attention:
        yield _awaited(workitem.rule, f"a person: {attention}", workitem_uid=uid)
    elif workitem.state == ProcedureStepState.SCHEDULED:
        yield _awaited(workitem.rule, "somebody to perform it", workitem_uid=uid)
    elif workitem.state == ProcedureStepState.IN_PROGRESS:
        yield _awaited(workitem.rule, "the end of its run", workitem_uid=uid)
    for job in workitem.deliveries:
        if job.state not in FINISHED:
            trouble = f" ({job.last_error})" if job.last_error else ""
            what = f"{job.lane}{trouble}"
            if job.state is JobState.HELD:
                yield _awaited(workitem.rule, f"a person: {what}", workitem_uid=uid)
            else:
                yield _awaited(workitem.rule, what, until=job.due_at, workitem_uid=uid)


def _awaited(
    rule: str, what: str, *, until: datetime | None = None, workitem_uid: str = ""
) -> dict[str, Any]:
    named = {"workitem_uid": workitem_uid} if workitem_uid else {}
    return {"rule": rule, "for": what, "until": iso(until), **named}


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
    lines.extend(completeness_lines(study, story.completeness, _at))
    lines.extend(
        f"  removed    {one.number} instances on {_at(one.removed_at)} by policy {one.policy}"
        for one in story.removed
    )
    patients = len(patient_ids(study))
    if patients > 1:
        lines.append(f"  ! images of {patients} patients under this UID: nothing is scheduled")
    if story.order is None or story.order.order_number.startswith(REQUEST_ORDER):
        lines.append("  order      none joined (by Study Instance UID, or accession number and patient)")
    else:
        order = story.order
        lines.append(
            f"  order      {order.order_number} (accession {order.accession_number or 'none'}, "
            f"{order.priority}, {order.status}) received {_at(order.received_at)}"
        )
    return [*lines, *_fetch_lines(story), *_request_lines(story), *_told_lines(story)]


def _fetch_lines(story: StudyStory) -> list[str]:
    """How the study was asked of archives, and what came of it."""
    lines = []
    for one in story.fetches:
        source = f" from {one.source}" if one.source else ""
        expected = f", {one.expected} instances there" if one.expected else ""
        refused = f", {one.refused} refused" if one.refused else ""
        why = f" ({one.error})" if one.error else ""
        what = f"{one.purpose.value}, {one.state.value}{source}{expected}{refused}{why}"
        lines.append(f"  fetch      {_at(one.asked_at)} by {one.asked_by or 'somebody'}: {what}")
    return lines


def _request_lines(story: StudyStory) -> list[str]:
    """All that asked for the study, but for the order itself; what was canceled too."""
    lines = []
    for one in story.requests:
        app = f", app {one.app}" if one.app else ""
        priority = f", {one.priority.value}" if one.priority else ""
        status = "" if one.status is OrderStatus.ACTIVE else f", {one.status.value}"
        source = f" from {one.source}" if one.source else ""
        lines.append(
            f"  asked      {_at(one.received_at)} by {one.kind.value}{source}{app}{priority}{status}"
        )
    return lines


def _told_lines(story: StudyStory) -> list[str]:
    """What other systems told of the order and the patient, each with the time it came."""
    lines = []
    for change in story.told.orders:
        status = f"/{change.order_status}" if change.order_status else ""
        fields = f" ({change.fields.replace(',', ', ')})" if change.fields else ""
        asked = f"{change.control}{status} by {change.sender or 'a sender'}{fields}"
        lines.append(f"    {_at(change.changed_at)} {asked}: {change.effect}")
    for record in story.told.identities:
        former = f" from {record.former_id}" if record.former_id else ""
        fields = f" ({record.fields.replace(',', ', ')})" if record.fields else ""
        lines.append(
            f"  patient    {_at(record.changed_at)} {record.kind}{former} to {record.patient_id}{fields} "
            f"by {record.sender or 'a sender'}"
        )
    for prior in story.told.priors:
        day = f"{prior.observed_at:%Y-%m-%d}" if prior.observed_at else "no date"
        lines.append(f"  prior      {day} {prior.description or 'report'} ({prior.status or 'no status'})")
    return lines


def _rule_lines(story: StudyStory) -> list[str]:
    revision = story.study.revision
    explanations = _explanations(story)
    if not explanations:
        why = {
            StudyState.RECEIVING: "Rules are tried when the study is complete.",
            StudyState.KEPT: "Rules do not look at it: it was fetched, and nobody has asked for that.",
        }
        return ["", why.get(story.study.state, "No rules are configured.")]
    lines = ["", f"Rules (revision {revision})", *render(explanations).splitlines()]
    for one in explanations:
        if one.verdict is RuleVerdict.REVIEW:
            key = quote(review_key(story.study.study_instance_uid, revision, one.rule), safe="")
            lines.append(f"! rule {one.rule} waits for a person: {one.review}")
            lines.append(f"  POST /api/jobs/{key}/retry lets it run with the first of the ranking")
    return lines


def _explanations(story: StudyStory) -> list[RuleExplanation]:
    """Of the newest revision."""
    return [found for revision, _, found in story.explanations if revision == story.study.revision]


def _work_lines(story: StudyStory, lanes: Collection[str] | None) -> list[str]:
    if not story.workitems:
        why = {"REVOKED": ": the order is revoked.", "HELD": ": the order is on hold."}
        status = story.order.status if story.order is not None else ""
        return ["", "No workitem was created" + why.get(status, ".")]
    found = (line for workitem in story.workitems for line in _workitem_lines(workitem, lanes))
    return ["", "Workitems", *found]


def _workitem_lines(workitem: WorkitemStory, lanes: Collection[str] | None) -> list[str]:
    lines = [f"  {workitem.label} {workitem.uid} (rule {workitem.rule or 'none, created by a peer'})"]
    lines.extend(f"    {_at(at)} {state} by {actor or 'a peer'}" for state, actor, at in workitem.states)
    if workitem.reason:
        lines.append(f"    reason: {workitem.reason}")
    lines.extend(f"    {line}" for line in _status_lines(workitem.status))
    lines.extend(
        f"    result {output.sop_class_uid} {output.sop_instance_uid}" for output in workitem.outputs
    )
    superseded = workitem.status.superseded
    if superseded is not None:
        by = f" by {superseded.by}" if superseded.by else ""
        lines.append(f"    ! superseded{by} on {_at(superseded.at)}: {superseded.why}")
    if workitem.missing_outputs:
        lines.append(f"    ! {workitem.missing_outputs} results it names were never stored here")
    lines.extend(f"    {line}" for line in delivery_lines(workitem, lanes))
    return lines


def _status_lines(status: WorkitemStatus) -> list[str]:
    lines = []
    if status.lease_until is not None:
        heard = f", last heard {_at(status.heard_at)}" if status.heard_at else ""
        lines.append(f"held by {status.claimed_by or 'a peer'}{heard}, taken back {_at(status.lease_until)}")
    if status.cancel_requested_at is not None:
        lines.append(f"cancel requested {_at(status.cancel_requested_at)}")
    if status.tries > 1:
        lines.append(f"try {status.tries}")
    if status.replaces:
        lines.append(f"replaces {status.replaces[0]}")
    if status.replaced_by:
        lines.append(f"replaced by {status.replaced_by}")
    if status.parent:
        lines.append(f"part of {status.parent}")
    for child in status.subtasks:
        where = f" at {child.performer}" if child.performer else ""
        lines.append(f"{child.role.value} {child.child_uid}{where} ({child.state.value})")
    if status.attention:
        lines.append(f"! waits for a person: {status.attention}")
        lines.append(f"  POST /api/workitems/{status.uid}/retry or /api/workitems/{status.uid}/dismiss")
    return lines


def _at(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
