# SPDX-License-Identifier: Apache-2.0
"""Requests answered together: in order, each with its own answer, whatever becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pytest

from task_manager.errors import StoreError
from task_manager.store.batching import Batches

_S = 10.0


class _Answering:
    """Answers what it is given; holds the first batch until let go, so that the next ones form behind it."""

    def __init__(self, wrong: Callable[[int], Exception | None] = lambda _: None) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()
        self.go = threading.Event()
        self._wrong = wrong

    def __call__(self, asked: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(asked))
        if len(self.batches) == 1:
            self.held.set()
            assert self.go.wait(_S)
        for one in asked:
            if (error := self._wrong(one)) is not None:
                raise error
        return [-one for one in asked]


def _asked(answering: _Answering, numbers: Sequence[int], **options: object) -> list[Future[int]]:
    """The futures of `numbers`, asked while a first batch (number 0) is answered."""
    batches: Batches[int, int] = Batches(answering, name="test", **options)  # type: ignore[arg-type]
    first = batches.ask(0)
    assert answering.held.wait(_S)
    futures = [batches.ask(number) for number in numbers]
    answering.go.set()
    assert first.result(_S) == 0
    return futures


def test_what_is_asked_meanwhile_forms_the_next_batch_in_the_order_asked() -> None:
    answering = _Answering()
    futures = _asked(answering, range(1, 101))
    assert [future.result(_S) for future in futures] == [-number for number in range(1, 101)]
    assert answering.batches == [[0], list(range(1, 65)), list(range(65, 101))]


def test_a_bound_lets_each_be_answered_without_the_next() -> None:
    answering = _Answering()
    futures = _asked(answering, (1, 2, 3), most=1)
    assert [future.result(_S) for future in futures] == [-1, -2, -3]
    assert answering.batches == [[0], [1], [2], [3]]


def test_another_thread_answers_while_one_waits() -> None:
    answering = _Answering()
    batches: Batches[int, int] = Batches(answering, name="test", threads=2)
    first = batches.ask(0)
    assert answering.held.wait(_S)
    assert batches.ask(1).result(_S) == -1
    assert not first.done()
    answering.go.set()
    assert first.result(_S) == 0


def test_one_that_fails_fails_no_other() -> None:
    answering = _Answering(lambda number: KeyError(number) if number == 2 else None)
    futures = _asked(answering, (1, 2, 3))
    assert (futures[0].result(_S), futures[2].result(_S)) == (-1, -3)
    with pytest.raises(KeyError):
        futures[1].result(_S)
    assert answering.batches == [[0], [1, 2, 3], [1], [2], [3]]


def test_an_error_of_nobody_is_everybodys_and_nothing_is_asked_again() -> None:
    answering = _Answering(lambda number: StoreError("away") if number else None)
    futures = _asked(answering, (1, 2, 3), shared=lambda error: isinstance(error, StoreError))
    for future in futures:
        with pytest.raises(StoreError):
            future.result(_S)
    assert answering.batches == [[0], [1, 2, 3]]


def test_what_goes_away_while_each_is_asked_alone_is_not_waited_for_by_the_rest() -> None:
    errors: dict[int, Exception] = {1: KeyError(1), 2: StoreError("away")}
    answering = _Answering(errors.get)
    futures = _asked(answering, (1, 2, 3, 4), shared=lambda error: isinstance(error, StoreError))
    with pytest.raises(KeyError):
        futures[0].result(_S)
    for future in futures[1:]:
        with pytest.raises(StoreError):
            future.result(_S)
    assert answering.batches == [[0], [1, 2, 3, 4], [1], [2]]


def test_who_no_longer_waits_is_not_asked_for() -> None:
    answering = _Answering()
    batches: Batches[int, int] = Batches(answering, name="test")
    first = batches.ask(0)
    assert answering.held.wait(_S)
    futures = [batches.ask(number) for number in (1, 2)]
    assert futures[0].cancel()
    assert not first.cancel()
    answering.go.set()
    assert futures[1].result(_S) == -2
    assert answering.batches == [[0], [2]]
