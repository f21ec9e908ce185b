# SPDX-License-Identifier: Apache-2.0
"""What a site sets for one destination, as values: whatever its kind, it is treated by the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from task_manager.delivery.breaker import BreakerPolicy
from task_manager.outbox import RetryPolicy
from task_manager.rules.model import Condition


class Commitment(StrEnum):
    """Whether a job counts as done only when the destination has taken over responsibility (PS3.4 J)."""

    OFF = "off"
    IF_OFFERED = "if_offered"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentPolicy:
    """Storage commitment.

    Attributes
    ----------
    timeout
        How long an answer is waited for before it is asked again.
    rounds
        How often what was refused is sent and asked for again before a person has to decide.
    """

    mode: Commitment = Commitment.OFF
    timeout: timedelta = timedelta(minutes=10)
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFilter:
    """Which results go to a destination; what is empty or None asks nothing.

    Attributes
    ----------
    apps, rules
        Names, of which one must have made the result.
    when
        Condition on the study the result is of, and its order.
    objects
        Condition on each object; the others are left out.
    """

    apps: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    when: Condition | None = None
    objects: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How one destination is served.

    Attributes
    ----------
    name
        Of the destination.
    parallel
        Jobs at a time; those of one study always go one after the other.
    interval_s, burst
        Rate limit in seconds between instances or messages (0: none), and how many may go at once after a
        rest.
    retry
        Pauses between tries.
    give_up
        How long after it was planned a job that failed again becomes a dead letter; None never.
    """

    name: str
    parallel: int = 1
    interval_s: float = 0.0
    burst: int = 1
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    give_up: timedelta | None = None
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    commitment: CommitmentPolicy = field(default_factory=CommitmentPolicy)
    results: ResultFilter = field(default_factory=ResultFilter)


def policies_of(names: Sequence[str], retry: RetryPolicy) -> tuple[DeliveryPolicy, ...]:
    """The policy of destinations for which nothing is set but when failed jobs are tried again."""
    return tuple(DeliveryPolicy(name=name, retry=retry) for name in names)
