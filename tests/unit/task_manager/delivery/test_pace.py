# SPDX-License-Identifier: Apache-2.0
"""Turns at even intervals."""

from __future__ import annotations

import pytest

from task_manager.delivery.pace import Pace


@pytest.mark.parametrize(
    ("interval_s", "burst", "asked_at", "waits"),
    [
        pytest.param(0.0, 1, [0, 0, 0], [0, 0, 0], id="no limit"),
        pytest.param(2.0, 1, [0, 0, 0], [0, 2, 4], id="queued in the order asked"),
        pytest.param(2.0, 1, [0, 1, 10, 10], [0, 1, 0, 2], id="a rest saves nothing up"),
        pytest.param(2.0, 3, [0, 0, 0, 0, 0], [0, 0, 0, 2, 4], id="a burst first"),
        pytest.param(2.0, 3, [0, 0, 0, 100, 100, 100, 100], [0, 0, 0, 0, 0, 0, 2], id="a burst after a rest"),
    ],
)
def test_waits(interval_s: float, burst: int, asked_at: list[float], waits: list[float]) -> None:
    pace = Pace(interval_s, burst=burst)
    assert [pace.reserve(at) for at in asked_at] == waits
