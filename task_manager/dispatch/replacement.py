# SPDX-License-Identifier: Apache-2.0
"""What takes the place of work that was lost or given back, in the transaction that ends it.

A canceled workitem stays as it is; a new one is made that names it (PS3.17 GGG.2.7). After the last try it
waits for a person instead. Which cancels count is decided in ``leases.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from profiles.codes import DUPLICATE_ORDER
from profiles.sole.events import EventType, Outcome
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.delivery.consequences import workitem_event
from task_manager.dispatch import leases
from task_manager.dispatch.assignment import fits, station_of
from task_manager.dispatch.model import LeaseLimits, PerformerOffer
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import subtasks, succession
from task_manager.store.records import Origin
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.columns import expires_at
from task_manager.workitem.commands import Command, Withdraw
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_MOST_NAMED = 20


class Replacement:
    """Replaces workitems; a :class:`task_manager.transaction.Follower`, to be called before all others.

    So a parent sees the new child before it hears of the end of the old one, and goes on waiting.

    Parameters
    ----------
    limits
        Lease limits by name of the app; empty for foreign work.
    performers
        The configured performers: what the manager had assigned to one of them is assigned anew, preferably
        to another. What a requester itself had assigned elsewhere stays with whom it wanted.
    """

    def __init__(
        self, limits: Callable[[str], LeaseLimits], *, performers: Sequence[PerformerOffer] = ()
    ) -> None:
        self._limits = limits
        self._performers = tuple(performers)
        names = (
            name
            for offer in performers
            for name in (offer.ae_title, offer.station_class, offer.organization)
            if name
        )
        self._assigned_by_us = frozenset(names)

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Give way to a workitem by which somebody else replaces what the manager had replaced already."""
        for uid in leases.replaced_uids(workitem.attributes)[:_MOST_NAMED]:
            ours = leases.replacement_uid(uid)
            if ours != workitem.uid:
                self._give_way(work, ours, workitem.uid)

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Replace `after` if it was lost or given back."""
        del actor
        ended = before.state is ProcedureStepState.IN_PROGRESS and after.state is ProcedureStepState.CANCELED
        if not ended or not leases.is_to_be_tried_again(after, command):
            return
        children = subtasks.subtasks_of_parent(work.connection, after.uid)
        if any(not child.performer for child in children):
            return  # its children were tried often enough, each by itself
        tries = work.dispatch(after.uid).tries
        named = succession.successor(work.connection, after, active=True)
        if named is not None:
            self._hand_over(work, after.uid, named.uid, tries=tries + 1)
            return
        expiry = expires_at(after.attributes)
        if expiry is not None and expiry <= work.now:
            return
        if tries < self._limits(work.dispatch(after.uid).app).tries:
            self.replace(work, after, tries=tries + 1)
        else:
            self._give_up(work, after, tries)

    def replace(self, work: WorklistTransaction, old: Workitem, *, tries: int) -> Accepted | Refused:
        """Make the workitem that takes the place of `old`; what was made already stays.

        With the first try the list of those who would not do it begins anew.
        """
        uid = leases.replacement_uid(old.uid)
        dispatch = work.dispatch(old.uid)
        ours = leases.is_assigned_to(old.attributes, self._assigned_by_us)
        rejected = dispatch.rejected_by if tries > 1 else ()
        station = station_of(old.attributes)
        avoided = (*rejected, station) if station and station not in rejected else rejected
        if ours and tries > 1 and any(fits(offer, dispatch.app, avoided) for offer in self._performers):
            rejected = avoided
        outcome = work.create(
            uid,
            leases.replacement(old, uid, now=work.now, keep_assignment=not ours),
            actor=WORKER,
            origin=work.origin(old.uid),
            dispatch=replace(dispatch, tries=tries, rejected_by=rejected, attention="", claimed_by=""),
        )
        if isinstance(outcome, Refused) and outcome.code is not RefusalCode.DUPLICATE_INSTANCE:
            facts = {"workitem": old.uid, "code": outcome.code.value, "faults": len(outcome.faults)}
            _LOG.error("workitem cannot be replaced", extra={"action": "workitem.not_replaced", **facts})
            work.set_dispatch(old.uid, replace(dispatch, attention="its replacement was refused"))
            return outcome
        self._hand_over(work, old.uid, uid, tries=tries)
        extra = {"action": "workitem.replaced", "workitem": old.uid, "by": uid, "tries": tries}
        _LOG.warning("workitem replaced", extra=extra)
        return Accepted(uid=uid)

    def _give_up(self, work: WorklistTransaction, workitem: Workitem, tries: int) -> None:
        why = f"given up after {tries} {'try' if tries == 1 else 'tries'}"
        work.set_dispatch(workitem.uid, replace(work.dispatch(workitem.uid), attention=why))
        work.record(
            workitem_event(
                workitem.uid,
                workitem.attributes,
                EventType.PROCESSING_COMPLETED,
                work.now,
                qualifier="given-up",
                outcome=Outcome.MAJOR_FAILURE,
                outcome_description=f"{why}: waits for a person",
            )
        )
        extra = {"action": "workitem.given_up", "workitem": workitem.uid, "tries": tries}
        _LOG.error("workitem given up, waits for a person", extra=extra)

    def _hand_over(self, work: WorklistTransaction, old: str, new: str, *, tries: int) -> None:
        """Let watchers, parents and destinations of `old` be those of `new`."""
        succession.carry_watchers(work.connection, old, new)
        succession.move_child(work.connection, old, new)
        if work.origin(new) == Origin():
            work.set_origin(new, work.origin(old))
        dispatch = work.dispatch(new)
        app = dispatch.app or work.dispatch(old).app
        work.set_dispatch(new, replace(dispatch, app=app, tries=max(dispatch.tries, tries)))

    def _give_way(self, work: WorklistTransaction, ours: str, theirs: str) -> None:
        waiting = work.get(ours)
        if waiting is None or waiting.state is not ProcedureStepState.SCHEDULED:
            return
        self._hand_over(work, ours, theirs, tries=work.dispatch(ours).tries)
        command = Withdraw(reason=DUPLICATE_ORDER, text="replaced by another workitem")
        work.apply(ours, command, actor=WORKER)
