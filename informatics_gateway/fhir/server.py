# SPDX-License-Identifier: Apache-2.0
"""The FHIR R4 door: ServiceRequest and Task created, changed and read back; durable before it is answered.

Resources become requests in ``profiles/fhir``; what follows from them is behind the request intake. Search
and the other resources are not here: the CapabilityStatement tells just what is.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from informatics_gateway.fhir.outcome import (
    MEDIA_TYPE,
    capability_statement,
    error_response,
    issues_response,
    json_response,
    outcome,
    refusal_response,
)
from profiles.fhir.datatypes import instant
from profiles.fhir.identifiers import Json
from profiles.fhir.reading import Issue, RequestReading
from profiles.fhir.service_request import read_service_request
from profiles.fhir.task import read_task
from profiles.request import Request as StudyRequest
from profiles.request import RequestKind
from task_manager.actor import Actor
from task_manager.errors import NoRoomError, StoreError, facts_of
from task_manager.outcome import Accepted, Refused, WarningCode
from task_manager.request_intake import RequestIntake, Terms
from task_manager.store.requests import KeptRequest

_LOG = logging.getLogger(__name__)
MAX_BODY_BYTES = 1024 * 1024
_KINDS: Mapping[str, RequestKind] = {
    "ServiceRequest": RequestKind.SERVICE_REQUEST,
    "Task": RequestKind.TASK,
}
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"')
_NAMESPACE = uuid.UUID("5b0b1e0e-3c9e-5b43-8f6f-4c7c2d6c9a11")
_ACCEPTED = ("application/fhir+json", "application/json", "application/*", "*/*", "json")


class _RefusedError(Exception):
    """The request cannot be answered otherwise."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__()


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirDoor:
    """What the door works with.

    Attributes
    ----------
    reading
        How resources are read.
    public_url
        Address of the FHIR service as clients write it; empty takes that of each request.
    version
        Of the software.
    started
        Since when it answers.
    """

    requests: RequestIntake
    reading: RequestReading
    public_url: str
    version: str
    started: datetime


def router(door: FhirDoor) -> APIRouter:
    """Routes of ``/fhir``."""
    routes = APIRouter(prefix="/fhir", include_in_schema=False)

    @routes.get("/metadata")
    def metadata(request: Request) -> Response:
        """The CapabilityStatement."""
        base = _base(door, request)
        return _guarded(
            lambda: json_response(capability_statement(base, door.version, door.started), 200), request
        )

    @routes.post("/{resource_type}")
    async def create(resource_type: str, request: Request) -> Response:
        """Create, or what If-None-Exist finds."""
        try:
            content = await _body(request)
        except _RefusedError as refused:
            return refused.response
        return await run_in_threadpool(
            _guarded, lambda: _create(door, resource_type, content, request), request
        )

    @routes.put("/{resource_type}/{name}")
    async def update(resource_type: str, name: str, request: Request) -> Response:
        """Change what is there; a status that ends it is a cancel."""
        try:
            content = await _body(request)
        except _RefusedError as refused:
            return refused.response
        return await run_in_threadpool(
            _guarded, lambda: _update(door, resource_type, name, content, request), request
        )

    @routes.get("/{resource_type}/{name}")
    def read(resource_type: str, name: str, request: Request) -> Response:
        """Read back."""
        return _guarded(lambda: _read(door, resource_type, name, request), request)

    @routes.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    def nothing(rest: str) -> Response:
        """Everything else: other interactions, and other resources."""
        kind, _, name = rest.partition("/")
        known = kind in _KINDS and "/" not in name
        text = "GET [base]/metadata tells what is done here"
        return error_response(405 if known else 404, "not-supported", text)

    return routes


def _guarded(work: Callable[[], Response], request: Request) -> Response:
    """The edge of a request: whatever goes wrong with the store is told in FHIR."""
    if not _takes_json(request):
        return error_response(406, "not-supported", f"answers are {MEDIA_TYPE}")
    try:
        return work()
    except _RefusedError as refused:
        return refused.response
    except NoRoomError:
        return error_response(507, "no-store", "there is no room; try again later", {"Retry-After": "10"})
    except StoreError as error:
        _LOG.error("store failed", extra={"action": "fhir.store_failed", **facts_of(error)})
        return error_response(
            503, "transient", "the store does not answer; try again later", {"Retry-After": "10"}
        )


def _takes_json(request: Request) -> bool:
    named = request.query_params.get("_format", "").replace(" ", "+")  # what few clients escape
    asked = named or request.headers.get("accept") or "*/*"
    kinds = [one.partition(";")[0].strip().lower() for one in asked.split(",")]
    return any(kind in _ACCEPTED for kind in kinds)


async def _body(request: Request) -> Any:
    """The decoded body, of bounded size."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (MEDIA_TYPE, "application/json"):
        raise _RefusedError(error_response(415, "not-supported", f"requests are {MEDIA_TYPE}"))
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                text = f"a resource has {MAX_BODY_BYTES} bytes at most"
                raise _RefusedError(error_response(413, "too-long", text))
    except ClientDisconnect:
        raise _RefusedError(error_response(400, "incomplete", "the body broke off")) from None
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        text = f"is not JSON (line {error.lineno}, column {error.colno})"
        raise _RefusedError(error_response(400, "structure", text)) from None


def _kind(resource_type: str) -> RequestKind:
    kind = _KINDS.get(resource_type)
    if kind is None:
        raise _RefusedError(error_response(404, "not-supported", "no such resource type is taken here"))
    return kind


def _create(door: FhirDoor, resource_type: str, content: Any, request: Request) -> Response:
    kind = _kind(resource_type)
    unless = _if_none_exist(request)
    name = str(uuid.uuid5(_NAMESPACE, f"{kind}?{unless}")) if unless else str(uuid.uuid4())
    read = _read_resource(door, resource_type, content, name, request)
    accepted = _received(door, resource_type, read, Terms(unless=unless), request)
    kept = door.requests.request(kind, accepted.uid)
    status = 200 if WarningCode.DUPLICATE in accepted.warnings else 201
    return _answer(door, resource_type, kept, accepted.uid, status, request)


def _update(door: FhirDoor, resource_type: str, name: str, content: Any, request: Request) -> Response:
    kind = _kind(resource_type)
    if isinstance(content, dict) and content.get("id") != name:
        issue = Issue(
            code="invariant", expression=f"{resource_type}.id", text="has to be that of the address"
        )
        return issues_response([issue], 400)
    if not _ID.fullmatch(name) or door.requests.request(kind, name) is None:
        return error_response(405, "not-supported", "ids are given here: create with POST", {"Allow": "POST"})
    read = _read_resource(door, resource_type, content, name, request)
    terms = Terms(version=_if_match(request), known=True)
    _received(door, resource_type, read, terms, request)
    return _answer(door, resource_type, door.requests.request(kind, name), name, 200, request)


def _read(door: FhirDoor, resource_type: str, name: str, request: Request) -> Response:
    kind = _kind(resource_type)
    kept = door.requests.request(kind, name) if _ID.fullmatch(name) else None
    return _answer(door, resource_type, kept, name, 200, request, read_back=True)


def _received(
    door: FhirDoor, resource_type: str, read: StudyRequest, terms: Terms, request: Request
) -> Accepted:
    address = request.client.host if request.client else ""
    actor = Actor(door="fhir", name=read.trigger.source[:64], address=address)
    told = door.requests.receive_request(read, actor=actor, terms=terms)
    if isinstance(told, Refused):
        raise _RefusedError(refusal_response(resource_type, told))
    return told


def _read_resource(
    door: FhirDoor, resource_type: str, content: Any, name: str, request: Request
) -> StudyRequest:
    """The request that a resource is; as it is read back it carries our id, and our meta when it is sent."""
    said: Json = content if isinstance(content, dict) else {}
    meta = said.get("meta")
    source = meta.get("source") if isinstance(meta, dict) else None
    told = source if isinstance(source, str) else request.client.host if request.client else ""
    try:
        document = orjson.dumps({**said, "id": name}).decode()
    except orjson.JSONEncodeError:  # the reader takes deeper nesting than the writer
        issue = Issue(code="too-costly", expression=resource_type, text="is too deep or too large")
        raise _RefusedError(issues_response([issue], 400)) from None
    options: dict[str, Any] = {
        "name": name,
        "source": told[:256],
        "document": document,
        "reading": door.reading,
    }
    if resource_type == "ServiceRequest":
        read = read_service_request(content, **options)
        if isinstance(read, tuple):
            raise _RefusedError(issues_response(read, _status_of(read)))
        return read
    task = read_task(content, **options)
    if isinstance(task, tuple):
        raise _RefusedError(issues_response(task, _status_of(task)))
    if not task.service_request_id:
        return task.request
    ordered = door.requests.order_of(RequestKind.SERVICE_REQUEST, task.service_request_id)
    if ordered is None:
        issue = Issue(code="not-found", expression="Task.focus", text="names no ServiceRequest that is here")
        raise _RefusedError(issues_response([issue], 422))
    asked = task.request.asked
    if not door.requests.is_of_same_patient(asked, ordered):
        issue = Issue(
            code="business-rule", expression="Task.for", text="is not who the ServiceRequest is for"
        )
        raise _RefusedError(issues_response([issue], 422))
    return replace(
        task.request,
        asked=replace(
            ordered,
            control=asked.control,
            order_status=asked.order_status,
            placer_order_number="",
            filler_order_number="",
            priority=task.request.trigger.priority or ordered.priority,
            reason=asked.reason or ordered.reason,
            earlier=(),
        ),
    )


def _status_of(issues: tuple[Issue, ...]) -> int:
    """400 for what is no such resource, 422 for what is one and cannot be done (FHIR R4 http, create)."""
    structural = ("structure", "value", "required", "too-costly", "too-long")
    return 400 if any(one.code in structural for one in issues) else 422


def _answer(
    door: FhirDoor,
    resource_type: str,
    kept: KeptRequest | None,
    name: str,
    status: int,
    request: Request,
    *,
    read_back: bool = False,
) -> Response:
    if kept is None:
        return error_response(404, "not-found", f"there is no such {resource_type}")
    headers = {
        "ETag": f'W/"{kept.version}"',
        "Last-Modified": format_datetime(kept.changed_at.replace(microsecond=0), usegmt=True),
    }
    if not read_back:
        headers["Location"] = f"{_base(door, request)}/{resource_type}/{name}/_history/{kept.version}"
    prefer = request.headers.get("prefer", "")
    if not read_back and "return=minimal" in prefer:
        return Response(status_code=status, headers=headers)
    if not read_back and "return=OperationOutcome" in prefer:
        done = Issue(code="informational", expression="", text="is durable")
        return json_response(outcome([done], severity="information"), status, headers)
    resource: Json = orjson.loads(kept.document)
    meta = resource.get("meta")
    resource["meta"] = {
        **(meta if isinstance(meta, dict) else {}),
        "versionId": str(kept.version),
        "lastUpdated": instant(kept.changed_at),
    }
    return json_response(resource, status, headers)


def _base(door: FhirDoor, request: Request) -> str:
    return door.public_url or f"{str(request.base_url).rstrip('/')}/fhir"


def _if_none_exist(request: Request) -> str:
    """The token of a conditional create; only ``identifier=system|value`` can be asked."""
    header = request.headers.get("if-none-exist")
    if header is None:
        return ""
    asked = parse_qsl(header.lstrip("?"))
    if (
        len(asked) != 1
        or asked[0][0] != "identifier"
        or not asked[0][1].partition("|")[2]
        or _CONTROL.search(asked[0][1])
    ):
        text = "If-None-Exist is taken as identifier=system|value"
        raise _RefusedError(error_response(412, "not-supported", text))
    return asked[0][1]


def _if_match(request: Request) -> int | None:
    header = request.headers.get("if-match")
    if header is None:
        return None
    found = _ETAG.fullmatch(header.strip())
    if found is None:
        raise _RefusedError(error_response(400, "invalid", 'If-Match is taken as W/"version"'))
    return int(found.group(1))
