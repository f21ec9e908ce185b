# SPDX-License-Identifier: Apache-2.0
"""Objects that policies remove: found a study at a time, decided again under its lock, unlinked later.

The record goes first and says so; the file goes when nobody can still be about to read it. A crash between
the two leaves a removal that is finished later, never a record without its file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from profiles.sole.events import EventType, OperationalEvent
from task_manager.disk import HeldObject, ObjectPolicy, StudyFacts, Wanted, first_due, removable
from task_manager.errors import StoreError, facts_of
from task_manager.store import checksums, jobs, removals, wanted
from task_manager.store.checksums import checksum_of
from task_manager.store.database import Connection, Database
from task_manager.store.objects import FileObjectStore

_LOG = logging.getLogger(__name__)
GRACE = timedelta(minutes=10)
"""How long a file stays after its record said that it is removed: who found it before may still read it."""
_STUDIES_AT_ONCE = 200
_OBJECTS_AT_ONCE = 200
_FILES_AT_ONCE = 50
_PLANS_HOLD = timedelta(seconds=30)
_BETWEEN_ROUNDS = timedelta(hours=1)
_BETWEEN_STEPS_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalPlan:
    """What policies would do with a study now.

    Attributes
    ----------
    objects
        By name of the policy, what it is about.
    wanted
        What keeps the study; where there is anything, nothing of it is removed.
    """

    facts: StudyFacts
    objects: dict[str, list[HeldObject]]

    @property
    def wanted(self) -> frozenset[Wanted]:
        """What keeps the study."""
        return self.facts.wanted

    @property
    def size(self) -> int:
        """Bytes of all objects together."""
        return sum(one.size for held in self.objects.values() for one in held)


class ObjectRetention:
    """The chore that removes objects by policy.

    Parameters
    ----------
    sinks
        Names of the event repositories that are told.
    committing
        SOP Instance UIDs whose storage commitment is owed.
    grace
        See :data:`GRACE`.
    """

    name = "retention"

    def __init__(
        self,
        database: Database,
        objects: FileObjectStore,
        policies: Sequence[ObjectPolicy],
        *,
        sinks: Sequence[str] = (),
        committing: Callable[[], frozenset[str]] = frozenset,
        clock: Callable[[], datetime],
        grace: timedelta = GRACE,
    ) -> None:
        self._database = database
        self._objects = objects
        self._policies = tuple(policies)
        self._sinks = tuple(sinks)
        self._committing = committing
        self._clock = clock
        self._grace = grace
        self._plans: Iterator[RemovalPlan] | None = None
        self._next_round: datetime | None = None

    def step(self) -> float:
        """Remove something of one study, or finish removals; seconds until the next.

        Raises
        ------
        StoreError
            If disk or database fail.
        """
        if self.finish_due():
            return _BETWEEN_STEPS_S
        if self._plans is None:
            if self._next_round is not None and self._clock() < self._next_round:
                return self._grace.total_seconds()
            self._plans = self.plans()
        try:
            plan = next(self._plans, None)
        except StoreError:
            self._plans = None
            raise
        if plan is None:
            self._plans, self._next_round = None, self._clock() + _BETWEEN_ROUNDS
            return self._grace.total_seconds()
        if not plan.wanted:
            self.remove(plan)
        return _BETWEEN_STEPS_S

    def run_once(self) -> tuple[int, int]:
        """All that policies ask for now, and what is due to be unlinked; how many objects, and bytes.

        Raises
        ------
        StoreError
            If disk or database fail; what was removed until then stays removed.
        """
        number = size = 0
        for plan in self.plans():
            if not plan.wanted:
                removed = self.remove(plan)
                number += len(removed)
                size += sum(one.size for one in removed)
        while self.finish_due():
            pass
        return number, size

    def plans(self) -> Iterator[RemovalPlan]:
        """What policies are about now, oldest study first, also what something keeps; changes nothing.

        Raises
        ------
        StoreError
            If the database fails.
        """
        before = first_due(self._policies, self._clock())
        position: tuple[datetime, str] | None = None
        while before is not None:
            now = self._clock()
            found: list[tuple[tuple[datetime, str], RemovalPlan]] = []
            with self._database.read() as connection:
                page = removals.old_studies(connection, before, after=position, limit=_STUDIES_AT_ONCE)
                for place in page:
                    plan = self._plan(connection, place[1], now)
                    if plan is not None:
                        found.append((place, plan))
                elsewhere = (
                    wanted.needed_by_others(connection, [uid for (_, uid), _ in found], now)
                    if found
                    else set()
                )
            committing = self._committing() if found else frozenset()
            for place, plan in found:
                more = set(plan.wanted)
                if plan.facts.study_instance_uid in elsewhere:
                    more.add(Wanted.INPUT)
                if any(one.sop_instance_uid in committing for held in plan.objects.values() for one in held):
                    more.add(Wanted.COMMITMENT)
                yield replace(plan, facts=replace(plan.facts, wanted=frozenset(more)))
                if self._clock() - now > _PLANS_HOLD:  # others may need by now what they did not then
                    position = place
                    break
            else:
                if len(page) < _STUDIES_AT_ONCE:
                    return
                position = page[-1]

    def remove(self, plan: RemovalPlan) -> list[HeldObject]:
        """Remove what a plan is about, unless something keeps it by now; what was removed.

        Raises
        ------
        StoreError
            If disk or database fail.
        """
        removed: list[HeldObject] = []
        for policy, held in plan.objects.items():
            for start in range(0, len(held), _OBJECTS_AT_ONCE):
                some = held[start : start + _OBJECTS_AT_ONCE]
                removed += self._remove(plan.facts.study_instance_uid, policy, some)
        if removed:
            _LOG.info(
                "objects removed by policy",
                extra={
                    "action": "retention.removed",
                    "study": plan.facts.study_instance_uid,
                    "policies": sorted(plan.objects),
                    "objects": len(removed),
                    "bytes": sum(one.size for one in removed),
                },
            )
        return removed

    def finish_due(self) -> int:
        """Unlink files whose time has come; how many removals were finished.

        Raises
        ------
        StoreError
            If disk or database fail.
        """
        now = self._clock()
        before = now - self._grace
        with self._database.read() as connection:
            if not removals.removals_to_finish(connection, before, limit=1):
                return 0
        # nobody else at the same time: a name that is free again may stand for what came since
        with self._database.write() as connection:
            due = removals.removals_to_finish(connection, before, limit=_FILES_AT_ONCE, lock=True)
            done = [one for one in due if self._is_gone(connection, one)]
            removals.finish_removals(connection, done, now)
        return len(done)

    def _is_gone(self, connection: Connection, removal: removals.Removal) -> bool:
        """Unlink the file of a removal; whether nothing is left to do for it."""
        try:
            settled = self._objects.is_settled(removal.path)
            # asked after the look at the file: what came again under the same name has its record by now
            if settled and not removals.stands_for(connection, removal):
                self._objects.remove(removal.path)
        except StoreError as error:  # the others go, and this one is tried again
            _LOG.error(
                "a removed object cannot be unlinked",
                extra={"action": "retention.unlink_failed", "path": removal.path, **facts_of(error)},
            )
            return False
        return True

    def _plan(self, connection: Connection, study_instance_uid: str, now: datetime) -> RemovalPlan | None:
        held = removals.held_objects(connection, study_instance_uid)
        facts = wanted.study_facts(connection, study_instance_uid, now) if held else None
        if facts is None:
            return None
        found = removable(self._policies, facts, held, now)
        return RemovalPlan(facts=facts, objects=found) if found else None

    def _remove(self, study: str, policy: str, held: Sequence[HeldObject]) -> list[HeldObject]:
        now = self._clock()
        summed = [(one, checksum) for one in held if (checksum := self._checksum(one.path)) is not None]
        if not summed:
            return []
        with self._database.write() as connection:
            facts = wanted.study_facts(connection, study, now, lock=True)
            if facts is None or facts.wanted:
                return []
            here = {one.path for one in removals.held_objects(connection, study)}
            summed = [(one, checksum) for one, checksum in summed if one.path in here]
            if not summed:
                return []
            removals.remove_instances(connection, study, summed, policy=policy, now=now)
            removed = [one for one, _ in summed]
            jobs.record_events(connection, [_event(study, policy, removed, now)], self._sinks, now)
        return removed

    def _checksum(self, path: str) -> str | None:
        """Of the data set, so that it is known when it comes again; what cannot be read (None) stays."""
        with self._database.read() as connection:
            kept = checksums.kept_checksum(connection, path)
        if kept is not None:
            return kept.data_set_sha256
        try:
            return checksum_of(self._objects.absolute(path)).data_set_sha256
        except OSError:
            return None


def _event(study: str, policy: str, removed: Sequence[HeldObject], now: datetime) -> OperationalEvent:
    return OperationalEvent(
        key=f"removed:{study}:{removed[0].path}:{now.isoformat()}",
        type=EventType.INSTANCES_REMOVED,
        occurred_at=now,
        outcome_description=f"removed by policy {policy}",
        function="retention",
        study_instance_uid=study,
        instances=tuple((one.sop_class_uid, one.sop_instance_uid) for one in removed),
    )
