# SPDX-License-Identifier: Apache-2.0
"""Rules as values: which app wants which study and which of its series.

A rule set is parsed once and never changes; its version is a digest of the texts it came from. Nothing here
reads files or looks at a study: `parse.py` makes these values, `evaluate.py` applies them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Protocol

from profiles.order import Priority
from task_manager.study.completeness import CompletenessChange


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
class Learned:
    """The series classifier of a file of rules.

    `model` is the path of the ONNX file, `confidence` the probability below which its answer is unknown.
    """

    model: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a condition looks at.

    Attributes
    ----------
    text
        As the rule's author wrote it.
    steps
        Path into the data set; empty if `order_field` or `fact` is set.
    order_field
        Name of an attribute of the order, without ``order.``.
    fact
        Whole name of what is known of a series beside its header: where it came from, its geometry, what a
        classifier takes it for (see ``facts.py``).
    learned
        The classifier that is asked, where `fact` is of one.
    vr
        Value representation of the last step as the dictionary has it; empty for private attributes.
    """

    text: str
    steps: tuple[Step, ...] = ()
    order_field: str = ""
    fact: str = ""
    learned: Learned | None = None
    vr: str = ""

    @property
    def is_about_patient(self) -> bool:
        """Whether its value must not be shown: group 0010, any person name, patient fields of the order.

        What a site maps into the details of an order may be anything, and is not shown either.
        """
        if self.order_field:
            return self.order_field.startswith(("Patient", "details.")) or self.vr == "PN"
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
class FirstKnown:
    """The verdict of the first that is not unknown; unknown if all are."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; unknown stays unknown."""

    condition: Condition


Test = Equals | In | Like | Regex | Range | HasCode | Exists
Condition = Test | All | AnyOf | FirstKnown | Not


class SeriesClassifier(Protocol):
    """What a series is taken for, from values of its header."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label it can give."""
        ...

    def classify(self, look: Callable[[Reference], tuple[str, ...]]) -> tuple[str, float]:
        """The likeliest label and its probability; `look` gives the values of an attribute."""
        ...


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
class ImageChoice:
    """Which images of a series become input: those that satisfy `where`, ranked by `prefer`.

    A series without such an image is no candidate. `review_above` is as of :class:`SeriesRequirement`, over
    the images of all candidates.
    """

    where: Condition
    prefer: tuple[Preference, ...] = ()
    take: Take = Take.ONE
    review_above: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRequirement:
    """A named input: the series that satisfy `where`, ranked by `prefer`.

    Attributes
    ----------
    images
        Choice among their images; None takes all images of the series taken.
    review_above
        With more candidates than this nothing runs before a person has looked; None never asks.
    other_than
        Names of earlier inputs whose series are not taken again.
    parameter
        Name of the app's parameter that gets the UIDs of the series taken; empty for none.
    """

    name: str
    where: Condition
    min_instances: int = 1
    max_instances: int | None = None
    prefer: tuple[Preference, ...] = ()
    take: Take = Take.ONE
    images: ImageChoice | None = None
    review_above: int | None = None
    other_than: tuple[str, ...] = ()
    parameter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRequirement:
    """A named input of earlier studies of the same patient, fetched if they are not here.

    Attributes
    ----------
    series
        Which of their series are taken.
    modality, body_part
        Of which a study must have one; ``same`` means those of the study the rule runs on. Empty for any.
    description
        Patterns of which the study description must be like one; empty for any.
    min_age_days, max_age_days
        How many days before the study they were made; None sets no bound.
    count
        How many at most, the newest first.
    archives
        Names of the archives that are asked; empty for all. What is here counts always.
    required
        Whether a person decides if there is none; else the app runs without.
    wait_min
        How long is waited for them, minutes.
    """

    name: str
    series: SeriesRequirement
    parameter: str = ""
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    description: tuple[str, ...] = ()
    min_age_days: int = 0
    max_age_days: int | None = None
    count: int = 1
    archives: tuple[str, ...] = ()
    required: bool = False
    wait_min: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time in which a rule is active; what is None is open.

    Attributes
    ----------
    days
        0 (Monday) to 6; empty for every day. A window over midnight belongs to the day it begins on.
    begin_minute, end_minute
        Minutes since midnight, half-open; an end that is not after the begin is one of the next day.
    since, until
        First and last day.
    zone
        Name of the time zone (IANA).
    text
        In words.
    """

    days: tuple[int, ...] = ()
    begin_minute: int | None = None
    end_minute: int | None = None
    since: date | None = None
    until: date | None = None
    zone: str = "UTC"
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes
    ----------
    app
        Name of the app that shall run.
    priors
        Inputs that are earlier studies of the same patient.
    active
        Time windows; it must have been one when the study began to arrive. Empty is always.
    priority
        Priority of the workitem; None takes the order's, else MEDIUM.
    destinations
        Names of destinations for the results; empty means all that are configured.
    parameters
        Parameters of the app, over its manifest's defaults.
    source
        ``file:line`` of the rule.
    group
        File of the rule. Of the rules of a group that is `first_match` only the first that matches runs.
    label
        Version its author gave the file.
    completeness
        What completes a study for it, where that differs from the source of the study.
    """

    name: str
    app: str
    when: Condition
    series: tuple[SeriesRequirement, ...]
    priors: tuple[PriorRequirement, ...] = ()
    active: tuple[Window, ...] = ()
    priority: Priority | None = None
    destinations: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    group: str = ""
    first_match: bool = False
    label: str = ""
    completeness: CompletenessChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules, in the order of their files and lines.

    `version` is a digest of the texts and of the models they name; `classifiers` holds these by path.
    """

    version: str
    rules: tuple[Rule, ...]
    classifiers: Mapping[str, SeriesClassifier] = field(default_factory=dict)
