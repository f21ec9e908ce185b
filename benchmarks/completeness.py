# SPDX-License-Identifier: Apache-2.0
"""What a tick of the loop that completes studies costs while many studies are open.

In process, on SQLite in `folder` or on a server: `python -m benchmarks.completeness [URL]`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from task_manager.rules.model import RuleSet
from task_manager.service import Service, ServiceSettings
from task_manager.store.database import Database
from task_manager.store.evidence import note_evidence
from task_manager.store.objects import FileObjectStore
from task_manager.store.tables import METADATA
from task_manager.study.completeness import CompletenessPolicy
from task_manager.study.evidence import StudyEvidence
from task_manager.study.model import Evidence
from task_manager.study.sources import Policies

OPEN = 10_000
DUE = 50
_TICKS = 200
_IMAGES = 100
_PREFIX = "1.2.826.0.1.3680043.8.498.9"
_START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def measure_completeness(folder: Path, url: str = "") -> dict[str, float]:
    """Milliseconds of a tick, by what there is to do; the median of many."""
    clock = _Clock()
    database = Database(url or f"sqlite:///{folder / 'airway.db'}")
    database.migrate()
    policy = CompletenessPolicy(evidence=(Evidence.MPPS,))
    service = Service(
        database,
        FileObjectStore(folder / "store"),
        RuleSet(version="none", rules=()),
        {},
        ServiceSettings(quiet_period=policy.quiet, completeness=Policies(usual=policy)),
        base_url=lambda: "http://127.0.0.1:8080/dicom-web",
        clock=clock,
        new_uid=lambda: f"2.25.{uuid.uuid4().int}",
    )
    try:
        found = {"no study open": _median(lambda: _tick(service), _TICKS)}
        _fill(database, range(OPEN))
        found[f"{OPEN} open, none due"] = _median(lambda: _tick(service), _TICKS)
        _make_due(database, range(DUE), clock())
        ticks = []
        while (due := service.scheduler.next_deadline()) is not None and due <= clock():
            ticks.append(_timed(lambda: _tick(service)))
        found[f"{OPEN} open, {DUE} due that wait on, longest tick"] = max(ticks)
        found[f"{OPEN} open, {DUE} due that wait on, each"] = sum(ticks) / DUE
        _note(database, range(1), clock())
        found[f"{OPEN} open, one complete by evidence"] = _timed(lambda: _tick(service))
    finally:
        database.close()
    return found


class _Clock:
    """A clock that goes on from a moment after the images came."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> datetime:
        return _START + timedelta(seconds=3 + time.perf_counter() - self._began)


def _tick(service: Service) -> None:
    service.scheduler.complete_due_studies()
    service.scheduler.next_deadline()


def _fill(database: Database, numbers: Sequence[int]) -> None:
    """Open studies of one series; those that will be looked at have images and wait for one more."""
    study, series, instance = (METADATA.tables[name] for name in ("study", "series", "instance"))
    with database.write() as connection:
        connection.execute(insert(study), [_study(number) for number in numbers])
        connection.execute(
            insert(series),
            [
                {"series_instance_uid": f"{_uid(n)}.1", "study_instance_uid": _uid(n), "attributes": "{}"}
                for n in numbers
            ],
        )
        connection.execute(
            insert(instance), [_instance(n, image) for n in numbers[:DUE] for image in range(_IMAGES)]
        )
    with database.write() as connection:
        for number in numbers[:DUE]:
            note_evidence(connection, _step(number, _IMAGES + 1), _START)
        connection.execute(study.update().values(deadline_at=_START + timedelta(hours=2)))


def _make_due(database: Database, numbers: Sequence[int], now: datetime) -> None:
    study = METADATA.tables["study"]
    with database.write() as connection:
        uids = [_uid(number) for number in numbers]
        connection.execute(study.update().where(study.c.study_instance_uid.in_(uids)).values(deadline_at=now))


def _note(database: Database, numbers: Sequence[int], now: datetime) -> None:
    with database.write() as connection:
        for number in numbers:
            note_evidence(connection, _step(number, _IMAGES), now)


def _uid(number: int) -> str:
    return f"{_PREFIX}.{number}"


def _step(number: int, images: int) -> StudyEvidence:
    named = frozenset(f"{_uid(number)}.1.{image}" for image in range(images))
    return StudyEvidence(
        kind=Evidence.MPPS,
        study_instance_uid=_uid(number),
        source=f"{_uid(number)}.9",
        told_at=_START,
        series={f"{_uid(number)}.1": named},
    )


def _study(number: int) -> dict[str, object]:
    return {
        "study_instance_uid": _uid(number),
        "state": "RECEIVING",
        "revision": 0,
        "patient_id": f"P{number}",
        "accession_number": f"A{number}",
        "attributes": "{}",
        "first_received_at": _START,
        "last_received_at": _START,
        "deadline_at": _START + timedelta(hours=2),
        "evidence": "",
        "receiving_since": _START,
    }


def _instance(number: int, image: int) -> dict[str, object]:
    return {
        "sop_instance_uid": f"{_uid(number)}.1.{image}",
        "copy_number": 0,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "series_instance_uid": f"{_uid(number)}.1",
        "study_instance_uid": _uid(number),
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "instance_number": image,
        "path": f"{number}/{image}",
        "size": 1,
        "received_at": _START,
        "source": "dicom:CT1",
        "attributes": "{}",
    }


def _median(call: Callable[[], None], times: int) -> float:
    return statistics.median(_timed(call) for _ in range(times))


def _timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        for what, figure in measure_completeness(Path(folder), *sys.argv[1:2]).items():
            print(f"{what}: {figure:.2f} ms")


if __name__ == "__main__":
    main()
