# SPDX-License-Identifier: Apache-2.0
"""The worklist over HTTP: UPS-RS Create, Retrieve, Update, Change State, Request Cancellation and Search.

Translates only (PS3.18 chapter 11): what a request means is read by ``ups_payload.py`` and ``ups_query.py``,
what happens is decided behind the Worklist port, and what the answer is called stands in ``statuses.py``.
Lenient in what it reads, strict in what it sends; no request, however hostile, is answered 5xx while the
store works.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from informatics_gateway.dicomweb.media import (
    DICOM_JSON,
    JSON,
    MediaType,
    accepts_json,
    parse_accept,
    parse_media_type,
)
from informatics_gateway.dicomweb.ups_payload import (
    PROCEDURE_STEP_STATE,
    PayloadError,
    drop_own_identity,
    parse_data_set,
    take_transaction_uid,
    take_workitem_uid,
    text_value,
)
from informatics_gateway.dicomweb.ups_query import parse_search
from informatics_gateway.statuses import STATUSES, WARNINGS, Operation, refusal_text
from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups.returning import search_result
from profiles.ups.values import fits
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import Worklist

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 2**20
MAX_QUERY_CHARACTERS = 8192
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request or the data set is wrong; every fault is listed"},
    404: {"description": "No such workitem"},
    409: {"description": "Not possible in the present state"},
    413: {"description": "The body is too large"},
    414: {"description": "The query is too long"},
    415: {"description": "The body is not DICOM JSON"},
}


class _AnsweredError(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status_code)


_PRODUCT = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Door:
    """One request on its way: where it came in, and how answers are written."""

    request: Request
    operation: Operation
    prefix: str

    @property
    def query(self) -> str:
        return self.request.url.query

    @property
    def service(self) -> str:
        """The base URL of the service, as the client wrote it."""
        try:
            return str(self.request.base_url).rstrip("/") + self.prefix
        except ValueError:
            return self.prefix

    def actor(self, name: str = "") -> Actor:
        """Who asks: the requester of the URL, else the product the User-Agent header names (not proven)."""
        client = self.request.client
        product = _PRODUCT.match(self.request.headers.get("user-agent", ""))
        said = name or (product[0] if product else "")
        return Actor(door="dicomweb", name=said, address=client.host if client else "")

    def address(self, uid: str) -> str:
        return f"{self.service}/workitems/{uid}"

    def warn(self, response: Response, texts: Sequence[str]) -> Response:
        """Add Warning headers in the form PS3.18 8.3.4 prints."""
        for text in filter(None, texts):
            response.headers.append("Warning", f"299 {self.service}: {text}")
        return response

    def accepted(self, outcome: Accepted, status: int, headers: dict[str, str] | None = None) -> Response:
        texts = [WARNINGS[warning].http_text(self.operation) for warning in outcome.warnings]
        return self.warn(Response(status_code=status, headers=headers), texts)

    def refused(self, refusal: Refused, transaction_uid: str = "") -> Response:
        response = _problem(STATUSES[refusal.code].http_status(self.operation), refusal.code, refusal.faults)
        text = refusal_text(refusal.code, self.operation, transaction_uid=transaction_uid)
        return self.warn(response, [text])

    def data_sets(self, found: Sequence[DicomJson], headers: dict[str, str] | None = None) -> Response:
        return Response(orjson.dumps(list(found)), media_type=self.media_type(), headers=headers)

    def media_type(self) -> str:
        """The JSON media type to answer in; 406 if none is acceptable (PS3.18 8.7.5)."""
        ranges = [
            *(MediaType(name.strip().lower()) for name in self.request.query_params.getlist("accept")),
            *parse_accept(",".join(self.request.headers.getlist("accept"))),
        ]
        if not accepts_json(ranges):
            raise _AnsweredError(
                _problem(406, None, (Fault("Accept", f"only {DICOM_JSON} and {JSON} are served"),))
            )
        first = next(one.name for one in ranges if accepts_json([one]))
        return JSON if first == JSON else DICOM_JSON

    async def body(self) -> bytes:
        """The body of DICOM JSON, within limits; empty if there is none."""
        received = bytearray()
        async for chunk in self.request.stream():
            received += chunk
            if len(received) > MAX_BODY_BYTES:
                fault = Fault("", f"takes {MAX_BODY_BYTES} bytes at most")
                raise _AnsweredError(_problem(413, None, (fault,)))
        if received:
            kind = parse_media_type(self.request.headers.get("content-type", ""))
            if kind.name not in (DICOM_JSON, JSON) or kind.parameter("charset").lower() not in _UTF_8:
                fault = Fault("Content-Type", f"needs {DICOM_JSON} or {JSON} in UTF-8")
                raise _AnsweredError(_problem(415, None, (fault,), {"Accept-Post": f"{DICOM_JSON}, {JSON}"}))
        return bytes(received)

    async def serve(self, work: Callable[[bytes], Response]) -> Response:
        """Answer the request with what `work` makes of its body, in a worker thread.

        The edge of this door: everything that can go wrong ends here as an answer, logged once if it is our
        fault.
        """
        try:
            if len(self.query) > MAX_QUERY_CHARACTERS:
                return _problem(414, None, (Fault("", f"takes {MAX_QUERY_CHARACTERS} characters at most"),))
            return await run_in_threadpool(work, await self.body())
        except _AnsweredError as answered:
            return answered.response
        except PayloadError as error:
            return self.refused(Refused(error.code, error.faults))
        except ClientDisconnect:
            return _problem(400, RefusalCode.MALFORMED, (Fault("", "the request broke off"),))
        except StoreError:
            logger.warning("store failed", extra={"action": "ups_rs.store_failed"})
            return self.refused(Refused(RefusalCode.OUT_OF_RESOURCES))
        except Exception:
            logger.exception(
                "request failed", extra={"action": "ups_rs.failed", "operation": self.operation.value}
            )
            return self.refused(Refused(RefusalCode.PROCESSING_FAILURE))


def _problem(
    status: int,
    code: RefusalCode | None,
    faults: Sequence[Fault],
    headers: dict[str, str] | None = None,
) -> Response:
    """An error answer: the code and every fault with its path (PS3.18 8.6.3 leaves the form free)."""
    content = {
        "status": status,
        "code": code.value if code is not None else "",
        "faults": [{"path": fault.path, "message": fault.message} for fault in faults],
    }
    return Response(orjson.dumps(content), status_code=status, media_type=JSON, headers=headers)


def _unknown() -> Refused:
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))


def router(worklist: Worklist, *, prefix: str = "/dicom-web") -> APIRouter:
    """The UPS-RS resources under `prefix`.

    Create answers 201 with Location; Retrieve 200; Search 200, or 204 without match; Update and Change State
    200 without body; Request Cancellation 202. Errors are 400, 404, 405 with Allow, 406, 409, 413, 414 and
    415, with a JSON body that lists every fault.
    """
    routes = APIRouter(prefix=prefix, tags=["UPS-RS"], responses=_DOCUMENTED)

    def door(request: Request, operation: Operation) -> _Door:
        return _Door(request, operation, prefix)

    @routes.post("/workitems", status_code=201, summary="Create a workitem (PS3.18 11.4)")
    async def create_workitem(request: Request) -> Response:
        at = door(request, Operation.CREATE)
        return await at.serve(lambda body: _create(worklist, at, body))

    @routes.get("/workitems", summary="Search workitems (PS3.18 11.9)")
    async def search_workitems(request: Request) -> Response:
        at = door(request, Operation.SEARCH)
        return await at.serve(lambda body: _search(worklist, at))

    @routes.get("/workitems/{uid}", summary="Retrieve a workitem (PS3.18 11.5)")
    async def retrieve_workitem(request: Request, uid: str) -> Response:
        at = door(request, Operation.RETRIEVE)
        return await at.serve(lambda body: _retrieve(worklist, at, uid))

    @routes.put("/workitems/{uid}", summary="Update a workitem, as some clients do")
    @routes.post("/workitems/{uid}", summary="Update a workitem (PS3.18 11.6)")
    async def update_workitem(request: Request, uid: str) -> Response:
        at = door(request, Operation.UPDATE)
        return await at.serve(lambda body: _update(worklist, at, uid, body))

    @routes.put("/workitems/{uid}/state/{requester}", summary="Change the state, naming the requester")
    @routes.put("/workitems/{uid}/state", summary="Change the state of a workitem (PS3.18 11.7)")
    async def change_state(request: Request, uid: str, requester: str = "") -> Response:
        at = door(request, Operation.CHANGE_STATE)
        return await at.serve(lambda body: _change_state(worklist, at, uid, requester, body))

    @routes.post(
        "/workitems/{uid}/cancelrequest/{requester}",
        status_code=202,
        summary="Request cancellation, naming the requester",
    )
    @routes.post(
        "/workitems/{uid}/cancelrequest", status_code=202, summary="Request cancellation (PS3.18 11.8)"
    )
    async def request_cancel(request: Request, uid: str, requester: str = "") -> Response:
        at = door(request, Operation.CANCEL)
        return await at.serve(lambda body: _request_cancel(worklist, at, uid, requester, body))

    for path, allowed in {
        "/workitems": ("GET", "POST"),
        "/workitems/{uid}": ("GET", "POST", "PUT"),
        "/workitems/{uid}/state": ("PUT",),
        "/workitems/{uid}/state/{requester}": ("PUT",),
        "/workitems/{uid}/cancelrequest": ("POST",),
        "/workitems/{uid}/cancelrequest/{requester}": ("POST",),
    }.items():
        routes.add_api_route(
            path,
            _not_allowed(allowed),
            methods=sorted(_METHODS - set(allowed)),
            include_in_schema=False,
        )
    return routes


def _not_allowed(allowed: Sequence[str]) -> Callable[[], Response]:
    """An endpoint that answers 405 and names all that is allowed; the framework would name one method."""

    def answer() -> Response:
        methods = ", ".join(allowed)
        return _problem(405, None, (Fault("", f"only {methods} here"),), {"Allow": methods})

    return answer


def _create(worklist: Worklist, door: _Door, body: bytes) -> Response:
    data_set = parse_data_set(body)
    uid = take_workitem_uid(door.query, data_set) or f"2.25.{uuid.uuid4().int}"
    outcome = worklist.create_workitem(uid, data_set, actor=door.actor())
    if isinstance(outcome, Refused):
        return door.refused(outcome)
    address = door.address(outcome.uid or uid)
    return door.accepted(outcome, 201, {"Location": address, "Content-Location": address})


def _retrieve(worklist: Worklist, door: _Door, uid: str) -> Response:
    door.media_type()
    found = worklist.retrieve_workitem(uid) if is_uid(uid) else _unknown()
    if isinstance(found, Refused):
        return door.refused(found)
    return door.data_sets([found], {"Content-Location": door.address(uid)})


def _search(worklist: Worklist, door: _Door) -> Response:
    door.media_type()
    search = parse_search(door.query)
    if isinstance(search, tuple):
        return door.refused(Refused(RefusalCode.UNSUPPORTED_MATCHING, search))
    query = search.query
    found = worklist.search_workitems(query) if query.limit else ()
    warnings = list(search.warnings)
    if found and len(found) == query.limit:
        remaining = worklist.count_workitems(query.matching) - query.offset - len(found)
        if remaining > 0:
            warnings.append(f"There are {remaining} additional results that can be requested")
    if not found:
        return door.warn(Response(status_code=204), warnings)
    results = found if search.everything else [search_result(one, search.asked) for one in found]
    return door.warn(door.data_sets(results), warnings)


def _update(worklist: Worklist, door: _Door, uid: str, body: bytes) -> Response:
    changes = parse_data_set(body)
    transaction_uid = take_transaction_uid(door.query, changes)
    drop_own_identity(uid, changes)
    outcome: Accepted | Refused = _unknown()
    if is_uid(uid):
        outcome = worklist.update_workitem(uid, changes, transaction_uid=transaction_uid, actor=door.actor())
    if isinstance(outcome, Refused):
        return door.refused(outcome, transaction_uid)
    return door.accepted(outcome, 200)


def _change_state(worklist: Worklist, door: _Door, uid: str, requester: str, body: bytes) -> Response:
    data_set = parse_data_set(body)
    transaction_uid = take_transaction_uid(door.query, data_set)
    state = text_value(data_set, PROCEDURE_STEP_STATE, "ProcedureStepState")
    if not state:
        raise PayloadError(RefusalCode.MISSING_ATTRIBUTE, Fault("ProcedureStepState", "is needed"))
    outcome: Accepted | Refused = _unknown()
    if is_uid(uid):
        actor = door.actor(_requester(requester))
        outcome = worklist.change_state(uid, state, transaction_uid=transaction_uid, actor=actor)
    if isinstance(outcome, Refused):
        return door.refused(outcome, transaction_uid)
    return door.accepted(outcome, 200)


def _request_cancel(worklist: Worklist, door: _Door, uid: str, requester: str, body: bytes) -> Response:
    details = parse_data_set(body, may_be_empty=True)
    outcome: Accepted | Refused = _unknown()
    if is_uid(uid):
        outcome = worklist.request_cancel(uid, details, actor=door.actor(_requester(requester)))
    if isinstance(outcome, Refused):
        return door.refused(outcome)
    return door.accepted(outcome, 202)


def _requester(name: str) -> str:
    """The AE title at the end of a path; empty if there is none."""
    if name and not fits("AE", name):
        raise PayloadError(RefusalCode.INVALID_ATTRIBUTES, Fault("RequestingAE", "needs an AE title"))
    return name.strip()
