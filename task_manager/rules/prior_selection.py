# SPDX-License-Identifier: Apache-2.0
"""Which other studies of a patient are the priors that a rule wants: pure, every verdict with its reason.

Three-valued: what an archive does not tell is unknown, and only a study that is known to fit is taken. Those
that fit are ranked newest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from task_manager.rules.comparison import like, same_text
from task_manager.rules.model import PriorRequirement, Verdict
from task_manager.rules.prior_outcomes import PriorCandidateOutcome, PriorTest

SAME = "same"
"""In place of a modality or body part: that of the study the rule runs on."""

HERE = "store"
"""The place of what is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSubject:
    """The study a rule runs on; `study_date` is the day it was made, ``YYYYMMDD``."""

    study_instance_uid: str
    study_date: str
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCandidate:
    """Another study that may be of the same patient.

    Attributes
    ----------
    same_patient
        Whether it is of the same patient, after all merges; unknown where issuers do not tell.
    patient_note
        Why that is so; never an identifier.
    places
        Where it is: names of archives, :data:`HERE`.
    """

    study_instance_uid: str
    same_patient: Verdict
    patient_note: str = ""
    study_date: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    description: str = ""
    places: tuple[str, ...] = ()


def ranked_priors(
    wanted: PriorRequirement, subject: PriorSubject, candidates: Sequence[PriorCandidate]
) -> tuple[PriorCandidateOutcome, ...]:
    """Every candidate but the study itself with its verdict; those that fit first, the newest first."""
    judged = []
    for candidate in candidates:
        if candidate.study_instance_uid != subject.study_instance_uid:
            tests = _tests(wanted, subject, candidate)
            judged.append((candidate, tests, _all_of(tests)))
    # newest first, then by UID: two sorts, of which the second keeps the order of the first
    judged.sort(key=lambda one: one[0].study_instance_uid)
    judged.sort(key=lambda one: one[0].study_date, reverse=True)
    judged.sort(key=lambda one: one[2] is not Verdict.TRUE)
    fitting = sum(verdict is Verdict.TRUE for _, _, verdict in judged)
    return tuple(
        _outcome(wanted, candidate, tests, verdict, place, fitting)
        for place, (candidate, tests, verdict) in enumerate(judged, 1)
    )


def _outcome(
    wanted: PriorRequirement,
    candidate: PriorCandidate,
    tests: tuple[PriorTest, ...],
    verdict: Verdict,
    place: int,
    fitting: int,
) -> PriorCandidateOutcome:
    selected = verdict is Verdict.TRUE and place <= wanted.count
    if selected:
        reason = f"selected: place {place} of {fitting}, the newest first"
    elif verdict is Verdict.TRUE:
        reason = f"not selected: place {place} of {fitting}, {wanted.count} wanted"
    elif verdict is Verdict.FALSE:
        reason = "not selected: a condition is not met"
    else:
        reason = "not selected: it is not known whether it fits"
    day = candidate.study_date or "no date"
    label = f"study of {day}, {'/'.join(candidate.modalities) or 'modality not told'}"
    return PriorCandidateOutcome(
        study_instance_uid=candidate.study_instance_uid,
        label=label,
        verdict=verdict,
        selected=selected,
        reason=reason,
        tests=tests,
        places=candidate.places,
    )


def _tests(
    wanted: PriorRequirement, subject: PriorSubject, candidate: PriorCandidate
) -> tuple[PriorTest, ...]:
    tests = [
        PriorTest(asked="same patient", verdict=candidate.same_patient, seen=candidate.patient_note),
        *_age_tests(wanted, subject, candidate),
    ]
    if wanted.modality:
        tests.append(_among("modality", wanted.modality, subject.modalities, candidate.modalities))
    if wanted.body_part:
        tests.append(_among("body part", wanted.body_part, subject.body_parts, candidate.body_parts))
    if wanted.description:
        said = (candidate.description,) if candidate.description else ()
        tests.append(
            PriorTest(
                asked=f"description is like {' or '.join(wanted.description)}",
                verdict=_any(like(one, pattern) for one in said for pattern in wanted.description)
                if said
                else Verdict.UNKNOWN,
                seen=candidate.description or "not told",
            )
        )
    if wanted.archives:
        there = set(candidate.places) & {*wanted.archives, HERE}
        tests.append(
            PriorTest(
                asked=f"at {', '.join(wanted.archives)}, or here",
                verdict=_verdict(bool(there)),
                seen=", ".join(candidate.places),
            )
        )
    return tuple(tests)


def _age_tests(wanted: PriorRequirement, subject: PriorSubject, candidate: PriorCandidate) -> list[PriorTest]:
    made, now = _day(candidate.study_date), _day(subject.study_date)
    if made is None or now is None:
        return [PriorTest(asked="made earlier", verdict=Verdict.UNKNOWN, seen="no study date")]
    age = (now - made).days
    seen = f"{age} days before" if age >= 0 else "later"
    tests = [PriorTest(asked="made earlier", verdict=_verdict(age >= 0), seen=seen)]
    if wanted.min_age_days:
        asked = f"at least {wanted.min_age_days} days before"
        tests.append(PriorTest(asked=asked, verdict=_verdict(age >= wanted.min_age_days), seen=seen))
    if wanted.max_age_days is not None:
        asked = f"at most {wanted.max_age_days} days before"
        tests.append(PriorTest(asked=asked, verdict=_verdict(age <= wanted.max_age_days), seen=seen))
    return tests


def _among(
    what: str, wanted: Sequence[str], of_subject: Sequence[str], of_candidate: Sequence[str]
) -> PriorTest:
    named = [one for one in wanted if one != SAME]
    same = SAME in wanted
    accepted = [*named, *(of_subject if same else ())]
    asked = f"{what} is one of {', '.join(accepted)}" if accepted else f"{what} as this study's"
    if not of_candidate or (same and not of_subject and not named):
        return PriorTest(asked=asked, verdict=Verdict.UNKNOWN, seen=", ".join(of_candidate) or "not told")
    verdict = _any(same_text(one, other) for one in of_candidate for other in accepted)
    return PriorTest(asked=asked, verdict=verdict, seen=", ".join(of_candidate))


def _day(text: str) -> date | None:
    if not (len(text) == 8 and text.isascii() and text.isdigit()):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _verdict(holds: bool) -> Verdict:
    return Verdict.TRUE if holds else Verdict.FALSE


def _any(holds: Iterable[bool]) -> Verdict:
    return _verdict(any(holds))


def _all_of(tests: Sequence[PriorTest]) -> Verdict:
    verdicts = {test.verdict for test in tests}
    if Verdict.FALSE in verdicts:
        return Verdict.FALSE
    return Verdict.UNKNOWN if Verdict.UNKNOWN in verdicts else Verdict.TRUE
