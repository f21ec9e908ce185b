# SPDX-License-Identifier: Apache-2.0
"""What a person may decide about a study: complete it now, hold it, release it, discard it; and the list.

Every decision is kept with who made it and why; nothing that was received is ever deleted by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.rule_work import withdraw_all
from task_manager.store import evidence, reviews, studies
from task_manager.store.database import Connection, Database
from task_manager.store.evidence import Look, StudyDecision
from task_manager.study.model import Evidence, Study, StudyState
from task_manager.worklist import StoredWorklist

_LOG = logging.getLogger(__name__)
_LONGEST_REASON = 500
_OPEN = (StudyState.RECEIVING, StudyState.HELD)
_DISCARDED = "the study was discarded"


class StudyAction(StrEnum):
    """What a person may decide."""

    FORCE = "force"
    HOLD = "hold"
    RELEASE = "release"
    DISCARD = "discard"


_FROM = {
    StudyAction.FORCE: (StudyState.RECEIVING, StudyState.HELD, StudyState.KEPT),
    StudyAction.HOLD: (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.KEPT),
    StudyAction.RELEASE: (StudyState.HELD, StudyState.DISCARDED),
    StudyAction.DISCARD: (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.KEPT, StudyState.HELD),
}
_DONE = {StudyAction.HOLD: StudyState.HELD, StudyAction.DISCARD: StudyState.DISCARDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStudy:
    """One study of a list; `look` is what came of the last look at it, None if nobody has looked."""

    study: Study
    look: Look | None


class StudyDecisions:
    """Carries out what a person decides.

    Parameters
    ----------
    wake
        Called after each decision: a study may have to be looked at.
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

    def listed(self, states: Sequence[StudyState] = _OPEN, *, limit: int = 100) -> list[ListedStudy]:
        """Studies in some states, those that are looked at next first; without names, those that are open."""
        return listed_studies(self._database, states, limit=limit)

    def decide(
        self, study_instance_uid: str, action: StudyAction, *, actor: Actor, reason: str = ""
    ) -> Accepted | Refused:
        """Carry out a decision, and keep who made it; the same again changes nothing.

        Force completes a study that is not, whatever it waits for. Hold keeps it from being complete until it
        is released. Discard lets nothing run any more and withdraws what was asked for; what is received
        later is kept, and a release takes the study up again.

        Raises
        ------
        StoreError
            If the database fails; nothing was decided.
        """
        now = self._clock()
        with self._database.write() as connection:
            study = studies.locked_study(connection, study_instance_uid)
            if study is None:
                fault = Fault("StudyInstanceUID", "names no study here")
                return Refused(RefusalCode.NO_SUCH_INSTANCE, (fault,))
            if study.state is _DONE.get(action):
                return Accepted(uid=study_instance_uid, warnings=(WarningCode.DUPLICATE,))
            if study.state not in _FROM[action]:
                fault = Fault("StudyInstanceUID", f"is of a study that is {study.state.value}")
                return Refused(RefusalCode.MAY_NOT_BE_UPDATED, (fault,))
            self._carry_out(connection, study, action, actor, now)
            decision = StudyDecision(
                action=action.value, actor=actor, reason=reason[:_LONGEST_REASON], decided_at=now
            )
            evidence.add_decision(connection, study_instance_uid, decision)
        extra = {
            "action": f"study.{action.value}",
            "study": study_instance_uid,
            "by": actor.name or actor.door,
            "address": actor.address,
        }
        _LOG.warning("a person decided about a study", extra=extra)
        self._wake()
        return Accepted(uid=study_instance_uid)

    def _carry_out(
        self, connection: Connection, study: Study, action: StudyAction, actor: Actor, now: datetime
    ) -> None:
        if action is StudyAction.FORCE:
            after = replace(study, state=StudyState.RECEIVING, deadline_at=now, evidence=Evidence.PERSON)
        elif action is StudyAction.RELEASE:
            since = None if study.receiving_since is None else now
            after = replace(study, state=StudyState.RECEIVING, deadline_at=now, receiving_since=since)
        else:
            forgotten = study.state is StudyState.RECEIVING and study.completed_at is None
            after = replace(
                study,
                state=_DONE[action],
                deadline_at=None,
                evidence=None if forgotten else study.evidence,
            )
        studies.decide_study(connection, after)
        if action is StudyAction.DISCARD:
            reviews.settle_reviews(connection, study.study_instance_uid, now)
            with self._worklist.within(connection, now) as work:
                withdraw_all(work, study.study_instance_uid, _DISCARDED, actor=actor)


def listed_studies(
    database: Database, states: Sequence[StudyState] = _OPEN, *, limit: int = 100
) -> list[ListedStudy]:
    """Studies in some states, those that are looked at next first, with what came of looking."""
    with database.read() as connection:
        found = studies.studies_in(connection, states, limit=limit)
        looks = evidence.looks_of(connection, [one.study_instance_uid for one in found])
    return [ListedStudy(study=one, look=looks.get(one.study_instance_uid)) for one in found]
