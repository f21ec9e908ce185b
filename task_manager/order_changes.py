# SPDX-License-Identifier: Apache-2.0
"""What a message about an order does to the order, to studies that wait and to work that was asked for.

Everything is written in the transaction of the message, with a line of the order's history that says what it
came to: what reaches work that has begun, and what does not, is told and never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiles import dicom_json
from profiles.order import (
    GOING_STATUSES,
    MessageKey,
    Order,
    OrderAction,
    changed_fields,
    updated_order,
)
from profiles.sole.events import EventType, OperationalEvent
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.store import evidence, identities, orders, studies
from task_manager.store.orders import OrderChange, OrderStatus
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.aiw_i import corrected_requests
from task_manager.workitem.commands import Reidentify, RequestCancel

_LOG = logging.getLogger(__name__)
_STATUS = {
    OrderAction.PLACE: OrderStatus.ACTIVE,
    OrderAction.CANCEL: OrderStatus.REVOKED,
    OrderAction.HOLD: OrderStatus.HELD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One order of a message: what is known of it and who told what."""

    order: Order
    key: str
    known: Order | None
    status: OrderStatus | None
    message: MessageKey
    actor: Actor


def needs_known_order(order: Order) -> bool:
    """Whether a message about an order nobody has heard of cannot be taken by its letter."""
    return order.action not in (OrderAction.PLACE, OrderAction.NOTHING)


def apply_order(
    work: WorklistTransaction, order: Order, known_key: str | None, *, message: MessageKey, actor: Actor
) -> str:
    """Do what one order of a message asks for; the key of the order.

    Nothing is done about an order that is neither known nor placed, and its key is empty.
    """
    connection = work.connection
    order = identities.with_current_patient(connection, order)
    found = orders.locked_order(connection, known_key) if known_key else None
    if found is None and order.action not in (OrderAction.PLACE, OrderAction.CHANGE):
        _LOG.warning(
            "message about an unknown order", extra={"action": "order.unknown", "asked": order.action.value}
        )
        return ""
    told = _Told(
        order=order,
        key=known_key or orders.new_order_key(connection, order),
        known=found[0] if found else None,
        status=found[1] if found else None,
        message=message,
        actor=actor,
    )
    if order.action is OrderAction.NOTHING:
        _remember(work, told, (), "nothing to do")
        return told.key
    after = updated_order(told.known, order) if told.known else replace(order, cleared=())
    status = _status_after(told)
    write = orders.add_order if found is None else orders.put_order
    write(connection, after, told.key, status=status, now=work.now)
    changed = changed_fields(told.known, after) if told.known else ()
    _remember(work, told, changed, "; ".join(_consequences(work, told, after, status, changed)))
    work.record(_event(work, told, after))
    return told.key


def _status_after(told: _Told) -> OrderStatus:
    if told.order.action in _STATUS:
        return _STATUS[told.order.action]
    held = told.status is OrderStatus.HELD
    goes_on = told.order.action is OrderAction.RELEASE or (
        told.order.action is OrderAction.STATUS and told.order.order_status in GOING_STATUSES
    )
    if told.status is None or (held and goes_on):
        return OrderStatus.ACTIVE
    return told.status


def _consequences(
    work: WorklistTransaction, told: _Told, after: Order, status: OrderStatus, changed: Sequence[str]
) -> list[str]:
    uids = orders.unfinished_work(work.connection, told.key, after)
    work.hold(uids)
    if status is OrderStatus.REVOKED:
        return _stopped(work, uids, told.actor, "order canceled", waiting_only=False)
    if status is OrderStatus.HELD:
        return _stopped(work, uids, told.actor, "order on hold", waiting_only=True)
    evidence.hasten_studies_of(work.connection, after, work.now)
    if told.known is not None and told.status is status and not changed:
        return ["nothing changed"]
    said = _corrected(work, uids, told.known, after, changed)
    reopened = studies.look_again(work.connection, after, work.now)
    if reopened:
        said.append(f"rules are tried again on {_number(reopened, 'complete study', 'complete studies')}")
    return said or ["kept for images to come"]


def _stopped(
    work: WorklistTransaction, uids: Sequence[str], actor: Actor, why: str, *, waiting_only: bool
) -> list[str]:
    """Cancel what waits and ask the performer of what runs to stop; what was done to how much."""
    waiting = running = 0
    for uid in uids:
        workitem = work.get(uid)
        if workitem is None or workitem.is_final:
            continue
        begun = workitem.state is not ProcedureStepState.SCHEDULED
        if begun and waiting_only:
            running += 1
            continue
        details = dicom_json.element("ReasonForCancellation", why)
        work.apply(uid, RequestCancel(details=details, requesting_ae=actor.name), actor=actor)
        waiting += not begun
        running += begun
    said = []
    if waiting:
        said.append(f"{_number(waiting, 'waiting workitem', 'waiting workitems')} canceled")
    if running:
        what = "goes on" if waiting_only else "asked to stop"
        said.append(f"{_number(running, 'workitem', 'workitems')} in progress {what}")
    return said or ["no work was waiting or in progress"]


def _corrected(
    work: WorklistTransaction,
    uids: Sequence[str],
    before: Order | None,
    after: Order,
    changed: Sequence[str],
) -> list[str]:
    """Tell work that has begun of a new accession number; all else of it stays as it began."""
    begun = 0
    for uid in uids:
        workitem = work.get(uid)
        if workitem is None or workitem.state is not ProcedureStepState.IN_PROGRESS:
            continue
        begun += 1
        if before is not None and before.accession_number and "accession_number" in changed:
            changes = corrected_requests(workitem.attributes, before.accession_number, after)
            if changes:
                work.apply(uid, Reidentify(changes=changes), actor=WORKER)
    if not begun:
        return []
    return [f"{_number(begun, 'workitem', 'workitems')} in progress began before this and keeps what it has"]


def _remember(work: WorklistTransaction, told: _Told, changed: Sequence[str], effect: str) -> None:
    orders.add_change(
        work.connection,
        OrderChange(
            order_key=told.key,
            control=told.order.control.value,
            order_status=told.order.order_status,
            fields=",".join(changed),
            effect=effect,
            sender=told.message.sending_application,
            control_id=told.message.control_id,
            changed_at=work.now,
        ),
    )


def _event(work: WorklistTransaction, told: _Told, after: Order) -> OperationalEvent:
    message, actor = told.message, told.actor
    canceled = told.order.action is OrderAction.CANCEL
    name = f"{message.sending_application}:{message.sending_facility}:{message.control_id}"
    return OperationalEvent(
        key=f"order:{name}:{told.key}",
        type=EventType.EXAM_CANCELLED if canceled else EventType.ORDER_RECEIVED,
        occurred_at=work.now,
        machine=actor.called or "AIRWAY",
        function=f"from {actor.name}" if actor.name else "",
        patient_id=after.patient_id,
        issuer_of_patient_id=after.issuer_of_patient_id,
        study_instance_uid=after.study_instance_uid,
        accession_number=after.accession_number,
        order_number=after.placer_order_number or after.filler_order_number,
    )


def _number(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
