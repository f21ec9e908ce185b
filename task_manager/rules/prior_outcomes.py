# SPDX-License-Identifier: Apache-2.0
"""What became of the earlier studies that a rule wants: every candidate with its verdict, and what was taken.

Values, as JSON to keep, and as text for people. Nothing in them tells who the patient is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from task_manager.rules.model import Verdict

_MARKS = {Verdict.TRUE: "✓", Verdict.FALSE: "✗", Verdict.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTest:
    """One thing asked of a candidate, and the value seen."""

    asked: str
    verdict: Verdict
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCandidateOutcome:
    """One study looked at, and why it became input or not.

    `places` names where it is: archives, and `store` for here.
    """

    study_instance_uid: str
    label: str
    verdict: Verdict
    selected: bool
    reason: str
    tests: tuple[PriorTest, ...]
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorStudy:
    """A study that was taken: the series that become input, and how it came here."""

    study_instance_uid: str
    series: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorOutcome:
    """One named input of earlier studies.

    Attributes
    ----------
    parameter
        Name of the app's parameter that gets the UIDs of the series; empty for none.
    studies
        Those whose images are here and become input, the newest first.
    notes
        What hindered: an archive that does not answer, a fetch that did not end in time.
    """

    name: str
    required: bool
    parameter: str = ""
    candidates: tuple[PriorCandidateOutcome, ...] = ()
    studies: tuple[PriorStudy, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Study Instance UIDs of the candidates chosen, the newest first."""
        return tuple(one.study_instance_uid for one in self.candidates if one.selected)

    @property
    def series(self) -> tuple[str, ...]:
        """Series Instance UIDs of the input, those of the newest study first."""
        return tuple(uid for study in self.studies for uid in study.series)

    @property
    def lacks(self) -> str:
        """Why a rule that needs it cannot run; empty if it can."""
        if not self.required or self.series:
            return ""
        return f"prior {self.name}: " + ("; ".join(self.notes) or "no earlier study fits")


def prior_to_json(outcome: PriorOutcome) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    return {
        "name": outcome.name,
        "required": outcome.required,
        "parameter": outcome.parameter,
        "candidates": [
            {
                "study_instance_uid": one.study_instance_uid,
                "label": one.label,
                "verdict": one.verdict.value,
                "selected": one.selected,
                "reason": one.reason,
                "tests": [
                    {"asked": test.asked, "verdict": test.verdict.value, "seen": test.seen}
                    for test in one.tests
                ],
                "places": list(one.places),
            }
            for one in outcome.candidates
        ],
        "studies": [
            {"study_instance_uid": one.study_instance_uid, "series": list(one.series), "note": one.note}
            for one in outcome.studies
        ],
        "notes": list(outcome.notes),
    }


def prior_from_json(content: dict[str, Any]) -> PriorOutcome:
    """The outcome that :func:`prior_to_json` told."""
    return PriorOutcome(
        name=content["name"],
        required=content["required"],
        parameter=content["parameter"],
        candidates=tuple(
            PriorCandidateOutcome(
                study_instance_uid=one["study_instance_uid"],
                label=one["label"],
                verdict=Verdict(one["verdict"]),
                selected=one["selected"],
                reason=one["reason"],
                tests=tuple(
                    PriorTest(asked=test["asked"], verdict=Verdict(test["verdict"]), seen=test["seen"])
                    for test in one["tests"]
                ),
                places=tuple(one["places"]),
            )
            for one in content["candidates"]
        ),
        studies=tuple(
            PriorStudy(
                study_instance_uid=one["study_instance_uid"], series=tuple(one["series"]), note=one["note"]
            )
            for one in content["studies"]
        ),
        notes=tuple(content["notes"]),
    )


def prior_lines(outcomes: Sequence[PriorOutcome]) -> Iterator[str]:
    """The outcomes as lines of text."""
    for outcome in outcomes:
        mark = "!" if outcome.lacks else "✓" if outcome.series else "-"
        number = len(outcome.studies)
        said = f"{number} earlier {'study' if number == 1 else 'studies'}, {len(outcome.series)} series"
        yield f"{mark} prior {outcome.name}: {said}" + ("" if outcome.required else " (may be missing)")
        for note in outcome.notes:
            yield f"  ! {note}"
        taken = {study.study_instance_uid: study for study in outcome.studies}
        for one in outcome.candidates:
            left = _MARKS[Verdict.FALSE if one.verdict is Verdict.TRUE else one.verdict]
            yield f"  {'✓' if one.selected else left} {one.label}"
            yield f"      {one.reason}"
            if one.study_instance_uid in taken and taken[one.study_instance_uid].note:
                yield f"      {taken[one.study_instance_uid].note}"
            for test in one.tests:
                seen = f": {test.seen}" if test.seen else ""
                yield f"      {_MARKS[test.verdict]} {test.asked}{seen}"
