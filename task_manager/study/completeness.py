# SPDX-License-Identifier: Apache-2.0
"""Whether a study is complete: a pure decision from a policy, what others say, what is here, and the time.

Evidence completes a study; the quiet period does where none comes; the bound does in any case. The answer
says why, or what is waited for and until when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum

from task_manager.study.evidence import StudyEvidence
from task_manager.study.model import Evidence

USABLE = (Evidence.ORDER, Evidence.IAN, Evidence.MPPS, Evidence.ARCHIVE, Evidence.REQUIRED_SERIES)
"""Kinds of evidence a policy may name."""


class Need(StrEnum):
    """How much of the named evidence is needed."""

    ANY = "any"
    ALL = "all"


class Fallback(StrEnum):
    """What completes a study without evidence: the quiet period, or only the bound."""

    QUIET = "quiet"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessPolicy:
    """What completes a study.

    Attributes
    ----------
    evidence
        Kinds of evidence that count, of :data:`USABLE`.
    series, instances
        How many an order stands for; None leaves it to the order.
    settle
        How long no image must arrive before evidence is looked at.
    quiet
        How long no image must arrive where no evidence says that some are missing.
    patience
        How long no image must arrive where evidence says so.
    bound
        How long after its first image a study is complete in any case.
    archives
        Names of the archives to ask; none means all that are configured.
    ask_every
        Pause between two questions to an archive.
    """

    evidence: tuple[Evidence, ...] = ()
    need: Need = Need.ANY
    series: int | None = None
    instances: int | None = None
    fallback: Fallback = Fallback.QUIET
    settle: timedelta = timedelta(seconds=2)
    quiet: timedelta = timedelta(seconds=30)
    patience: timedelta = timedelta(minutes=10)
    bound: timedelta = timedelta(hours=2)
    archives: tuple[str, ...] = ()
    ask_every: timedelta = timedelta(seconds=30)

    @property
    def pause(self) -> timedelta:
        """How long after an image to look."""
        return min(self.settle, self.quiet) if self.evidence else self.quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessChange:
    """What a rule wants otherwise than the source of the study; None leaves it as it is."""

    evidence: tuple[Evidence, ...] | None = None
    need: Need | None = None
    series: int | None = None
    instances: int | None = None
    fallback: Fallback | None = None
    quiet: timedelta | None = None
    patience: timedelta | None = None
    bound: timedelta | None = None

    def over(self, policy: CompletenessPolicy) -> CompletenessPolicy:
        """The policy with these changes."""
        changes = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(policy, **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What is here of a study.

    Attributes
    ----------
    instances, series
        UIDs of all that is stored.
    images, image_series
        How many instances tell of acquisition, and how many series have such.
    inputs_missing
        Names of required series that are not here; None if no rule was asked.
    """

    instances: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    images: int = 0
    image_series: int = 0
    inputs_missing: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When it is, when the first image came and when the last one."""

    now: datetime
    since: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWord:
    """What the order of a study tells: whether its examination is completed, and how much there will be."""

    completed: bool = False
    series: int | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The study is complete; `reason` is for people and holds nothing of the patient."""

    evidence: Evidence
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The study is not complete: what it waits for, in words, and when to look again at the latest."""

    what: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What one kind of evidence comes to; `more` if it says that something is still to come."""

    met: bool
    words: str
    more: bool = False


def decide(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None = None,
) -> Complete | Waiting:
    """Whether a study is complete by a policy.

    Parameters
    ----------
    told
        What others say of the study.
    order
        What its order tells; None if there is no order.
    """
    bound = times.since + policy.bound
    said = {kind: _SAYS[kind](policy, told, here, times, order) for kind in policy.evidence}
    open_ = tuple(one.words for one in said.values() if not one.met)
    if times.now >= bound:
        missing = f"; still missing: {', '.join(open_)}" if open_ else ""
        return Complete(
            evidence=Evidence.UPPER_BOUND,
            reason=f"{_span(policy.bound)} have passed since its first image{missing}",
        )
    settled = times.last + min(policy.settle, policy.quiet)
    if policy.evidence and times.now < settled:
        pause = f"a pause of {_span(min(policy.settle, policy.quiet))} without images"
        return Waiting(what=pause, until=min(settled, bound))
    met = [(kind, one) for kind, one in said.items() if one.met]
    if met and (policy.need is Need.ANY or not open_):
        words = met[:1] if policy.need is Need.ANY else met
        return Complete(evidence=met[0][0], reason="; ".join(one.words for _, one in words))
    awaited = (" or " if policy.need is Need.ANY else " and ").join(open_)
    if policy.fallback is Fallback.NONE:
        return Waiting(what=awaited or "its upper bound", until=bound)
    more = any(one.more for one in said.values())
    quiet = policy.patience if more else policy.quiet
    if times.now >= times.last + quiet:
        without = f", without {', '.join(open_)}" if open_ else ""
        return Complete(evidence=Evidence.QUIET_PERIOD, reason=f"no image came for {_span(quiet)}{without}")
    silence = f"{_span(quiet)} without images"
    return Waiting(
        what=f"{awaited}, or {silence}" if awaited else silence, until=min(times.last + quiet, bound)
    )


def _of(told: Sequence[StudyEvidence], kind: Evidence) -> list[StudyEvidence]:
    return [one for one in told if one.kind is kind]


def _lacking(told: Sequence[StudyEvidence], here: Here) -> str:
    """What of the named is not here, in words; empty if all is."""
    wanted = frozenset().union(*(one.instances for one in told))
    missing = len(wanted - here.instances)
    if missing:
        return f"{missing} of {len(wanted)} images"
    series = frozenset().union(*(one.series_named for one in told)) - here.series
    if series:
        return f"{len(series)} series"
    for one in told:
        lacking = _short_of(one.expected_series, one.expected_instances, here)
        if lacking:
            return lacking
    return ""


def _short_of(series: int | None, instances: int | None, here: Here) -> str:
    if series is not None and here.image_series < series:
        return f"{series - here.image_series} of {series} series"
    if instances is not None and here.images < instances:
        return f"{instances - here.images} of {instances} images"
    return ""


def _names_something(told: Sequence[StudyEvidence]) -> bool:
    return any(
        one.series or one.expected_series is not None or one.expected_instances is not None for one in told
    )


def _order(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None,
) -> _Said:
    del times
    words = _of(told, Evidence.ORDER)
    if order is None and not words:
        return _Said(met=False, words="an order")
    of_order = order or OrderWord()
    series = policy.series if policy.series is not None else of_order.series
    instances = policy.instances if policy.instances is not None else of_order.instances
    lacking = _short_of(series, instances, here) or _lacking(words, here)
    if lacking:
        return _Said(met=False, words=f"{lacking} of the order", more=True)
    if series is not None or instances is not None or _names_something(words):
        return _Said(met=True, words="all that its order stands for is here")
    if of_order.completed:
        return _Said(met=True, words="its order says that the examination is completed")
    return _Said(met=False, words="the end of the examination, told by its order")


def _mpps(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None,
) -> _Said:
    del policy, times, order
    steps = _of(told, Evidence.MPPS)
    if not steps:
        return _Said(met=False, words="a performed procedure step that is completed (MPPS)")
    going = sum(not one.ended for one in steps)
    if going:
        return _Said(met=False, words=f"the end of {going} performed procedure steps (MPPS)", more=True)
    return _listed(steps, here, "the modality (MPPS)")


def _ian(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None,
) -> _Said:
    del policy, times, order
    notes = _of(told, Evidence.IAN)
    if not notes:
        return _Said(met=False, words="a notification of what is available (IAN)")
    return _listed(notes, here, "the notification (IAN)")


def _listed(told: Sequence[StudyEvidence], here: Here, who: str) -> _Said:
    lacking = _lacking(told, here)
    if lacking:
        return _Said(met=False, words=f"{lacking} named by {who}", more=True)
    if not _names_something(told):
        return _Said(met=False, words=f"a list of images: {who} names none")
    named = len(frozenset().union(*(one.instances for one in told)))
    counted = f"{named} images" if named else "images"
    return _Said(met=True, words=f"all {counted} named by {who} are here")


def _archive(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None,
) -> _Said:
    del order
    answers = [
        one for one in _of(told, Evidence.ARCHIVE) if not policy.archives or one.source in policy.archives
    ]
    if not answers:
        return _Said(met=False, words="the answer of an archive")
    fresh = [one for one in answers if one.told_at >= times.last]
    for one in fresh:
        if one.instances and one.was_repeated and not one.instances - here.instances:
            words = (
                f"archive {one.source} says the same again, and all its {len(one.instances)} images are here"
            )
            return _Said(met=True, words=words)
    lacking = _lacking(answers, here)
    if lacking:
        return _Said(met=False, words=f"{lacking} listed by an archive", more=True)
    return _Said(met=False, words="an archive to say the same again")


def _required(
    policy: CompletenessPolicy,
    told: Sequence[StudyEvidence],
    here: Here,
    times: Times,
    order: OrderWord | None,
) -> _Said:
    del policy, told, times, order
    if here.inputs_missing is None:
        return _Said(met=False, words="a rule that wants it")
    if here.inputs_missing:
        return _Said(met=False, words=f"required series: {', '.join(here.inputs_missing)}")
    return _Said(met=True, words="all required series are here")


_Says = Callable[
    [CompletenessPolicy, Sequence[StudyEvidence], Here, Times, OrderWord | None],
    _Said,
]
_SAYS: Mapping[Evidence, _Says] = {
    Evidence.ORDER: _order,
    Evidence.MPPS: _mpps,
    Evidence.IAN: _ian,
    Evidence.ARCHIVE: _archive,
    Evidence.REQUIRED_SERIES: _required,
}


def _span(span: timedelta) -> str:
    """A time span for people."""
    seconds = span.total_seconds()
    if seconds < 120:
        return f"{seconds:g} s"
    if seconds < 7200:
        return f"{seconds / 60:g} min"
    return f"{seconds / 3600:g} h"
