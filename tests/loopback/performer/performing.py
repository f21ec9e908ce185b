# SPDX-License-Identifier: Apache-2.0
"""A performer over the test child, in this process or as one of its own that dies where it is told to.

``performing.py BASE_URL WORK_DIR [ACTION COUNT]``: performs until its worklist is empty; right after it has
logged ACTION for the COUNT-th time it kills itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from ai_apps.manifest import Manifest
from ai_apps.performer.assignment import Identity
from ai_apps.performer.attention import Attention
from ai_apps.performer.claims import ClaimFolder
from ai_apps.performer.execution import Execution, Limits, Station
from ai_apps.performer.logs import log_to_stderr
from ai_apps.performer.loop import Performer
from ai_apps.performer.patience import Patience
from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.connection import Connection
from profiles.codes import Code

CHILD = Path(__file__).with_name("child.py")
ROOT = CHILD.parents[3]
TASK = Code("AW1001", "99AIRWAY", "Lung CT quantification")
DEADLINE_S = 30.0
QUICK = Limits(run_s=20.0, attempts=3, grace_s=0.1, progress_s=0.02, watch_s=0.05)


class Performing:
    """A performer with all its parts."""

    def __init__(
        self,
        base_url: str,
        work: Path,
        *,
        station: str = "AIRWAY_GPU1",
        listen: bool = False,
        offered: Mapping[str, Manifest] | None = None,
        limits: Limits = QUICK,
        command: tuple[str, ...] = (sys.executable, str(CHILD)),
        patience: Patience = Patience(first_s=0.02, longest_s=0.05, total_s=0.3),  # noqa: B008 - frozen
    ) -> None:
        self.work = work
        self.stop = threading.Event()
        identity = Identity(station=station)
        self.connection = Connection(base_url, timeout_s=10.0)
        self.client = UpsRsClient(base_url, self.connection)
        self.claims = ClaimFolder(work)
        self.attention = Attention(self.client, station=station, codes=[TASK]) if listen else None
        self.execution = Execution(
            self.client,
            self.connection,
            self.claims,
            Station(identity=identity, stow_url=f"{base_url}/studies"),
            stop=self.stop,
            clock=now,
            limits=limits,
            patience=patience,
            command=command,
            offered=offered,
            attention=self.attention,
        )
        self.performer = Performer(
            self.client,
            self.claims,
            self.execution,
            apps={"lung-ct": TASK},
            identity=identity,
            poll_s=0.02,
            stop=self.stop,
            clock=now,
            attention=self.attention,
            idle_s=DEADLINE_S,
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Perform in a thread of its own, listening if it is to."""
        thread = threading.Thread(target=self.performer.run)
        with self.attention or nullcontext():
            thread.start()
            try:
                yield
            finally:
                self.stop.set()
                thread.join(DEADLINE_S)
        assert not thread.is_alive()


def now() -> datetime:
    return datetime.now(UTC)


class DieAfter(logging.Handler):
    """Kills this process the moment an action has been logged so many times."""

    def __init__(self, action: str, count: int) -> None:
        super().__init__()
        self._action = action
        self._left = count

    def emit(self, record: logging.LogRecord) -> None:
        self._left -= getattr(record, "action", "") == self._action
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    log_to_stderr()
    if len(sys.argv) > 3:
        logging.getLogger().addHandler(DieAfter(sys.argv[3], int(sys.argv[4])))
    performing = Performing(sys.argv[1], Path(sys.argv[2]))
    performing.performer.resume()
    while performing.performer.perform_next():
        continue
    performing.connection.close()


if __name__ == "__main__":
    main()
