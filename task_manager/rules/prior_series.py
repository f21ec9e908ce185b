# SPDX-License-Identifier: Apache-2.0
"""Which series of an earlier study become input: the language of all inputs, on that study alone."""

from __future__ import annotations

from collections.abc import Mapping

from task_manager.rules.acquisition import Acquisition
from task_manager.rules.model import PriorRequirement, SeriesClassifier
from task_manager.rules.program import Preparation
from task_manager.rules.scope import World
from task_manager.rules.selection import Selection
from task_manager.study.model import Study

_SHOWN = 5


def prior_series(
    wanted: PriorRequirement,
    study: Study,
    acquisition: Acquisition,
    classifiers: Mapping[str, SeriesClassifier],
) -> tuple[tuple[str, ...], str]:
    """Series Instance UIDs of an earlier study that become input, and why there are none."""
    world = World(study, None, acquisition, classifiers, ())
    outcome = Selection(wanted.series, Preparation()).outcome(world, settled=False, approved=True, taken={})
    if outcome.selected:
        return outcome.selected, ""
    reasons = dict.fromkeys(f"{one.label}: {one.reason}" for one in outcome.series)
    return (), "; ".join([*reasons][:_SHOWN]) or "it has no series"
