# SPDX-License-Identifier: Apache-2.0
"""A study as one transaction sees it: its patient, its order and what rules make of it.

Each is found out once, and only if somebody asks: most looks at a study need none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from profiles.order import Order
from profiles.request import Trigger
from task_manager.rules.explain import RuleExplanation
from task_manager.store import identities
from task_manager.store.database import Connection
from task_manager.study.model import Study

Joined = tuple[str, Order | None, tuple[Trigger, ...]]
"""The key of an order (empty without one), the order, and all that asked for the study."""


class SeenStudy:
    """A study in one transaction.

    Parameters
    ----------
    join
        Finds the order of the study and all that asked for it.
    explain
        Applies all rules to the study and its order.
    kept
        What was made of the study before it was locked, to be used if nothing has changed.
    """

    def __init__(
        self,
        connection: Connection,
        known: Study,
        *,
        join: Callable[[Study], Joined],
        explain: Callable[[Study, Order | None, tuple[Trigger, ...]], tuple[RuleExplanation, ...]],
        kept: KeptView | None = None,
    ) -> None:
        self._connection = connection
        self._known = known
        self._join = join
        self._explain = explain
        self._kept = kept

    @cached_property
    def study(self) -> Study:
        """The study as its patient is known now."""
        return identities.identified(self._connection, self._known)

    @cached_property
    def _joined(self) -> Joined:
        return self._join(self.study)

    @property
    def order_key(self) -> str:
        """The key of its order; empty if there is none."""
        return self._joined[0]

    @property
    def order(self) -> Order | None:
        """Its order."""
        return self._joined[1]

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """All that asked for it."""
        return self._joined[2]

    @cached_property
    def explanations(self) -> tuple[RuleExplanation, ...]:
        """Every rule applied to it."""
        if self._kept is not None and self._kept.is_of(self):
            return self._kept.explanations
        return self._explain(self.study, self.order, self.triggers)

    @property
    def was_explained(self) -> bool:
        """Whether rules were applied."""
        return "explanations" in vars(self)

    def kept(self) -> KeptView:
        """What rules make of it, to be used after this transaction."""
        return KeptView(
            study=self.study, order=self.order, triggers=self.triggers, explanations=self.explanations
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptView:
    """What rules made of a study before it was locked."""

    study: Study
    order: Order | None
    triggers: tuple[Trigger, ...]
    explanations: tuple[RuleExplanation, ...]

    def is_of(self, seen: SeenStudy) -> bool:
        """Whether nothing that rules look at has changed since."""
        return (seen.order, seen.triggers, seen.study.attributes, seen.study.series) == (
            self.order,
            self.triggers,
            self.study.attributes,
            self.study.series,
        )
