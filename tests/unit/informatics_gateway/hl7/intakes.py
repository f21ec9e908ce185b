# SPDX-License-Identifier: Apache-2.0
"""An order intake in memory, for the tests of the MLLP door."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from profiles.order import MessageKey, Order
from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused, WarningCode


class MemoryIntake:
    """Keeps orders; `before` runs first in every call and may raise or answer."""

    def __init__(self, before: Callable[[], Refused | None] | None = None) -> None:
        self.orders: dict[MessageKey, list[Order]] = {}
        self.raw: list[bytes] = []
        self.actors: list[Actor] = []
        self._before = before or (lambda: None)
        self._lock = threading.Lock()

    def receive_order(
        self, orders: Sequence[Order], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        refused = self._before()
        if refused is not None:
            return refused
        with self._lock:
            self.raw.append(raw)
            self.actors.append(actor)
            if key in self.orders:
                return Accepted(warnings=(WarningCode.DUPLICATE,))
            self.orders[key] = list(orders)
        return Accepted()
