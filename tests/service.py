# SPDX-License-Identifier: Apache-2.0
"""A task manager with a clock that tests turn, over a database and a folder of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from profiles.codes import WORKITEM_LUNG_CT
from profiles.sole.events import EventType
from task_manager.actor import Actor
from task_manager.delivery.policy import DeliveryPolicy
from task_manager.dispatch.readiness import ArchiveQuery
from task_manager.dispatching import DispatchSettings
from task_manager.fetching.archives import StudyArchive
from task_manager.fetching.performing import FetchLimits
from task_manager.outbox import RetryPolicy
from task_manager.outcome import Accepted, Refused
from task_manager.requesting import RequestingKind
from task_manager.rules.parse import parse_rules
from task_manager.scheduling import AppOffer
from task_manager.service import Service, ServiceSettings
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.study.sources import Policies

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCANNER = Actor(door="dicom", name="CT1", address="127.0.0.1", called="AIRWAY")
PERFORMER = Actor(door="dicomweb", name="PERF1", address="127.0.0.1")
QUIET = timedelta(seconds=30)
RULES = """
rules:
  - name: every-ct
    app: lung-ct
    when: {Modality: CT}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
"""
APPS: Mapping[str, AppOffer] = {
    "lung-ct": AppOffer(
        name="lung-ct", version="1.0", label="Lung CT", code=WORKITEM_LUNG_CT, parameters={"threshold": "0.5"}
    )
}


@dataclass
class Clock:
    """The time, turned by hand."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass
class TestBed:
    """A service with what it stands on."""

    __test__ = False

    service: Service
    clock: Clock
    database: Database
    objects: FileObjectStore
    folder: Path

    def receive(self, content: bytes, actor: Actor = SCANNER, study: str = "") -> Accepted | Refused:
        """Bring the bytes of one Part 10 file in, as a storage door does."""
        staged = self.service.intake.stage()
        staged.write(content)
        return self.service.intake.receive_instance(staged, actor=actor, study_instance_uid=study)


def make_service(
    folder: Path,
    url: str = "",
    *,
    rules: str = RULES,
    apps: Mapping[str, AppOffer] = APPS,
    study_archives: Sequence[StudyArchive] = (),
    fetching: FetchLimits | None = None,
    deliveries: Sequence[DeliveryPolicy] = (),
    completeness: Policies | None = None,
    archives: Sequence[ArchiveQuery] = (),
    clock: Clock | None = None,
    wake: Callable[[], None] = lambda: None,
    requesting: Sequence[RequestingKind] = (),
    told: Collection[EventType] = (),
    failures: Collection[str] = (),
) -> TestBed:
    """A service on SQLite in `folder`, or on `url`; calling it again is a restart."""
    clock = clock or Clock()
    database = Database(url or f"sqlite:///{folder / 'airway.db'}")
    database.migrate()
    objects = FileObjectStore(folder / "store")
    settings = ServiceSettings(
        quiet_period=QUIET,
        completeness=completeness,
        destinations=("pacs", "emr"),
        event_sinks=("log",),
        deliveries=tuple(deliveries),
        told_events=frozenset(told),
        failure_destinations=frozenset(failures),
        retry=RetryPolicy(first=timedelta(seconds=1), most=timedelta(seconds=60)),
        fetching=fetching or FetchLimits(),
        dispatch=DispatchSettings(requesting=tuple(requesting)),
    )
    service = Service(
        database,
        objects,
        parse_rules(rules, "rules.yaml"),
        apps,
        settings,
        base_url=lambda: "http://127.0.0.1:8080/dicom-web",
        clock=clock,
        archives=archives,
        study_archives=study_archives,
        wake=wake,
        wake_jobs=wake,
        wake_tellings=wake,
        new_uid=lambda: f"2.25.{uuid.uuid4().int}",
    )
    return TestBed(service=service, clock=clock, database=database, objects=objects, folder=folder)
