# SPDX-License-Identifier: Apache-2.0
"""The worklist over HTTP: the UPS-RS transactions of PS3.18 chapter 11 and Retrieve Capabilities.

Translates only: what a request means is read by ``ups_payload.py`` and ``ups_query.py``, what happens is
decided behind the ports, and what the answer is called stands in ``statuses.py``. Lenient in what it reads,
strict in what it sends; no request, however hostile, is answered 5xx while the store works.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.routing import Match

from informatics_gateway.dicomweb.capabilities import capabilities
from informatics_gateway.dicomweb.media import JSON, WADL, parse_accept
from informatics_gateway.dicomweb.ups_exchange import (
    MAX_BODY_BYTES,
    MAX_QUERY_CHARACTERS,
    Answer,
    AnsweredError,
    BrokenOffError,
    Exchange,
    beside,
    problem,
)
from informatics_gateway.dicomweb.ups_openapi import description
from informatics_gateway.dicomweb.ups_payload import (
    PROCEDURE_STEP_STATE,
    PayloadError,
    drop_own_identity,
    take_transaction_uid,
    take_workitem_uid,
    text_value,
)
from informatics_gateway.dicomweb.ups_query import parse_search, parse_subscription
from informatics_gateway.dicomweb.ups_resources import CAPABILITIES, TRANSACTIONS
from informatics_gateway.statuses import Operation
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID
from profiles.ups.values import fits
from task_manager.actor import Actor
from task_manager.errors import StoreError, facts_of
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import Subscriptions, Worklist
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update

__all__ = ["MAX_BODY_BYTES", "MAX_QUERY_CHARACTERS", "UpsRouter", "router"]

_LOG = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_T = TypeVar("_T")

Handler = Callable[..., Awaitable[Answer]]
Methods = Mapping[str, tuple[Operation, Handler]]


def router(
    worklist: Worklist,
    subscriptions: Subscriptions | None = None,
    *,
    prefix: str = "/dicom-web",
    public_url: str = "",
    channel_url: Callable[[str, str], str] | None = None,
) -> UpsRouter:
    """The UPS-RS resources under `prefix`.

    Create answers 201 with Location; Retrieve 200; Search 200, or 204 without match; Update and Change State
    200 without body; Request Cancellation 202; Subscribe 201 with the WebSocket address in Content-Location;
    Unsubscribe and Suspend 200; OPTIONS 200 or 304. Errors are 400, 403, 404, 405 with Allow, 406, 409, 410,
    413, 414 and 415, with a JSON body that lists every fault.

    Parameters
    ----------
    subscriptions
        None for a service without events: Subscribe is then answered 403 (C315).
    public_url
        Base URL of the service where it is not the one that clients write, such as behind a proxy.
    channel_url
        From base URL and AE title to the address of the event channel.
    """
    return UpsRouter(
        worklist,
        subscriptions,
        prefix=prefix,
        public_url=public_url.rstrip("/"),
        channel_url=channel_url or _channel_url,
    )


def _channel_url(base_url: str, receiving_ae: str) -> str:
    scheme, _, rest = base_url.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/subscribers/{quote(receiving_ae, safe='')}"


class UpsRouter(APIRouter):
    """Routes that are described like any other and found by two look-ups.

    The framework's way to a route tries every pattern of every door and builds a request on the way, which
    takes longer than the answer; a path under ``/workitems`` needs neither. The routes that are registered
    here are for OpenAPI, and for frameworks that ask each route themselves: they end in the same place.
    """

    def __init__(
        self,
        worklist: Worklist,
        subscriptions: Subscriptions | None,
        *,
        prefix: str,
        public_url: str,
        channel_url: Callable[[str, str], str],
    ) -> None:
        super().__init__(prefix=prefix, tags=["UPS-RS"])
        self._public_url = public_url
        self._resources = _resources(_Handlers(worklist, subscriptions, channel_url))
        self._describe()

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Whether a request is for a resource of this door."""
        if scope["type"] != "http" or self._template(scope) not in self._resources:
            return Match.NONE, {}
        return Match.FULL, {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request for a resource of this door."""
        answer = await self.respond(scope, receive)
        await answer(scope, receive, send)

    async def respond(self, scope: Any, receive: Any) -> Answer:
        """The answer to a request for a resource of this door.

        The edge: everything that can go wrong ends here as an answer, logged once if it is our fault.
        """
        methods = self._resources[self._template(scope)]
        found = methods.get(scope["method"])
        if found is None:
            allowed = ", ".join(methods)
            return problem(405, None, (Fault("", f"only {allowed} here"),), [("Allow", allowed)])
        operation, handler = found
        exchange = Exchange(scope, receive, operation, self.prefix, self._public_url)
        try:
            return await handler(exchange, *self._segments(scope)[1::2])
        except AnsweredError as answered:
            return answered.answer
        except PayloadError as error:
            return exchange.refused(Refused(error.code, error.faults))
        except BrokenOffError:
            return problem(400, RefusalCode.MALFORMED, (Fault("", "the request broke off"),))
        except StoreError as error:
            _LOG.warning("store failed", extra={"action": "ups_rs.store_failed", **facts_of(error)})
            answer = exchange.refused(Refused(RefusalCode.OUT_OF_RESOURCES))
            answer.add(b"retry-after", "10")
            return answer
        except Exception:  # noqa: BLE001 - the edge of the door: log once, answer
            _LOG.exception("request failed", extra={"action": "ups_rs.failed", "operation": operation.value})
            return exchange.refused(Refused(RefusalCode.PROCESSING_FAILURE))

    def _segments(self, scope: Any) -> list[str]:
        """The path below the prefix; every second segment is a value."""
        path: str = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if not path.startswith(self.prefix) or path[len(self.prefix) :][:1] not in ("/", ""):
            return ["?"]
        return path[len(self.prefix) + 1 :].split("/", _MOST_SEGMENTS)

    def _template(self, scope: Any) -> str:
        """The resource a request is for, as a key of the table of resources."""
        segments = self._segments(scope)
        for index in range(1, len(segments), 2):
            if not segments[index]:
                return ""
            segments[index] = "*"
        return "/".join(segments)

    def _describe(self) -> None:
        async def respond(request: Request) -> Response:
            return await self.respond(request.scope, request.receive)

        described: dict[str, set[str]] = {"": set(), "/": {CAPABILITIES.method}}
        for transaction in (CAPABILITIES, *TRANSACTIONS):
            self.add_api_route(
                transaction.path, respond, methods=[transaction.method], **description(transaction)
            )
            described.setdefault(transaction.path, set()).add(transaction.method)
        for path, methods in described.items():
            self.add_api_route(path, respond, methods=sorted(_METHODS - methods), include_in_schema=False)


_MOST_SEGMENTS = 6


def _key(path: str) -> str:
    return "/".join("*" if part.startswith("{") else part for part in path.lstrip("/").split("/"))


def _resources(handlers: _Handlers) -> Mapping[str, Methods]:
    """Resource key to its methods, in the order that Allow names them."""
    by_operation: Mapping[Operation, Handler] = {
        Operation.CREATE: handlers.create,
        Operation.RETRIEVE: handlers.retrieve,
        Operation.SEARCH: handlers.search,
        Operation.UPDATE: handlers.update,
        Operation.CHANGE_STATE: handlers.change_state,
        Operation.CANCEL: handlers.request_cancel,
        Operation.SUBSCRIBE: handlers.subscribe,
        Operation.UNSUBSCRIBE: handlers.unsubscribe,
        Operation.SUSPEND: handlers.suspend,
    }
    found: dict[str, dict[str, tuple[Operation, Handler]]] = {"": {}}
    for one in TRANSACTIONS:
        found.setdefault(_key(one.path), {})[one.method] = (one.operation, by_operation[one.operation])
    for path in ("/", *(one.path for one in TRANSACTIONS)):
        handler = partial(handlers.capabilities, path)
        found[_key(path)].setdefault(CAPABILITIES.method, (CAPABILITIES.operation, handler))
    return found


class _Handlers:
    """What each transaction does with a request."""

    def __init__(
        self,
        worklist: Worklist,
        subscriptions: Subscriptions | None,
        channel_url: Callable[[str, str], str],
    ) -> None:
        self._worklist = worklist
        self._subscriptions = subscriptions
        self._channel_url = channel_url

    async def create(self, exchange: Exchange) -> Answer:
        query = exchange.query
        data_set = await exchange.data_set()
        uid = take_workitem_uid(query, data_set) or f"2.25.{uuid.uuid4().int}"
        outcome = await self._submit(uid, Create(uid=uid, attributes=data_set), exchange)
        if isinstance(outcome, Refused):
            return exchange.refused(outcome)
        address = exchange.address(outcome.uid or uid)
        return exchange.accepted(outcome, 201, [("Location", address), ("Content-Location", address)])

    async def retrieve(self, exchange: Exchange, uid: str) -> Answer:
        media_type = exchange.metadata_type()
        found = await _settled(self._worklist.fetch(uid)) if is_uid(uid) else _unknown()
        if isinstance(found, Refused):
            return exchange.refused(found)
        return await exchange.data_sets((found,), media_type, [("Content-Location", exchange.address(uid))])

    async def search(self, exchange: Exchange) -> Answer:
        media_type = exchange.metadata_type()
        search = parse_search(exchange.query)
        if isinstance(search, tuple):
            return exchange.refused(Refused(RefusalCode.UNSUPPORTED_MATCHING, search))
        if not search.query.limit:
            return exchange.warn(Answer(204), search.warnings)
        page = await beside(self._worklist.search, search.query)
        if not page.results:
            return exchange.warn(Answer(204), search.warnings)
        answer = await exchange.data_sets(page.results, media_type)
        if page.remaining:
            remaining = f"There are {page.remaining} additional results that can be requested"
            exchange.warn(answer, [*search.warnings, remaining])
        else:
            exchange.warn(answer, search.warnings)
        return answer

    async def update(self, exchange: Exchange, uid: str) -> Answer:
        query = exchange.query
        changes = await exchange.data_set()
        transaction_uid = take_transaction_uid(query, changes)
        drop_own_identity(uid, changes)
        command = Update(changes=changes, transaction_uid=transaction_uid)
        outcome = await self._submit(uid, command, exchange)
        if isinstance(outcome, Refused):
            return exchange.refused(outcome, transaction_uid)
        return exchange.accepted(outcome, 200)

    async def change_state(self, exchange: Exchange, uid: str, requester: str = "") -> Answer:
        query = exchange.query
        data_set = await exchange.data_set()
        transaction_uid = take_transaction_uid(query, data_set)
        state = text_value(data_set, PROCEDURE_STEP_STATE, "ProcedureStepState")
        if not state:
            raise PayloadError(RefusalCode.MISSING_ATTRIBUTE, Fault("ProcedureStepState", "is needed"))
        command = ChangeState(state=state, transaction_uid=transaction_uid)
        outcome = await self._submit(uid, command, exchange, _ae_title(requester, "RequestingAE"))
        if isinstance(outcome, Refused):
            return exchange.refused(outcome, transaction_uid)
        return exchange.accepted(outcome, 200)

    async def request_cancel(self, exchange: Exchange, uid: str, requester: str = "") -> Answer:
        _ = exchange.query  # which may be too long
        details = await exchange.data_set(may_be_empty=True)
        name = _ae_title(requester, "RequestingAE")
        command = RequestCancel(details=details, requesting_ae=exchange.actor(name).name)
        outcome = await self._submit(uid, command, exchange, name)
        if isinstance(outcome, Refused):
            return exchange.refused(outcome)
        return exchange.accepted(outcome, 202)

    async def subscribe(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        wish = parse_subscription(exchange.query)
        if isinstance(wish, tuple):
            return exchange.refused(Refused(RefusalCode.INVALID_ATTRIBUTES, wish))
        filtered = target == FILTERED_GLOBAL_SUBSCRIPTION_UID
        if filtered and not wish.matching:
            fault = Fault("filter", "is needed to subscribe to a filtered worklist")
            return exchange.refused(Refused(RefusalCode.MISSING_ATTRIBUTE, (fault,)))
        receiving_ae = _ae_title(aetitle, "ReceivingAE")
        outcome = await self._on_subscription(
            target,
            lambda subscriptions: subscriptions.subscribe(
                target,
                receiving_ae,
                deletion_lock=wish.deletion_lock,
                matching=wish.matching if filtered else {},
                channel=Channel.WEBSOCKET,
                actor=exchange.actor(receiving_ae),
            ),
        )
        if isinstance(outcome, Refused):
            return exchange.refused(outcome)
        channel = self._channel_url(exchange.service, receiving_ae)
        return exchange.accepted(outcome, 201, [("Content-Location", channel)])

    async def unsubscribe(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        receiving_ae, actor = _receiver(exchange, aetitle)
        outcome = await self._on_subscription(
            target, lambda subscriptions: subscriptions.unsubscribe(target, receiving_ae, actor=actor)
        )
        return exchange.refused(outcome) if isinstance(outcome, Refused) else exchange.accepted(outcome, 200)

    async def suspend(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        receiving_ae, actor = _receiver(exchange, aetitle)
        outcome = await self._on_subscription(
            target, lambda subscriptions: subscriptions.suspend(target, receiving_ae, actor=actor)
        )
        return exchange.refused(outcome) if isinstance(outcome, Refused) else exchange.accepted(outcome, 200)

    async def capabilities(self, resource: str, exchange: Exchange, *values: str) -> Answer:
        del values
        _ = exchange.query
        media_type = _capabilities_type(exchange.header(b"accept"))
        if not media_type:
            fault = Fault("Accept", f"only {WADL} and {JSON} are served")
            return problem(406, None, (fault,))
        found = capabilities(exchange.service, resource, media_type)
        headers = [("ETag", found.etag), ("Vary", "Accept")]
        if any(
            tag.strip() in (found.etag, f"W/{found.etag}", "*")
            for tag in exchange.header(b"if-none-match").split(",")
        ):
            return Answer(304, headers=headers)
        return Answer(200, found.content, media_type, headers)

    async def _submit(
        self, uid: str, command: Create | Command, exchange: Exchange, name: str = ""
    ) -> Accepted | Refused:
        if not isinstance(command, Create) and not is_uid(uid):
            return _unknown()
        return await _settled(self._worklist.submit(uid, command, actor=exchange.actor(name)))

    async def _on_subscription(
        self, target: str, work: Callable[[Subscriptions], Accepted | Refused]
    ) -> Accepted | Refused:
        if self._subscriptions is None:
            fault = Fault("", "this service reports no events")
            return Refused(RefusalCode.EVENTS_NOT_SUPPORTED, (fault,))
        if not is_uid(target):
            return _unknown()
        outcome: Accepted | Refused = await beside(work, self._subscriptions)
        return outcome


async def _settled(future: Future[_T]) -> _T:
    """The result of a future of another thread; a request that is given up never cancels it."""
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def settle(done: Future[_T]) -> None:
            del done
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        future.add_done_callback(settle)
        await waiter
    return future.result()


def _unknown() -> Refused:
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))


def _ae_title(name: str, path: str) -> str:
    """The AE title in a path; empty if there is none."""
    if name and not fits("AE", name):
        raise PayloadError(RefusalCode.INVALID_ATTRIBUTES, Fault(path, "needs an AE title"))
    return name.strip()


def _receiver(exchange: Exchange, aetitle: str) -> tuple[str, Actor]:
    _ = exchange.query
    receiving_ae = _ae_title(aetitle, "ReceivingAE")
    return receiving_ae, exchange.actor(receiving_ae)


def _capabilities_type(accept: str) -> str:
    """WADL unless JSON is asked for first; empty if neither is acceptable."""
    for kind in parse_accept(accept):
        if kind.name == JSON:
            return JSON
        if kind.name in (WADL, "application/*", "*/*"):
            return WADL
    return ""
