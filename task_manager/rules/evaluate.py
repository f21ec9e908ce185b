# SPDX-License-Identifier: Apache-2.0
"""Rules applied to a study and its order: pure, complete, in three-valued logic.

A missing value is unknown; a rule runs only if it is true. Equal inputs give equal outputs. Who applies one
rule set to many studies keeps an :class:`Evaluator`, which prepares it once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from profiles.order import Order, Priority
from profiles.request import IMAGES_CAME, Trigger
from task_manager.rules.acquisition import NOTHING_KNOWN, Acquisition
from task_manager.rules.explain import RuleExplanation, RuleVerdict
from task_manager.rules.facts import TRIGGER_FACTS
from task_manager.rules.model import Rule, RuleSet, Verdict
from task_manager.rules.program import Preparation, all_of
from task_manager.rules.scope import World
from task_manager.rules.selection import Selection
from task_manager.rules.windows import windows_outcome
from task_manager.study.model import Study

_RULE_VERDICTS = {
    Verdict.TRUE: RuleVerdict.MATCHED,
    Verdict.FALSE: RuleVerdict.NOT_MATCHED,
    Verdict.UNKNOWN: RuleVerdict.UNKNOWN,
}


class Evaluator:
    """One rule set, prepared. May be used by several threads at once.

    Attributes
    ----------
    looks_at_triggers
        Whether any rule asks who asked for a study.
    """

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        preparation = Preparation()
        self._prepared = [_PreparedRule(rule, rules.version, preparation) for rule in rules.rules]
        self.looks_at_triggers = preparation.asks(TRIGGER_FACTS)

    @property
    def is_costly(self) -> bool:
        """Whether a rule may need the headers of all images of a series."""
        return any(one.is_costly for one in self._prepared)

    def explain(
        self,
        study: Study,
        order: Order | None,
        acquisition: Acquisition = NOTHING_KNOWN,
        *,
        triggers: Sequence[Trigger] = (IMAGES_CAME,),
        approved: Collection[str] = (),
    ) -> tuple[RuleExplanation, ...]:
        """Every rule with its verdict and all that was looked at, in the order of the rule set.

        Parameters
        ----------
        acquisition
            Where senders and the headers of all images are found, if a rule asks for them.
        triggers
            What asked for the study, the arrival of its images among them.
        approved
            Names of rules that a person let run though they have many candidates.
        """
        world = World(study, order, acquisition, self.rules.classifiers, triggers)
        found: list[RuleExplanation] = []
        first: dict[str, str] = {}
        for prepared in self._prepared:
            one = prepared.explain(world, prepared.rule.name in approved)
            rule = prepared.rule
            if rule.first_match and one.verdict in (RuleVerdict.MATCHED, RuleVerdict.REVIEW):
                before = first.setdefault(rule.group, rule.name)
                if before != rule.name:
                    note = f"rule {before} comes first, and only the first of its file runs"
                    one = replace(one, verdict=RuleVerdict.PASSED_OVER, note=note)
            found.append(one)
        return tuple(found)


class _PreparedRule:
    """One rule with its conditions prepared."""

    def __init__(self, rule: Rule, version: str, preparation: Preparation) -> None:
        self.rule = rule
        self._version = f"{rule.label} ({version})" if rule.label else version
        self._when = preparation.condition(rule.when)
        self._selections = [Selection(one, preparation) for one in rule.series]
        self.is_costly = self._when.costly or any(one.is_costly for one in self._selections)

    def explain(self, world: World, approved: bool) -> RuleExplanation:
        active = (
            windows_outcome(self.rule.active, world.study.first_received_at) if self.rule.active else None
        )
        inactive = active is not None and active.verdict is Verdict.FALSE
        when = self._when.run(world.whole, inactive)
        settled = inactive or when.verdict is Verdict.FALSE
        taken: dict[str, tuple[str, ...]] = {}
        requirements = []
        for selection in self._selections:
            outcome = selection.outcome(world, settled=settled, approved=approved, taken=taken)
            settled = settled or outcome.verdict is Verdict.FALSE
            taken[outcome.name] = outcome.selected
            requirements.append(outcome)
        whole = all_of(
            [
                *([active.verdict] if active is not None else ()),
                when.verdict,
                *(one.verdict for one in requirements),
            ]
        )
        verdict = _RULE_VERDICTS[whole]
        if verdict is RuleVerdict.MATCHED and any(one.review for one in requirements):
            verdict = RuleVerdict.REVIEW
        return RuleExplanation(
            rule=self.rule.name,
            app=self.rule.app,
            source=self.rule.source,
            rules_version=self._version,
            verdict=verdict,
            when=when,
            requirements=tuple(requirements),
            active=active,
            note="a person let it run" if approved and verdict is RuleVerdict.MATCHED else "",
        )


def evaluate(
    rules: RuleSet, study: Study, order: Order | None, acquisition: Acquisition = NOTHING_KNOWN
) -> tuple[RuleExplanation, ...]:
    """What :meth:`Evaluator.explain` tells, for one study."""
    return Evaluator(rules).explain(study, order, acquisition)


def effective_priority(rule: Rule, order: Order | None, default: Priority = Priority.MEDIUM) -> Priority:
    """Priority of the workitem a rule makes: its own, else the order's, else `default`."""
    if rule.priority is not None:
        return rule.priority
    return order.priority if order is not None else default
