# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the task manager.

::

    AirwayError
    ├── ConfigurationError     refuse to start: every fault with file, line and key
    ├── InputError             a peer's data cannot be read: every fault with its path
    ├── StoreError             the store or the disk failed; the caller may try again
    │   ├── ConflictError      another transaction wrote the same key first
    │   └── NoRoomError        there is no room for it: the same may go well when there is
    └── DeliveryError          a destination did not take a result
        ├── RetryableDeliveryError  later may work: connection refused, out of resources, 5xx
        ├── FinalDeliveryError      will not work again unchanged: refused SOP class, 4xx
        └── StoppedDeliveryError    this process ends, or somebody else does it; nothing was wrong

A peer asking the impossible is no exception but a :class:`task_manager.outcome.Refused`.
"""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path

from profiles.faults import Fault


class AirwayError(Exception):
    """Base of all errors raised by Airway's own rooms."""


class _FaultsError(AirwayError):
    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(str(fault) for fault in faults))


class ConfigurationError(_FaultsError):
    """The configuration is not safe or not complete; `faults` lists all that is wrong."""


class InputError(_FaultsError):
    """A peer's data cannot be used; `faults` lists all that is wrong."""


class StoreError(AirwayError):
    """The database or the object store failed; nothing was acknowledged."""


class ConflictError(StoreError):
    """Another transaction was first, or in the way; nothing of this one was committed: do it again."""


class NoRoomError(StoreError):
    """The disk, or the part of it that we may use, is full; nothing was acknowledged."""


class DeliveryError(AirwayError):
    """A destination did not take what was sent; the message holds no patient data."""


class RetryableDeliveryError(DeliveryError):
    """The destination may take it later; not before `retry_after`, if it said so.

    `unreachable` tells that it did not answer at all: no connection, no association, no answer in time.
    """

    def __init__(
        self, message: str, *, retry_after: timedelta | None = None, unreachable: bool = False
    ) -> None:
        self.retry_after = retry_after
        self.unreachable = unreachable
        super().__init__(message)


class FinalDeliveryError(DeliveryError):
    """The destination will never take it unchanged; a person must decide."""


class StoppedDeliveryError(DeliveryError):
    """A delivery was broken off before its end and is done again from its beginning."""


def facts_of(error: BaseException) -> dict[str, object]:
    """Kind and places of an error for the log, without its text, which may hold values of a patient."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return {
        "error": type(error).__name__,
        "where": [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames],
    }
