# SPDX-License-Identifier: Apache-2.0
"""A person's request for the analysis of a study over `/api`: asked, looked at, taken back.

Translates only: what follows from a request is behind the request intake.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from informatics_gateway.statuses import STATUSES
from profiles.order import Priority
from profiles.request import Request as StudyRequest
from profiles.request import RequestKind, Trigger, blank_order
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.outcome import Refused, WarningCode
from task_manager.request_story import RequestStory, request_story
from task_manager.service import Service

KEY = r"[A-Za-z0-9._-]{1,64}"
_PLAIN = r"^[^\x00-\x1f\x7f\\*?]*$"
_Number = Annotated[str, StringConstraints(max_length=16, pattern=_PLAIN, strip_whitespace=True)]
_Name = Annotated[str, StringConstraints(max_length=64, pattern=_PLAIN, strip_whitespace=True)]


class AskedFor(BaseModel):
    """What is asked for: a study by its UID or by accession number."""

    model_config = ConfigDict(extra="forbid")

    accession_number: _Number = ""
    """Accession number; with `patient_id` where several patients may have it."""
    study_instance_uid: _Name = ""
    """Study Instance UID."""
    patient_id: _Name = ""
    """Patient ID."""
    app: _Name = ""
    """App that is wanted; empty leaves it to the rules."""
    priority: Priority | None = None
    """How urgent: HIGH, MEDIUM or LOW; without it as the order says."""
    reason: Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")] = ""
    """Why; rules see it as the reason of the order where no order was placed."""
    requester: _Name = ""
    """Who asks."""
    key: Annotated[str, StringConstraints(pattern=f"^({KEY})?$")] = ""
    """Identity of the request, as the header Idempotency-Key: the same again is the same request."""

    @model_validator(mode="after")
    def _names_a_study(self) -> AskedFor:
        if bool(self.accession_number) == bool(self.study_instance_uid):
            raise ValueError("give either accession_number or study_instance_uid")
        if self.study_instance_uid and not is_uid(self.study_instance_uid):
            raise ValueError("study_instance_uid is no UID")
        return self


def router(service: Service) -> APIRouter:
    """Routes of ``/api/requests``."""
    routes = APIRouter(prefix="/api/requests", tags=["requests"])

    @routes.post("", status_code=202)
    def ask(
        asked: AskedFor, request: Request, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Response:
        """Ask for the analysis of a study; one that is not here is fetched, if an archive is configured."""
        name = asked.key or idempotency_key or str(uuid.uuid4())
        if not re.fullmatch(KEY, name):
            raise HTTPException(
                422, "Idempotency-Key has 1 to 64 letters, digits, points, dashes, underlines"
            )
        outcome = service.requests.receive_request(_request(asked, name, request), actor=_person(request))
        if isinstance(outcome, Refused):
            raise _refusal(outcome)
        repeated = WarningCode.DUPLICATE in outcome.warnings
        return JSONResponse(
            _story(service, RequestKind.PERSON, name),
            status_code=200 if repeated else 202,
            headers={"Location": f"/api/requests/{name}"},
        )

    @routes.get("/{key}")
    def state(key: str, kind: RequestKind = RequestKind.PERSON) -> dict[str, Any]:
        """Where a request stands and what happens next; `kind` for those of other doors."""
        return _story(service, kind, key)

    @routes.post("/{key}/cancel")
    def cancel(key: str, request: Request, kind: RequestKind = RequestKind.PERSON) -> dict[str, Any]:
        """Take a request back: what waits is canceled, what runs is asked to stop."""
        outcome = service.requests.cancel_request(kind, _storable(key), actor=_person(request))
        if isinstance(outcome, Refused):
            raise _refusal(outcome)
        return _story(service, kind, key)

    return routes


def _person(request: Request) -> Actor:
    return Actor(door="person", address=request.client.host if request.client else "")


def _request(asked: AskedFor, name: str, request: Request) -> StudyRequest:
    order = replace(
        blank_order(
            study_instance_uid=asked.study_instance_uid,
            accession_number=asked.accession_number,
            patient_id=asked.patient_id,
            priority=asked.priority,
        ),
        reason=asked.reason,
    )
    trigger = Trigger(
        kind=RequestKind.PERSON,
        source=_person(request).address,
        requester=asked.requester,
        app=asked.app,
        priority=asked.priority,
    )
    return StudyRequest(name=name, trigger=trigger, asked=order)


def _refusal(outcome: Refused) -> HTTPException:
    faults = [{"path": fault.path, "message": fault.message} for fault in outcome.faults]
    return HTTPException(STATUSES[outcome.code].http, faults)


def _storable(key: str) -> str:
    """The key, if any request can have it: PostgreSQL takes no NUL."""
    if "\0" in key:
        raise HTTPException(404, "no such request")
    return key


def _story(service: Service, kind: RequestKind, name: str) -> dict[str, Any]:
    story = request_story(service.database, kind, _storable(name))
    if story is None:
        raise HTTPException(404, "no such request")
    return story_json(name, story)


def story_json(name: str, story: RequestStory) -> dict[str, Any]:
    """Where a request stands as plain JSON values; times in ISO 8601."""
    kept = story.request
    return {
        "key": name,
        "kind": kept.kind.value,
        "source": kept.source,
        "app": kept.app,
        "priority": kept.priority.value if kept.priority else None,
        "accession_number": story.accession_number,
        "study_instance_uid": story.study_instance_uid,
        "received_at": kept.received_at.isoformat(timespec="milliseconds"),
        "changed_at": kept.changed_at.isoformat(timespec="milliseconds"),
        "state": story.state.value,
        "next": story.next,
        "studies": list(story.studies),
        "workitems": [{"uid": one.uid, "state": one.state, "app": one.app} for one in story.workitems],
    }
