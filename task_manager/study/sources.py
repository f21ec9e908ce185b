# SPDX-License-Identifier: Apache-2.0
"""Which policy of completeness is whose: of the sources of studies, and of rules.

Pure; asked for every instance that arrives, so answers are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from task_manager.actor import Source
from task_manager.study.completeness import CompletenessChange, CompletenessPolicy
from task_manager.study.model import Evidence

_MOST_KEPT = 10_000
_LOOKED_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """The policy of studies that certain peers send.

    Attributes
    ----------
    calling, called
        Patterns of AE titles or user names (``*``, ``?``), letter case aside; empty fits all.
    doors
        ``dicom``, ``dicomweb``; empty fits all.
    """

    policy: CompletenessPolicy
    calling: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()

    def fits(self, source: Source) -> bool:
        """Whether a source is meant."""
        return (
            _is_like(source.calling, self.calling)
            and _is_like(source.called, self.called)
            and (not self.doors or source.door in self.doors)
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """How long after an image to look, and how long after the first one at the latest.

    Attributes
    ----------
    bound
        When the study is complete in any case.
    sooner
        When rules run in any case. Once that was looked at, images that come on make nobody look at each.
    """

    quiet: timedelta
    bound: timedelta
    sooner: tuple[timedelta, ...] = ()

    def after(self, last: datetime, since: datetime) -> datetime:
        """When to look after an image that came at `last`, of a study that began to come at `since`."""
        found = min(last + self.quiet, since + self.bound)
        for bound in self.sooner:
            if last < since + bound + _LOOKED_WITHIN:
                found = min(found, since + bound)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All policies of a site.

    Attributes
    ----------
    usual
        Of sources that none of `sources` fits.
    sources
        The first that fits counts.
    rules
        Name of a rule to what it wants otherwise.
    """

    usual: CompletenessPolicy = field(default_factory=CompletenessPolicy)
    sources: tuple[SourcePolicy, ...] = ()
    rules: Mapping[str, CompletenessChange] = field(default_factory=dict)
    _pauses: dict[str, Pause] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ask_archives(self) -> bool:
        """Whether any of them asks archives."""
        return self._count(Evidence.ARCHIVE)

    @property
    def look_at_orders(self) -> bool:
        """Whether any of them counts on orders."""
        return self._count(Evidence.ORDER)

    def _count(self, evidence: Evidence) -> bool:
        each = [self.usual.evidence, *(one.policy.evidence for one in self.sources)]
        each += [change.evidence or () for change in self.rules.values()]
        return any(evidence in found for found in each)

    def of(self, sources: Sequence[Source]) -> CompletenessPolicy:
        """The policy of a study: of the first entry that fits any of its sources."""
        found = (one.policy for one in self.sources if any(one.fits(source) for source in sources))
        return next(found, self.usual)

    def of_rule(self, rule: str, policy: CompletenessPolicy) -> CompletenessPolicy:
        """The policy of a rule for a study that itself has `policy`."""
        change = self.rules.get(rule)
        return policy if change is None else change.over(policy)

    def pause(self, source: str) -> Pause:
        """When to look after an image from a source, as the store marks it: the soonest of all who look."""
        known = self._pauses.get(source)
        if known is None:
            if len(self._pauses) >= _MOST_KEPT:
                self._pauses.clear()
            policy = self.of((Source.of(source),))
            rules = [change.over(policy) for change in self.rules.values()]
            known = Pause(
                min(one.pause for one in (policy, *rules)),
                policy.bound,
                tuple(sorted({one.bound for one in rules if one.bound < policy.bound})),
            )
            self._pauses[source] = known
        return known


def _is_like(name: str, patterns: Iterable[str]) -> bool:
    wanted = tuple(patterns)
    return not wanted or any(fnmatchcase(name.upper(), pattern.upper()) for pattern in wanted)
