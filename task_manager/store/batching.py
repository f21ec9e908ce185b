# SPDX-License-Identifier: Apache-2.0
"""Many small requests answered together: one thread, one transaction for all that waits.

Durable commits cost the same for one change as for fifty, and so does handing work to another thread. What is
asked while a batch runs forms the next one; nobody waits for a timer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_IDLE_S = 5.0
_MOST = 64


class Batches(Generic[_Asked, _Answer]):
    """Answers requests in batches, in the order asked.

    Parameters
    ----------
    answer
        Answers a batch, one answer each in the same order. If it raises for a batch of several, each is asked
        again alone, so that one cannot fail the others; it must leave nothing behind when it raises.
    name
        Of the thread, which lives while there is work and a few seconds longer.
    """

    def __init__(self, answer: Callable[[Sequence[_Asked]], Sequence[_Answer]], *, name: str) -> None:
        self._answer = answer
        self._name = name
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiting: deque[tuple[_Asked, Future[_Answer]]] = deque()
        self._running = False

    def ask(self, asked: _Asked) -> Future[_Answer]:
        """The answer to come."""
        future: Future[_Answer] = Future()
        with self._lock:
            self._waiting.append((asked, future))
            if self._running:
                self._arrived.notify()
            else:
                self._running = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def _run(self) -> None:
        while batch := self._next():
            self._settle(batch)

    def _next(self) -> list[tuple[_Asked, Future[_Answer]]]:
        """What waits, up to a bound; nothing when the thread is to end."""
        with self._lock:
            if not self._waiting:
                self._arrived.wait(_IDLE_S)
            batch = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
            self._running = bool(batch)
        return batch

    def _settle(self, batch: list[tuple[_Asked, Future[_Answer]]]) -> None:
        wanted = [one for one in batch if one[1].set_running_or_notify_cancel()]
        try:
            answers = self._answer([asked for asked, _ in wanted]) if wanted else ()
        except Exception:  # noqa: BLE001 - whatever it was: each is asked alone and gets its own error
            for asked, future in wanted:
                try:
                    [answer] = self._answer([asked])
                except Exception as error:  # noqa: BLE001 - belongs to who asked
                    future.set_exception(error)
                else:
                    future.set_result(answer)
        else:
            for (_, future), answer in zip(wanted, answers, strict=True):
                future.set_result(answer)
