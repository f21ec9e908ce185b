# SPDX-License-Identifier: Apache-2.0
"""What an evaluation saw and decided, as values, as JSON to keep, and as text for people.

Values of patient attributes never enter an explanation: `evaluate.py` puts a mask in their place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from task_manager.rules.model import Verdict

_MARKS = {Verdict.TRUE: "✓", Verdict.FALSE: "✗", Verdict.UNKNOWN: "?"}


class RuleVerdict(StrEnum):
    """What became of a rule; only MATCHED runs its app."""

    MATCHED = "matched"
    NOT_MATCHED = "not matched"
    UNKNOWN = "unknown"


_RULE_MARKS = {RuleVerdict.MATCHED: "✓", RuleVerdict.NOT_MATCHED: "✗", RuleVerdict.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionOutcome:
    """One condition with its verdict.

    Attributes
    ----------
    asked
        The condition in words (``Modality equals 'CT'``, ``all of``).
    seen
        The values looked at, shortened; masked for patient attributes; empty for a missing value.
    note
        Why it is unknown, or where the value came from.
    parts
        The outcomes that this one combines.
    """

    asked: str
    verdict: Verdict
    seen: tuple[str, ...] = ()
    note: str = ""
    parts: tuple[ConditionOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOutcome:
    """One series looked at for one requirement, and why it became input or not."""

    series_instance_uid: str
    label: str
    verdict: Verdict
    selected: bool
    reason: str
    where: ConditionOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementOutcome:
    """One named input: every series of the study, and the selected ones in order of preference."""

    name: str
    verdict: Verdict
    selected: tuple[str, ...]
    series: tuple[SeriesOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExplanation:
    """One rule applied to one study.

    `rules_version` is the version of the rule set, `source` the ``file:line`` of the rule.
    """

    rule: str
    app: str
    source: str
    rules_version: str
    verdict: RuleVerdict
    when: ConditionOutcome
    requirements: tuple[RequirementOutcome, ...]

    @property
    def matched(self) -> bool:
        """Whether the rule's app shall run."""
        return self.verdict is RuleVerdict.MATCHED

    @property
    def selected_series(self) -> tuple[str, ...]:
        """Series Instance UIDs of all inputs, each once, in the order of the inputs."""
        return tuple(dict.fromkeys(uid for one in self.requirements for uid in one.selected))


def to_json(explanation: RuleExplanation) -> str:
    """The explanation as JSON text, to be kept."""
    return json.dumps(
        {
            "rule": explanation.rule,
            "app": explanation.app,
            "source": explanation.source,
            "rules_version": explanation.rules_version,
            "verdict": explanation.verdict.value,
            "when": _condition_to_json(explanation.when),
            "requirements": [_requirement_to_json(one) for one in explanation.requirements],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(content: str) -> RuleExplanation:
    """The explanation that :func:`to_json` wrote.

    Raises
    ------
    KeyError, ValueError
        If `content` was not written by it.
    """
    document = json.loads(content)
    return RuleExplanation(
        rule=document["rule"],
        app=document["app"],
        source=document["source"],
        rules_version=document["rules_version"],
        verdict=RuleVerdict(document["verdict"]),
        when=_condition_from_json(document["when"]),
        requirements=tuple(_requirement_from_json(one) for one in document["requirements"]),
    )


def _requirement_to_json(requirement: RequirementOutcome) -> dict[str, Any]:
    return {
        "name": requirement.name,
        "verdict": requirement.verdict.value,
        "selected": list(requirement.selected),
        "series": [
            {
                "series_instance_uid": series.series_instance_uid,
                "label": series.label,
                "verdict": series.verdict.value,
                "selected": series.selected,
                "reason": series.reason,
                "where": _condition_to_json(series.where),
            }
            for series in requirement.series
        ],
    }


def _requirement_from_json(content: dict[str, Any]) -> RequirementOutcome:
    return RequirementOutcome(
        name=content["name"],
        verdict=Verdict(content["verdict"]),
        selected=tuple(content["selected"]),
        series=tuple(
            SeriesOutcome(
                series_instance_uid=series["series_instance_uid"],
                label=series["label"],
                verdict=Verdict(series["verdict"]),
                selected=series["selected"],
                reason=series["reason"],
                where=_condition_from_json(series["where"]),
            )
            for series in content["series"]
        ),
    )


def _condition_to_json(outcome: ConditionOutcome) -> dict[str, Any]:
    content: dict[str, Any] = {"asked": outcome.asked, "verdict": outcome.verdict.value}
    if outcome.seen:
        content["seen"] = list(outcome.seen)
    if outcome.note:
        content["note"] = outcome.note
    if outcome.parts:
        content["parts"] = [_condition_to_json(part) for part in outcome.parts]
    return content


def _condition_from_json(content: dict[str, Any]) -> ConditionOutcome:
    return ConditionOutcome(
        asked=content["asked"],
        verdict=Verdict(content["verdict"]),
        seen=tuple(content.get("seen", ())),
        note=content.get("note", ""),
        parts=tuple(_condition_from_json(part) for part in content.get("parts", ())),
    )


def render(explanations: Sequence[RuleExplanation]) -> str:
    """The explanations as a text tree; ✓ true, ✗ false, ? unknown."""
    if not explanations:
        return "No rules are configured."
    lines: list[str] = []
    for one in explanations:
        lines.append(f"{_RULE_MARKS[one.verdict]} rule {one.rule} ({one.source}): {_said(one)}")
        lines.extend("  " + line for line in _condition_lines(one.when))
        for requirement in one.requirements:
            lines.append(f"  {_MARKS[requirement.verdict]} input {requirement.name}")
            for series in requirement.series:
                mark = "✓" if series.selected else _MARKS[series.verdict]
                lines.append(
                    f"    {mark if series.selected else '✗' if mark == '✓' else mark} {series.label}"
                )
                lines.append(f"        {series.reason}")
                lines.extend("        " + line for line in _condition_lines(series.where))
    lines.append(f"rule set version {explanations[0].rules_version}")
    return "\n".join(lines)


def _said(explanation: RuleExplanation) -> str:
    match explanation.verdict:
        case RuleVerdict.MATCHED:
            return f"matched, runs {explanation.app}"
        case RuleVerdict.NOT_MATCHED:
            return f"not matched, {explanation.app} does not run"
        case RuleVerdict.UNKNOWN:
            return f"unknown because values are missing, {explanation.app} does not run"


def _condition_lines(outcome: ConditionOutcome) -> Iterator[str]:
    said = f"{_MARKS[outcome.verdict]} {outcome.asked}"
    if outcome.asked == "not" and not outcome.parts[0].parts:
        outcome = outcome.parts[0]
        said += f" {outcome.asked}"
    if not outcome.parts:
        found = ", ".join(outcome.seen)
        said += f": {found}" if found else ""
    if outcome.note:
        said += f" ({outcome.note})"
    yield said
    for part in outcome.parts:
        for line in _condition_lines(part):
            yield "  " + line
