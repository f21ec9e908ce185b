# SPDX-License-Identifier: Apache-2.0
"""What a tick of the loop that completes studies costs while many studies are open; in process, on SQLite."""

from __future__ import annotations

import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from benchmarks.figures import Figure, milliseconds, sample
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

OPEN = {False: 10_000, True: 1000}
"""Studies that are open; the second in a quick run."""
_DUE = 50
_TICKS = 200
_IMAGES = 100
_PREFIX = "1.2.826.0.1.3680043.8.498.9"
_START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_NONE_OPEN = "the same, no study open"
_NONE_DUE, _LONGEST, _EACH, _ONE = (
    "a tick, none due",
    f"the longest tick while {_DUE} are due and wait on",
    "one study that is due and waits on",
    "a tick that completes one by evidence",
)


def measure_completeness(folder: Path, *, runs: int, open_studies: int) -> list[Figure]:
    """Times of ticks, by what there is to do."""
    group = f"completeness, {open_studies:,} open studies"
    measured = [_measured(folder / f"completeness{run}", open_studies) for run in range(runs)]
    return [
        Figure(
            group=group,
            name=name,
            unit="ms",
            airway=sample([found[name] for found in measured]),
            reference_name=_NONE_OPEN if name == _NONE_DUE else "",
            reference=sample([found[_NONE_OPEN] for found in measured]) if name == _NONE_DUE else None,
        )
        for name in (_NONE_DUE, _LONGEST, _EACH, _ONE)
    ]


def _measured(folder: Path, open_studies: int) -> dict[str, float]:
    """Milliseconds by name, on a database of its own that is removed after."""
    folder.mkdir()
    clock = _Clock()
    database = Database(f"sqlite:///{folder / 'airway.db'}")
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
        found = {_NONE_OPEN: _median(lambda: _tick(service))}
        _fill(database, range(open_studies))
        found[_NONE_DUE] = _median(lambda: _tick(service))
        _make_due(database, range(_DUE), clock())
        ticks = []
        while (due := service.scheduler.next_deadline()) is not None and due <= clock():
            ticks.append(milliseconds(lambda: _tick(service)))
        found[_LONGEST] = max(ticks)
        found[_EACH] = sum(ticks) / _DUE
        _note(database, range(1), clock())
        found[_ONE] = milliseconds(lambda: _tick(service))
    finally:
        database.close()
        shutil.rmtree(folder)
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
            insert(instance), [_instance(n, image) for n in numbers[:_DUE] for image in range(_IMAGES)]
        )
    with database.write() as connection:
        for number in numbers[:_DUE]:
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


def _median(call: Callable[[], None]) -> float:
    return statistics.median(milliseconds(call) for _ in range(_TICKS))
