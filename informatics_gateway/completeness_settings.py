# SPDX-License-Identifier: Apache-2.0
"""The settings of what completes a study, for all sources and for single ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from informatics_gateway.setting_types import Name
from profiles.faults import Fault
from task_manager.rules.model import Rule
from task_manager.study.completeness import CompletenessPolicy, Fallback, Need
from task_manager.study.model import Evidence
from task_manager.study.sources import Policies, SourcePolicy

_Kind = Literal[Evidence.ORDER, Evidence.IAN, Evidence.MPPS, Evidence.ARCHIVE, Evidence.REQUIRED_SERIES]
_Seconds = Annotated[float, Field(gt=0, le=604_800)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Pattern = Annotated[str, Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CompletenessSettings(_Part):
    """What completes a study; see docs/concepts/completeness.md."""

    evidence: tuple[_Kind, ...] = (Evidence.MPPS,)
    """What counts, of `order`, `ian`, `mpps`, `archive`, `required-series`."""
    need: Need = Need.ANY
    """Whether one of them is enough (`any`), or every one is needed (`all`)."""
    series: _Count | None = None
    """How many series an order stands for; none leaves it to the order."""
    instances: _Count | None = None
    """How many images an order stands for; none leaves it to the order."""
    fallback: Fallback = Fallback.QUIET
    """Whether a quiet period completes a study without evidence (`quiet`), or only the bound (`none`)."""
    settle_s: _Seconds = 2.0
    """How long no image must arrive before evidence is looked at, seconds."""
    patience_s: _Seconds = 600.0
    """How long no image must arrive where evidence says that some are missing, seconds."""
    at_most_s: _Seconds = 7200.0
    """How long after its first image a study is complete in any case, seconds."""
    archives: tuple[Name, ...] = ()
    """Which of `manager.readiness.archives` are asked; none means all."""
    ask_every_s: _Seconds = 30.0
    """Pause between two questions to an archive, seconds."""


class SourceSettings(_Part):
    """What completes the studies of certain senders; what is left out is as `study` has it."""

    calling: tuple[_Pattern, ...] = ()
    """Their AE titles or user names, with `*` and `?`; none means any."""
    called: tuple[_Pattern, ...] = ()
    """AE titles they send to, with `*` and `?`; none means any."""
    doors: tuple[Literal["dicom", "dicomweb"], ...] = ()
    """Doors they come by; none means any."""
    quiet_period_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """As `study.quiet_period_s`."""
    evidence: tuple[_Kind, ...] | None = None
    """As `study.completeness.evidence`."""
    need: Need | None = None
    """As `study.completeness.need`."""
    series: _Count | None = None
    """As `study.completeness.series`."""
    instances: _Count | None = None
    """As `study.completeness.instances`."""
    fallback: Fallback | None = None
    """As `study.completeness.fallback`."""
    settle_s: _Seconds | None = None
    """As `study.completeness.settle_s`."""
    patience_s: _Seconds | None = None
    """As `study.completeness.patience_s`."""
    at_most_s: _Seconds | None = None
    """As `study.completeness.at_most_s`."""
    archives: tuple[Name, ...] | None = None
    """As `study.completeness.archives`."""
    ask_every_s: _Seconds | None = None
    """As `study.completeness.ask_every_s`."""


_TIMES = {
    "quiet_period_s": "quiet",
    "settle_s": "settle",
    "patience_s": "patience",
    "at_most_s": "bound",
    "ask_every_s": "ask_every",
}
_PLAIN = ("evidence", "need", "series", "instances", "fallback", "archives")


def completeness_policies(
    quiet_period_s: float, usual: CompletenessSettings, sources: Sequence[SourceSettings]
) -> Policies:
    """The policies as the task manager knows them."""
    policy = replace(CompletenessPolicy(quiet=timedelta(seconds=quiet_period_s)), **_changes(usual))
    return Policies(
        usual=policy,
        sources=tuple(
            SourcePolicy(
                policy=replace(policy, **_changes(one)),
                calling=one.calling,
                called=one.called,
                doors=one.doors,
            )
            for one in sources
        ),
    )


def completeness_faults(
    usual: CompletenessSettings, sources: Sequence[SourceSettings], archives: Sequence[str]
) -> list[Fault]:
    """Archives that are named and not configured."""
    faults: list[Fault] = []
    named = [("study.completeness", usual.evidence, usual.archives)]
    named += [
        (f"study.sources[{number}]", one.evidence or (), one.archives or ())
        for number, one in enumerate(sources)
    ]
    for key, evidence, wanted in named:
        if Evidence.ARCHIVE in evidence and not archives:
            faults.append(Fault(f"{key}.evidence", "names archive, and manager.readiness.archives has none"))
        faults += [
            Fault(f"{key}.archives", f"{name!r} is none of manager.readiness.archives")
            for name in wanted
            if name not in archives
        ]
    return faults


def rule_faults(rules: Sequence[Rule], archives: Sequence[str]) -> list[Fault]:
    """Rules that ask archives where none is configured."""
    if archives:
        return []
    asking = [
        rule for rule in rules if rule.completeness and Evidence.ARCHIVE in (rule.completeness.evidence or ())
    ]
    message = "completeness.evidence names archive, and manager.readiness.archives has none"
    return [Fault(f"{rule.source} rule {rule.name}", message) for rule in asking]


def _changes(settings: CompletenessSettings | SourceSettings) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, name in _TIMES.items():
        seconds = getattr(settings, key, None)
        if seconds is not None:
            changes[name] = timedelta(seconds=seconds)
    for key in _PLAIN:
        value = getattr(settings, key)
        if value is not None:
            changes[key] = value
    return changes
