# SPDX-License-Identifier: Apache-2.0
"""While an app runs: tells its progress to the manager and notices when the run has become useless.

A run is useless when its workitem is final, gone or another's; then `cancel` is set and `lost` is true. When
the performer stops, `cancel` is set after the grace time.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from ai_apps.performer.claims import Claim
from ai_apps.performer.connection import RejectedError, UnreachableError
from ai_apps.performer.ups_rs_client import UpsRsClient
from profiles import dicom_json
from profiles.ups.context import progress_update

logger = logging.getLogger(__name__)


class Reporter:
    """A thread beside one run; a context manager.

    Parameters
    ----------
    interval_s
        Shortest time between two progress updates.
    watch_s
        Time after which the workitem is looked at when there is no progress to tell.
    grace_s
        How long a run may go on after `stop` is set.
    """

    def __init__(
        self,
        client: UpsRsClient,
        claim: Claim,
        *,
        stop: threading.Event,
        interval_s: float,
        watch_s: float,
        grace_s: float,
    ) -> None:
        self.cancel = threading.Event()
        self.lost = False
        self._client = client
        self._claim = claim
        self._stop = stop
        self._interval_s = interval_s
        self._watch_s = watch_s
        self._grace_s = grace_s
        self._latest: tuple[int, str] | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="performer-reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def progress(self, percent: int, text: str) -> None:
        """Remember progress; cheap, only the latest is told."""
        self._latest = (percent, text)

    def _work(self) -> None:
        told: tuple[int, str] | None = None
        looked_at = time.monotonic()
        stopped_at: float | None = None
        while not self._done.wait(self._interval_s):
            if self._stop.is_set():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at >= self._grace_s:
                    self.cancel.set()
                    return
            latest = self._latest
            try:
                if latest is not None and latest != told:
                    self._client.update(
                        self._claim.workitem_uid,
                        progress_update(latest[0], latest[1]),
                        transaction_uid=self._claim.transaction_uid,
                    )
                    told = latest
                    looked_at = time.monotonic()
                elif time.monotonic() - looked_at >= self._watch_s:
                    looked_at = time.monotonic()
                    self._look()
            except UnreachableError:
                continue
            except RejectedError:
                self._lose()
            if self.lost:
                return

    def _look(self) -> None:
        workitem = self._client.retrieve(self._claim.workitem_uid)
        if dicom_json.text(workitem, "ProcedureStepState") != "IN PROGRESS":
            self._lose()

    def _lose(self) -> None:
        logger.warning(
            "workitem is no longer ours, run stopped",
            extra={"action": "performer.lost", "workitem": self._claim.workitem_uid},
        )
        self.lost = True
        self.cancel.set()
