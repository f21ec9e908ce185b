# SPDX-License-Identifier: Apache-2.0
"""Which results a destination gets, by its filter; pure. What the filter asks and saw is told in words.

Conditions are those of rules, in three-valued logic: what is unknown does not hold, and is said to be so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiles.order import Order
from task_manager.delivery.policy import ResultFilter
from task_manager.rules.acquisition import NOTHING_KNOWN, Acquisition
from task_manager.rules.evaluate import Evaluator
from task_manager.rules.explain import ConditionOutcome
from task_manager.rules.model import Condition, Rule, RuleSet, Verdict
from task_manager.study.model import Instance, Series, Study, StudyState

_MOST_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What goes, and why what does not go is left out; `why` is empty if all goes."""

    instances: tuple[Instance, ...]
    why: str = ""


class FilterProgram:
    """The filter of one destination, prepared once; may be used by several threads."""

    def __init__(self, results: ResultFilter) -> None:
        self._results = results
        self._when = None if results.when is None else _Prepared(results.when)
        self._objects = None if results.objects is None else _Prepared(results.objects)

    @property
    def asks_study(self) -> bool:
        """Whether it asks anything of the study or its order."""
        return self._when is not None

    def chosen(
        self,
        instances: Sequence[Instance],
        *,
        app: str,
        rule: str,
        study: Study | None,
        order: Order | None,
        acquisition: Acquisition = NOTHING_KNOWN,
    ) -> Chosen:
        """Which of the objects of one result go.

        Parameters
        ----------
        app, rule
            What made the result and what asked for it; empty for work of others.
        study
            What the result is of, where :attr:`asks_study`.
        """
        for what, given, wanted in (
            ("app", app, self._results.apps),
            ("rule", rule, self._results.rules),
        ):
            if wanted and given not in wanted:
                names = ", ".join(wanted)
                why = f"filter: {what} {given or 'unknown'} is none of {names}"
                return Chosen(instances=(), why=why)
        if self._when is not None:
            outcome = self._when.outcome(study, order, acquisition) if study is not None else None
            if outcome is None or outcome.verdict is not Verdict.TRUE:
                said = _said(outcome) if outcome is not None else "the study is not here"
                return Chosen(instances=(), why=f"filter: {said}")
        if self._objects is None:
            return Chosen(instances=tuple(instances))
        kept, left_out = [], []
        for instance in instances:
            outcome = self._objects.outcome(_alone(instance), order, NOTHING_KNOWN)
            if outcome.verdict is Verdict.TRUE:
                kept.append(instance)
            else:
                left_out.append(outcome)
        if not left_out:
            return Chosen(instances=tuple(kept))
        why = f"filter left {len(left_out)} of {len(instances)} objects out: {_said(left_out[0])}"
        return Chosen(instances=tuple(kept), why=why)


class _Prepared:
    """One condition, asked through a rule of its own."""

    def __init__(self, condition: Condition) -> None:
        rule = Rule(name="filter", app="", when=condition, series=())
        self._evaluator = Evaluator(RuleSet(version="", rules=(rule,)))

    def outcome(self, study: Study, order: Order | None, acquisition: Acquisition) -> ConditionOutcome:
        """The condition with what was seen."""
        [explanation] = self._evaluator.explain(study, order, acquisition)
        return explanation.when


def _alone(instance: Instance) -> Study:
    """One object as conditions see it: a study of it alone."""
    series = Series(
        series_instance_uid=instance.series_instance_uid,
        attributes=instance.attributes,
        sop_class_uids=(instance.sop_class_uid,),
        number_of_instances=1,
    )
    return Study(
        study_instance_uid=instance.study_instance_uid,
        state=StudyState.COMPLETE,
        revision=1,
        attributes=instance.attributes,
        series=(series,),
        first_received_at=instance.received_at,
        last_received_at=instance.received_at,
        deadline_at=None,
    )


def _said(outcome: ConditionOutcome) -> str:
    """The conditions that do not hold, in words; values of patients are masked in them already."""
    told = [
        f"{one.asked} is {one.verdict.value} ({', '.join(one.seen) or one.note or 'no value'})"
        for one in _failing(outcome)
    ]
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more


def _failing(outcome: ConditionOutcome) -> Iterator[ConditionOutcome]:
    """The parts that have the verdict of the whole: they made it."""
    if not outcome.parts or outcome.asked == "not":
        yield outcome.parts[0] if outcome.parts else outcome
    else:
        for part in outcome.parts:
            if part.verdict is outcome.verdict:
                yield from _failing(part)
