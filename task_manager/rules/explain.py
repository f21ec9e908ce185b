# SPDX-License-Identifier: Apache-2.0
"""What an evaluation saw and decided, as values, as JSON to keep, and as text for people.

Values of patient attributes never enter an explanation: `evaluate.py` puts a mask in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from task_manager.rules.model import Verdict
from task_manager.rules.prior_outcomes import PriorOutcome, prior_from_json, prior_lines, prior_to_json

_MARKS = {Verdict.TRUE: "✓", Verdict.FALSE: "✗", Verdict.UNKNOWN: "?"}


class RuleVerdict(StrEnum):
    """What became of a rule; only MATCHED runs its app.

    PASSED_OVER would have matched, but an earlier rule of its file did and only the first may; REVIEW would
    have matched, but has more candidates than a machine may choose from; WAITING is for more of the study
    than other rules need.
    """

    MATCHED = "matched"
    NOT_MATCHED = "not matched"
    UNKNOWN = "unknown"
    PASSED_OVER = "passed over"
    REVIEW = "manual review"
    WAITING = "waiting"


_RULE_MARKS = {
    RuleVerdict.MATCHED: "✓",
    RuleVerdict.NOT_MATCHED: "✗",
    RuleVerdict.UNKNOWN: "?",
    RuleVerdict.PASSED_OVER: "-",
    RuleVerdict.REVIEW: "!",
    RuleVerdict.WAITING: "…",
}
_SHOWN_CHARACTERS = 64


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
class ImageOutcome:
    """One image looked at for one requirement, and why it became input or not."""

    sop_instance_uid: str
    label: str
    verdict: Verdict
    selected: bool
    reason: str
    where: ConditionOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOutcome:
    """One series looked at for one requirement, and why it became input or not.

    `images` are those of a choice among images, the best first, some at most; `more_images` counts the rest.
    """

    series_instance_uid: str
    label: str
    verdict: Verdict
    selected: bool
    reason: str
    where: ConditionOutcome
    images: tuple[ImageOutcome, ...] = ()
    more_images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementOutcome:
    """One named input: every series of the study, and the selected ones in order of preference.

    Attributes
    ----------
    selected_images
        SOP Instance UIDs where images were chosen; empty means all of the selected series.
    review
        Why a person has to look before anything runs; empty if nobody has to.
    parameter
        Name of the app's parameter that gets the UIDs of `selected`; empty for none.
    """

    name: str
    verdict: Verdict
    selected: tuple[str, ...]
    series: tuple[SeriesOutcome, ...]
    selected_images: tuple[str, ...] = ()
    review: str = ""
    parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExplanation:
    """One rule applied to one study.

    Attributes
    ----------
    source
        ``file:line`` of the rule.
    rules_version
        Version of the rule set, after what its author calls it, if anything.
    active
        The time windows of the rule; None if it has none.
    note
        Which rule was first, that a person let it run, or what it waits for.
    """

    rule: str
    app: str
    source: str
    rules_version: str
    verdict: RuleVerdict
    when: ConditionOutcome
    requirements: tuple[RequirementOutcome, ...]
    active: ConditionOutcome | None = None
    note: str = ""
    priors: tuple[PriorOutcome, ...] = ()

    @property
    def matched(self) -> bool:
        """Whether the rule's app shall run."""
        return self.verdict is RuleVerdict.MATCHED

    @property
    def selected_series(self) -> tuple[str, ...]:
        """Series Instance UIDs of all inputs, each once, in the order of the inputs."""
        return tuple(dict.fromkeys(uid for one in self.requirements for uid in one.selected))

    @property
    def review(self) -> str:
        """Why a person has to look, of all inputs; empty if nobody has to."""
        return "; ".join(one.review for one in self.requirements if one.review)

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the app that name its inputs: UIDs of series, separated by a blank."""
        named = {one.parameter: " ".join(one.selected) for one in self.requirements if one.parameter}
        # without priors the app's own default stays
        priors = {one.parameter: " ".join(one.series) for one in self.priors if one.series}
        return named | {name: value for name, value in priors.items() if name}

    def takes(self, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether an image is part of an input."""
        return any(
            series_instance_uid in one.selected
            and (not one.selected_images or sop_instance_uid in one.selected_images)
            for one in self.requirements
        )


def to_json(explanation: RuleExplanation) -> str:
    """The explanation as JSON text, to be kept."""
    content: dict[str, Any] = {
        "rule": explanation.rule,
        "app": explanation.app,
        "source": explanation.source,
        "rules_version": explanation.rules_version,
        "verdict": explanation.verdict.value,
        "when": _condition_to_json(explanation.when),
        "requirements": [_requirement_to_json(one) for one in explanation.requirements],
    }
    if explanation.active is not None:
        content["active"] = _condition_to_json(explanation.active)
    if explanation.note:
        content["note"] = explanation.note
    if explanation.priors:
        content["priors"] = [prior_to_json(one) for one in explanation.priors]
    return orjson.dumps(content).decode()


def from_json(content: str) -> RuleExplanation:
    """The explanation that :func:`to_json` wrote, in this release or an earlier one.

    Raises
    ------
    KeyError, ValueError
        If `content` was not written by it.
    """
    document = orjson.loads(content)
    return RuleExplanation(
        rule=document["rule"],
        app=document["app"],
        source=document["source"],
        rules_version=document["rules_version"],
        verdict=RuleVerdict(document["verdict"]),
        when=_condition_from_json(document["when"]),
        requirements=tuple(_requirement_from_json(one) for one in document["requirements"]),
        active=_condition_from_json(document["active"]) if "active" in document else None,
        note=document.get("note", ""),
        priors=tuple(prior_from_json(one) for one in document.get("priors", ())),
    )


def _requirement_to_json(requirement: RequirementOutcome) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": requirement.name,
        "verdict": requirement.verdict.value,
        "selected": list(requirement.selected),
        "series": [_series_to_json(series) for series in requirement.series],
    }
    if requirement.selected_images:
        content["selected_images"] = list(requirement.selected_images)
    for name in ("review", "parameter"):
        if getattr(requirement, name):
            content[name] = getattr(requirement, name)
    return content


def _series_to_json(series: SeriesOutcome) -> dict[str, Any]:
    content: dict[str, Any] = {
        "series_instance_uid": series.series_instance_uid,
        "label": series.label,
        "verdict": series.verdict.value,
        "selected": series.selected,
        "reason": series.reason,
        "where": _condition_to_json(series.where),
    }
    if series.images:
        content["images"] = [
            {
                "sop_instance_uid": image.sop_instance_uid,
                "label": image.label,
                "verdict": image.verdict.value,
                "selected": image.selected,
                "reason": image.reason,
                "where": _condition_to_json(image.where),
            }
            for image in series.images
        ]
        content["more_images"] = series.more_images
    return content


def _requirement_from_json(content: dict[str, Any]) -> RequirementOutcome:
    return RequirementOutcome(
        name=content["name"],
        verdict=Verdict(content["verdict"]),
        selected=tuple(content["selected"]),
        series=tuple(
            SeriesOutcome(
                series_instance_uid=series["series_instance_uid"],
                images=tuple(
                    ImageOutcome(sop_instance_uid=image["sop_instance_uid"], **_outcome_from_json(image))
                    for image in series.get("images", ())
                ),
                more_images=series.get("more_images", 0),
                **_outcome_from_json(series),
            )
            for series in content["series"]
        ),
        selected_images=tuple(content.get("selected_images", ())),
        review=content.get("review", ""),
        parameter=content.get("parameter", ""),
    )


def _outcome_from_json(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "label": content["label"],
        "verdict": Verdict(content["verdict"]),
        "selected": content["selected"],
        "reason": content["reason"],
        "where": _condition_from_json(content["where"]),
    }


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


def shortened(value: str) -> str:
    """`value` without control characters, at most 64 characters."""
    kept = value if len(value) <= _SHOWN_CHARACTERS else value[: _SHOWN_CHARACTERS - 1] + "…"
    if kept.isprintable():
        return kept
    return "".join(character if character.isprintable() else "·" for character in kept)


def render(explanations: Sequence[RuleExplanation]) -> str:
    """The explanations as a text tree.

    ✓ true, ✗ false, ? unknown, - passed over for an earlier rule, ! waits for a person.
    """
    if not explanations:
        return "No rules are configured."
    lines: list[str] = []
    for one in explanations:
        lines.append(f"{_RULE_MARKS[one.verdict]} rule {one.rule} ({one.source}): {_said(one)}")
        if one.active is not None:
            lines.extend("  " + line for line in _condition_lines(one.active))
        lines.extend("  " + line for line in _condition_lines(one.when))
        for requirement in one.requirements:
            lines.extend("  " + line for line in _requirement_lines(requirement))
        lines.extend("  " + line for line in prior_lines(one.priors))
    versions = dict.fromkeys(one.rules_version for one in explanations)
    lines.append(f"rule set version {', '.join(versions)}")
    return "\n".join(lines)


def _requirement_lines(requirement: RequirementOutcome) -> Iterator[str]:
    mark = "!" if requirement.review else _MARKS[requirement.verdict]
    yield f"{mark} input {requirement.name}" + (f": {requirement.review}" if requirement.review else "")
    for series in requirement.series:
        yield from ("  " + line for line in _outcome_lines(series))
        for image in series.images:
            yield from ("      " + line for line in _outcome_lines(image))
        if series.more_images:
            yield f"      and {series.more_images} more images"


def _outcome_lines(outcome: SeriesOutcome | ImageOutcome) -> Iterator[str]:
    if outcome.selected or outcome.verdict is Verdict.TRUE:
        yield f"{'✓' if outcome.selected else '✗'} {outcome.label}"
    else:
        yield f"{_MARKS[outcome.verdict]} {outcome.label}"
    yield f"    {outcome.reason}"
    yield from ("    " + line for line in _condition_lines(outcome.where))


def _said(explanation: RuleExplanation) -> str:
    app = explanation.app
    match explanation.verdict:
        case RuleVerdict.MATCHED:
            said = f"matched, runs {app}"
        case RuleVerdict.NOT_MATCHED:
            said = f"not matched, {app} does not run"
        case RuleVerdict.UNKNOWN:
            said = f"unknown because values are missing, {app} does not run"
        case RuleVerdict.PASSED_OVER:
            said = f"matches, but {app} does not run"
        case RuleVerdict.REVIEW:
            said = f"waits for a person, {app} does not run before"
    return f"{said} ({explanation.note})" if explanation.note else said


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
