# SPDX-License-Identifier: Apache-2.0
"""What threads ask together: answered in their order, each with its own answer or error."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.peers.process import wait_until
from task_manager.errors import StoreError
from task_manager.store.gathering import Gathering


def test_who_comes_alone_is_answered_in_its_own_thread() -> None:
    threads: list[threading.Thread] = []

    def answer(asked: Sequence[int]) -> list[int]:
        threads.append(threading.current_thread())
        return [one * 2 for one in asked]

    assert Gathering(answer).ask(21) == 42
    assert threads == [threading.current_thread()]


def test_those_that_come_meanwhile_are_answered_together() -> None:
    started = threading.Event()
    go_on = threading.Event()
    batches: list[list[int]] = []

    def answer(asked: Sequence[int]) -> list[int]:
        batches.append(list(asked))
        started.set()
        go_on.wait(timeout=10)
        return [one * 2 for one in asked]

    gathering: Gathering[int, int] = Gathering(answer)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gathering.ask, 0)
        assert started.wait(timeout=10)
        others = [pool.submit(gathering.ask, number) for number in range(1, 6)]
        wait_until(lambda: gathering.waiting == 5, "all came")
        go_on.set()
        assert first.result(timeout=10) == 0
        assert [one.result(timeout=10) for one in others] == [2, 4, 6, 8, 10]
    assert batches[0] == [0]
    assert sorted(batches[1]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("error", "shared"), [(ValueError, False), (StoreError, True)])
def test_an_error_is_its_own_unless_the_store_is_away(error: type[Exception], shared: bool) -> None:
    started = threading.Event()
    go_on = threading.Event()

    def answer(asked: Sequence[int]) -> list[int]:
        started.set()
        go_on.wait(timeout=10)
        if 3 in asked:
            raise error("three")
        return list(asked)

    gathering: Gathering[int, int] = Gathering(answer)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gathering.ask, 0)
        assert started.wait(timeout=10)
        others = {number: pool.submit(gathering.ask, number) for number in (2, 3, 4)}
        wait_until(lambda: gathering.waiting == 3, "all came")
        go_on.set()
        assert first.result(timeout=10) == 0
        failed = {number for number, one in others.items() if one.exception(timeout=10) is not None}
    assert failed == ({2, 3, 4} if shared else {3})
