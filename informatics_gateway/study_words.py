# SPDX-License-Identifier: Apache-2.0
"""How complete a study is, as lines of text and as JSON: for the command line, the API and people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from task_manager.store.evidence import Awaited
from task_manager.store.superseding import Superseded
from task_manager.study.model import Study, StudyState
from task_manager.study_decisions import ListedStudy
from task_manager.waiting_story import ToldEvidence, WaitingStory

_STOPPED = {
    StudyState.HELD: "  held       nothing is decided before a person releases it",
    StudyState.DISCARDED: "  discarded  nothing runs on it unless a person releases it",
    StudyState.KEPT: "  kept       came by a fetch; nothing is decided about it",
}

NO_IMAGES = "images: what came so far was made from images"


def completeness_lines(study: Study, story: WaitingStory, at: Callable[[datetime], str]) -> list[str]:
    """What a study waits for or why it is complete, what tells so, and what persons decided."""
    lines = [_STOPPED[study.state]] if study.state in _STOPPED else []
    if study.state is StudyState.COMPLETE and story.reason:
        lines.append(f"    because {story.reason}")
    if waits_for_images(study):
        lines.append(f"  waits      {NO_IMAGES}")
    lines += [f"  waits      {awaited_words(one)}; looked at again {at(one.until)}" for one in story.waiting]
    lines += [f"  evidence   {at(one.told_at)} {_evidence_words(one)}" for one in story.evidence]
    for decision in story.decisions:
        who = decision.actor.name or decision.actor.address or "a person"
        why = f": {decision.reason}" if decision.reason else ""
        lines.append(f"  decided    {at(decision.decided_at)} {decision.action} by {who}{why}")
    return lines


def waits_for_images(study: Study) -> bool:
    """Whether nothing came of a study that tells of acquisition: nobody looks at it before something does."""
    return study.state is StudyState.RECEIVING and study.deadline_at is None


def awaited_words(awaited: Awaited) -> str:
    """What is waited for, and by whom."""
    return f"rule {awaited.rule}: {awaited.what}" if awaited.rule else awaited.what


def completeness_json(story: WaitingStory) -> dict[str, Any]:
    """The same as plain JSON values; times in ISO 8601."""
    return {
        "reason": story.reason,
        "waiting": [awaited_json(one) for one in story.waiting],
        "evidence": [
            {
                "kind": one.kind.value,
                "source": one.source,
                "told_at": iso(one.told_at),
                "ended": one.ended,
                "named": one.named,
                "here": one.here,
                "expected_series": one.expected_series,
                "expected_instances": one.expected_instances,
            }
            for one in story.evidence
        ],
        "decisions": [
            {
                "action": one.action,
                "door": one.actor.door,
                "by": one.actor.name,
                "address": one.actor.address,
                "reason": one.reason,
                "at": iso(one.decided_at),
            }
            for one in story.decisions
        ],
        "superseded": [
            {"workitem_uid": uid, **(superseded_json(one) or {})}
            for uid, one in sorted(story.superseded.items())
        ],
    }


def superseded_json(superseded: Superseded | None) -> dict[str, Any] | None:
    """Why results no longer count, as plain JSON values; None if they do."""
    if superseded is None:
        return None
    return {"by": superseded.by, "why": superseded.why, "at": iso(superseded.at)}


def listed_json(listed: ListedStudy) -> dict[str, Any]:
    """One study of a list as plain JSON values; nothing of the patient."""
    study, look = listed.study, listed.look
    return {
        "study_instance_uid": study.study_instance_uid,
        "state": study.state.value,
        "revision": study.revision,
        "first_received_at": iso(study.first_received_at),
        "last_received_at": iso(study.last_received_at),
        "look_at": iso(study.deadline_at),
        "waiting": [awaited_json(one) for one in look.waiting] if look else [],
    }


def awaited_json(awaited: Awaited) -> dict[str, Any]:
    """What is waited for as plain JSON values."""
    return {"rule": awaited.rule, "for": awaited.what, "until": iso(awaited.until)}


def _evidence_words(told: ToldEvidence) -> str:
    said = f"{told.kind.value} {told.source}"
    if told.named:
        said += f": {told.here} of {told.named} images are here"
    elif told.expected_instances is not None:
        said += f": {told.expected_instances} images"
    elif told.expected_series is not None:
        said += f": {told.expected_series} series"
    return said if told.ended else f"{said}, still in progress"


def iso(at: datetime | None) -> str | None:
    """A time in ISO 8601."""
    return at.isoformat(timespec="milliseconds") if at else None
