# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker of a destination: pure; how a destination fares is kept by ``store/deliveries.py``.

Closed, everything goes. After some failures in a row to reach the destination it opens and nothing is tried;
when its pause is over one job probes (half open), and what comes of that closes it or opens it for longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from task_manager.outbox import RetryPolicy

_LONGEST_REASON = 200


class Circuit(StrEnum):
    """What may be tried: everything, nothing, or one job to see whether the destination is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a destination fares.

    Attributes
    ----------
    failures
        In a row, of those that did not reach it.
    openings
        How often in a row the breaker opened.
    open_until
        When it may be probed; None while closed.
    probe_until
        When a probe under way counts as lost; None if there is none.
    reason
        What the last failure was.
    changed_at
        When the breaker opened, or was probed last; None if it never did.
    """

    failures: int = 0
    openings: int = 0
    open_until: datetime | None = None
    probe_until: datetime | None = None
    reason: str = ""
    changed_at: datetime | None = None

    def circuit(self, now: datetime) -> Circuit:
        """What may be tried now."""
        if self.open_until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self.open_until > now else Circuit.HALF_OPEN

    def closed_until(self, now: datetime) -> datetime | None:
        """When the next job may go; None if now."""
        waits = [at for at in (self.open_until, self.probe_until) if at is not None and at > now]
        return max(waits, default=None)


WELL = Health()
"""Of a destination that nothing is known of, or that answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When it opens and for how long.

    Attributes
    ----------
    failures
        In a row, to open it.
    pause
        Doubled with each opening in a row; its jitter keeps many gateways from probing at once.
    """

    failures: int = 5
    pause: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(
            first=timedelta(seconds=30), most=timedelta(minutes=10), jitter=0.1
        )
    )

    def probing(self, health: Health, now: datetime, *, until: datetime) -> Health:
        """A job was let go to probe."""
        return replace(health, probe_until=until, changed_at=now)

    def failed(self, health: Health, now: datetime, *, reason: str, key: str = "") -> Health:
        """A job did not reach the destination; `key` sets the jitter."""
        failures = health.failures + 1
        failed = replace(health, failures=failures, reason=reason[:_LONGEST_REASON])
        was_probe = health.open_until is not None
        if health.closed_until(now) is not None and health.probe_until is None:
            return failed  # it was under way when the breaker opened
        if not was_probe and failures < self.failures:
            return failed
        openings = health.openings + 1
        return replace(
            failed,
            openings=openings,
            open_until=self.pause.next_due(openings, now, key=key),
            probe_until=None,
            changed_at=now,
        )
