# SPDX-License-Identifier: Apache-2.0
"""The rate limit of a destination: turns at even intervals, first come, first served. Pure.

Times are seconds of a clock that never goes back. Who shares a pace between threads guards it with a lock.
"""

from __future__ import annotations


class Pace:
    """Turns no closer than an interval.

    Parameters
    ----------
    interval_s
        Seconds between two turns; 0 sets no limit.
    burst
        Turns that may be taken at once after a rest.
    """

    def __init__(self, interval_s: float, *, burst: int = 1) -> None:
        self._interval_s = interval_s
        self._slack_s = interval_s * (burst - 1)
        self._next_s = float("-inf")

    def reserve(self, now_s: float) -> float:
        """Take the next turn; seconds to wait for it."""
        if not self._interval_s:
            return 0.0
        at = max(now_s - self._slack_s, self._next_s)
        self._next_s = at + self._interval_s
        return max(0.0, at - now_s)
