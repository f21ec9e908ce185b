# SPDX-License-Identifier: Apache-2.0
"""Looks whether studies are complete, for themselves and for each rule, and keeps what they wait for.

Gathers what ``study/completeness.py`` decides from; asks no archive and waits for nothing. A rule with a
policy of its own may be ready before its study is complete, or keep the study open longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from profiles.order import Order
from task_manager.actor import Source
from task_manager.rules.explain import RuleExplanation, RuleVerdict
from task_manager.rules.model import RuleSet, Verdict
from task_manager.store import evidence, questions, studies
from task_manager.store.database import Connection
from task_manager.store.evidence import Awaited, Look
from task_manager.study.assembly import counts_for_assembly, is_wanted_now, was_complete
from task_manager.study.completeness import (
    Complete,
    CompletenessChange,
    CompletenessPolicy,
    Here,
    OrderWord,
    Times,
    Waiting,
    decide,
)
from task_manager.study.evidence import StudyEvidence
from task_manager.study.model import Evidence, Study
from task_manager.study.sources import Policies

_RUNS = (RuleVerdict.MATCHED, RuleVerdict.REVIEW, RuleVerdict.PASSED_OVER)
_EXAMINED = "CM"  # HL7 table 0038: the order is completed
_SERIES_DETAIL, _INSTANCES_DETAIL = "expected_series", "expected_instances"


class Seen(Protocol):
    """What else is known of a study that is looked at; asked only where it is needed."""

    @property
    def order(self) -> Order | None:
        """Its order."""

    @property
    def explanations(self) -> Sequence[RuleExplanation]:
        """All rules applied to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one look at a study comes to.

    Attributes
    ----------
    whole
        Why the whole study is complete; None if it is not.
    ready
        Rule to why it may run now; all rules where the study is complete.
    news
        Whether something runs that has not run so far, or on other images.
    waiting
        What the study and its rules wait for.
    until
        When to look again.
    images
        How many images are here; where rules are ready and do not run again, how many they ran on.
    questions
        Archive to when it shall be asked.
    """

    whole: Complete | None
    ready: Mapping[str, Complete]
    news: bool
    waiting: tuple[Awaited, ...] = ()
    until: datetime | None = None
    images: int = 0
    questions: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether rules run now."""
        return self.whole is not None or self.news

    def wait_of(self, rule: str) -> str:
        """What a rule waits for, or else the study, in words."""
        found = {one.rule: f"waits for {one.what}" for one in self.waiting}
        return found.get(rule) or found.get("", "")

    def look(self, now: datetime) -> Look:
        """What is kept of it."""
        return Look(
            reason=self.whole.reason if self.whole else "",
            waiting=self.waiting,
            ready=() if self.whole else tuple(sorted(self.ready)),
            instances=self.images,
            looked_at=now,
        )


def changes_of(rules: RuleSet) -> dict[str, CompletenessChange]:
    """Rule to what it wants otherwise than the source of a study, for those that do."""
    return {rule.name: rule.completeness for rule in rules.rules if rule.completeness is not None}


class Completion:
    """Judges studies.

    Parameters
    ----------
    rules
        Names of all rules.
    archives
        Names of the archives that can be asked.
    """

    def __init__(self, policies: Policies, rules: Sequence[str], archives: Sequence[str]) -> None:
        self._policies = policies
        self._rules = tuple(rules)
        self._archives = tuple(archives)

    def judge(self, connection: Connection, study: Study, seen: Seen, now: datetime) -> Judgement:
        """Whether a study in RECEIVING, given with its series, is complete now."""
        images, series = _images(study)
        settled = self._settled(connection, study)
        if settled is not None:
            return Judgement(
                whole=settled, ready=dict.fromkeys(self._rules, settled), news=True, images=images
            )
        policy = self._policies.of(self._sources(connection, study))
        told = evidence.evidence_of(connection, study.study_instance_uid)
        named = any(one.instances for one in told)
        here = Here(
            instances=frozenset(
                evidence.instances_here(connection, study.study_instance_uid) if named else ()
            ),
            series=frozenset(one.series_instance_uid for one in study.series),
            images=images,
            image_series=series,
        )
        facts = _Facts(
            told=told,
            here=here,
            times=Times(
                now=now,
                since=study.receiving_since or study.first_received_at,
                last=study.last_received_at,
            ),
            order=_order_word(seen.order) if self._policies.look_at_orders else None,
        )
        decisions = self._decisions(policy, facts, seen)
        waiting = {rule: one for rule, one in decisions.items() if isinstance(one, Waiting)}
        ready = {rule: one for rule, one in decisions.items() if isinstance(one, Complete) and rule}
        if not waiting:
            whole = decisions[""]
            assert isinstance(whole, Complete)
            return Judgement(whole=whole, ready=ready, news=True, images=images)
        policies = [self._policies.of_rule(rule, policy) for rule in waiting]
        until = min(one.until for one in waiting.values())
        pauses = [self._policies.of_rule(rule, policy).pause for rule in ready]
        paused = facts.times.last + min(pauses) if pauses else now
        ran_on = self._ran_on(connection, study, ready)
        news = bool(ready) and (ran_on is None or (images != ran_on and paused <= now))
        return Judgement(
            whole=None,
            ready=ready,
            news=news,
            waiting=_told_once(waiting),
            until=min(until, paused) if paused > now else until,
            images=images if news or ran_on is None else ran_on,
            questions=self._questions(policies, facts),
        )

    def keep(self, connection: Connection, study_instance_uid: str, judged: Judgement, now: datetime) -> None:
        """Keep why rules run on a study, and what others wait for."""
        evidence.put_looks(connection, {study_instance_uid: judged.look(now)})
        for archive, due in judged.questions.items():
            questions.plan_question(connection, archive, study_instance_uid, due=due)

    def keep_waiting(
        self, connection: Connection, judged: Mapping[str, tuple[datetime, Judgement]], now: datetime
    ) -> None:
        """Keep what studies wait for, each with the deadline at which it was looked at.

        A study that got another deadline meanwhile is looked at then: something came for it.
        """
        waiting = studies.postpone_studies(
            connection, {uid: (due, one.until) for uid, (due, one) in judged.items() if one.until is not None}
        )
        evidence.put_looks(connection, {uid: judged[uid][1].look(now) for uid in waiting})
        for uid in waiting:
            for archive, due in judged[uid][1].questions.items():
                questions.plan_question(connection, archive, uid, due=due)

    def _settled(self, connection: Connection, study: Study) -> Complete | None:
        """Why a study is complete whatever is here of it."""
        if was_complete(study):
            return Complete(
                evidence=study.evidence or Evidence.QUIET_PERIOD,
                reason="it was complete before, and is looked at again for its order",
            )
        if is_wanted_now(study):
            decisions = evidence.decisions_of(connection, study.study_instance_uid)
            who = decisions[-1].actor.name if decisions else ""
            return Complete(evidence=Evidence.PERSON, reason=f"{who or 'a person'} said so")
        if study.receiving_since is None:  # fetched, or open when an earlier release ended
            return Complete(evidence=Evidence.QUIET_PERIOD, reason="nothing more of it was awaited")
        return None

    def _sources(self, connection: Connection, study: Study) -> list[Source]:
        if not self._policies.sources:
            return []
        return [Source.of(one) for one in studies.sources_of(connection, study.study_instance_uid)]

    def _decisions(
        self, policy: CompletenessPolicy, facts: _Facts, seen: Seen
    ) -> dict[str, Complete | Waiting]:
        """The decision for the study itself under an empty name, and for each rule."""
        wants_series = Evidence.REQUIRED_SERIES in policy.evidence
        explained = (
            {one.rule: one for one in seen.explanations} if wants_series or self._policies.rules else {}
        )
        missing = [_missing(one) for one in explained.values() if _may_match(one)]
        for_all = tuple(dict.fromkeys(name for names in missing for name in names)) if missing else None
        whole = facts.decide(policy, for_all)
        decisions = dict.fromkeys(("", *self._rules), whole)
        for rule in self._policies.rules:
            one = explained.get(rule)
            if one is not None and _may_match(one):
                decisions[rule] = facts.decide(self._policies.of_rule(rule, policy), _missing(one))
        return decisions

    def _ran_on(self, connection: Connection, study: Study, ready: Mapping[str, Complete]) -> int | None:
        """On how many images those that are ready ran last; None if some of them did not yet."""
        last = evidence.look_of(connection, study.study_instance_uid) if ready else None
        if last is None or last.looked_at < (study.receiving_since or study.first_received_at):
            return None
        return None if set(ready) - set(last.ready) else last.instances

    def _questions(self, policies: Sequence[CompletenessPolicy], facts: _Facts) -> dict[str, datetime]:
        """Which archives to ask, and when: at the first pause, and then until one says the same twice."""
        found: dict[str, datetime] = {}
        now, last = facts.times.now, facts.times.last
        for policy in policies:
            if Evidence.ARCHIVE not in policy.evidence or now < last + policy.pause:
                continue
            for name in policy.archives or self._archives:
                if name not in self._archives:
                    continue
                answers = [one for one in facts.told if one.kind is Evidence.ARCHIVE and one.source == name]
                told_at = max((one.told_at for one in answers), default=last)
                found[name] = max(now, told_at + policy.ask_every) if answers else now
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """All that a decision is made from."""

    told: Sequence[StudyEvidence]
    here: Here
    times: Times
    order: OrderWord | None

    def decide(
        self, policy: CompletenessPolicy, inputs_missing: tuple[str, ...] | None
    ) -> Complete | Waiting:
        here = Here(
            instances=self.here.instances,
            series=self.here.series,
            images=self.here.images,
            image_series=self.here.image_series,
            inputs_missing=inputs_missing,
        )
        return decide(policy, self.told, here, self.times, self.order)


def _images(study: Study) -> tuple[int, int]:
    """How many instances and series tell of acquisition."""
    counted = [
        one.number_of_instances
        for one in study.series
        if any(counts_for_assembly(uid) for uid in one.sop_class_uids)
    ]
    return sum(counted), len(counted)


def _may_match(explanation: RuleExplanation) -> bool:
    """Whether a rule is about such a study, as far as can be told now."""
    active = explanation.active
    return explanation.when.verdict is not Verdict.FALSE and (
        active is None or active.verdict is not Verdict.FALSE
    )


def _missing(explanation: RuleExplanation) -> tuple[str, ...]:
    """Names of the inputs of a rule that are not there."""
    if explanation.verdict in _RUNS:
        return ()
    names = tuple(one.name for one in explanation.requirements if one.verdict is not Verdict.TRUE)
    return names or (f"what rule {explanation.rule} asks of the study",)


def _order_word(order: Order | None) -> OrderWord | None:
    if order is None:
        return None
    details = dict(order.details)
    return OrderWord(
        completed=order.order_status == _EXAMINED,
        series=_number(details.get(_SERIES_DETAIL, "")),
        instances=_number(details.get(_INSTANCES_DETAIL, "")),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def _told_once(waiting: Mapping[str, Waiting]) -> tuple[Awaited, ...]:
    """What is waited for: of rules only where it is not what the study waits for."""
    of_study = waiting.get("")
    return tuple(
        Awaited(rule=rule, what=one.what, until=one.until)
        for rule, one in waiting.items()
        if not rule or one != of_study
    )
