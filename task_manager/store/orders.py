# SPDX-License-Identifier: Apache-2.0
"""Statements over orders and the messages they came in. Each takes a connection; none commits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain, count
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, insert, literal_column, not_, or_, select, true, union, update

from profiles.codes import Code
from profiles.order import EarlierExamination, MessageKey, Order, OrderControl, Priority
from profiles.request import REQUEST_ORDER
from task_manager.store import prior_reports
from task_manager.store.patient_tables import OrderChangeRow
from task_manager.store.tables import METADATA

_ORDER = METADATA.tables["imaging_order"]
_MESSAGE = METADATA.tables["message"]
_WORKITEM = METADATA.tables["workitem"]
_CHANGE = OrderChangeRow.metadata.tables["order_change"]
_IS_REQUEST = _ORDER.c.order_key.startswith(REQUEST_ORDER, autoescape=True)
"""Whether it stands for a request of somebody who places no orders."""


class OrderStatus(StrEnum):
    """Whether an order may still cause work: one on hold not before it is released."""

    ACTIVE = "ACTIVE"
    HELD = "HELD"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange:
    """One message about an order: what it asked for, which fields it changed, what that came to."""

    order_key: str
    control: str
    order_status: str
    fields: str
    effect: str
    sender: str
    control_id: str
    changed_at: datetime


def new_order_key(connection: Connection, order: Order) -> str:
    """The key of an order that is not known: its placer number, else filler number, else accession number.

    Where another placer or filler uses the same number, the issuer is added.
    """
    key = order.placer_order_number or order.filler_order_number or order.accession_number
    issuer = order.placer_issuer if order.placer_order_number else order.filler_issuer
    numbered = (f"{key}^{issuer}^{number}" for number in count(2))
    return next(
        one for one in chain((key, f"{key}^{issuer}"), numbered) if order_by_key(connection, one) is None
    )


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

    Where the numbers name two orders, the placer's number decides, then the accession number; the same number
    of another issuer names another order.
    """
    ways = []
    if order.placer_order_number:
        ways.append(_ORDER.c.placer_order_number == order.placer_order_number)
    if order.filler_order_number:
        ways.append(_ORDER.c.filler_order_number == order.filler_order_number)
    if not ways and order.accession_number:
        ways.append(and_(_ORDER.c.accession_number == order.accession_number, not_(_IS_REQUEST)))
    if not ways:
        return None
    placers_first = case((_ORDER.c.placer_order_number == order.placer_order_number, 0), else_=1)
    statement = select(_ORDER.c.order_key, _ORDER.c.content).where(or_(*ways))
    rows = connection.execute(statement.order_by(placers_first, _ORDER.c.changed_at.desc()).limit(20))
    found = [(row.order_key, _order(row.content)) for row in rows]
    fitting = [(key, known) for key, known in found if _same_issuers(known, order)]
    number = order.placer_order_number
    alike = [(key, known) for key, known in fitting if number and known.placer_order_number == number]
    if len(alike) > 1:  # without the issuer or the accession number nobody can tell which of them is meant
        told = order.accession_number
        named = [key for key, known in alike if told and known.accession_number == told]
        return named[0] if len(named) == 1 else None
    return fitting[0][0] if fitting else None


def _same_issuers(known: Order, order: Order) -> bool:
    """Whether equal numbers name the same order; an issuer that is not told is no other one."""
    pairs = (
        (known.placer_order_number, order.placer_order_number, known.placer_issuer, order.placer_issuer),
        (known.filler_order_number, order.filler_order_number, known.filler_issuer, order.filler_issuer),
    )
    return all(
        issuer == other or not issuer or not other
        for number, told, issuer, other in pairs
        if number and number == told
    )


def add_order(connection: Connection, order: Order, key: str, *, status: OrderStatus, now: datetime) -> None:
    """Write a new order; one that another transaction wrote under `key` just now is a conflict."""
    connection.execute(insert(_ORDER).values(_values(order, key, status, now)))


def put_order(connection: Connection, order: Order, key: str, *, status: OrderStatus, now: datetime) -> None:
    """Write the newest content of a known order, whose row the caller has locked."""
    values = _values(order, key, status, now)
    changes = {name: value for name, value in values.items() if name not in ("order_key", "received_at")}
    connection.execute(update(_ORDER).where(_ORDER.c.order_key == key).values(changes))


def _values(order: Order, key: str, status: OrderStatus, now: datetime) -> dict[str, Any]:
    return {
        "order_key": key,
        "placer_order_number": order.placer_order_number,
        "filler_order_number": order.filler_order_number,
        "accession_number": order.accession_number,
        "patient_id": order.patient_id,
        "study_instance_uid": order.study_instance_uid,
        "status": status.value,
        "content": orjson.dumps(asdict(replace(order, earlier=()))).decode(),
        "received_at": now,
        "changed_at": now,
    }


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

    An order of another patient is never joined to a study, whatever its numbers say. An order that was placed
    counts before what somebody asked for who places none; such a request may name no patient. `revoked` takes
    a revoked order where there is no active one. `lock` keeps others from changing or revoking it until the
    transaction ends. Reports of earlier examinations of the patient come with the order.
    """
    by_study = and_(
        _ORDER.c.study_instance_uid == study_instance_uid,
        _ORDER.c.study_instance_uid != "",
        _ORDER.c.patient_id.in_((patient_id, "")) if patient_id else true(),
    )
    by_number = and_(
        _ORDER.c.accession_number == accession_number,
        or_(_ORDER.c.patient_id == patient_id, and_(_ORDER.c.patient_id == "", _IS_REQUEST)),
    )
    by_rank = (_ORDER.c.status, case((_IS_REQUEST, 1), else_=0), _ORDER.c.changed_at.desc())
    found, best = None, ("", False)
    for way in (by_study, by_number) if accession_number and patient_id else (by_study,):
        statement = select(_ORDER.c.order_key, _ORDER.c.content, _ORDER.c.status).where(way)
        if not revoked:
            statement = statement.where(_ORDER.c.status == OrderStatus.ACTIVE.value)
        if lock:
            statement = statement.with_for_update(read=True)
        row = connection.execute(statement.order_by(*by_rank).limit(1)).first()
        rank = (row.status, row.order_key.startswith(REQUEST_ORDER)) if row is not None else best
        if row is not None and (found is None or rank < best):
            found, best = row, rank
        if best == (OrderStatus.ACTIVE.value, False):
            break
    return None if found is None else (found.order_key, _with_earlier(connection, _order(found.content)))


def _with_earlier(connection: Connection, order: Order) -> Order:
    """`order` with what reports of other examinations of its patient tell."""
    found = prior_reports.reports_of_patient(connection, order.patient_id, order.issuer_of_patient_id)
    if not found:
        return order
    earlier = tuple(
        EarlierExamination(
            procedure=one.report.procedure,
            date=f"{one.report.observed_at:%Y%m%d}" if one.report.observed_at else "",
        )
        for one in found
    )
    return replace(order, earlier=earlier)


def order_by_key(connection: Connection, key: str) -> Order | None:
    """The newest content of an order."""
    content = connection.execute(select(_ORDER.c.content).where(_ORDER.c.order_key == key)).scalar()
    return None if content is None else _order(content)


def locked_order(connection: Connection, key: str) -> tuple[Order, OrderStatus] | None:
    """An order and its status, its row locked until the transaction ends; None if unknown."""
    statement = select(_ORDER.c.content, _ORDER.c.status).where(_ORDER.c.order_key == key).with_for_update()
    row = connection.execute(statement).first()
    return None if row is None else (_order(row.content), OrderStatus(row.status))


def orders_of_patient(connection: Connection, patient_id: str) -> list[tuple[str, Order, OrderStatus]]:
    """(key, order, status) of every order of a patient id, their rows locked, in one order by all."""
    statement = (
        select(_ORDER.c.order_key, _ORDER.c.content, _ORDER.c.status)
        .where(_ORDER.c.patient_id == patient_id)
        .order_by(_ORDER.c.order_key)
        .with_for_update()
    )
    rows = connection.execute(statement)
    return [(row.order_key, _order(row.content), OrderStatus(row.status)) for row in rows]


def add_change(connection: Connection, change: OrderChange) -> None:
    """Add to the history of an order."""
    connection.execute(insert(_CHANGE).values(**asdict(change)))


def changes_of(connection: Connection, key: str, *, limit: int = 100) -> list[OrderChange]:
    """The history of an order, the oldest first; of a long one the newest part."""
    names = [field.name for field in fields(OrderChange)]
    statement = select(*(_CHANGE.c[name] for name in names)).where(_CHANGE.c.order_key == key)
    rows = connection.execute(statement.order_by(_CHANGE.c.id.desc()).limit(limit)).all()
    return [OrderChange(**dict(zip(names, row, strict=True))) for row in reversed(rows)]


def order_times(connection: Connection, key: str) -> tuple[datetime, str] | None:
    """(time received, status) of an order."""
    row = connection.execute(
        select(_ORDER.c.received_at, _ORDER.c.status).where(_ORDER.c.order_key == key)
    ).first()
    return None if row is None else (row.received_at, row.status)


def _order(content: str) -> Order:
    """An order as it was kept; one of an earlier release lacks what it did not know."""
    kept = orjson.loads(content)
    for name in ("requested_procedure_code", "protocol_code"):
        kept[name] = Code(**kept[name]) if kept.get(name) else None
    for name in ("scheduled_at", "expected_at"):
        kept[name] = datetime.fromisoformat(kept[name]) if kept.get(name) else None
    return Order(
        **{
            **kept,
            "control": OrderControl(kept["control"]),
            "priority": Priority(kept["priority"]),
            "details": tuple((name, value) for name, value in kept.get("details", ())),
            "extra_segments": tuple(kept.get("extra_segments", ())),
            "cleared": tuple(kept.get("cleared", ())),
            "earlier": (),
        }
    )


_HAS_ORDER = _WORKITEM.c.order_key != literal_column("''")
"""Written out: only then SQLite sees that the index over orders holds all that are wanted."""


def unfinished_work(connection: Connection, key: str, order: Order) -> list[str]:
    """UIDs of the workitems of an order that are not final.

    Its own; and those of its study that were asked for before any order was known.
    """
    of_study = (
        [_WORKITEM.c.study_instance_uid == order.study_instance_uid] if order.study_instance_uid else []
    )
    if order.accession_number and order.patient_id:
        of_study.append(
            and_(
                _WORKITEM.c.accession_number == order.accession_number,
                _WORKITEM.c.patient_id == order.patient_id,
            )
        )
    ways = [and_(_WORKITEM.c.order_key == key, _HAS_ORDER)]
    ways += [and_(way, _WORKITEM.c.order_key == "", _WORKITEM.c.rule != "") for way in of_study]
    unfinished = _WORKITEM.c.state.in_(("SCHEDULED", "IN PROGRESS"))
    found = union(*(select(_WORKITEM.c.uid).where(unfinished, way) for way in ways))  # each by its index
    return sorted(connection.execute(found).scalars())
