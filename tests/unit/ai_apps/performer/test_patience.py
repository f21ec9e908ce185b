# SPDX-License-Identifier: Apache-2.0
"""Trying again: until it works, patience ends or the performer stops."""

from __future__ import annotations

import threading

import pytest

from ai_apps.performer.patience import Patience, StoppedError, insist
from ai_apps.ups_rs.errors import RefusedError, UnreachableError

QUICK = Patience(first_s=0.001, longest_s=0.002, total_s=0.02)


def failing(times: int, error: Exception) -> list[Exception]:
    return [error] * times


@pytest.mark.parametrize("error", [UnreachableError("away"), OSError("disk full")])
def test_insists_until_it_works(error: Exception) -> None:
    left = failing(5, error)

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    assert insist(attempt, patience=QUICK, stop=threading.Event(), step="x") == "done"


def test_a_refusal_is_not_repeated() -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise RefusedError(400)

    with pytest.raises(RefusedError):
        insist(attempt, patience=QUICK, stop=threading.Event(), step="x")
    assert calls == [1]


def test_bounded_patience_ends_with_the_error() -> None:
    def attempt() -> None:
        raise UnreachableError("away")

    with pytest.raises(UnreachableError, match="away"):
        insist(attempt, patience=QUICK, stop=threading.Event(), step="x", bounded=True)


def test_stopping_ends_the_waiting_but_lets_one_try_be_made() -> None:
    stop = threading.Event()
    stop.set()

    def attempt() -> None:
        raise UnreachableError("away")

    with pytest.raises(StoppedError):
        insist(attempt, patience=Patience(first_s=60), stop=stop, step="x")
    assert insist(lambda: 1, patience=QUICK, stop=stop, step="x") == 1
