# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker: when it opens, for how long, and who may probe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from task_manager.delivery.breaker import WELL, BreakerPolicy, Circuit, Health
from task_manager.outbox import RetryPolicy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = BreakerPolicy(
    failures=3, pause=RetryPolicy(first=timedelta(seconds=30), most=timedelta(seconds=100))
)


def seconds(number: float) -> datetime:
    return NOW + timedelta(seconds=number)


def opened(openings: int = 1) -> Health:
    """A breaker that opened that often in a row, each probe failing at once when it was let go."""
    health, at = WELL, NOW
    for _ in range(3):
        health = POLICY.failed(health, at, reason="refused")
    for _ in range(openings - 1):
        assert health.open_until is not None
        at = health.open_until
        health = POLICY.failed(
            POLICY.probing(health, at, until=at + timedelta(minutes=1)), at, reason="refused"
        )
    return health


def test_it_stays_closed_below_the_number_of_failures() -> None:
    health = WELL
    for _ in range(2):
        health = POLICY.failed(health, NOW, reason="refused")
    assert (health.circuit(NOW), health.failures, health.closed_until(NOW)) == (Circuit.CLOSED, 2, None)


def test_it_opens_with_the_last_of_them_and_is_half_open_after_its_pause() -> None:
    health = opened()
    assert (health.circuit(NOW), health.closed_until(NOW)) == (Circuit.OPEN, seconds(30))
    assert (health.circuit(seconds(30)), health.closed_until(seconds(30))) == (Circuit.HALF_OPEN, None)
    assert health.reason == "refused"


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_most() -> None:
    pauses = []
    for openings in (1, 2, 3, 4):
        health, before = opened(openings), opened(openings - 1) if openings > 1 else None
        assert health.open_until is not None
        since = before.open_until if before is not None else NOW
        assert since is not None
        pauses.append((health.open_until - since).total_seconds())
    assert pauses == [30, 60, 100, 100]


def test_while_one_probes_nobody_else_does_until_it_counts_as_lost() -> None:
    probing = POLICY.probing(opened(), seconds(30), until=seconds(90))
    assert probing.closed_until(seconds(31)) == seconds(90)
    assert probing.closed_until(seconds(90)) is None


def test_what_was_under_way_when_it_opened_does_not_open_it_for_longer() -> None:
    late = POLICY.failed(opened(), seconds(5), reason="refused")
    assert (late.open_until, late.openings, late.failures) == (seconds(30), 1, 4)


def test_a_reason_is_kept_short() -> None:
    assert len(POLICY.failed(WELL, NOW, reason="x" * 5000).reason) == 200
