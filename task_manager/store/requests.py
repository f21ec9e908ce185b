# SPDX-License-Identifier: Apache-2.0
"""Statements over requests: who asked for the analysis of what. Each takes a connection; none commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal, or_, select, union_all
from sqlalchemy import update as change

from profiles.order import Priority
from profiles.request import REQUEST_ORDER, Request, RequestKind, Trigger
from task_manager.store.orders import OrderStatus
from task_manager.store.request_tables import RequestRow, RequestTokenRow
from task_manager.store.rowwise import upserting
from task_manager.store.tables import METADATA

_REQUEST = RequestRow.metadata.tables["request"]
_TOKEN = RequestTokenRow.metadata.tables["request_token"]
_ORDER = METADATA.tables["imaging_order"]
_STUDY = METADATA.tables["study"]
_WORKITEM = METADATA.tables["workitem"]
_MOST_READ = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request as it is kept.

    Attributes
    ----------
    order_key
        The order that stands for it; empty where it says nothing that an order says.
    study_instance_uid
        The study it names, where it has no order.
    digest
        See :attr:`profiles.request.Request.digest`.
    version
        1, and one more with each change.
    status
        That of its order: ACTIVE, HELD or REVOKED; ACTIVE without one.
    """

    request_key: str
    kind: RequestKind
    source: str
    requester: str
    app: str
    priority: Priority | None
    order_key: str
    study_instance_uid: str
    digest: str
    version: int
    document: str
    received_at: datetime
    changed_at: datetime
    status: OrderStatus = OrderStatus.ACTIVE

    @property
    def trigger(self) -> Trigger:
        """What rules see of it."""
        return Trigger(
            kind=self.kind,
            source=self.source,
            requester=self.requester,
            app=self.app,
            priority=self.priority,
        )


_COLUMNS = tuple(_REQUEST.c[field.name] for field in fields(KeptRequest) if field.name != "status")
_WITH_STATUS = (*_COLUMNS, func.coalesce(_ORDER.c.status, OrderStatus.ACTIVE.value).label("status"))
_WITH_ORDER = _REQUEST.outerjoin(_ORDER, _ORDER.c.order_key == _REQUEST.c.order_key)


def _kept(row: Any) -> KeptRequest:
    values = {field.name: getattr(row, field.name) for field in fields(KeptRequest)}
    values["kind"] = RequestKind(row.kind)
    values["priority"] = Priority(row.priority) if row.priority else None
    values["status"] = OrderStatus(row.status)
    return KeptRequest(**values)


def request_by_key(connection: Connection, key: str) -> KeptRequest | None:
    """A request; None if there is none."""
    row = connection.execute(
        select(*_WITH_STATUS).select_from(_WITH_ORDER).where(_REQUEST.c.request_key == key)
    ).first()
    return None if row is None else _kept(row)


def lock_request(connection: Connection, key: str) -> None:
    """Keep others from changing a request until the transaction ends."""
    connection.execute(
        select(_REQUEST.c.request_key).where(_REQUEST.c.request_key == key).with_for_update()
    ).all()


def put_request(
    connection: Connection,
    request: Request,
    *,
    order_key: str,
    study_instance_uid: str,
    before: KeptRequest | None,
    now: datetime,
) -> int:
    """Write a request, new or newer than `before`, with its identifiers; its version.

    One that another transaction wrote under the same key just now is a conflict.
    """
    trigger = request.trigger
    values = {
        "source": trigger.source,
        "requester": trigger.requester,
        "app": trigger.app,
        "priority": trigger.priority.value if trigger.priority else "",
        "order_key": order_key,
        "study_instance_uid": study_instance_uid,
        "digest": request.digest,
        "version": before.version + 1 if before else 1,
        "document": request.document,
        "changed_at": now,
    }
    if before is None:
        identity = {"request_key": request.key, "kind": request.kind.value, "received_at": now}
        connection.execute(insert(_REQUEST).values({**identity, **values}))
    else:
        connection.execute(change(_REQUEST).where(_REQUEST.c.request_key == request.key).values(values))
        connection.execute(delete(_TOKEN).where(_TOKEN.c.request_key == request.key))
    tokens = [
        {"kind": request.kind.value, "token": token, "request_key": request.key}
        for token in dict.fromkeys(request.tokens)
    ]
    if tokens:
        connection.execute(insert(_TOKEN), tokens)
    return int(str(values["version"]))


def note_order(connection: Connection, *, key: str, source: str, requester: str, now: datetime) -> None:
    """Write that an order came by HL7; the newest sender counts."""
    values = {
        "request_key": f"{RequestKind.HL7.value}:{key}",
        "kind": RequestKind.HL7.value,
        "source": source,
        "requester": requester,
        "app": "",
        "priority": "",
        "order_key": key,
        "study_instance_uid": "",
        "digest": "",
        "version": 1,
        "document": "",
        "received_at": now,
        "changed_at": now,
    }
    statement = upserting(connection.dialect.name, _REQUEST).values(values)
    newer = {name: statement.excluded[name] for name in ("source", "requester", "changed_at")}
    connection.execute(statement.on_conflict_do_update(index_elements=["request_key"], set_=newer))


def keys_with_token(connection: Connection, kind: RequestKind, token: str) -> list[str]:
    """Keys of the requests of a kind that bear a business identifier; two at most."""
    statement = select(_TOKEN.c.request_key).where(_TOKEN.c.kind == kind.value, _TOKEN.c.token == token)
    return list(connection.execute(statement.order_by(_TOKEN.c.request_key).limit(2)).scalars())


def tokens_of(connection: Connection, key: str) -> tuple[str, ...]:
    """The business identifiers that a request bears."""
    statement = select(_TOKEN.c.token).where(_TOKEN.c.request_key == key).order_by(_TOKEN.c.token)
    return tuple(connection.execute(statement).scalars())


def requests_of_study(
    connection: Connection, *, study_instance_uid: str, accession_number: str, patient_id: str
) -> list[KeptRequest]:
    """The requests for a study, the oldest first: by its UID, else by accession number and patient.

    As with orders, what another patient is named in is never joined; a request by accession number alone
    names no patient and is.
    """
    patient = _ORDER.c.patient_id.in_((patient_id, "")) if patient_id else literal(True)
    ways: list[ColumnElement[bool]] = [and_(_ORDER.c.study_instance_uid == study_instance_uid, patient)]
    if accession_number and patient_id:
        ways.append(
            and_(
                _ORDER.c.accession_number == accession_number,
                or_(_ORDER.c.patient_id == patient_id, _is_open()),
            )
        )
    found = [select(_ORDER.c.order_key).where(way) for way in ways]
    named = select(*_WITH_STATUS).select_from(_WITH_ORDER)
    of_orders = named.where(_REQUEST.c.order_key.in_(union_all(*found)), _REQUEST.c.order_key != "")
    of_study = named.where(
        _REQUEST.c.study_instance_uid == study_instance_uid, _REQUEST.c.study_instance_uid != ""
    )
    rows = [*connection.execute(of_orders.limit(_MOST_READ)), *connection.execute(of_study.limit(_MOST_READ))]
    kept = {row.request_key: _kept(row) for row in rows}
    return sorted(kept.values(), key=lambda one: (one.received_at, one.request_key))


def triggers_of_study(
    connection: Connection, *, study_instance_uid: str, accession_number: str, patient_id: str
) -> tuple[Trigger, ...]:
    """What rules see of the requests for a study that count: neither canceled nor on hold."""
    found = requests_of_study(
        connection,
        study_instance_uid=study_instance_uid,
        accession_number=accession_number,
        patient_id=patient_id,
    )
    return tuple(one.trigger for one in found if one.status is OrderStatus.ACTIVE)


def _is_open() -> ColumnElement[bool]:
    """Whether an order stands for a request that names no patient."""
    return and_(_ORDER.c.patient_id == "", _ORDER.c.order_key.startswith(REQUEST_ORDER, autoescape=True))


def patients_of_accession(connection: Connection, accession_number: str) -> list[str]:
    """Patient IDs of the studies here with an accession number, else of the orders with it."""
    for table in (_STUDY, _ORDER):
        statement = select(table.c.patient_id).where(
            table.c.accession_number == accession_number, table.c.patient_id != ""
        )
        found = list(connection.execute(statement.distinct().limit(_MOST_READ)).scalars())
        if found:
            return sorted(found)
    return []


def lock_studies(
    connection: Connection, *, study_instance_uid: str, accession_number: str, patient_id: str
) -> list[str]:
    """UIDs of the studies that are meant, their rows locked until the transaction ends.

    Whoever completes one of them at the same time is done before, or sees what is asked now.
    """
    ways: list[ColumnElement[bool]] = []
    if study_instance_uid:
        ways.append(_STUDY.c.study_instance_uid == study_instance_uid)
    if accession_number and patient_id:
        ways.append(and_(_STUDY.c.accession_number == accession_number, _STUDY.c.patient_id == patient_id))
    if not ways:
        return []
    statement = select(_STUDY.c.study_instance_uid).where(or_(*ways))
    rows = connection.execute(
        statement.order_by(_STUDY.c.study_instance_uid).limit(_MOST_READ).with_for_update()
    )
    return list(rows.scalars())


def studies_meant(
    connection: Connection, *, study_instance_uid: str, accession_number: str, patient_id: str
) -> list[tuple[str, str]]:
    """(UID, state) of the studies here that are meant; a request that names no patient means any."""
    ways: list[ColumnElement[bool]] = []
    if study_instance_uid:
        ways.append(_STUDY.c.study_instance_uid == study_instance_uid)
    elif accession_number:
        patient = _STUDY.c.patient_id == patient_id if patient_id else literal(True)
        ways.append(and_(_STUDY.c.accession_number == accession_number, patient))
    if not ways:
        return []
    statement = select(_STUDY.c.study_instance_uid, _STUDY.c.state).where(*ways)
    rows = connection.execute(statement.order_by(_STUDY.c.study_instance_uid).limit(_MOST_READ))
    return [(uid, state) for uid, state in rows]


def work_of_studies(connection: Connection, uids: Sequence[str]) -> list[tuple[str, str, str]]:
    """(UID, state, app) of every workitem that rules made for some studies, the oldest first."""
    if not uids:
        return []
    statement = (
        select(_WORKITEM.c.uid, _WORKITEM.c.state, _WORKITEM.c.app)
        .where(_WORKITEM.c.study_instance_uid.in_(uids), _WORKITEM.c.rule != "")
        .order_by(_WORKITEM.c.created_at, _WORKITEM.c.uid)
    )
    return [(uid, state, app) for uid, state, app in connection.execute(statement.limit(_MOST_READ))]
