# SPDX-License-Identifier: Apache-2.0
"""Conditions prepared once, so that a study costs only what has to be looked at in it.

Three-valued logic after Kleene. Every part is looked at even when the verdict is clear already, because
people ask why; only what needs the headers of all images is left out then, and says so. Equal tests of
different rules are done once for each series.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from profiles.codes import Code
from task_manager.rules.attributes import Value, plain
from task_manager.rules.comparison import NUMERIC_VRS, comparable, equal, like, number
from task_manager.rules.explain import ConditionOutcome, shortened
from task_manager.rules.model import (
    All,
    AnyOf,
    Condition,
    Equals,
    Exists,
    FirstKnown,
    HasCode,
    In,
    Like,
    Not,
    Range,
    Reference,
    Regex,
    Test,
    Verdict,
)
from task_manager.rules.pattern import compiled
from task_manager.rules.scope import Scope, is_costly

MASK = "(not shown: patient data)"
_SHOWN_VALUES = 8
_REGEX_CHARACTERS = 1024
_SETTLED = "not looked at: another condition is not met"
_KNOWN = "not needed: known before"
_Run = Callable[[Scope, bool], ConditionOutcome]
_Satisfied = Callable[[Value, str], Verdict]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A condition ready to run.

    Attributes
    ----------
    run
        Gives the outcome in a scope; if told that the verdict is settled, costly parts are left out.
    asked
        The condition in words.
    costly
        Whether it needs the headers of all images.
    """

    run: _Run
    asked: str
    costly: bool

    def left_out(self, why: str) -> ConditionOutcome:
        """The outcome if it is not run."""
        return ConditionOutcome(asked=self.asked, verdict=Verdict.UNKNOWN, note=why)


class Preparation:
    """Prepares the conditions of one rule set; equal tests become one."""

    def __init__(self) -> None:
        self._tests: dict[Test, Prepared] = {}

    def condition(self, condition: Condition) -> Prepared:
        """`condition` and all its parts, prepared."""
        match condition:
            case All(conditions):
                return _all([self.condition(one) for one in conditions])
            case AnyOf(conditions):
                return _any([self.condition(one) for one in conditions])
            case FirstKnown(conditions):
                return _first_known([self.condition(one) for one in conditions])
            case Not(inner):
                return _not(self.condition(inner))
            case _:
                known = self._tests.get(condition)
                if known is None:
                    known = self._tests[condition] = _test(condition, len(self._tests))
                return known

    def asks(self, facts: Container[str]) -> bool:
        """Whether any test asks one of these facts."""
        return any(test.reference.fact in facts for test in self._tests)


def _all(parts: list[Prepared]) -> Prepared:
    asked = "all of" if parts else "always"
    costly = any(part.costly for part in parts)

    def run(scope: Scope, settled: bool) -> ConditionOutcome:
        if not costly:
            outcomes = tuple([part.run(scope, settled) for part in parts])
        else:
            cheap = {at: part.run(scope, settled) for at, part in enumerate(parts) if not part.costly}
            settled = settled or any(one.verdict is Verdict.FALSE for one in cheap.values())
            outcomes = tuple(cheap.get(at) or part.run(scope, settled) for at, part in enumerate(parts))
        return ConditionOutcome(asked=asked, verdict=all_of(one.verdict for one in outcomes), parts=outcomes)

    return Prepared(run, asked, costly)


def _any(parts: list[Prepared]) -> Prepared:
    def run(scope: Scope, settled: bool) -> ConditionOutcome:
        outcomes = tuple([part.run(scope, settled) for part in parts])
        return ConditionOutcome(
            asked="any of", verdict=any_of(one.verdict for one in outcomes), parts=outcomes
        )

    return Prepared(run, "any of", any(part.costly for part in parts))


def _first_known(parts: list[Prepared]) -> Prepared:
    def run(scope: Scope, settled: bool) -> ConditionOutcome:
        verdict = Verdict.UNKNOWN
        outcomes = []
        for part in parts:
            known = verdict is not Verdict.UNKNOWN
            outcomes.append(part.left_out(_KNOWN) if known else part.run(scope, settled))
            verdict = verdict if known else outcomes[-1].verdict
        return ConditionOutcome(asked="first known of", verdict=verdict, parts=tuple(outcomes))

    return Prepared(run, "first known of", any(part.costly for part in parts))


def _not(inner: Prepared) -> Prepared:
    def run(scope: Scope, settled: bool) -> ConditionOutcome:
        part = inner.run(scope, settled)
        return ConditionOutcome(asked="not", verdict=opposite(part.verdict), parts=(part,))

    return Prepared(run, "not", inner.costly)


def _test(test: Test, index: int) -> Prepared:
    reference, asked, costly = test.reference, _asked(test), is_costly(test.reference)
    expected = test.expected if isinstance(test, Exists) else None
    satisfied = _satisfied(test)

    def run(scope: Scope, settled: bool) -> ConditionOutcome:
        known = scope.outcomes.get(index)
        if known is not None:
            return known
        if settled and costly:
            return ConditionOutcome(asked=asked, verdict=Verdict.UNKNOWN, note=_SETTLED)
        seen, note = scope.look(reference)
        if expected is not None:
            verdict = Verdict.TRUE if bool(seen.values) == expected else Verdict.FALSE
        elif not seen.values:
            verdict, note = Verdict.UNKNOWN, note or "no value"
        else:
            verdict = any_of([satisfied(value, seen.vr) for value in seen.values])
            if verdict is Verdict.UNKNOWN:
                note = "the value cannot be read as asked"
        outcome = ConditionOutcome(
            asked=asked, verdict=verdict, seen=shown(seen.values, reference), note=note
        )
        scope.outcomes[index] = outcome
        return outcome

    return Prepared(run, asked, costly)


def _satisfied(test: Test) -> _Satisfied:
    """The test of one value, with all that does not depend on the value done before."""
    match test:
        case Equals():
            return _equal_to((test.value,))
        case In():
            return _equal_to(test.values)
        case Like():
            return lambda value, vr: _verdict(like(plain(value), test.pattern))
        case Regex():
            search = compiled(test.pattern)
            return lambda value, vr: (
                _verdict(search(plain(value))) if len(plain(value)) <= _REGEX_CHARACTERS else Verdict.UNKNOWN
            )
        case HasCode():
            return lambda value, vr: _verdict(
                plain(value) == test.value
                and test.scheme in ("", value.scheme if isinstance(value, Code) else "")
            )
        case Range():
            return lambda value, vr: _within(test, plain(value), vr)
        case Exists():
            return lambda value, vr: _verdict(test.expected)


def _equal_to(wanted: tuple[str, ...]) -> _Satisfied:
    texts = frozenset(one.strip().casefold() for one in wanted)
    numeric = any(number(one) is not None for one in wanted)

    def satisfied(value: Value, vr: str) -> Verdict:
        text = plain(value)
        if numeric and vr in NUMERIC_VRS:
            return _verdict(any(equal(vr, text, one) for one in wanted))
        return _verdict(text.strip().casefold() in texts)

    return satisfied


def _verdict(holds: bool) -> Verdict:
    return Verdict.TRUE if holds else Verdict.FALSE


def _within(test: Range, value: str, vr: str) -> Verdict:
    at = comparable(vr, value)
    if at is None:
        return Verdict.UNKNOWN
    checks = ((operator.gt, test.gt), (operator.ge, test.ge), (operator.lt, test.lt), (operator.le, test.le))
    for holds, bound_text in checks:
        if bound_text is None:
            continue
        bound = comparable(vr, bound_text)
        if bound is None:
            return Verdict.UNKNOWN
        if not holds(at, bound):
            return Verdict.FALSE
    return Verdict.TRUE


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's conjunction."""
    worst = Verdict.TRUE
    for verdict in verdicts:
        if verdict is Verdict.FALSE:
            return Verdict.FALSE
        if verdict is Verdict.UNKNOWN:
            worst = Verdict.UNKNOWN
    return worst


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's disjunction."""
    best = Verdict.FALSE
    for verdict in verdicts:
        if verdict is Verdict.TRUE:
            return Verdict.TRUE
        if verdict is Verdict.UNKNOWN:
            best = Verdict.UNKNOWN
    return best


def opposite(verdict: Verdict) -> Verdict:
    """Kleene's negation."""
    return {Verdict.TRUE: Verdict.FALSE, Verdict.FALSE: Verdict.TRUE}.get(verdict, Verdict.UNKNOWN)


def _asked(test: Test) -> str:
    name = test.reference.text
    if test.reference.steps and test.reference.steps[-1].creator:
        name += f" of '{test.reference.steps[-1].creator}'"
    match test:
        case Equals():
            return f"{name} equals '{test.value}'"
        case In():
            return f"{name} is one of {', '.join(repr(value) for value in test.values)}"
        case Like():
            return f"{name} is like '{test.pattern}'"
        case Regex():
            return f"{name} matches /{test.pattern}/"
        case HasCode():
            return f"{name} has code {test.value}" + (f" of {test.scheme}" if test.scheme else "")
        case Exists():
            return f"{name} has a value" if test.expected else f"{name} has no value"
        case Range():
            bounds = ((">", test.gt), (">=", test.ge), ("<", test.lt), ("<=", test.le))
            return f"{name} " + " and ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)


def shown(values: tuple[Value, ...], reference: Reference) -> tuple[str, ...]:
    """Values as an explanation shows them: shortened, a few at most, masked for patient attributes."""
    if not values:
        return ()
    if reference.is_about_patient:
        return (MASK,)
    told = [_quoted(value) for value in values[:_SHOWN_VALUES]]
    if len(values) > _SHOWN_VALUES:
        told.append(f"and {len(values) - _SHOWN_VALUES} more")
    return tuple(told)


def _quoted(value: Value) -> str:
    if isinstance(value, Code):
        return f"({shortened(value.value)}, {shortened(value.scheme)}, {_quoted(value.meaning)})"
    return f"'{shortened(value)}'"
