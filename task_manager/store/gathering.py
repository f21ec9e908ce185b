# SPDX-License-Identifier: Apache-2.0
"""What several threads ask at the same time, answered together by one of them.

Who comes first works for all that wait by then; who comes alone works at once, in its own thread, without
waiting for another to wake up. Durable commits cost the same for one record as for many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from task_manager.errors import StoreError

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_MOST = 64


class _Waiting(Generic[_Asked, _Answer]):
    __slots__ = ("answer", "asked", "done", "error")

    def __init__(self, asked: _Asked) -> None:
        self.asked = asked
        self.answer: _Answer | None = None
        self.error: BaseException | None = None
        self.done = False


class Gathering(Generic[_Asked, _Answer]):
    """Answers requests of several threads together.

    Parameters
    ----------
    answer
        Answers several, one answer each in the same order. If it raises for several, each is asked again
        alone, so that one cannot fail the others; it must leave nothing behind when it raises. A
        :class:`StoreError` belongs to all: nobody waits once more for a store that is away.
    """

    def __init__(self, answer: Callable[[Sequence[_Asked]], Sequence[_Answer]]) -> None:
        self._answer = answer
        self._working = threading.Lock()
        self._arriving = threading.Lock()
        self._waiting: list[_Waiting[_Asked, _Answer]] = []

    @property
    def waiting(self) -> int:
        """How many wait for whoever is working to end."""
        return len(self._waiting)

    def ask(self, asked: _Asked) -> _Answer:
        """The answer, when it is there; raises what answering raised."""
        mine: _Waiting[_Asked, _Answer] = _Waiting(asked)
        with self._arriving:
            self._waiting.append(mine)
        with self._working:
            while not mine.done:
                with self._arriving:
                    batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                self._settle(batch)
        if mine.error is not None:
            raise mine.error
        return mine.answer  # type: ignore[return-value]

    def _settle(self, batch: Sequence[_Waiting[_Asked, _Answer]]) -> None:
        try:
            answers = self._answer([one.asked for one in batch])
        except StoreError as error:
            for one in batch:
                one.error, one.done = error, True
        except BaseException as error:  # noqa: BLE001 - whatever it was: it belongs to who asked
            if len(batch) > 1:
                for one in batch:
                    self._settle((one,))
                return
            batch[0].error, batch[0].done = error, True
        else:
            for one, answer in zip(batch, answers, strict=True):
                one.answer, one.done = answer, True
