# SPDX-License-Identifier: Apache-2.0
"""What each UPS-RS transaction does with its request: read it, ask a port, and write the answer.

No request is held by a thread while its change becomes durable; what computes or waits for the database runs
beside the event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from informatics_gateway.dicomweb.capabilities import capabilities
from informatics_gateway.dicomweb.event_channel import channel_url
from informatics_gateway.dicomweb.media import JSON, WADL, parse_accept
from informatics_gateway.dicomweb.ups_exchange import Answer, Exchange, beside, problem
from informatics_gateway.dicomweb.ups_payload import (
    PROCEDURE_STEP_STATE,
    PayloadError,
    drop_own_identity,
    take_transaction_uid,
    take_workitem_uid,
    text_value,
)
from informatics_gateway.dicomweb.ups_query import parse_search, parse_subscription
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID
from profiles.ups.values import is_ae_title
from task_manager.actor import Actor
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import Subscriptions, Worklist
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update

_T = TypeVar("_T")


class Handlers:
    """One method for each transaction; values of the path follow the exchange.

    Raises what :mod:`ups_exchange` and :mod:`ups_payload` raise: the router answers.
    """

    def __init__(self, worklist: Worklist, subscriptions: Subscriptions | None) -> None:
        self._worklist = worklist
        self._subscriptions = subscriptions

    async def create(self, exchange: Exchange) -> Answer:
        """Create Workitem (11.4)."""
        query = exchange.query
        data_set = await exchange.data_set()
        uid = take_workitem_uid(query, data_set) or f"2.25.{uuid.uuid4().int}"
        outcome = await self._submit(uid, Create(uid=uid, attributes=data_set), exchange)
        if isinstance(outcome, Refused):
            return exchange.refused(outcome)
        address = exchange.address(outcome.uid or uid)
        return exchange.accepted(outcome, 201, [("Location", address), ("Content-Location", address)])

    async def retrieve(self, exchange: Exchange, uid: str) -> Answer:
        """Retrieve Workitem (11.5)."""
        media_type = exchange.metadata_type()
        found = await _settled(self._worklist.fetch(uid)) if is_uid(uid) else _unknown()
        if isinstance(found, Refused):
            return exchange.refused(found)
        return await exchange.data_sets((found,), media_type, [("Content-Location", exchange.address(uid))])

    async def search(self, exchange: Exchange) -> Answer:
        """Search (11.9)."""
        media_type = exchange.metadata_type()
        search = parse_search(exchange.query)
        if isinstance(search, tuple):
            return exchange.refused(Refused(RefusalCode.UNSUPPORTED_MATCHING, search))
        if not search.query.limit:
            return exchange.warn(Answer(204), search.warnings)
        page = await _settled(self._worklist.search(search.query))
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
        """Update Workitem (11.6)."""
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
        """Change Workitem State (11.7)."""
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
        """Request Cancellation (11.8)."""
        _ = exchange.query  # which may be too long
        details = await exchange.data_set(may_be_empty=True)
        name = _ae_title(requester, "RequestingAE")
        command = RequestCancel(details=details, requesting_ae=exchange.actor(name).name)
        outcome = await self._submit(uid, command, exchange, name)
        if isinstance(outcome, Refused):
            return exchange.refused(outcome)
        return exchange.accepted(outcome, 202)

    async def subscribe(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        """Subscribe (11.10)."""
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
        channel = channel_url(exchange.service, receiving_ae)
        return exchange.accepted(outcome, 201, [("Content-Location", channel)])

    async def unsubscribe(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        """Unsubscribe (11.11)."""
        receiving_ae, actor = _receiver(exchange, aetitle)
        outcome = await self._on_subscription(
            target, lambda subscriptions: subscriptions.unsubscribe(target, receiving_ae, actor=actor)
        )
        return exchange.refused(outcome) if isinstance(outcome, Refused) else exchange.accepted(outcome, 200)

    async def suspend(self, exchange: Exchange, target: str, aetitle: str) -> Answer:
        """Suspend Global Subscription (11.12)."""
        receiving_ae, actor = _receiver(exchange, aetitle)
        outcome = await self._on_subscription(
            target, lambda subscriptions: subscriptions.suspend(target, receiving_ae, actor=actor)
        )
        return exchange.refused(outcome) if isinstance(outcome, Refused) else exchange.accepted(outcome, 200)

    async def capabilities(self, resource: str, exchange: Exchange, *values: str) -> Answer:
        """Retrieve Capabilities (8.9) of a resource, given by its template."""
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
    if name and not is_ae_title(name):
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
