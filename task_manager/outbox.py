# SPDX-License-Identifier: Apache-2.0
"""Durable jobs as values, and when a failed one is tried again. Pure: no clock, no database.

A job is one thing to tell or send to one destination. It is written in the transaction of what it tells, has
a key, and stays until it is done or a person decides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobState(StrEnum):
    """WAITING until due, RUNNING while claimed, then DONE; HELD waits for a person, who may drop it."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    HELD = "HELD"
    DROPPED = "DROPPED"


FINISHED = (JobState.DONE, JobState.DROPPED)
"""States in which nothing more is done."""


class JobKind(StrEnum):
    """What a job does."""

    DELIVER = "deliver"
    TELL = "tell"
    PUSH = "push"
    REVIEW = "review"
    FETCH = "fetch"
    ASK = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed or stored job.

    Attributes
    ----------
    key
        Identity: planning the same job twice writes one row.
    lane
        Destination or event repository; jobs of one lane run one after the other.
    claimed_by
        Who works on it; empty while nobody does.
    """

    id: int
    key: str
    lane: str
    kind: JobKind
    state: JobState
    workitem_uid: str
    event_id: int | None
    attempts: int
    due_at: datetime
    last_error: str
    summary: str
    created_at: datetime
    done_at: datetime | None
    claimed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff between `first` and `most`; it never gives up by itself.

    `jitter` is the greatest part of a pause that is taken off it, so that what failed together is not tried
    again together.
    """

    first: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(minutes=5)
    jitter: float = 0.0

    def next_due(self, attempts: int, now: datetime, *, key: str = "") -> datetime:
        """When to try again after `attempts` failed attempts (at least one).

        The jitter follows from `key` and the attempt: the same job always waits the same.
        """
        doublings = min(max(attempts - 1, 0), 20)
        pause: timedelta = min(self.first * (1 << doublings), self.most)
        return now + pause * (1 - self.jitter * _share(f"{key}:{attempts}"))


def _share(text: str) -> float:
    """A number from 0 up to 1 that is spread evenly over texts."""
    digest = hashlib.blake2b(text.encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


REVIEW_LANE = "review"
"""Rules that wait for a person before anything runs."""


PRIORS_LANE = "priors"
"""Rules that wait for earlier studies."""


def delivery_lane(destination: str) -> str:
    """The lane of a destination."""
    return f"deliver/{destination}"


def event_lane(sink: str) -> str:
    """The lane of an event repository."""
    return f"events/{sink}"


def question_lane(archive: str) -> str:
    """The lane of an archive that is asked what it has of studies."""
    return f"ask/{archive}"


def push_lane(ae_title: str) -> str:
    """The lane of a performer that work is pushed to."""
    return f"push/{ae_title}"


def fetch_lane(archive: str) -> str:
    """The lane of an archive that studies are fetched from."""
    return f"fetch/{archive}"
