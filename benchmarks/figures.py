# SPDX-License-Identifier: Apache-2.0
"""What was measured, as values: every repetition, its median and range, and the ratio to the reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The same measurement repeated.

    Attributes
    ----------
    values
        One per run, in the order of the runs; at least one, all positive.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or min(self.values) <= 0:
            raise ValueError("a measurement needs values, all of them positive")

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    group, name
        Where it belongs and what it is.
    unit
        Of both samples.
    airway
        What Airway did.
    reference_name, reference
        What the same was done with by a peer, or the least that must be done; None where there is none.
    target
        The ratio that is aimed at: of rates the least, of times the most; None where there is none.
    """

    group: str
    name: str
    unit: str
    airway: Sample
    reference_name: str = ""
    reference: Sample | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """Median of Airway by median of the reference."""
        return None if self.reference is None else self.airway.median / self.reference.median

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "airway": self.airway.to_json(),
            "reference_name": self.reference_name,
            "reference": None if self.reference is None else self.reference.to_json(),
            "ratio": self.ratio,
            "target": self.target,
        }


def sample(values: Sequence[float]) -> Sample:
    """The sample of `values`."""
    return Sample(values=tuple(values))


def milliseconds(action: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000
