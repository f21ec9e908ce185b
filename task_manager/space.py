# SPDX-License-Identifier: Apache-2.0
"""How much more may be stored: decided from what is free, used and promised. Values and decisions only.

Three states: ``ok`` takes everything; ``low`` takes no new images, but the results and messages that finish
work; ``full`` takes nothing that adds content. Changes of what is here go on as long as the disk lets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_MIB = 1024**2
_BACK = 1.25


class SpaceState(StrEnum):
    """How much is taken."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceLimits:
    """What must stay free, all in bytes.

    Attributes
    ----------
    most_bytes
        The data folder may hold; 0 sets no bound.
    least_free_bytes, least_free_share
        Of the file system; the larger one counts.
    reserve_bytes
        Kept above that for results and messages, while new images are refused.
    """

    most_bytes: int = 0
    least_free_bytes: int = 1024 * _MIB
    least_free_share: float = 0.0
    reserve_bytes: int = 256 * _MIB

    def floor_bytes(self, total_bytes: int) -> int:
        """What must stay free of a file system of `total_bytes`."""
        return max(self.least_free_bytes, int(total_bytes * self.least_free_share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A look at the disk, in bytes.

    Attributes
    ----------
    free_bytes, total_bytes
        Of the file system.
    used_bytes
        By the data folder; 0 where nobody counts because there is no quota.
    promised_bytes
        To transfers that run, and not yet written.
    """

    free_bytes: int
    total_bytes: int
    used_bytes: int = 0
    promised_bytes: int = 0


def room_left(space: Space, limits: SpaceLimits) -> int:
    """How many bytes more may be stored at all; negative where there are too many already."""
    left = space.free_bytes - limits.floor_bytes(space.total_bytes)
    if limits.most_bytes:
        left = min(left, limits.most_bytes - space.used_bytes)
    return left - space.promised_bytes


def state_after(before: SpaceState, space: Space, limits: SpaceLimits) -> SpaceState:
    """The state now. What was refused is taken again when there is a quarter of the reserve more than needed.

    Without that margin each removed object would open the doors for the next one.
    """
    left = room_left(space, limits)
    back = _BACK if before is not SpaceState.OK else 1.0
    if left >= limits.reserve_bytes * back:
        return SpaceState.OK
    margin = limits.reserve_bytes * (_BACK - 1) if before is SpaceState.FULL else 0
    return SpaceState.FULL if left <= margin else SpaceState.LOW


SPACE_TEXT: Mapping[SpaceState, str] = {
    SpaceState.OK: "there is room",
    SpaceState.LOW: "new images are refused; results and messages are taken",
    SpaceState.FULL: "images, orders and new workitems are refused; what is here goes on",
}
"""What each state means for those outside."""
