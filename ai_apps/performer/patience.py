# SPDX-License-Identifier: Apache-2.0
"""Trying again while a peer cannot be reached, until it can, patience ends or the performer stops."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ai_apps.ups_rs.errors import UnreachableError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """The performer stops; what was being done can be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How to wait between tries: doubling from `first_s` to `longest_s`, with jitter.

    `total_s` bounds all tries at a peer other than the manager; without the manager nothing can be done.
    """

    first_s: float = 0.25
    longest_s: float = 30.0
    total_s: float = 900.0


def insist(
    attempt: Callable[[], _Result],
    *,
    patience: Patience,
    stop: threading.Event,
    step: str,
    bounded: bool = False,
) -> _Result:
    """What `attempt` returns once it is not prevented by an unreachable peer or a full disk.

    Parameters
    ----------
    attempt
        Something that is safe to repeat.
    step
        What is being done, for the log.
    bounded
        Whether to end after `patience.total_s` by raising the last error.

    Raises
    ------
    StoppedError
        If `stop` is set while waiting.
    UnreachableError, OSError
        If patience ended.
    """
    delay = patience.first_s
    ends = time.monotonic() + patience.total_s
    while True:
        try:
            return attempt()
        except (UnreachableError, OSError) as error:
            if bounded and time.monotonic() >= ends:
                raise
            logger.warning(
                "peer not available, trying again",
                extra={"action": "performer.waiting", "step": step, "error": type(error).__name__},
            )
        if stop.wait(delay * random.uniform(0.75, 1.25)):
            raise StoppedError
        delay = min(delay * 2, patience.longest_s)
