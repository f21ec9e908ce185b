# SPDX-License-Identifier: Apache-2.0
"""Rules as values: which app wants which study and which of its series.

A rule set is parsed once and never changes; its version is a digest of the texts it came from. Nothing here
reads files or looks at a study: `parse.py` makes these values, `evaluate.py` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from profiles.order import Priority


class Verdict(StrEnum):
    """Kleene's three values: a missing value makes a condition unknown, never false."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One level of a path into a data set.

    Attributes
    ----------
    tag
        Eight upper-case hex digits; for a private attribute with a creator the block digits are ``xx``
        (``0029xx10``).
    keyword
        Keyword of a standard attribute, empty for a private one.
    creator
        Private creator that reserves the block (PS3.5 7.8.1).
    item
        Which item of a sequence to enter, from 0; None means any of them.
    """

    tag: str
    keyword: str = ""
    creator: str = ""
    item: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a condition looks at.

    Attributes
    ----------
    text
        As the rule's author wrote it.
    steps
        Path into the data set; empty if `order_field` is set.
    order_field
        Name of an attribute of the order, without ``order.``.
    vr
        Value representation of the last step as the dictionary has it; empty for private attributes.
    """

    text: str
    steps: tuple[Step, ...] = ()
    order_field: str = ""
    vr: str = ""

    @property
    def is_about_patient(self) -> bool:
        """Whether its value must not be shown: group 0010, any person name, patient fields of the order."""
        if self.order_field:
            return self.order_field.startswith("Patient") or self.vr == "PN"
        return self.vr == "PN" or any(step.tag.startswith("0010") for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equals:
    """Any value is `value`: by number for numeric attributes, else as text ignoring case."""

    reference: Reference
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class In:
    """Any value equals one of `values`."""

    reference: Reference
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Like:
    """Any value is like `pattern` (``*`` any text, ``?`` one character), ignoring case."""

    reference: Reference
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """`pattern` is found in any value (see `pattern.py`); letter case counts."""

    reference: Reference
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Any value lies within all the bounds given; bounds are text as written (``18``, ``2024-01-31``)."""

    reference: Reference
    gt: str | None = None
    ge: str | None = None
    lt: str | None = None
    le: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HasCode:
    """Any item of a code sequence has this code value and, unless empty, this coding scheme."""

    reference: Reference
    value: str
    scheme: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exists:
    """The attribute has a value (`expected`), or has none; never unknown."""

    reference: Reference
    expected: bool = True


@dataclass(frozen=True, slots=True)
class All:
    """True if all are; an empty one is true."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if one is; an empty one is false."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; unknown stays unknown."""

    condition: Condition


Test = Equals | In | Like | Regex | Range | HasCode | Exists
Condition = Test | All | AnyOf | Not


class Direction(StrEnum):
    """Which end of a number comes first."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """How to rank candidate series: by a number in `direction`, or by place in the list `values`.

    Entries of `values` may hold ``*`` and ``?``. A series without the value ranks last.
    """

    reference: Reference
    direction: Direction | None = None
    values: tuple[str, ...] = ()


class Take(StrEnum):
    """How many of the candidates become input."""

    ONE = "one"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRequirement:
    """A named input: the series that satisfy `where`, ranked by `prefer`."""

    name: str
    where: Condition
    min_instances: int = 1
    max_instances: int | None = None
    prefer: tuple[Preference, ...] = ()
    take: Take = Take.ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes
    ----------
    app
        Name of the app that shall run.
    priority
        Priority of the workitem; None takes the order's, else MEDIUM.
    destinations
        Names of destinations for the results; empty means all that are configured.
    parameters
        Parameters of the app, over its manifest's defaults.
    source
        ``file:line`` of the rule.
    """

    name: str
    app: str
    when: Condition
    series: tuple[SeriesRequirement, ...]
    priority: Priority | None = None
    destinations: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules, in the order of their files and lines; `version` is a digest of the texts."""

    version: str
    rules: tuple[Rule, ...]
