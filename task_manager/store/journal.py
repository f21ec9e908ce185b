# SPDX-License-Identifier: Apache-2.0
"""The journal of event reports, and how far each listener has come in it (PS3.4 CC.2.4).

Beyond the standard, which asks for no queue: a listener that was away is told what it missed, within a bound.
What it was not told is marked by event 4, after which a watcher looks at the worklist again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from profiles.ups.report import EventType, scp_status_report
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.actor import WORKER
from task_manager.notices import Channel, Listener, Notice
from task_manager.store import subscriptions
from task_manager.store.database import Database
from task_manager.store.reports import CHANNEL, lock_journal
from task_manager.store.tables import METADATA

_REPORT = METADATA.tables["workitem_report"]
_LISTENER = METADATA.tables["listener"]
_SUBSCRIPTION = METADATA.tables["subscription"]
_WORKITEM = METADATA.tables["workitem"]
_WARM, _COLD = "WARM START", "COLD START"
_MOST_ERROR_CHARACTERS = 300


def ensure_listener(connection: Connection, receiving_ae: str, channel: Channel, now: datetime) -> None:
    """Let an AE listen on a channel, from the next report if it has not so far.

    One that listens by WebSocket from now on is called no more.
    """
    _add_listener(connection, receiving_ae, channel, now)
    if channel is Channel.WEBSOCKET:
        connection.execute(
            delete(_LISTENER).where(
                _LISTENER.c.receiving_ae == receiving_ae, _LISTENER.c.channel == Channel.DIMSE.value
            )
        )


class StoredJournal:
    """Implements :class:`task_manager.notices.Journal` on the database.

    Parameters
    ----------
    most_pending
        Reports that one AE is told when it is back, at most; those before are left out.
    fallback
        AE titles that are told of the manager's own status without any subscription, by DIMSE.
    """

    def __init__(
        self,
        database: Database,
        *,
        most_pending: int,
        fallback: Sequence[str] = (),
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._most_pending = most_pending
        self._fallback = frozenset(fallback)
        self._clock = clock

    def latest(self) -> int:
        """Number of the last report; 0 if there is none."""
        with self._database.read() as connection:
            return subscriptions.last_report(connection)

    def after(self, position: int, *, limit: int = 500) -> tuple[Sequence[Notice], int]:
        """The reports after `position` that concern anybody, oldest first, and the position read to."""
        with self._database.read() as connection:
            statement = select(_REPORT).where(_REPORT.c.id > position).order_by(_REPORT.c.id).limit(limit)
            rows = connection.execute(statement).all()
            if not rows:
                return (), position
            to_all = {row.workitem_uid for row in rows if not row.receiving_ae}
            subscribed = subscriptions.subscribers(connection, to_all - {GLOBAL_SUBSCRIPTION_UID})
            audience = self._audience(connection) if GLOBAL_SUBSCRIPTION_UID in to_all else frozenset()
        found = []
        for row in rows:
            if row.receiving_ae:
                told = frozenset({row.receiving_ae})
            elif row.workitem_uid == GLOBAL_SUBSCRIPTION_UID:
                told = audience
            else:
                pairs = subscribed.get(row.workitem_uid, frozenset())
                told = frozenset(ae for ae, from_report in pairs if from_report < row.id)
            if told:
                found.append(_notice(row, told))
        return found, rows[-1].id

    def pending(self, receiving_ae: str, position: int, *, limit: int = 500) -> Sequence[Notice]:
        """What one AE is owed after `position`, oldest first; of several event 4 only the last.

        More than the configured bound, or what was purged, is dropped: then event 4 (warm start) comes first
        as the sign to look at the worklist again.
        """
        with self._database.read() as connection:
            ends = [select(edge(_REPORT.c.id)).scalar_subquery() for edge in (func.min, func.max)]
            oldest, newest = connection.execute(select(*ends)).one()
            if oldest is None or newest <= position:
                return []
            owed = self._owed(connection, receiving_ae)
            floor = max(position, oldest - 1)
            if newest - floor > self._most_pending:
                beyond = (
                    select(_REPORT.c.id)
                    .where(_REPORT.c.id > floor, owed)
                    .order_by(_REPORT.c.id.desc())
                    .offset(self._most_pending)
                    .limit(1)
                )
                floor = connection.execute(beyond).scalar() or floor
            statement = select(_REPORT).where(_REPORT.c.id > floor, owed).order_by(_REPORT.c.id).limit(limit)
            found = [_notice(row, frozenset({receiving_ae})) for row in connection.execute(statement)]
        if floor > position:
            found.insert(0, _resynchronise(receiving_ae, floor))
        return found

    def listener(self, receiving_ae: str, channel: Channel) -> Listener:
        """How far an AE has come on a channel; one that is new begins with the next report."""
        statement = select(_LISTENER).where(
            _LISTENER.c.receiving_ae == receiving_ae, _LISTENER.c.channel == channel.value
        )
        with self._database.read() as connection:
            row = connection.execute(statement).first()
            latest = subscriptions.last_report(connection)
        if row is None:
            with self._database.write() as connection:
                _add_listener(connection, receiving_ae, channel, self._clock())
                row = connection.execute(statement).one()
        return _listener(row, latest)

    def listeners(self, channel: Channel) -> Sequence[Listener]:
        """All listeners of a channel."""
        statement = (
            select(_LISTENER).where(_LISTENER.c.channel == channel.value).order_by(_LISTENER.c.receiving_ae)
        )
        with self._database.read() as connection:
            latest = subscriptions.last_report(connection)
            return [_listener(row, latest) for row in connection.execute(statement)]

    def delivered(self, channel: Channel, positions: Mapping[str, int]) -> None:
        """Remember how far each AE has come; a position never goes back."""
        if not positions:
            return
        statement = (
            update(_LISTENER)
            .where(
                _LISTENER.c.receiving_ae == bindparam("_ae"),
                _LISTENER.c.channel == channel.value,
                _LISTENER.c.position <= bindparam("_position"),
            )
            .values(
                position=bindparam("_position"),
                attempts=0,
                due_at=None,
                last_error="",
                heard_at=self._clock(),
            )
        )
        rows = [{"_ae": ae, "_position": position} for ae, position in sorted(positions.items())]
        with self._database.write() as connection:
            connection.execute(statement, rows)

    def postpone(self, listener: Listener, *, error: str, due_at: datetime) -> None:
        """Remember that a listener could not be reached, and when to try again."""
        statement = (
            update(_LISTENER)
            .where(*_same(listener))
            .values(attempts=listener.attempts + 1, due_at=due_at, last_error=error[:_MOST_ERROR_CHARACTERS])
        )
        with self._database.write() as connection:
            connection.execute(statement)

    def claim(self, listener: Listener, *, owner: str, until: datetime) -> bool:
        """Whether this process alone may send to a listener until then (replicas share listeners)."""
        free = or_(
            _LISTENER.c.claimed_until.is_(None),
            _LISTENER.c.claimed_until <= self._clock(),
            _LISTENER.c.claimed_by == owner,
        )
        statement = (
            update(_LISTENER).where(*_same(listener), free).values(claimed_by=owner, claimed_until=until)
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1

    def status_audience(self) -> frozenset[str]:
        """Who is told of the manager's own status: all with any subscription, and the fallback list."""
        with self._database.read() as connection:
            return self._audience(connection)

    def record_restart(self) -> None:
        """Write event 4, RESTARTED: COLD START in a database that never held a workitem, else WARM START.

        Nothing is written when nobody is to be told.
        """
        now = self._clock()
        with self._database.write() as connection:
            lock_journal(connection)
            if not self._audience(connection):
                return
            for receiving_ae in sorted(self._fallback):
                _add_listener(connection, receiving_ae, Channel.DIMSE, now)
            held = connection.execute(
                select(or_(exists().where(_WORKITEM.c.uid != ""), exists().where(_REPORT.c.id > 0)))
            ).scalar()
            lists = _WARM if held else _COLD
            connection.execute(
                insert(_REPORT).values(
                    workitem_uid=GLOBAL_SUBSCRIPTION_UID,
                    receiving_ae="",
                    event_type=int(EventType.SCP_STATUS_CHANGE),
                    state="",
                    content=_status("RESTARTED", lists),
                    actor=WORKER.name,
                    reported_at=now,
                )
            )
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_notify('{CHANNEL}', '')")

    def _audience(self, connection: Connection) -> frozenset[str]:
        return self._fallback | subscriptions.anyone_subscribed(connection)

    def _owed(self, connection: Connection, receiving_ae: str) -> Any:
        """What makes a report one that an AE is owed."""
        subscribed = exists().where(
            _SUBSCRIPTION.c.workitem_uid == _REPORT.c.workitem_uid,
            _SUBSCRIPTION.c.receiving_ae == receiving_ae,
            _SUBSCRIPTION.c.from_report < _REPORT.c.id,
        )
        owed = [
            _REPORT.c.receiving_ae == receiving_ae,
            and_(_REPORT.c.receiving_ae == "", _REPORT.c.workitem_uid != GLOBAL_SUBSCRIPTION_UID, subscribed),
        ]
        if receiving_ae in self._fallback or subscriptions.is_subscribed_at_all(connection, receiving_ae):
            last = select(func.max(_REPORT.c.id)).where(_REPORT.c.workitem_uid == GLOBAL_SUBSCRIPTION_UID)
            owed.append(_REPORT.c.id == last.scalar_subquery())
        return or_(*owed)


def going_down(audience: frozenset[str]) -> Notice:
    """Event 4, GOING DOWN: told live to who listens now, and not kept (it stands under number 0)."""
    return Notice(
        number=0,
        workitem_uid=GLOBAL_SUBSCRIPTION_UID,
        event_type=int(EventType.SCP_STATUS_CHANGE),
        content=_status("GOING DOWN", _WARM),
        receiving_aes=audience,
    )


def _resynchronise(receiving_ae: str, number: int) -> Notice:
    """Event 4 in place of the reports up to `number`, which are not told."""
    return Notice(
        number=number,
        workitem_uid=GLOBAL_SUBSCRIPTION_UID,
        event_type=int(EventType.SCP_STATUS_CHANGE),
        content=_status("RESTARTED", _WARM),
        receiving_aes=frozenset({receiving_ae}),
    )


def _status(scp_status: str, lists: str) -> str:
    return orjson.dumps(scp_status_report(scp_status, lists, lists)).decode()


def _notice(row: Any, told: frozenset[str]) -> Notice:
    return Notice(
        number=row.id,
        workitem_uid=row.workitem_uid,
        event_type=row.event_type,
        content=row.content,
        receiving_aes=told,
    )


def _add_listener(connection: Connection, receiving_ae: str, channel: Channel, now: datetime) -> None:
    adding = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(_LISTENER)
    connection.execute(
        adding.values(
            receiving_ae=receiving_ae,
            channel=channel.value,
            position=subscriptions.last_report(connection),
            attempts=0,
            claimed_by="",
            last_error="",
            heard_at=now,
        ).on_conflict_do_nothing()
    )


def _listener(row: Any, latest: int) -> Listener:
    return Listener(
        receiving_ae=row.receiving_ae,
        channel=Channel(row.channel),
        position=min(row.position, latest),  # of a database restored from a copy
        attempts=row.attempts,
        due_at=row.due_at,
    )


def _same(listener: Listener) -> tuple[Any, Any]:
    return (
        _LISTENER.c.receiving_ae == listener.receiving_ae,
        _LISTENER.c.channel == listener.channel.value,
    )
