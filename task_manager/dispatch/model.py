# SPDX-License-Identifier: Apache-2.0
"""Who may perform what, for how long, and what happens to the result: values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from profiles.codes import Code
from profiles.order import Priority


class Style(StrEnum):
    """The three management styles of IHE AIW-I (TF-1:50.4.1.5)."""

    PULL = "pull"
    TRIGGERED_PULL = "triggered_pull"
    PUSH = "push"


class SubtaskRole(StrEnum):
    """What a child workitem is to its parent (IHE AIW-I TF-1:50.4.1.6, 50.4.2.3 and 50.4.2.6)."""

    PUSHED = "pushed"  # Y on a performer that manages its own worklist
    INFERENCE = "inference"  # Y1, whose results wait for a reviewer
    VERIFICATION = "verification"  # Y2, the review by a person


class SubtaskState(StrEnum):
    """Where a child stands, as far as its parent knows."""

    PLANNED = "planned"  # not yet created on the performer
    OPEN = "open"
    DONE = "done"  # its final state was taken over


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformerOffer:
    """A configured performer.

    Attributes
    ----------
    ae_title
        Its station name: Code Value of Scheduled Station Name (TF-2:4.80.4.1.2.1).
    apps
        Names of the apps whose workitems it performs; empty means all.
    station_class, organization
        Assigned beside, or instead of, the station if `by_name` is false.
    url
        DICOMweb base of its own worklist, for push.
    capacity
        Workitems that may be assigned or pushed to it at a time; 0 sets no bound.
    """

    ae_title: str
    style: Style = Style.PULL
    apps: tuple[str, ...] = ()
    by_name: bool = True
    station_class: str = ""
    organization: str = ""
    url: str = ""
    capacity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """How long a performer may be silent, how long it may work, and how often work is tried."""

    silence: timedelta = timedelta(minutes=15)
    run: timedelta = timedelta(hours=2)
    tries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """That results of an app go to a reviewer first (IHE AIW-I TF-1:50.4.2.6).

    Attributes
    ----------
    code
        Scheduled Workitem Code of the review.
    station, station_class, organization
        Whom the review is assigned to; all empty leaves it open.
    """

    code: Code
    station: str = ""
    station_class: str = ""
    organization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """How long final workitems, event reports and finished jobs are kept (workitems: TF-2:4.85.4.1.3), HL7
    messages, what they changed (and performed procedure steps, evidence), reports of earlier examinations,
    explanations and operational events.
    """

    workitems: timedelta = timedelta(days=30)
    reports: timedelta = timedelta(days=7)
    jobs: timedelta = timedelta(days=30)
    messages: timedelta = timedelta(days=90)
    histories: timedelta = timedelta(days=1095)
    prior_reports: timedelta = timedelta(days=1095)
    explanations: timedelta = timedelta(days=1825)
    events: timedelta = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemTemplate:
    """What the workitems that ask for an app say beside code, inputs and parameters.

    Attributes
    ----------
    priority
        Where neither rule nor order has one.
    label, worklist_label
        Procedure Step Label and Worklist Label; empty ones are formed from name, version and title.
    station_class
        Scheduled Station Class, for apps that need a certain kind of station; empty names none.
    expected
        How long after its create a workitem is expected to be completed.
    expires
        How long after its create it is of use; then whoever has not begun need not.
    """

    priority: Priority = Priority.MEDIUM
    label: str = ""
    worklist_label: str = ""
    station_class: str = ""
    expected: timedelta | None = None
    expires: timedelta | None = None
