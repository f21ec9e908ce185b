# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to the workitems of the store, behind the Protocol the UPS doors use (PS3.4 CC.2.3).

What a state becomes is the cell of ``workitem.subscriptions``. States are read under the lock of the journal:
an initial report tells what the reports before it led to, and every later report follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import orjson

from profiles.dicom_json import DicomJson, text
from profiles.faults import Fault
from profiles.ups import report
from profiles.ups.matching import key_faults
from profiles.ups.report import EventType
from profiles.ups.states import (
    FILTERED_GLOBAL_SUBSCRIPTION_UID,
    WELL_KNOWN_UIDS,
    ProcedureStepState,
)
from profiles.ups.values import is_ae_title
from task_manager.actor import Actor
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store import subscriptions, workitems
from task_manager.store.contents import Contents
from task_manager.store.database import Connection, Database
from task_manager.store.journal import ensure_listener
from task_manager.store.reports import Written, lock_journal, write_reports
from task_manager.store.subscriptions import GlobalSubscription
from task_manager.workitem.machine import StateReport
from task_manager.workitem.model import Workitem
from task_manager.workitem.subscriptions import (
    GLOBAL_STATES,
    SUBSCRIPTIONS,
    GlobalState,
    SubscriptionEvent,
    SubscriptionState,
)

_LOG = logging.getLogger(__name__)

MOST_GLOBAL = 1000
"""Global subscriptions, filtered ones included: each is looked at when a workitem is created."""

_AT_ONCE = 500
_MOST_FILTER_BYTES = 64 * 1024


class StoredSubscriptions:
    """Implements :class:`task_manager.ports.Subscriptions` on the database.

    Parameters
    ----------
    wake
        Called after commits: there may be something to tell.
    deletion_locks
        Whether deletion locks are granted; if not, a subscription is accepted without (B301).
    known_ae
        Whether an AE title can be called, which one that listens over DIMSE must be (C308).

    Notes
    -----
    An AE has one filter; the last wins. A filter is looked at when it is set and when a workitem is created.
    What a filter made is undone by unsubscribing from the filtered instance; a global subscription and an
    instruction for the very workitem make it their own. A subscriber of a workitem whose cancellation is
    asked for is told that as well, after the initial report (beyond the standard).
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        deletion_locks: bool = True,
        known_ae: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake
        self._deletion_locks = deletion_locks
        self._known_ae = known_ae

    def subscribe(
        self,
        target: str,
        receiving_ae: str,
        *,
        deletion_lock: bool,
        matching: DicomJson,
        channel: Channel,
        actor: Actor,
    ) -> Accepted | Refused:
        """Subscribe to Receive UPS Event Reports (action 3)."""
        receiving_ae = receiving_ae.strip(" ")
        refused = _misnamed(receiving_ae)
        if refused is None and channel is Channel.DIMSE and not self._known_ae(receiving_ae):
            refused = Refused(
                RefusalCode.UNKNOWN_RECEIVING_AE, (Fault("ReceivingAE", "is no AE title known here"),)
            )
        if refused is None and target == FILTERED_GLOBAL_SUBSCRIPTION_UID:
            refused = _unusable(matching)
        if refused is not None:
            return refused
        granted = deletion_lock and self._deletion_locks
        if target in WELL_KNOWN_UIDS:
            filtered = target == FILTERED_GLOBAL_SUBSCRIPTION_UID
            subscription = GlobalSubscription(
                receiving_ae=receiving_ae, deletion_lock=granted, matching=matching if filtered else None
            )
            refused = self._subscribe_globally(subscription, channel, actor)
        else:
            refused = self._subscribe_to(target, receiving_ae, granted, channel, actor)
        if refused is not None:
            return refused
        _LOG.info("subscribed", extra={"action": "subscription.made", "target": target, "ae": receiving_ae})
        return Accepted(
            uid=target, warnings=(WarningCode.LOCK_NOT_GRANTED,) if deletion_lock and not granted else ()
        )

    def unsubscribe(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        """Unsubscribe from Receiving UPS Event Reports (action 4); globally, from everything."""
        del actor
        receiving_ae = receiving_ae.strip(" ")
        refused = _misnamed(receiving_ae)
        if refused is not None:
            return refused
        with self._database.write() as connection:
            if target in WELL_KNOWN_UIDS:
                subscriptions.lock_enrolment(connection)
                filtered_only = target == FILTERED_GLOBAL_SUBSCRIPTION_UID
                ended = _end_global(connection, receiving_ae, filtered_only=filtered_only)
                ended |= subscriptions.remove_items(connection, receiving_ae, filtered_only=filtered_only)
            else:
                refused = _unknown(connection, target)
                if refused is not None:
                    return refused
                before = subscriptions.state_of(connection, target, receiving_ae)
                after = SUBSCRIPTIONS[SubscriptionEvent.UNSUBSCRIBE_ITEM][before].state
                subscriptions.put_state(connection, target, receiving_ae, after)
                ended = after is not before
        if not ended:
            return _not_subscribed()
        _LOG.info(
            "unsubscribed", extra={"action": "subscription.ended", "target": target, "ae": receiving_ae}
        )
        return Accepted(uid=target)

    def suspend(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        """Suspend Global Subscription (action 5): workitems subscribed to stay so, new ones are not."""
        del actor
        receiving_ae = receiving_ae.strip(" ")
        refused = _misnamed(receiving_ae)
        if refused is not None:
            return refused
        with self._database.write() as connection:
            if target not in WELL_KNOWN_UIDS:
                fault = Fault("SOPInstanceUID", "names a workitem; only global subscriptions are suspended")
                return _unknown(connection, target) or Refused(RefusalCode.NOT_APPROPRIATE, (fault,))
            subscriptions.lock_enrolment(connection)
            filtered_only = target == FILTERED_GLOBAL_SUBSCRIPTION_UID
            ended = _end_global(connection, receiving_ae, filtered_only=filtered_only)
        if not ended:
            return _not_subscribed()
        _LOG.info(
            "subscription suspended",
            extra={"action": "subscription.suspended", "target": target, "ae": receiving_ae},
        )
        return Accepted(uid=target)

    def _subscribe_to(
        self, uid: str, receiving_ae: str, locked: bool, channel: Channel, actor: Actor
    ) -> Refused | None:
        event = SubscriptionEvent.ITEM_WITH_LOCK if locked else SubscriptionEvent.ITEM_WITHOUT_LOCK
        now = self._clock()
        with self._database.write() as connection:
            found, _ = workitems.locked_records(
                connection, [uid], Contents()
            )  # in the order of all who write
            record = found.get(uid)
            if record is None:
                return _unknown(connection, uid)
            lock_journal(connection)
            cell = SUBSCRIPTIONS[event][subscriptions.state_of(connection, uid, receiving_ae)]
            ensure_listener(connection, receiving_ae, channel, now)
            subscriptions.put_state(connection, uid, receiving_ae, cell.state)
            if cell.initial_event:
                _tell(connection, _initial_reports(record.workitem), receiving_ae, actor, now)
        self._wake()
        return None

    def _subscribe_globally(
        self, subscription: GlobalSubscription, channel: Channel, actor: Actor
    ) -> Refused | None:
        """The subscription first, so that new workitems have it; then those that are there, part by part.

        Broken off, it is completed by asking again: who is subscribed already is left alone.
        """
        receiving_ae, filtered = subscription.receiving_ae, subscription.matching is not None
        event = SubscriptionEvent.GLOBAL_WITHOUT_LOCK
        if subscription.deletion_lock:
            event = SubscriptionEvent.GLOBAL_WITH_LOCK
        with self._database.write() as connection:
            subscriptions.lock_enrolment(connection)
            known = subscriptions.global_subscription(connection, receiving_ae, filtered=filtered)
            if known is None and subscriptions.count_global(connection) >= MOST_GLOBAL:
                fault = Fault("ReceivingAE", f"cannot be added: there are {MOST_GLOBAL} global subscriptions")
                return Refused(RefusalCode.OUT_OF_RESOURCES, (fault,))
            locked = GLOBAL_STATES[event] is GlobalState.WITH_LOCK
            kept = GlobalSubscription(
                receiving_ae=receiving_ae, deletion_lock=locked, matching=subscription.matching
            )
            subscriptions.put_global(connection, kept)
            if not filtered:
                subscriptions.own_filtered_items(connection, receiving_ae)
            ensure_listener(connection, receiving_ae, channel, self._clock())
        beyond = ""
        while True:
            with self._database.read() as connection:
                uids, beyond = subscriptions.unsubscribed(
                    connection, receiving_ae, subscription.matching, beyond=beyond, limit=_AT_ONCE
                )
            if uids:
                self._add(uids, kept, event, actor)
            if not beyond:
                return None

    def _add(
        self, uids: list[str], subscription: GlobalSubscription, event: SubscriptionEvent, actor: Actor
    ) -> None:
        """Give a global subscription its workitems, those of them that the AE is not subscribed to by now."""
        cell = SUBSCRIPTIONS[event][SubscriptionState.NOT_SUBSCRIBED]
        receiving_ae, filtered = subscription.receiving_ae, subscription.matching is not None
        now = self._clock()
        with self._database.write() as connection:
            lock_journal(connection)
            if subscriptions.global_subscription(connection, receiving_ae, filtered=filtered) is None:
                return  # ended meanwhile
            added = subscriptions.add_missing(
                connection,
                uids,
                receiving_ae,
                deletion_lock=cell.state is SubscriptionState.WITH_LOCK,
                filtered=filtered,
            )
            if cell.initial_event:
                contents = workitems.texts(connection, added)
                found = zip(added, contents, strict=True)
                told = [_state_report(uid, orjson.loads(one)) for uid, one in found if one is not None]
                _tell(connection, told, receiving_ae, actor, now)
        self._wake()


def _end_global(connection: Connection, receiving_ae: str, *, filtered_only: bool) -> bool:
    """End the filtered global subscription, and the other one as well unless only that is meant."""
    ended = subscriptions.remove_global(connection, receiving_ae, filtered=True)
    if not filtered_only:
        ended |= subscriptions.remove_global(connection, receiving_ae, filtered=False)
    return ended


def _initial_reports(workitem: Workitem) -> list[StateReport]:
    told = [_state_report(workitem.uid, workitem.attributes)]
    asked = workitem.cancel_requested
    if asked is not None and workitem.state is ProcedureStepState.IN_PROGRESS:
        payload = report.cancel_requested(asked.requesting_ae, asked.details)
        told.append(
            StateReport(
                event_type=EventType.CANCEL_REQUESTED,
                workitem_uid=workitem.uid,
                state=workitem.state,
                payload=payload,
            )
        )
    return told


def _state_report(uid: str, attributes: DicomJson) -> StateReport:
    return StateReport(
        event_type=EventType.STATE_REPORT,
        workitem_uid=uid,
        state=ProcedureStepState(text(attributes, "ProcedureStepState")),
        payload=report.state_report(attributes),
    )


def _tell(
    connection: Connection, reports: list[StateReport], receiving_ae: str, actor: Actor, now: datetime
) -> None:
    name = actor.name or actor.door
    write_reports(
        connection, [Written(report=one, actor=name, receiving_ae=receiving_ae) for one in reports], now
    )


def _misnamed(receiving_ae: str) -> Refused | None:
    if is_ae_title(receiving_ae):
        return None
    fault = Fault("ReceivingAE", "must be an AE title: 1 to 16 characters, no backslash")
    return Refused(RefusalCode.INVALID_ATTRIBUTES, (fault,))


def _unusable(matching: DicomJson) -> Refused | None:
    """Why a filter cannot be one."""
    if not matching:
        fault = Fault("", "a filtered global subscription needs matching keys")
        return Refused(RefusalCode.MISSING_ATTRIBUTE, (fault,))
    faults = key_faults(matching)
    if not faults and len(orjson.dumps(matching)) > _MOST_FILTER_BYTES:
        faults = (Fault("", f"the matching keys take more than {_MOST_FILTER_BYTES} bytes"),)
    return Refused(RefusalCode.UNSUPPORTED_MATCHING, faults) if faults else None


def _unknown(connection: Connection, uid: str) -> Refused | None:
    """Why there is no such workitem; None if there is."""
    if workitems.workitem_by_uid(connection, uid) is not None:
        return None
    if workitems.is_purged(connection, uid):
        return Refused(RefusalCode.NO_LONGER_HERE, (Fault("SOPInstanceUID", "was deleted here"),))
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))


def _not_subscribed() -> Refused:
    return Refused(RefusalCode.NOT_SUBSCRIBED, (Fault("ReceivingAE", "has no such subscription"),))
