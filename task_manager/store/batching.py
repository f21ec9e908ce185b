# SPDX-License-Identifier: Apache-2.0
"""Many small requests answered together: one thread, one transaction for all that waits.

Durable commits cost the same for one change as for fifty, and so does handing work to another thread. What is
asked while a batch runs forms the next one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_IDLE_S = 5.0
_MOST = 64
_GATHERING_S = 0.0001
_MOST_LOOKS = 3


class Batches(Generic[_Asked, _Answer]):
    """Answers requests in batches, in the order asked as long as one thread does.

    Parameters
    ----------
    answer
        Answers a batch, one answer each in the same order. If it raises for a batch of several, each is asked
        again alone, so that one cannot fail the others; it must leave nothing behind when it raises.
    shared
        Whether an error is nobody's own: all who asked get it and nothing is asked again. A store that is
        away would else be waited for once for each, and what it may have committed would be done again.
    name
        Of the threads, which live while there is work and a few seconds longer.
    most
        Requests of a batch: 1 where one may take long and the others should not wait for its end.
    threads
        How many there may be: several where answering means to wait for another process.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[_Asked]], Sequence[_Answer]],
        *,
        name: str,
        most: int = _MOST,
        threads: int = 1,
        shared: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._answer = answer
        self._shared = shared
        self._name = name
        self._most = most
        self._threads = threads
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiting: deque[tuple[_Asked, Future[_Answer]]] = deque()
        self._running = 0
        self._idle = 0
        self._latest = 0

    def ask(self, asked: _Asked) -> Future[_Answer]:
        """The answer to come."""
        future: Future[_Answer] = Future()
        with self._lock:
            if not self._idle and self._running < self._threads:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._running += 1  # only now: a thread that could not be started must not be waited for
            self._waiting.append((asked, future))
            self._arrived.notify()
        return future

    def _run(self) -> None:
        while batch := self._next():
            self._settle(batch)

    def _next(self) -> list[tuple[_Asked, Future[_Answer]]]:
        """What waits, up to a bound; nothing when the thread is to end.

        After a batch of several, those who were answered ask again within moments of each other: a short
        pause gathers them, where the first alone would make a batch that the others have to wait for.
        """
        while True:
            with self._lock:
                if not self._awaited():
                    self._running -= 1
                    return []
            looks = _MOST_LOOKS
            while looks and len(self._waiting) < self._latest:
                time.sleep(_GATHERING_S)
                looks -= 1
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                self._latest = len(batch) or self._latest
            if batch:  # else another thread has taken it
                return batch

    def _awaited(self) -> bool:
        """Whether something waits, or has come within the time that a thread is kept."""
        while not self._waiting:
            self._idle += 1
            told = self._arrived.wait(_IDLE_S)
            self._idle -= 1
            if not told:
                break
        return bool(self._waiting)

    def _settle(self, batch: list[tuple[_Asked, Future[_Answer]]]) -> None:
        left = deque(one for one in batch if one[1].set_running_or_notify_cancel())
        at_once = len(left)
        while left:
            part = [left.popleft() for _ in range(at_once)]
            try:
                answers = self._answer([asked for asked, _ in part])
            except Exception as error:  # noqa: BLE001 - whatever it was: it belongs to who asked
                if self._shared(error):
                    part += left
                    left.clear()
                elif len(part) > 1:
                    left.extend(part)
                    at_once = 1
                    continue
                for _, future in part:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(part, answers, strict=True):
                    future.set_result(answer)
