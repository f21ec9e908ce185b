# SPDX-License-Identifier: Apache-2.0
"""What may be removed from the disk, and what keeps it: values and decisions.

A policy names kind and age of objects; whatever is wanted by anybody stays, whatever the policy says. What a
study is wanted for is found by ``store/removals.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from task_manager.study.assembly import counts_for_assembly


class ObjectKind(StrEnum):
    """What a policy is about: what was received as images, what was made of them, or both."""

    IMAGES = "images"
    RESULTS = "results"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPolicy:
    """When objects are removed.

    Attributes
    ----------
    name
        What it is called in logs and explanations.
    after
        How old: since the last image came, and since the last delivery where there was one.
    delivered
        Whether a result of the study must have been delivered.
    rules
        Only studies that one of these rules ran for; empty for any.
    """

    name: str
    objects: ObjectKind
    after: timedelta
    delivered: bool = True
    rules: frozenset[str] = frozenset()


class Wanted(StrEnum):
    """Why a study stays."""

    ARRIVING = "arriving"
    WORKITEM = "workitem"
    PERSON = "person"
    LOCK = "lock"
    JOB = "job"
    INPUT = "input"
    FETCH = "fetch"
    KEEP = "keep"
    COMMITMENT = "commitment"


WANTED_TEXT: Mapping[Wanted, str] = {
    Wanted.ARRIVING: "it is not complete, or is to be evaluated again",
    Wanted.WORKITEM: "a workitem of it is not final",
    Wanted.PERSON: "a workitem of it waits for a person",
    Wanted.LOCK: "a watcher holds a deletion lock on a workitem of it",
    Wanted.JOB: "a delivery of its results is not done",
    Wanted.INPUT: "a workitem of another study needs it",
    Wanted.FETCH: "it is being fetched",
    Wanted.KEEP: "somebody asked to keep it",
    Wanted.COMMITMENT: "storage commitment of it is owed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What is known of a study when its removal is considered.

    Attributes
    ----------
    delivered_at
        When a result of it was delivered last; None if none was.
    rules
        Rules that ran for it.
    wanted
        What it is wanted for.
    """

    study_instance_uid: str
    last_received_at: datetime
    delivered_at: datetime | None = None
    rules: frozenset[str] = frozenset()
    wanted: frozenset[Wanted] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldObject:
    """An object that is on the disk."""

    sop_instance_uid: str
    copy_number: int
    sop_class_uid: str
    path: str
    size: int


def applies(policy: ObjectPolicy, facts: StudyFacts, now: datetime) -> bool:
    """Whether a policy is about a study by now, whatever keeps it."""
    if policy.delivered and facts.delivered_at is None:
        return False
    if policy.rules and policy.rules.isdisjoint(facts.rules):
        return False
    since = max(facts.last_received_at, facts.delivered_at or facts.last_received_at)
    return since + policy.after <= now


def removable(
    policies: Sequence[ObjectPolicy], facts: StudyFacts, held: Sequence[HeldObject], now: datetime
) -> dict[str, list[HeldObject]]:
    """By name of the policy, the objects that go; the first policy that is about an object counts."""
    found: dict[str, list[HeldObject]] = {}
    due = [policy for policy in policies if applies(policy, facts, now)]
    for one in held if due else ():
        kind = ObjectKind.IMAGES if counts_for_assembly(one.sop_class_uid) else ObjectKind.RESULTS
        policy = next((policy for policy in due if policy.objects in (ObjectKind.ALL, kind)), None)
        if policy is not None:
            found.setdefault(policy.name, []).append(one)
    return found


def first_due(policies: Sequence[ObjectPolicy], now: datetime) -> datetime | None:
    """Studies that began to arrive later than this are too young for every policy; None without policies."""
    return now - min(policy.after for policy in policies) if policies else None
