# SPDX-License-Identifier: Apache-2.0
"""The thread that looks after the disk: small steps of several chores, one after the other, behind the doors.

Nothing here is on the way of an answer. A chore that fails is logged, left alone for a while and tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from task_manager.errors import NoRoomError, StoreError, facts_of

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE_S = 30.0
_LONGEST_WAIT_S = 1.0


class Chore(Protocol):
    """Something to be done again and again, a short step at a time."""

    name: str

    def step(self) -> float:
        """Do a little; seconds until the next step.

        Raises
        ------
        StoreError
            If disk or database fail.
        """


class Upkeep:
    """Runs chores until stopped."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._due: dict[str, float] = {}
        self._chores = tuple(chores)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 20.0) -> None:
        """End after the step that runs."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = _LONGEST_WAIT_S
            for chore in self._chores:
                if self._stopping.is_set():
                    return
                left = self._due.get(chore.name, 0.0) - time.monotonic()
                if left <= 0:
                    left = self._step(chore)
                    self._due[chore.name] = time.monotonic() + left
                wait_s = min(wait_s, left)
            if wait_s > 0:
                self._stopping.wait(wait_s)

    def _step(self, chore: Chore) -> float:
        try:
            return chore.step()
        except StoreError as error:
            level = logging.WARNING if isinstance(error, NoRoomError) else logging.ERROR
            facts = {"action": "upkeep.store_error", "chore": chore.name, **facts_of(error)}
            _LOG.log(level, "upkeep has to wait", extra=facts)
        except Exception as error:  # noqa: BLE001 - the edge of this thread: log once, go on with the others
            _LOG.error(
                "upkeep failed", extra={"action": "upkeep.error", "chore": chore.name, **facts_of(error)}
            )
        return _AFTER_FAILURE_S
