# SPDX-License-Identifier: Apache-2.0
"""Statements over subscriptions: who is to be told of which workitem. Each takes a connection; none commits.

What a state becomes is said by ``workitem.subscriptions``; here it is written. On PostgreSQL a creation and a
new global subscription see each other, or the second waits: no workitem falls between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    union,
    update,
)

from profiles.dicom_json import DicomJson
from profiles.ups.matching import matches
from task_manager.store.compiled import Statement
from task_manager.store.rowwise import inserting
from task_manager.store.tables import METADATA
from task_manager.store.workitems import texts
from task_manager.workitem.columns import narrowing
from task_manager.workitem.subscriptions import SubscriptionState

_SUBSCRIPTION = METADATA.tables["subscription"]
_GLOBAL = METADATA.tables["global_subscription"]
_REPORT = METADATA.tables["workitem_report"]
_WORKITEM = METADATA.tables["workitem"]
_ENROLMENT_LOCK = 4_180_114
_NAMES = ("workitem_uid", "receiving_ae", "deletion_lock", "filtered", "from_report")


_ENROLLED = inserting(_SUBSCRIPTION, _NAMES, unless=_NAMES[:2])
_GLOBALS = Statement(
    lambda _: select(_GLOBAL.c.receiving_ae, _GLOBAL.c.filtered, _GLOBAL.c.deletion_lock, _GLOBAL.c.matching)
)


_LOCK_SHARED = Statement(
    lambda _: select(func.pg_advisory_xact_lock_shared(literal_column(str(_ENROLMENT_LOCK))))
)


class _Global(NamedTuple):
    """A row of the global subscriptions."""

    receiving_ae: str
    filtered: bool
    deletion_lock: bool
    matching: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalSubscription:
    """What an AE has on the whole worklist: `matching` is None unless it is filtered."""

    receiving_ae: str
    deletion_lock: bool
    matching: DicomJson | None = None


@lru_cache(maxsize=1024)
def _keys(matching: str) -> DicomJson:
    keys: DicomJson = orjson.loads(matching)
    return keys


def enroll(connection: Connection, created: Sequence[tuple[str, DicomJson]]) -> None:
    """Subscribe to new workitems whoever has a global subscription, or a filtered one that matches.

    Their initial event is the report of the creation, which the same transaction writes.
    """
    if connection.dialect.name == "postgresql":
        _LOCK_SHARED.change(connection, {})
    found = [_Global._make(row) for row in _GLOBALS.rows(connection, {})]
    if not found:
        return
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for subscriber in found:
        for uid, attributes in created:
            if subscriber.filtered and not matches(_keys(subscriber.matching), attributes):
                continue
            other = rows.get((uid, subscriber.receiving_ae), {})
            rows[uid, subscriber.receiving_ae] = {
                "workitem_uid": uid,
                "receiving_ae": subscriber.receiving_ae,
                "deletion_lock": bool(subscriber.deletion_lock or other.get("deletion_lock")),
                "filtered": bool(subscriber.filtered and other.get("filtered", True)),
                "from_report": 0,
            }
    _ENROLLED.run(connection, list(rows.values()))


def last_report(connection: Connection) -> int:
    """Number of the last report in the journal; 0 if there is none."""
    return connection.execute(select(func.max(_REPORT.c.id))).scalar() or 0


def state_of(connection: Connection, uid: str, receiving_ae: str) -> SubscriptionState:
    """What an AE is to a workitem."""
    locked = connection.execute(
        select(_SUBSCRIPTION.c.deletion_lock).where(
            _SUBSCRIPTION.c.workitem_uid == uid, _SUBSCRIPTION.c.receiving_ae == receiving_ae
        )
    ).scalar()
    if locked is None:
        return SubscriptionState.NOT_SUBSCRIBED
    return SubscriptionState.WITH_LOCK if locked else SubscriptionState.WITHOUT_LOCK


def put_state(connection: Connection, uid: str, receiving_ae: str, state: SubscriptionState) -> None:
    """Make an AE what an instruction for this very workitem says; a row that exists is owed what it was."""
    here = and_(_SUBSCRIPTION.c.workitem_uid == uid, _SUBSCRIPTION.c.receiving_ae == receiving_ae)
    if state is SubscriptionState.NOT_SUBSCRIBED:
        connection.execute(delete(_SUBSCRIPTION).where(here))
        return
    values = {"deletion_lock": state is SubscriptionState.WITH_LOCK, "filtered": False}
    if connection.execute(update(_SUBSCRIPTION).where(here).values(values)).rowcount == 0:
        connection.execute(
            insert(_SUBSCRIPTION).values(
                workitem_uid=uid, receiving_ae=receiving_ae, from_report=last_report(connection), **values
            )
        )


def global_subscription(
    connection: Connection, receiving_ae: str, *, filtered: bool
) -> GlobalSubscription | None:
    """What an AE has on the whole worklist; None if nothing of this kind."""
    row = connection.execute(select(_GLOBAL).where(*_global(receiving_ae, filtered=filtered))).first()
    if row is None:
        return None
    return GlobalSubscription(
        receiving_ae=row.receiving_ae,
        deletion_lock=row.deletion_lock,
        matching=_keys(row.matching) if row.filtered else None,
    )


def lock_enrolment(connection: Connection) -> None:
    """Let no workitem be created before this transaction, which changes a global subscription, ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ENROLMENT_LOCK})")


def count_global(connection: Connection) -> int:
    """How many global subscriptions there are, of both kinds."""
    return connection.execute(select(func.count()).select_from(_GLOBAL)).scalar_one()


def put_global(connection: Connection, subscription: GlobalSubscription) -> None:
    """Set what an AE has on the whole worklist, in place of the same kind before."""
    filtered = subscription.matching is not None
    remove_global(connection, subscription.receiving_ae, filtered=filtered)
    connection.execute(
        insert(_GLOBAL).values(
            receiving_ae=subscription.receiving_ae,
            filtered=filtered,
            deletion_lock=subscription.deletion_lock,
            matching=orjson.dumps(subscription.matching).decode() if filtered else "",
        )
    )


def remove_global(connection: Connection, receiving_ae: str, *, filtered: bool) -> bool:
    """Take from an AE what it has on the whole worklist; whether it had any."""
    done = connection.execute(delete(_GLOBAL).where(*_global(receiving_ae, filtered=filtered)))
    return done.rowcount > 0


def remove_items(connection: Connection, receiving_ae: str, *, filtered_only: bool) -> bool:
    """Take from an AE its subscriptions to workitems; whether it had any."""
    wanted = [_SUBSCRIPTION.c.receiving_ae == receiving_ae]
    if filtered_only:
        wanted.append(_SUBSCRIPTION.c.filtered == true())
    return connection.execute(delete(_SUBSCRIPTION).where(*wanted)).rowcount > 0


def own_filtered_items(connection: Connection, receiving_ae: str) -> None:
    """What a filter made belongs to the unfiltered global subscription from now on."""
    connection.execute(
        update(_SUBSCRIPTION)
        .where(_SUBSCRIPTION.c.receiving_ae == receiving_ae, _SUBSCRIPTION.c.filtered == true())
        .values(filtered=False)
    )


def unsubscribed(
    connection: Connection, receiving_ae: str, matching: DicomJson | None, *, beyond: str, limit: int
) -> tuple[list[str], str]:
    """UIDs of workitems an AE is not subscribed to, in order of UID, and where to look on (empty: the end).

    At most `limit` workitems after the UID `beyond` are looked at; keys of `matching` decide among them.
    """
    wanted = [_WORKITEM.c.uid > beyond, not_(_subscribed(receiving_ae))]
    for name, values in (narrowing(matching).equal if matching else {}).items():
        wanted.append(_WORKITEM.c[name].in_(list(values)))
    statement = select(_WORKITEM.c.uid).where(*wanted).order_by(_WORKITEM.c.uid).limit(limit)
    found = list(connection.execute(statement).scalars())
    beyond = found[-1] if len(found) == limit else ""
    if matching:
        contents = zip(found, texts(connection, found), strict=True)
        found = [uid for uid, text in contents if text and matches(matching, orjson.loads(text))]
    return found, beyond


def add_missing(
    connection: Connection, uids: Sequence[str], receiving_ae: str, *, deletion_lock: bool, filtered: bool
) -> list[str]:
    """Subscribe an AE to those of the workitems that exist and that it is not subscribed to; which they are.

    The caller holds the lock of the journal.
    """
    statement = (
        select(_WORKITEM.c.uid)
        .where(_WORKITEM.c.uid.in_(uids), not_(_subscribed(receiving_ae)))
        .order_by(_WORKITEM.c.uid)
    )
    missing = list(connection.execute(statement).scalars())
    latest = last_report(connection)
    _ENROLLED.run(
        connection,
        [
            {
                "workitem_uid": uid,
                "receiving_ae": receiving_ae,
                "deletion_lock": deletion_lock,
                "filtered": filtered,
                "from_report": latest,
            }
            for uid in missing
        ],
    )
    return missing


def is_locked(connection: Connection, uid: str) -> bool:
    """Whether a deletion lock keeps a workitem from being deleted (CC.2.1.3)."""
    locked = select(literal(1)).where(
        _SUBSCRIPTION.c.workitem_uid == uid, _SUBSCRIPTION.c.deletion_lock == true()
    )
    return connection.execute(locked.limit(1)).first() is not None


def subscribers(connection: Connection, uids: Iterable[str]) -> Mapping[str, frozenset[tuple[str, int]]]:
    """For each workitem that has any, the AEs subscribed and the report after which each is owed its own."""
    found: dict[str, set[tuple[str, int]]] = {}
    statement = select(
        _SUBSCRIPTION.c.workitem_uid, _SUBSCRIPTION.c.receiving_ae, _SUBSCRIPTION.c.from_report
    ).where(_SUBSCRIPTION.c.workitem_uid.in_(sorted(set(uids))))
    for row in connection.execute(statement):
        found.setdefault(row.workitem_uid, set()).add((row.receiving_ae, row.from_report))
    return {uid: frozenset(pairs) for uid, pairs in found.items()}


def anyone_subscribed(connection: Connection) -> frozenset[str]:
    """All AEs with any subscription (the audience of event 4, CC.2.4.3)."""
    statement = union(select(_SUBSCRIPTION.c.receiving_ae), select(_GLOBAL.c.receiving_ae))
    return frozenset(connection.execute(statement).scalars())


def is_subscribed_at_all(connection: Connection, receiving_ae: str) -> bool:
    """Whether an AE has any subscription."""
    item = exists().where(_SUBSCRIPTION.c.receiving_ae == receiving_ae)
    whole = exists().where(_GLOBAL.c.receiving_ae == receiving_ae)
    return bool(connection.execute(select(or_(item, whole))).scalar())


def _global(receiving_ae: str, *, filtered: bool) -> tuple[Any, Any]:
    return _GLOBAL.c.receiving_ae == receiving_ae, _GLOBAL.c.filtered == filtered


def _subscribed(receiving_ae: str) -> Any:
    return (
        exists()
        .where(_SUBSCRIPTION.c.workitem_uid == _WORKITEM.c.uid)
        .where(_SUBSCRIPTION.c.receiving_ae == receiving_ae)
    )
