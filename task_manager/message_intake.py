# SPDX-License-Identifier: Apache-2.0
"""Messages of other systems: orders, identities, reports. Each is done once, and answered when it is durable.

Implements :class:`task_manager.ports.OrderIntake` and :class:`task_manager.ports.ContextIntake`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from profiles.faults import Fault
from profiles.order import MessageKey, Order
from profiles.patient import IdentityChange, PriorReport
from task_manager.actor import Actor
from task_manager.errors import ConflictError, StoreError
from task_manager.identity_changes import apply_identity
from task_manager.order_changes import apply_order, needs_known_order
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store import identities, orders, prior_reports, requests
from task_manager.store.database import Database
from task_manager.transaction import WorklistTransaction
from task_manager.worklist import StoredWorklist

_LOG = logging.getLogger(__name__)
_TRIES = 5


class MessageIntake:
    """Receives messages into the store.

    Parameters
    ----------
    clock
        Gives aware UTC time.
    wake
        Called after each commit, so that the worker looks for work at once.
    """

    def __init__(
        self,
        database: Database,
        worklist: StoredWorklist,
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._worklist = worklist
        self._clock = clock
        self._wake = wake

    def receive_order(
        self,
        received: Sequence[Order],
        *,
        key: MessageKey,
        raw: bytes,
        actor: Actor,
        accept_unknown: bool = False,
    ) -> Accepted | Refused:
        """Commit all orders of one message, or none; the same message again changes nothing."""

        def act(work: WorklistTransaction) -> Refused | None:
            identities.lock_identities(work.connection, change=False)
            keys = [orders.known_order_key(work.connection, order) for order in received]
            faults = tuple(
                Fault(f"ORC[{index}]-2", "no such order here")
                for index, (order, known) in enumerate(zip(received, keys, strict=True), start=1)
                if known is None and needs_known_order(order) and not accept_unknown
            )
            if faults:
                return Refused(RefusalCode.UNKNOWN_ORDER, faults)
            placed: dict[str, str] = {}
            for order in received:  # a group may be about the order that one before it placed
                known = orders.known_order_key(work.connection, order)
                number = order.accession_number
                if known is not None and number and placed.get(known, number) != number:
                    known = None  # two examinations under one order number: neither takes the other's place
                used = apply_order(work, order, known, message=key, actor=actor)
                if used:
                    requests.note_order(
                        work.connection,
                        key=used,
                        source=key.sending_application or actor.name,
                        requester=order.requesting_physician_name,
                        now=work.now,
                    )
                if used and number:
                    placed[used] = number
            return None

        return self._once(key, raw, act, action="order.received", number=len(received))

    def receive_identities(
        self, changes: Sequence[IdentityChange], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit who patients are from now on, with all that follows for orders, studies and workitems."""

        def act(work: WorklistTransaction) -> Refused | None:
            touched: set[str] = set()
            for index, change in enumerate(changes):
                apply_identity(work, change, message=key, index=index, actor=actor, touched=touched)
            return None

        return self._once(key, raw, act, action="identity.received", number=len(changes))

    def receive_reports(
        self, reports: Sequence[PriorReport], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit reports of other examinations; a newer version takes the place of an older one."""
        del actor

        def act(work: WorklistTransaction) -> Refused | None:
            identities.lock_identities(work.connection, change=False)
            for report in reports:
                current = identities.report_of_current_patient(work.connection, report)
                prior_reports.put_report(work.connection, current, sender=key, now=work.now)
            return None

        return self._once(key, raw, act, action="report.received", number=len(reports))

    def _once(
        self,
        key: MessageKey,
        raw: bytes,
        act: Callable[[WorklistTransaction], Refused | None],
        *,
        action: str,
        number: int,
    ) -> Accepted | Refused:
        for _ in range(_TRIES):
            try:
                outcome = self._try_once(key, raw, act)
            except ConflictError:  # the same message on another connection, or work on the same order
                continue
            if isinstance(outcome, Accepted) and not outcome.warnings:
                self._wake()
                _LOG.info("message committed", extra={"action": action, "number": number})
            return outcome
        raise StoreError("a message could not be recorded: others keep changing the same")

    def _try_once(
        self, key: MessageKey, raw: bytes, act: Callable[[WorklistTransaction], Refused | None]
    ) -> Accepted | Refused:
        now = self._clock()
        with self._database.write() as connection:
            before = orders.known_message(connection, key)
            if before is not None:
                return _repeated(before, raw, key)
            with self._worklist.within(connection, now) as work:
                refused = act(work)
                if refused is not None:
                    return refused
            orders.add_message(connection, key, raw, now)
        return Accepted(uid=key.control_id)


def _repeated(before: bytes, raw: bytes, key: MessageKey) -> Accepted | Refused:
    """Accept the same message again; refuse another one under a used control id, for it would be lost."""
    if _without_time(before) == _without_time(raw):
        return Accepted(uid=key.control_id, warnings=(WarningCode.DUPLICATE,))
    fault = Fault("MSH-10", "this control id was used for another message; send it under a new one")
    return Refused(RefusalCode.DUPLICATE_INSTANCE, (fault,))


def _without_time(raw: bytes) -> bytes:
    """The message without MSH-7: a sender may write the time anew when it repeats one."""
    header, separator, rest = raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r").partition(b"\r")
    fields = header.split(header[3:4]) if len(header) > 3 else [header]
    return b"|".join(fields[:6] + fields[7:]) + separator + rest.rstrip(b"\r")
