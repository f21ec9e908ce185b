# SPDX-License-Identifier: Apache-2.0
"""The performer: resumes what it had claimed, then looks for work, takes one piece at a time, performs it.

IHE AIW-I, pull and triggered pull: search for SCHEDULED and READY with a code of ours, HIGH first; leave
alone what is assigned to others; claim; perform (`execution.py`); wait for news (`attention.py`) or a while.
Everything to be remembered is on disk (`claims.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from ai_apps.performer.assignment import Identity
from ai_apps.performer.attention import Attention
from ai_apps.performer.claims import ClaimFolder
from ai_apps.performer.execution import Execution, reject
from ai_apps.performer.patience import StoppedError
from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import RefusedError, UnreachableError
from profiles import dicom_json
from profiles.codes import Code
from profiles.dicom_json import DicomJson
from profiles.uids import is_uid
from profiles.ups.context import code_of

logger = logging.getLogger(__name__)

_PRIORITIES = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
_RETURNED = (
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledHumanPerformersSequence",
    "ScheduledProcedureStepPriority",
    "ScheduledProcedureStepStartDateTime",
    "InputReadinessState",
)
_PAGE = 50
_SHUN_S = 60.0
_ASSIGNMENTS_S = 60.0


class Performer:
    """Looks for work until `stop` is set.

    Parameters
    ----------
    apps
        Name of each served app to the workitem code it performs.
    identity
        Who we are; workitems assigned to others are left alone.
    poll_s
        Seconds between searches that found nothing; after an unreachable manager the same.
    attention
        Tells when there may be work; None to poll only.
    idle_s
        Seconds between searches that found nothing while news would be heard.
    """

    def __init__(
        self,
        client: UpsRsClient,
        claims: ClaimFolder,
        execution: Execution,
        *,
        apps: Mapping[str, Code],
        identity: Identity,
        poll_s: float,
        stop: threading.Event,
        clock: Callable[[], datetime],
        attention: Attention | None = None,
        idle_s: float = 60.0,
    ) -> None:
        self._client = client
        self._claims = claims
        self._execution = execution
        self._apps = dict(apps)
        self._identity = identity
        self._poll_s = poll_s
        self._stop = stop
        self._clock = clock
        self._attention = attention
        self._idle_s = idle_s
        self._shunned: dict[str, float] = {}
        self._assignments_due = 0.0
        self._is_troubled = False

    def run(self) -> None:
        """Work until `stop` is set; what is unfinished then can be resumed by the next run."""
        logger.info("performer started", extra={"action": "performer.started", "apps": sorted(self._apps)})
        try:
            self.resume()
            while not self._stop.is_set():
                if self._attention is not None:
                    self._attention.forget_news()
                if not self.perform_next():
                    self._execution.prepare()
                    self._pause()
        except StoppedError:
            logger.info("work left to be resumed", extra={"action": "performer.interrupted"})
        logger.info("performer stopped", extra={"action": "performer.stopped"})

    def _pause(self) -> None:
        if self._attention is not None and self._attention.listening and not self._is_troubled:
            self._attention.wait(self._stop, self._idle_s)
            self._assignments_due = 0.0
        else:
            self._stop.wait(self._poll_s)

    def resume(self) -> None:
        """Perform what was claimed before; claims that came to nothing are dropped."""
        for claim in self._claims.all():
            logger.info(
                "claim resumed", extra={"action": "performer.resumed", "workitem": claim.workitem_uid}
            )
            self._execution.perform(claim)

    def perform_next(self) -> bool:
        """Perform one workitem if there is one; False if there was none or the manager is unreachable."""
        self._is_troubled = True
        try:
            found = self._choose()
        except (UnreachableError, RefusedError) as error:
            logger.warning(
                "worklist cannot be searched",
                extra={"action": "performer.no_worklist", "error": type(error).__name__},
            )
            return False
        self._is_troubled = False
        if found is None:
            return False
        uid, app = found
        try:
            claim = self._claims.new(uid, app, self._clock())
        except OSError as error:
            self._is_troubled = True
            logger.error(  # noqa: TRY400 - the path in the traceback tells nothing more
                "claim cannot be written",
                extra={"action": "performer.disk", "error": type(error).__name__},
            )
            return False
        if not self._execution.perform(claim):
            self._shunned[uid] = time.monotonic() + _SHUN_S
        return True

    def _choose(self) -> tuple[str, str] | None:
        """UID and app of the workitem to do next: by priority, then by start, then by UID."""
        now = time.monotonic()
        self._shunned = {uid: until for uid, until in self._shunned.items() if until > now}
        candidates: list[tuple[int, str, str, str]] = []
        for app, code in self._apps.items():
            for workitem in self._search(code):
                uid = dicom_json.text(workitem, "SOPInstanceUID")
                if is_uid(uid) and uid not in self._shunned and self._identity.may_take(workitem):
                    priority = dicom_json.text(workitem, "ScheduledProcedureStepPriority")
                    start = dicom_json.text(workitem, "ScheduledProcedureStepStartDateTime")
                    candidates.append((_PRIORITIES.get(priority, 1), start, uid, app))
        if not candidates:
            self._reject_others_work()
            return None
        _, _, uid, app = min(candidates)
        return uid, app

    def _search(self, code: Code) -> list[DicomJson]:
        matching = {
            "ProcedureStepState": "SCHEDULED",
            "InputReadinessState": "READY",
            "ScheduledWorkitemCodeSequence.CodeValue": code.value,
            "ScheduledWorkitemCodeSequence.CodingSchemeDesignator": code.scheme,
        }
        return list(self._client.search(matching, include=_RETURNED, limit=_PAGE).results)

    def _reject_others_work(self) -> None:
        """Tell the manager of work assigned to this station that no app here does (IHE AIW-I 50.4.2.4)."""
        if time.monotonic() < self._assignments_due:
            return
        self._assignments_due = time.monotonic() + _ASSIGNMENTS_S
        matching = {
            "ProcedureStepState": "SCHEDULED",
            "ScheduledStationNameCodeSequence.CodeValue": self._identity.station,
        }
        include = ("ScheduledWorkitemCodeSequence", "ScheduledStationNameCodeSequence")
        for workitem in self._client.search(matching, include=include, limit=_PAGE).results:
            uid = dicom_json.text(workitem, "SOPInstanceUID")
            code = code_of(workitem, "ScheduledWorkitemCodeSequence")
            known = code is None or any(code.same_concept(ours) for ours in self._apps.values())
            if known or not is_uid(uid) or uid in self._shunned or not self._identity.is_named_by(workitem):
                continue
            self._shunned[uid] = time.monotonic() + _SHUN_S
            reject(self._client, uid, "no app here performs this")
