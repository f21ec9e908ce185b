# SPDX-License-Identifier: Apache-2.0
"""Rules applied to a study and its order: pure, complete, in three-valued logic.

Every condition is evaluated even when the verdict is clear already, because people ask why. A missing value
is unknown; a rule runs only if it is true. Equal inputs give equal outputs: ties between series are broken
by Series Number, then by Series Instance UID.
"""

from __future__ import annotations

from profiles.codes import Code
from profiles.dicom_json import text
from profiles.order import Order, Priority
from task_manager.rules.attributes import Seen
from task_manager.rules.comparison import comparable, like, number
from task_manager.rules.explain import (
    ConditionOutcome,
    RequirementOutcome,
    RuleExplanation,
    RuleVerdict,
    SeriesOutcome,
)
from task_manager.rules.model import Direction, Preference, Rule, RuleSet, SeriesRequirement, Take, Verdict
from task_manager.rules.scope import Scope, all_of, condition_outcome, shortened
from task_manager.study.model import Series, Study

_RULE_VERDICTS = {
    Verdict.TRUE: RuleVerdict.MATCHED,
    Verdict.FALSE: RuleVerdict.NOT_MATCHED,
    Verdict.UNKNOWN: RuleVerdict.UNKNOWN,
}


def evaluate(rules: RuleSet, study: Study, order: Order | None) -> tuple[RuleExplanation, ...]:
    """Every rule with its verdict and all that was looked at, in the order of the rule set."""
    return tuple(_explain(rule, rules.version, study, order) for rule in rules.rules)


def effective_priority(rule: Rule, order: Order | None, default: Priority = Priority.MEDIUM) -> Priority:
    """Priority of the workitem a rule makes: its own, else the order's, else `default`."""
    if rule.priority is not None:
        return rule.priority
    return order.priority if order is not None else default


def _explain(rule: Rule, version: str, study: Study, order: Order | None) -> RuleExplanation:
    when = condition_outcome(rule.when, Scope(study=study, series=None, order=order))
    requirements = tuple(_requirement(one, study, order) for one in rule.series)
    whole = all_of([when.verdict, *(one.verdict for one in requirements)])
    return RuleExplanation(
        rule=rule.name,
        app=rule.app,
        source=rule.source,
        rules_version=version,
        verdict=_RULE_VERDICTS[whole],
        when=when,
        requirements=requirements,
    )


def _requirement(requirement: SeriesRequirement, study: Study, order: Order | None) -> RequirementOutcome:
    outcomes = {
        series.series_instance_uid: _all_of_series(requirement, series, study, order)
        for series in study.series
    }
    candidates = sorted(
        (one for one in study.series if outcomes[one.series_instance_uid].verdict is Verdict.TRUE),
        key=lambda series: _rank(series, requirement.prefer, study),
    )
    chosen = candidates if requirement.take is Take.ALL else candidates[:1]
    selected = tuple(series.series_instance_uid for series in chosen)
    verdict = (
        Verdict.TRUE
        if selected
        else (
            Verdict.UNKNOWN if any(o.verdict is Verdict.UNKNOWN for o in outcomes.values()) else Verdict.FALSE
        )
    )
    return RequirementOutcome(
        name=requirement.name,
        verdict=verdict,
        selected=selected,
        series=tuple(
            SeriesOutcome(
                series_instance_uid=series.series_instance_uid,
                label=_label(series),
                verdict=outcomes[series.series_instance_uid].verdict,
                selected=series.series_instance_uid in selected,
                reason=_reason(series, outcomes, [c.series_instance_uid for c in candidates], requirement),
                where=outcomes[series.series_instance_uid],
            )
            for series in study.series
        ),
    )


def _all_of_series(
    requirement: SeriesRequirement, series: Series, study: Study, order: Order | None
) -> ConditionOutcome:
    """`where` and the number of instances as one outcome."""
    where = condition_outcome(requirement.where, Scope(study=study, series=series, order=order))
    count = series.number_of_instances
    most = requirement.max_instances
    enough = requirement.min_instances <= count and (most is None or count <= most)
    counted = ConditionOutcome(
        asked=f"at least {requirement.min_instances} instances" + (f", at most {most}" if most else ""),
        verdict=Verdict.TRUE if enough else Verdict.FALSE,
        seen=(str(count),),
    )
    parts = (*where.parts, counted) if where.asked in ("all of", "always") else (where, counted)
    return ConditionOutcome(asked="all of", verdict=all_of(part.verdict for part in parts), parts=parts)


def _reason(
    series: Series,
    outcomes: dict[str, ConditionOutcome],
    candidates: list[str],
    requirement: SeriesRequirement,
) -> str:
    uid = series.series_instance_uid
    if uid not in candidates:
        unknown = outcomes[uid].verdict is Verdict.UNKNOWN
        return "not selected: values are missing" if unknown else "not selected: a condition is not met"
    if len(candidates) == 1:
        return "selected: the only candidate"
    if requirement.take is Take.ALL:
        return f"selected: one of {len(candidates)} candidates, all are taken"
    asked = ", ".join(_preferred(one) for one in requirement.prefer) or "Series Number"
    place = candidates.index(uid) + 1
    said = "selected" if place == 1 else "not selected"
    return f"{said}: place {place} of {len(candidates)} candidates by {asked}"


def _preferred(preference: Preference) -> str:
    if preference.direction is not None:
        return f"{preference.reference.text} {preference.direction}"
    return f"{preference.reference.text} in order {', '.join(preference.values)}"


def _rank(
    series: Series, preferences: tuple[Preference, ...], study: Study
) -> tuple[tuple[float, ...], float, str]:
    scope = Scope(study=study, series=series, order=None)
    places: list[float] = []
    for preference in preferences:
        seen, _ = scope.look(preference.reference)
        places.append(_place(preference, seen))
    series_number = number(text(series.attributes, "SeriesNumber"))
    return (
        tuple(places),
        series_number if series_number is not None else float("inf"),
        series.series_instance_uid,
    )


def _place(preference: Preference, seen: Seen) -> float:
    """Rank of a value, smaller is better; infinity for none."""
    texts = [value.value if isinstance(value, Code) else value for value in seen.values]
    if preference.direction is None:
        for index, wanted in enumerate(preference.values):
            if any(like(one, wanted) for one in texts):
                return float(index)
        return float("inf")
    at = next((found for one in texts if (found := comparable(seen.vr, one)) is not None), None)
    if at is None:
        return float("inf")
    return at if preference.direction is Direction.ASCENDING else -at


def _label(series: Series) -> str:
    attributes = series.attributes
    parts = [f"series {text(attributes, 'SeriesNumber') or '(no number)'}", text(attributes, "Modality")]
    described = text(attributes, "SeriesDescription")
    parts.append(f"'{shortened(described)}'" if described else "(no description)")
    parts.append(f"{series.number_of_instances} instance{'' if series.number_of_instances == 1 else 's'}")
    return ", ".join(shortened(part) for part in parts if part)
