# SPDX-License-Identifier: Apache-2.0
"""Hearing of reports that other processes wrote: LISTEN on PostgreSQL, on a connection of its own.

SQLite has nothing like it: there the journal is read again from time to time. A notification tells nothing
but that there is something to read, so that one that is lost does no harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from task_manager.errors import facts_of
from task_manager.store.database import Database
from task_manager.store.reports import CHANNEL

_LOG = logging.getLogger(__name__)

_LOOK_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class ReportListener:
    """Calls `heard` when another process, or this one, has written reports; in a thread of its own.

    It is also called after every time the connection had to be made anew. On SQLite there is no thread.
    """

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        self._database = database
        self._heard = heard
        self._ending = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen; the database may be away."""
        if not self._database.is_sqlite:
            self._thread.start()

    def wait_listening(self, timeout_s: float) -> bool:
        """Whether it listens, at last after `timeout_s`."""
        return self._listening.wait(timeout_s)

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                self._listen()
                pause_s = _FIRST_PAUSE_S
            except psycopg.Error as error:
                if self._listening.is_set():
                    pause_s = _FIRST_PAUSE_S
                self._listening.clear()
                _LOG.warning(
                    "listening to the database broke off",
                    extra={"action": "listening.lost", **facts_of(error)},
                )
                self._ending.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _listen(self) -> None:
        with self._connect() as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._listening.set()
            self._heard()
            while not self._ending.is_set():
                for _ in connection.notifies(timeout=_LOOK_S, stop_after=1):
                    self._heard()

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        engine = self._database.engine
        _, options = engine.dialect.create_connect_args(engine.url)
        keeping = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        return psycopg.connect(**{"connect_timeout": 10, **keeping, **options}, autocommit=True)
