# SPDX-License-Identifier: Apache-2.0
"""What a condition finds in a study or a series, and its verdict in three-valued logic.

Every part is looked at even when the verdict is clear already, because people ask why. Nothing fails: what
cannot be read as asked is unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

from profiles.codes import Code
from profiles.dicom_json import text
from profiles.order import Order
from task_manager.rules.attributes import Seen, Value, data_set_values, order_value
from task_manager.rules.comparison import comparable, equal, like
from task_manager.rules.explain import ConditionOutcome
from task_manager.rules.model import (
    All,
    AnyOf,
    Condition,
    Equals,
    Exists,
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
from task_manager.study.model import Series, Study

MASK = "(not shown: patient data)"
_SHOWN_CHARACTERS = 64
_SHOWN_VALUES = 8
_REGEX_CHARACTERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where values are looked up.

    In a series: its own header, then the study's. In a study: its attributes, then those of all its series
    together, so a condition on a series attribute holds if any series satisfies it.
    """

    study: Study
    series: Series | None
    order: Order | None

    def look(self, reference: Reference) -> tuple[Seen, str]:
        """What is found, and a note on where if that is not plain."""
        if reference.order_field:
            seen = order_value(self.order, reference.order_field)
            return seen, "there is no order" if self.order is None else ""
        counted = self._counted(reference)
        if counted:
            return Seen(counted, reference.vr), ""
        sources = [self.series.attributes] if self.series is not None else []
        for attributes in (*sources, self.study.attributes):
            seen = data_set_values(attributes, reference.steps)
            if seen.values:
                return seen, ""
        if self.series is not None:
            return Seen(vr=reference.vr), ""
        found = [data_set_values(series.attributes, reference.steps) for series in self.study.series]
        values = tuple(dict.fromkeys(value for seen in found for value in seen.values))
        vr = next((seen.vr for seen in found if seen.values), reference.vr)
        return Seen(values, vr), "of all series" if values else ""

    def _counted(self, reference: Reference) -> tuple[str, ...]:
        """Query attributes that are no part of any header (PS3.4 C.3.4)."""
        if len(reference.steps) != 1:
            return ()
        every = self.study.series if self.series is None else (self.series,)
        match reference.steps[0].keyword:
            case "NumberOfStudyRelatedSeries":
                return (str(len(self.study.series)),)
            case "NumberOfStudyRelatedInstances":
                return (str(sum(series.number_of_instances for series in self.study.series)),)
            case "NumberOfSeriesRelatedInstances":
                return tuple(str(series.number_of_instances) for series in every)
            case "ModalitiesInStudy":
                modalities = (text(series.attributes, "Modality") for series in self.study.series)
                return tuple(dict.fromkeys(modality for modality in modalities if modality))
            case "SOPClassesInStudy":
                return tuple(
                    dict.fromkeys(uid for series in self.study.series for uid in series.sop_class_uids)
                )
            case "SOPClassUID":
                return tuple(dict.fromkeys(uid for series in every for uid in series.sop_class_uids))
        return ()


def condition_outcome(condition: Condition, scope: Scope) -> ConditionOutcome:
    """The verdict of `condition` in `scope`, with every part of it."""
    match condition:
        case All(conditions):
            parts = tuple(condition_outcome(one, scope) for one in conditions)
            asked = "all of" if parts else "always"
            return ConditionOutcome(asked=asked, verdict=all_of(part.verdict for part in parts), parts=parts)
        case AnyOf(conditions):
            parts = tuple(condition_outcome(one, scope) for one in conditions)
            return ConditionOutcome(
                asked="any of", verdict=any_of(part.verdict for part in parts), parts=parts
            )
        case Not(inner):
            part = condition_outcome(inner, scope)
            return ConditionOutcome(asked="not", verdict=opposite(part.verdict), parts=(part,))
        case _:
            return _test_outcome(condition, scope)


def _test_outcome(test: Test, scope: Scope) -> ConditionOutcome:
    seen, note = scope.look(test.reference)
    if isinstance(test, Exists):
        verdict = Verdict.TRUE if bool(seen.values) == test.expected else Verdict.FALSE
    elif not seen.values:
        verdict, note = Verdict.UNKNOWN, note or "no value"
    else:
        verdicts = [_satisfies(test, value, seen.vr) for value in seen.values]
        verdict = any_of(verdicts)
        if verdict is Verdict.UNKNOWN:
            note = "the value cannot be read as asked"
    return ConditionOutcome(
        asked=_asked(test), verdict=verdict, seen=_shown(seen.values, test.reference), note=note
    )


def _satisfies(test: Test, value: Value, vr: str) -> Verdict:
    plain = value.value if isinstance(value, Code) else value
    match test:
        case Equals():
            holds = equal(vr, plain, test.value)
        case In():
            holds = any(equal(vr, plain, wanted) for wanted in test.values)
        case Like():
            holds = like(plain, test.pattern)
        case Regex():
            if len(plain) > _REGEX_CHARACTERS:
                return Verdict.UNKNOWN
            holds = compiled(test.pattern)(plain)
        case HasCode():
            scheme = value.scheme if isinstance(value, Code) else ""
            holds = plain == test.value and test.scheme in ("", scheme)
        case Range():
            return _within(test, plain, vr)
        case Exists():
            holds = test.expected
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
    found = set(verdicts)
    if Verdict.FALSE in found:
        return Verdict.FALSE
    return Verdict.UNKNOWN if Verdict.UNKNOWN in found else Verdict.TRUE


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's disjunction."""
    return opposite(all_of(opposite(verdict) for verdict in verdicts))


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


def _shown(values: tuple[Value, ...], reference: Reference) -> tuple[str, ...]:
    if not values:
        return ()
    if reference.is_about_patient:
        return (MASK,)
    shown = [_quoted(value) for value in values[:_SHOWN_VALUES]]
    if len(values) > _SHOWN_VALUES:
        shown.append(f"and {len(values) - _SHOWN_VALUES} more")
    return tuple(shown)


def _quoted(value: Value) -> str:
    if isinstance(value, Code):
        return f"({shortened(value.value)}, {shortened(value.scheme)}, {_quoted(value.meaning)})"
    return f"'{shortened(value)}'"


def shortened(value: str) -> str:
    """`value` without control characters, at most 64 characters."""
    shown = value if len(value) <= _SHOWN_CHARACTERS else value[: _SHOWN_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "·" for character in shown)
