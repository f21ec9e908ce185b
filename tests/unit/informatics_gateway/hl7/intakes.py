# SPDX-License-Identifier: Apache-2.0
"""A message intake in memory, for the tests of the MLLP door."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from profiles.order import MessageKey, Order
from profiles.patient import IdentityChange, PriorReport
from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused, WarningCode

T = TypeVar("T")


class MemoryIntake:
    """Keeps what is told; `before` runs first in every call and may raise or answer."""

    def __init__(self, before: Callable[[], Refused | None] | None = None) -> None:
        self.orders: dict[MessageKey, list[Order]] = {}
        self.changes: dict[MessageKey, list[IdentityChange]] = {}
        self.reports: dict[MessageKey, list[PriorReport]] = {}
        self.raw: list[bytes] = []
        self.actors: list[Actor] = []
        self._before = before or (lambda: None)
        self._lock = threading.Lock()

    def receive_order(
        self,
        received: Sequence[Order],
        *,
        key: MessageKey,
        raw: bytes,
        actor: Actor,
        accept_unknown: bool = False,
    ) -> Accepted | Refused:
        del accept_unknown
        return self._kept(self.orders, list(received), key, raw, actor)

    def receive_identities(
        self, changes: Sequence[IdentityChange], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        return self._kept(self.changes, list(changes), key, raw, actor)

    def receive_reports(
        self, reports: Sequence[PriorReport], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        return self._kept(self.reports, list(reports), key, raw, actor)

    def _kept(
        self, into: dict[MessageKey, list[T]], told: list[T], key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        refused = self._before()
        if refused is not None:
            return refused
        with self._lock:
            self.raw.append(raw)
            self.actors.append(actor)
            if key in into:
                return Accepted(warnings=(WarningCode.DUPLICATE,))
            into[key] = told
        return Accepted()
