# SPDX-License-Identifier: Apache-2.0
"""How much is taken for what is free, used and promised."""

from __future__ import annotations

import pytest

from task_manager.space import SPACE_TEXT, Space, SpaceLimits, SpaceState, room_left, state_after

MIB = 1024**2
LIMITS = SpaceLimits(least_free_bytes=100 * MIB, reserve_bytes=40 * MIB)
QUOTA = SpaceLimits(most_bytes=500 * MIB, least_free_bytes=100 * MIB, reserve_bytes=40 * MIB)
SHARE = SpaceLimits(least_free_bytes=100 * MIB, least_free_share=0.5, reserve_bytes=40 * MIB)
OK, LOW, FULL = SpaceState


def space(free: int, used: int = 0, promised: int = 0) -> Space:
    return Space(
        free_bytes=free * MIB, total_bytes=1000 * MIB, used_bytes=used * MIB, promised_bytes=promised * MIB
    )


@pytest.mark.parametrize(
    ("limits", "now", "left"),
    [
        pytest.param(LIMITS, space(300), 200, id="what-is-free-above-the-floor"),
        pytest.param(LIMITS, space(300, used=10_000), 200, id="no-quota-no-use-counts"),
        pytest.param(LIMITS, space(300, promised=50), 150, id="promised-is-gone"),
        pytest.param(LIMITS, space(50), -50, id="below-the-floor"),
        pytest.param(QUOTA, space(900, used=470), 30, id="the-quota-is-nearer"),
        pytest.param(QUOTA, space(110, used=10), 10, id="the-disk-is-nearer"),
        pytest.param(QUOTA, space(900, used=600), -100, id="over-the-quota"),
        pytest.param(SHARE, space(600), 100, id="the-larger-of-share-and-bytes"),
    ],
)
def test_room_left(limits: SpaceLimits, now: Space, left: int) -> None:
    assert room_left(now, limits) == left * MIB


@pytest.mark.parametrize(
    ("before", "left", "after"),
    [
        pytest.param(OK, 40, OK, id="ok-to-the-reserve"),
        pytest.param(OK, 39, LOW, id="into-the-reserve"),
        pytest.param(OK, 1, LOW, id="most-of-the-reserve-gone"),
        pytest.param(OK, 0, FULL, id="nothing-left"),
        pytest.param(OK, -5, FULL, id="less-than-nothing"),
        pytest.param(LOW, 45, LOW, id="a-little-more-is-not-enough"),
        pytest.param(LOW, 50, OK, id="a-quarter-more-is"),
        pytest.param(LOW, 0, FULL, id="low-becomes-full"),
        pytest.param(FULL, 10, FULL, id="full-stays-until-there-is-a-margin"),
        pytest.param(FULL, 11, LOW, id="full-becomes-low"),
        pytest.param(FULL, 50, OK, id="full-becomes-ok"),
    ],
)
def test_states_with_their_margins(before: SpaceState, left: int, after: SpaceState) -> None:
    assert state_after(before, space(100 + left), LIMITS) is after


def test_every_state_has_words() -> None:
    assert set(SPACE_TEXT) == set(SpaceState)


def test_without_limits_everything_is_taken_to_the_end() -> None:
    none = SpaceLimits(least_free_bytes=0, reserve_bytes=0)
    assert state_after(OK, space(1), none) is OK
    assert state_after(OK, space(0), none) is OK, "then the disk itself says so"
