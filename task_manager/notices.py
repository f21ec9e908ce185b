# SPDX-License-Identifier: Apache-2.0
"""Event reports on their way to watchers, as values, and the journal they are read from (PS3.4 CC.2.4).

A report is written in the transaction of the change it tells. Channels read the journal in the order of the
commits and remember how far each listener has come, so that nothing is told twice and nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Channel(StrEnum):
    """How an AE listens."""

    WEBSOCKET = "websocket"
    DIMSE = "dimse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event report.

    Attributes
    ----------
    number
        Position in the journal; grows in the order of the commits.
    workitem_uid
        Affected SOP Instance UID; the global subscription's for event 4.
    event_type
        Event Type ID (0000,1002), 1 to 5.
    content
        Event information as DICOM JSON text (an object), without addressing.
    receiving_aes
        Who is to be told.
    """

    number: int
    workitem_uid: str
    event_type: int
    content: str
    receiving_aes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An AE on one channel and the last report it was given."""

    receiving_ae: str
    channel: Channel
    position: int
    attempts: int = 0
    due_at: datetime | None = None


class Journal(Protocol):
    """What channels need of the store."""

    def latest(self) -> int:
        """Number of the last report; 0 if there is none."""

    def after(self, position: int, *, limit: int = 500) -> tuple[Sequence[Notice], int]:
        """The reports after `position` that concern anybody, oldest first, and the position read to."""

    def pending(self, receiving_ae: str, position: int, *, limit: int = 500) -> Sequence[Notice]:
        """What one AE is owed after `position`, oldest first.

        More than the configured bound, or what was purged, is dropped: then event 4 (warm start) comes first
        as the sign to look at the worklist again.
        """

    def listener(self, receiving_ae: str, channel: Channel) -> Listener:
        """How far an AE has come on a channel; one that is new begins with the next report."""

    def listeners(self, channel: Channel) -> Sequence[Listener]:
        """All listeners of a channel."""

    def delivered(self, channel: Channel, positions: Mapping[str, int]) -> None:
        """Remember how far each AE has come; a position never goes back."""

    def postpone(self, listener: Listener, *, error: str, due_at: datetime) -> None:
        """Remember that a listener could not be reached, and when to try again."""

    def claim(self, listener: Listener, *, owner: str, until: datetime) -> bool:
        """Whether this process alone may send to a listener until then (replicas share listeners)."""
