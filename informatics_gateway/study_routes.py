# SPDX-License-Identifier: Apache-2.0
"""REST over studies: those that are open listed, explained, and completed, held or discarded by a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Request

from informatics_gateway.story_words import awaited_now, explanations_json, story_lines
from informatics_gateway.study_words import completeness_json, listed_json
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode
from task_manager.service import Service
from task_manager.story import StudyStory
from task_manager.study.model import StudyState
from task_manager.study_decisions import StudyAction

_MOST_AT_ONCE = 1000
_LONGEST_NAME = 64
_LONGEST_REASON = 500
_LINE = r"^[^\x00-\x1f\x7f]*$"  # shown on terminals, and PostgreSQL keeps no NUL
_MEANING = {
    StudyAction.FORCE: "Complete a study now, whatever it waits for; who decided and why is kept.",
    StudyAction.HOLD: "Keep a study from being complete until it is released; who decided and why is kept.",
    StudyAction.RELEASE: "Take up a study again that was held or discarded; who decided and why is kept.",
    StudyAction.DISCARD: "Let nothing run on a study any more; who decided and why is kept.",
}
_OPEN = (StudyState.RECEIVING, StudyState.HELD)


def router(service: Service) -> APIRouter:
    """Routes of ``/api/studies`` beside the story of one study."""
    routes = APIRouter()

    @routes.get("/api/studies")
    def studies(
        state: Annotated[list[StudyState] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_AT_ONCE)] = 100,
    ) -> dict[str, Any]:
        """Studies that are receiving or held, unless states are named; what is looked at next comes first."""
        listed = service.studies.listed(tuple(state or _OPEN), limit=limit)
        return {"studies": [listed_json(one) for one in listed]}

    @routes.get("/api/studies/{study_instance_uid}/completeness")
    def completeness(study_instance_uid: str) -> dict[str, Any]:
        """What a study waits for or why it is complete, what tells so, and what persons decided."""
        story = _story(service, study_instance_uid)
        return {"state": story.study.state.value, **completeness_json(story.completeness)}

    @routes.get("/api/studies/{study_instance_uid}/explanation")
    def explanation(study_instance_uid: str) -> dict[str, Any]:
        """What happened to a study from first byte to last delivery, in words, and what it waits for now."""
        story = _story(service, study_instance_uid)
        return {
            "study_instance_uid": study_instance_uid,
            "state": story.study.state.value,
            "revision": story.study.revision,
            "text": story_lines(story, service.attention.lanes),
            "waiting": awaited_now(story),
            "explanations": explanations_json(story),
        }

    for action in StudyAction:
        routes.post(f"/api/studies/{{study_instance_uid}}/{action}")(_deciding(service, action))
    return routes


def _story(service: Service, study_instance_uid: str) -> StudyStory:
    story = service.story(study_instance_uid) if is_uid(study_instance_uid) else None
    if story is None:
        raise HTTPException(404, "no such study")
    return story


def _deciding(service: Service, action: StudyAction) -> Callable[..., dict[str, str]]:
    """The handler of one decision; who decided and why is kept."""

    def decide(
        study_instance_uid: str,
        request: Request,
        by: Annotated[str, Body(max_length=_LONGEST_NAME, pattern=_LINE)] = "",
        reason: Annotated[str, Body(max_length=_LONGEST_REASON, pattern=_LINE)] = "",
    ) -> dict[str, str]:
        if not is_uid(study_instance_uid):
            raise HTTPException(404, "no such study")
        actor = Actor(door="person", name=by, address=request.client.host if request.client else "")
        outcome = service.studies.decide(study_instance_uid, action, actor=actor, reason=reason)
        if not isinstance(outcome, Accepted):
            status = 404 if outcome.code is RefusalCode.NO_SUCH_INSTANCE else 409
            raise HTTPException(
                status, "; ".join(f"{fault.path} {fault.message}" for fault in outcome.faults)
            )
        return {"study_instance_uid": study_instance_uid, "done": action.value}

    decide.__name__ = f"{action.value}_study"
    decide.__doc__ = _MEANING[action]
    return decide
