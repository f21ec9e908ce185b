# SPDX-License-Identifier: Apache-2.0
"""While a workitem is held: tells its progress to the manager, and notices when to stop.

The manager hears of it again after each heartbeat, so that no lease ends. Reasons to stop: the workitem is
final, gone or another's (`lost`), its cancellation is asked for (`request`), or the performer stops and the
grace time is over; then `cancel` is set.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from ai_apps.performer.claims import Claim
from ai_apps.performer.patience import StoppedError
from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import RefusedError, UnreachableError
from ai_apps.ups_rs.events import UpsEvent
from profiles import dicom_json
from profiles.ups.context import progress_update
from profiles.ups.report import EventType
from profiles.ups.states import FINAL_STATES

logger = logging.getLogger(__name__)

_AT_WORK = (0, "in progress")


class LostError(Exception):
    """The workitem is final, gone or another's: nothing is left to do for it."""


class CancelRequestedError(Exception):
    """Somebody asks for cancellation of the workitem: `request` is the event that told."""

    def __init__(self, request: UpsEvent) -> None:
        self.request = request
        super().__init__("cancellation requested")


class Reporter:
    """A thread beside the work on one workitem; a context manager.

    Parameters
    ----------
    interval_s
        Shortest time between two progress updates.
    watch_s
        Time after which the workitem is looked at when there is no progress to tell.
    heartbeat_s
        Time after which progress is told again, changed or not.
    grace_s
        How long work may go on after `stop` is set.
    """

    def __init__(
        self,
        client: UpsRsClient,
        claim: Claim,
        *,
        stop: threading.Event,
        interval_s: float,
        watch_s: float,
        heartbeat_s: float,
        grace_s: float,
    ) -> None:
        self.cancel = threading.Event()
        self.lost = False
        self.request: UpsEvent | None = None
        self._client = client
        self._claim = claim
        self._stop = stop
        self._interval_s = interval_s
        self._watch_s = watch_s
        self._heartbeat_s = heartbeat_s
        self._grace_s = grace_s
        self._latest: tuple[int, str] | None = None
        self._is_ended = False
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

    def told(self, event: UpsEvent) -> None:
        """Take an event of the workitem, in any thread."""
        if event.type is EventType.CANCEL_REQUESTED and self.request is None:
            self.request = event
            self.cancel.set()
            logger.info(
                "cancellation requested",
                extra={"action": "performer.cancel_requested", "workitem": self._claim.workitem_uid},
            )
        elif event.type is EventType.STATE_REPORT and event.state in FINAL_STATES:
            self._is_ended = True  # looked at before it is believed

    def check(self) -> None:
        """Return if the work is to go on.

        Raises
        ------
        LostError, CancelRequestedError, StoppedError
            If it is not.
        """
        if not self.cancel.is_set():
            return
        if self.lost:
            raise LostError
        if self.request is not None:
            raise CancelRequestedError(self.request)
        raise StoppedError

    def _work(self) -> None:
        told: tuple[int, str] | None = None
        heard_at = looked_at = time.monotonic()
        stopped_at: float | None = None
        while not self._done.wait(self._interval_s):
            if self._stop.is_set():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at >= self._grace_s:
                    self.cancel.set()
                    return
            latest, now = self._latest, time.monotonic()
            try:
                if (latest is not None and latest != told) or now - heard_at >= self._heartbeat_s:
                    self._tell(*(latest or _AT_WORK))
                    told = latest
                    heard_at = looked_at = now
                elif self._is_ended or now - looked_at >= self._watch_s:
                    looked_at = now
                    self._look()
            except UnreachableError:
                continue
            except RefusedError:
                self._lose()
            if self.lost:
                return

    def _tell(self, percent: int, text: str) -> None:
        self._client.update(
            self._claim.workitem_uid,
            progress_update(percent, text),
            transaction_uid=self._claim.transaction_uid,
        )

    def _look(self) -> None:
        self._is_ended = False
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
