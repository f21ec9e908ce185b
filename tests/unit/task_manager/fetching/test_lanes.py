# SPDX-License-Identifier: Apache-2.0
"""How many studies are fetched at a time: bounded for each archive and over all."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from task_manager.fetching.model import FetchState
from task_manager.fetching.performing import FetchLimits
from task_manager.outcome import Accepted
from task_manager.worker import Worker
from tests.instances import ct
from tests.service import make_service
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive

STUDIES = [f"1.2.3.{number}" for number in range(1, 9)]
DEADLINE_S = 20.0


@dataclass
class Crowd:
    """Counts who is within, and keeps the first ones until as many as may be are there."""

    most: int
    within: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    peak_of_all: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    full: threading.Event = field(default_factory=threading.Event)

    def pass_through(self, archive: str) -> None:
        with self.lock:
            self.within[archive] = self.within.get(archive, 0) + 1
            self.peak[archive] = max(self.peak.get(archive, 0), self.within[archive])
            self.peak_of_all = max(self.peak_of_all, sum(self.within.values()))
            if self.peak_of_all >= self.most:
                self.full.set()
        self.full.wait(5)
        with self.lock:
            self.within[archive] -= 1


@pytest.mark.parametrize(
    ("of_one", "of_all", "expected"),
    [(1, 8, ({"a": 1, "b": 1}, 2)), (2, 3, (None, 3)), (4, 2, (None, 2))],
    ids=["one from each", "three over all", "two over all"],
)
def test_the_bounds(
    tmp_path: Path, of_one: int, of_all: int, expected: tuple[dict[str, int] | None, int]
) -> None:
    crowd = Crowd(most=expected[1])
    archives = [
        MemoryArchive(
            name=name,
            most_at_once=of_one,
            files=[ct(1, study=uid) for uid in STUDIES],
            hook=lambda _, name=name: crowd.pass_through(name),  # type: ignore[misc]
        )
        for name in ("a", "b")
    ]
    bed = make_service(tmp_path, study_archives=archives, fetching=FetchLimits(most_at_once=of_all))
    fetches = bed.service.fetches
    keys = []
    for number, uid in enumerate(STUDIES):
        asked = fetches.request(study_instance_uid=uid, archive="ab"[number % 2])
        assert isinstance(asked, Accepted)
        keys.append(asked.uid)
    worker = Worker(bed.service, {}, {}, name="test", clock=bed.clock)
    worker.start()
    try:
        done = threading.Event()
        for _ in range(int(DEADLINE_S / 0.05)):
            states = {one.fetch.state for one in fetches.newest()}
            if states == {FetchState.DONE}:
                break
            done.wait(0.05)
        assert states == {FetchState.DONE}
    finally:
        worker.stop()
        bed.database.close()
    assert crowd.peak_of_all == expected[1]
    assert all(number <= of_one for number in crowd.peak.values())
    if expected[0] is not None:
        assert crowd.peak == expected[0]
