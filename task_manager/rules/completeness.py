# SPDX-License-Identifier: Apache-2.0
"""The key `completeness` of a rule: what completes a study for it; every fault with file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from task_manager.rules.comparison import number
from task_manager.rules.nodes import Entry, FaultList
from task_manager.study.completeness import USABLE, CompletenessChange, Fallback, Need
from task_manager.study.model import Evidence

KEYS: Mapping[str, str] = {
    "evidence": f"list of {', '.join(f'`{kind}`' for kind in USABLE)}; may be empty",
    "need": "`any` (default): one of `evidence` is enough; `all`: every one is needed",
    "series": "how many series an order stands for",
    "instances": "how many images an order stands for",
    "fallback": "`quiet` (default): without evidence a quiet period is enough; `none`: only the bound is",
    "quiet_s": "seconds without an image that are enough where no evidence says that images are missing",
    "patience_s": "seconds without an image that are enough where evidence says so",
    "at_most_s": "seconds after the first image at which the study is complete for this rule in any case",
}
"""Every key and what it means; what is left out is as the source of the study has it."""

_LONGEST_S = 7 * 86_400
_MOST = 1_000_000
_Kind = TypeVar("_Kind", bound=StrEnum)


def read_completeness(entry: Entry, faults: FaultList) -> CompletenessChange:
    """What a rule wants otherwise than the source of a study; all faults are added to `faults`."""
    keys = entry.mapping(faults, tuple(KEYS))
    return CompletenessChange(
        evidence=_evidence(keys["evidence"], faults) if "evidence" in keys else None,
        need=_choice(keys, "need", Need, faults),
        series=_count(keys, "series", faults),
        instances=_count(keys, "instances", faults),
        fallback=_choice(keys, "fallback", Fallback, faults),
        quiet=_seconds(keys, "quiet_s", faults),
        patience=_seconds(keys, "patience_s", faults),
        bound=_seconds(keys, "at_most_s", faults),
    )


def _evidence(entry: Entry, faults: FaultList) -> tuple[Evidence, ...]:
    found: list[Evidence] = []
    for one in entry.sequence(faults):
        name = one.text(faults)
        if name not in list(USABLE):
            faults.add(one, f"must be one of {', '.join(USABLE)}")
        elif name in found:
            faults.add(one, f"{name} is named twice")
        else:
            found.append(Evidence(name))
    return tuple(found)


def _choice(keys: Mapping[str, Entry], key: str, kind: type[_Kind], faults: FaultList) -> _Kind | None:
    if key not in keys:
        return None
    try:
        return kind(keys[key].text(faults))
    except ValueError:
        faults.add(keys[key], f"must be one of {', '.join(kind)}")
        return None


def _count(keys: Mapping[str, Entry], key: str, faults: FaultList) -> int | None:
    if key not in keys:
        return None
    text = keys[key].text(faults)
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= _MOST):
        faults.add(keys[key], f"must be a whole number from 1 to {_MOST}")
        return None
    return int(text)


def _seconds(keys: Mapping[str, Entry], key: str, faults: FaultList) -> timedelta | None:
    if key not in keys:
        return None
    found = number(keys[key].text(faults))
    if found is None or not 0 < found <= _LONGEST_S:
        faults.add(keys[key], f"must be a number of seconds, more than 0 and at most {_LONGEST_S}")
        return None
    return timedelta(seconds=found)
