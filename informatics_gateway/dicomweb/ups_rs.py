# SPDX-License-Identifier: Apache-2.0
"""The worklist over HTTP: the UPS-RS transactions of PS3.18 chapter 11 and Retrieve Capabilities.

Translates only: what a request means is read by ``ups_payload.py`` and ``ups_query.py``, what happens is
decided behind the ports, and what the answer is called stands in ``statuses.py``. Lenient in what it reads,
strict in what it sends; no request, however hostile, is answered 5xx while the store works.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.routing import Match

from informatics_gateway.dicomweb.ups_exchange import (
    Answer,
    AnsweredError,
    BrokenOffError,
    Exchange,
    problem,
)
from informatics_gateway.dicomweb.ups_handlers import Handlers
from informatics_gateway.dicomweb.ups_openapi import description
from informatics_gateway.dicomweb.ups_payload import PayloadError
from informatics_gateway.dicomweb.ups_resources import CAPABILITIES, TRANSACTIONS
from informatics_gateway.statuses import Operation
from profiles.faults import Fault
from task_manager.doorkeeping import refusal_of
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import RefusalCode, Refused
from task_manager.ports import Subscriptions, Worklist

_LOG = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Handler = Callable[..., Awaitable[Answer]]
Methods = Mapping[str, tuple[Operation, Handler]]


def router(
    worklist: Worklist,
    subscriptions: Subscriptions | None = None,
    *,
    prefix: str = "/dicom-web",
    public_url: str = "",
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
    """
    return UpsRouter(worklist, subscriptions, prefix=prefix, public_url=public_url.rstrip("/"))


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
    ) -> None:
        super().__init__(prefix=prefix, tags=["UPS-RS"])
        self._public_url = public_url
        self._resources = _resources(Handlers(worklist, subscriptions))
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
            answer = exchange.refused(Refused(refusal_of(error)))
            answer.add(b"retry-after", "10")
            return answer
        except Exception:  # noqa: BLE001 - the edge of the door: log once, answer
            _LOG.exception("request failed", extra={"action": "ups_rs.failed", "operation": operation.value})
            return exchange.refused(Refused(RefusalCode.PROCESSING_FAILURE))

    def _segments(self, scope: Any) -> list[str]:
        """The path below the prefix, with or without a slash at the end; every second segment is a value."""
        path: str = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if not path.startswith(self.prefix) or path[len(self.prefix) :][:1] not in ("/", ""):
            return [_ELSEWHERE]
        segments = path[len(self.prefix) + 1 :].split("/", _MOST_SEGMENTS)
        if len(segments) > 1 and not segments[-1]:
            segments.pop()
        return segments

    def _template(self, scope: Any) -> str:
        """The resource a request is for, as a key of the table of resources."""
        segments = self._segments(scope)
        for index in range(1, len(segments), 2):
            if not segments[index]:
                return _ELSEWHERE
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
_ELSEWHERE = "?"


def _key(path: str) -> str:
    return "/".join("*" if part.startswith("{") else part for part in path.lstrip("/").split("/"))


def _resources(handlers: Handlers) -> Mapping[str, Methods]:
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
