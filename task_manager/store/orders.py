# SPDX-License-Identifier: Apache-2.0
"""Statements over orders and the messages they came in. Each takes a connection; none commits."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, insert, or_, select, true, update

from profiles.codes import Code
from profiles.order import MessageKey, Order, OrderControl, Priority
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_ORDER = METADATA.tables["imaging_order"]
_MESSAGE = METADATA.tables["message"]


class OrderStatus(StrEnum):
    """Whether an order may still cause work."""

    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"


def order_key(order: Order) -> str:
    """Identity of an order: its placer number, else filler number, else accession number."""
    return order.placer_order_number or order.filler_order_number or order.accession_number


def known_message(connection: Connection, key: MessageKey) -> bytes | None:
    """The bytes of the message that was committed with this key; None if none was."""
    statement = select(_MESSAGE.c.raw).where(
        _MESSAGE.c.sending_application == key.sending_application,
        _MESSAGE.c.sending_facility == key.sending_facility,
        _MESSAGE.c.control_id == key.control_id,
    )
    found = connection.execute(statement).scalar()
    return None if found is None else bytes(found)


def add_message(connection: Connection, key: MessageKey, raw: bytes, now: datetime) -> None:
    """Keep the bytes of a message under its key."""
    connection.execute(insert(_MESSAGE).values(**asdict(key), raw=raw, received_at=now))


def known_order_key(connection: Connection, order: Order) -> str | None:
    """The key of the stored order that `order` talks about, by placer, filler or accession number.

    Where the numbers name two orders, the placer's number decides.
    """
    ways = []
    if order.placer_order_number:
        ways.append(_ORDER.c.placer_order_number == order.placer_order_number)
    if order.filler_order_number:
        ways.append(_ORDER.c.filler_order_number == order.filler_order_number)
    if not ways and order.accession_number:
        ways.append(_ORDER.c.accession_number == order.accession_number)
    if not ways:
        return None
    placers_first = case((_ORDER.c.placer_order_number == order.placer_order_number, 0), else_=1)
    statement = select(_ORDER.c.order_key).where(or_(*ways))
    return connection.execute(statement.order_by(placers_first, _ORDER.c.changed_at.desc())).scalar()


def put_order(connection: Connection, order: Order, key: str, *, status: OrderStatus, now: datetime) -> None:
    """Write an order under `key`: new, or the newest content of a known one."""
    values: dict[str, Any] = {
        "order_key": key,
        "placer_order_number": order.placer_order_number,
        "filler_order_number": order.filler_order_number,
        "accession_number": order.accession_number,
        "patient_id": order.patient_id,
        "study_instance_uid": order.study_instance_uid,
        "status": status.value,
        "content": orjson.dumps(asdict(order)).decode(),
        "received_at": now,
        "changed_at": now,
    }
    changes = {name: value for name, value in values.items() if name not in ("order_key", "received_at")}
    statement = upsert(connection, _ORDER).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["order_key"], set_=changes))


def revoke_order(connection: Connection, key: str, now: datetime) -> None:
    """Mark an order revoked; it causes no further work."""
    connection.execute(
        update(_ORDER)
        .where(_ORDER.c.order_key == key)
        .values(status=OrderStatus.REVOKED.value, changed_at=now)
    )


def order_of_study(
    connection: Connection,
    *,
    study_instance_uid: str,
    accession_number: str,
    patient_id: str,
    revoked: bool = False,
    lock: bool = False,
) -> tuple[str, Order] | None:
    """The active order of a study: by Study Instance UID, else by accession number and patient; with its key.

    An order of another patient is never joined to a study, whatever its numbers say. `revoked` takes a
    revoked order where there is no active one. `lock` keeps others from changing or revoking it until the
    transaction ends.
    """
    by_study = and_(
        _ORDER.c.study_instance_uid == study_instance_uid,
        _ORDER.c.study_instance_uid != "",
        _ORDER.c.patient_id.in_((patient_id, "")) if patient_id else true(),
    )
    by_number = and_(_ORDER.c.accession_number == accession_number, _ORDER.c.patient_id == patient_id)
    for way in (by_study, by_number) if accession_number and patient_id else (by_study,):
        statement = select(_ORDER.c.order_key, _ORDER.c.content).where(way)
        if not revoked:
            statement = statement.where(_ORDER.c.status == OrderStatus.ACTIVE.value)
        if lock:
            statement = statement.with_for_update(read=True)
        statement = statement.order_by(_ORDER.c.status, _ORDER.c.changed_at.desc())
        found = connection.execute(statement.limit(1)).first()
        if found is not None:
            return found.order_key, _order(found.content)
    return None


def order_by_key(connection: Connection, key: str) -> Order | None:
    """The newest content of an order."""
    content = connection.execute(select(_ORDER.c.content).where(_ORDER.c.order_key == key)).scalar()
    return None if content is None else _order(content)


def order_times(connection: Connection, key: str) -> tuple[datetime, str] | None:
    """(time received, status) of an order."""
    row = connection.execute(
        select(_ORDER.c.received_at, _ORDER.c.status).where(_ORDER.c.order_key == key)
    ).first()
    return None if row is None else (row.received_at, row.status)


def _order(content: str) -> Order:
    fields = orjson.loads(content)
    code = fields.pop("requested_procedure_code")
    scheduled = fields.pop("scheduled_at")
    return Order(
        **{
            **fields,
            "control": OrderControl(fields["control"]),
            "priority": Priority(fields["priority"]),
            "requested_procedure_code": Code(**code) if code else None,
            "scheduled_at": datetime.fromisoformat(scheduled) if scheduled else None,
        }
    )
