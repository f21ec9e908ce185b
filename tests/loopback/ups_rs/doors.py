# SPDX-License-Identifier: Apache-2.0
"""Airway's UPS-RS doors with their event channel, over a database of their own, on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI

from informatics_gateway.dicomweb import event_channel, ups_rs
from informatics_gateway.http_server import HttpServer
from informatics_gateway.watchers import WatcherHub
from informatics_gateway.websocket_watchers import WebSocketChannel
from profiles.dicom_json import DicomJson, element
from task_manager.actor import Actor
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal, going_down
from task_manager.subscriptions import StoredSubscriptions
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import code, minimal

REQUESTER = Actor(door="dicomweb", name="REQUESTER")
DEADLINE_S = 30.0


@dataclass
class Doors:
    """A task manager's worklist as its peers see it; it can go away and come back on the same port."""

    database: Database
    port: int = 0
    worklist: StoredWorklist = field(init=False)

    def __post_init__(self) -> None:
        self._hub: WatcherHub | None = None
        self._http: HttpServer | None = None
        self.worklist = StoredWorklist(self.database, clock=_now, wake=self._wake)
        self.subscriptions = StoredSubscriptions(
            self.database, clock=_now, wake=self._wake, known_ae=lambda ae: True
        )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def open(self) -> None:
        journal = StoredJournal(self.database, most_pending=1000, clock=_now)
        channel = WebSocketChannel(journal)
        self._hub = WatcherHub(journal, [channel], farewell=going_down)
        app = FastAPI()
        app.include_router(event_channel.router(channel))
        app.include_router(ups_rs.router(self.worklist, self.subscriptions))
        self._http = HttpServer(app, "127.0.0.1", self.port, drain_s=1)
        self.port = self._http.port
        self._hub.start()
        self._http.start()

    def close(self) -> None:
        if self._hub is not None and self._http is not None:
            self._hub.stop()
            self._http.stop()
        self._hub = self._http = None

    def create(self, uid: str, **given: object) -> str:
        """A workitem with the code of our app, created by a requester."""
        given.setdefault("ScheduledWorkitemCodeSequence", code())
        self.worklist.create_workitem(uid, minimal(**given), actor=REQUESTER)
        return uid

    def cancel(self, uid: str, details: DicomJson | None = None) -> None:
        details = details or element("ReasonForCancellation", "not needed")
        self.worklist.request_cancel(uid, details, actor=REQUESTER)

    def _wake(self) -> None:
        if self._hub is not None:
            self._hub.wake()


@contextmanager
def open_doors(folder: Path) -> Iterator[Doors]:
    database = Database(f"sqlite:///{folder / 'doors.db'}")
    database.migrate()
    doors = Doors(database)
    try:
        doors.open()
        yield doors
    finally:
        doors.close()
        database.close()


def free_port() -> int:
    """A port of loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds, for at most `DEADLINE_S`."""
    ends = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends, "waited too long"
        pause.wait(0.01)


def _now() -> datetime:
    return datetime.now(UTC)
