# SPDX-License-Identifier: Apache-2.0
"""One workitem from claim to final state.

Every step may be repeated, so a run that died anywhere is resumed from its claim: inputs that came are kept,
a finished app is not run again, storing twice is harmless, and results of a re-run are the same objects
because their UIDs are derived and their time is the claim's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from ai_apps.performer.child import (
    RUNNER,
    Canceled,
    Failed,
    Finished,
    RunOutcome,
    Standby,
    TimedOut,
    run_job,
)
from ai_apps.performer.claims import Claim, ClaimFolder
from ai_apps.performer.connection import Connection, RejectedError, UnreachableError
from ai_apps.performer.job import Job, RunFailure, RunResult, write_job
from ai_apps.performer.objects import IncompleteInputsError, fetch, input_sets, output_url, store
from ai_apps.performer.patience import Patience, StoppedError, insist
from ai_apps.performer.reporter import Reporter
from ai_apps.performer.ups_rs_client import UpsRsClient
from profiles import dicom_json
from profiles.codes import EQUIPMENT_FAILURE, OBJECT_SET_INCOMPLETE, Code
from profiles.dicom_json import DicomJson, element
from profiles.ups.context import (
    cancellation_update,
    performed_update,
    progress_update,
    result_context,
    run_parameters,
)

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_IN_PROGRESS = "IN PROGRESS"


class LostError(Exception):
    """The workitem is final, gone or another's: nothing is left to do for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times and counts that bound one execution.

    Attributes
    ----------
    run_s
        Seconds of wall-clock time for one run of an app.
    attempts
        How often an app is started for one workitem, over all restarts of the performer.
    grace_s
        Seconds a run may go on after the performer was asked to stop.
    progress_s, watch_s
        Shortest time between progress updates; time between looks at a workitem without news.
    """

    run_s: float = 1800.0
    attempts: int = 10
    grace_s: float = 10.0
    progress_s: float = 1.0
    watch_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """This performer as its results name it, and where things are.

    Attributes
    ----------
    name
        AE title: Code Value of the performed station, and Station Name of results.
    stow_url
        Where results go when the workitem names no place.
    app_folders
        Folders of further apps.
    threads
        CPU threads of an app; 0 leaves it to the runtime.
    """

    name: str
    stow_url: str
    app_folders: tuple[Path, ...] = ()
    threads: int = 0


class Execution:
    """Performs claims, one after the other; call it in the thread that lives as long as the performer."""

    def __init__(
        self,
        client: UpsRsClient,
        connection: Connection,
        claims: ClaimFolder,
        station: Station,
        *,
        stop: threading.Event,
        clock: Callable[[], datetime],
        limits: Limits,
        patience: Patience,
        command: tuple[str, ...] = RUNNER,
        standby: Standby | None = None,
    ) -> None:
        self._client = client
        self._connection = connection
        self._claims = claims
        self._station = station
        self._stop = stop
        self._clock = clock
        self._limits = limits
        self._patience = patience
        self._command = command
        self._standby = standby

    def prepare(self) -> None:
        """Use a pause to start what the next run needs."""
        if self._standby is not None:
            self._standby.prepare()

    def close(self) -> None:
        """End what was prepared and is not needed any more."""
        if self._standby is not None:
            self._standby.close()

    def perform(self, claim: Claim) -> bool:
        """Bring a claimed workitem to a final state; False if it turned out not to be ours.

        Raises
        ------
        StoppedError
            If the performer stops first; the claim stays and can be performed later.
        """
        try:
            self._take(claim)
            self._run_whatever_happens(claim)
        except (LostError, RejectedError):
            logger.warning("nothing left to do for a claim", extra=_facts(claim, "performer.dropped"))
            self._claims.remove(claim)
            return False
        self._claims.remove(claim)
        return True

    def _run_whatever_happens(self, claim: Claim) -> None:
        """Run; a workitem that breaks our own code is canceled, or it would break every later start too."""
        try:
            self._run(claim)
        except (LostError, RejectedError, StoppedError):
            raise
        except Exception as error:
            logger.exception("workitem could not be performed", extra=_facts(claim, "performer.failed"))
            self._give_up(claim, f"the performer failed: {type(error).__name__}", EQUIPMENT_FAILURE)

    def _take(self, claim: Claim) -> None:
        """Make the workitem ours, or find that it is already."""
        workitem = self._insist(lambda: self._client.retrieve(claim.workitem_uid), "retrieve")
        state = dicom_json.text(workitem, "ProcedureStepState")
        if state == "SCHEDULED":
            try:
                self._insist(lambda: self._change_state(claim, _IN_PROGRESS), "claim")
            except RejectedError:
                self._make_sure(claim)  # an answer that got lost may hide that the claim was granted
        elif state == _IN_PROGRESS:
            self._make_sure(claim)
        else:
            raise LostError
        logger.info("workitem claimed", extra=_facts(claim, "performer.claimed"))

    def _make_sure(self, claim: Claim) -> None:
        """Only the holder of the Transaction UID may update: an update proves whose the workitem is."""
        try:
            self._insist(lambda: self._update(claim, progress_update(0, "claimed")), "claim")
        except RejectedError as error:
            raise LostError from error

    def _run(self, claim: Claim) -> None:
        retrieved = self._insist(lambda: self._client.retrieve(claim.workitem_uid), "retrieve")
        workitem = {**retrieved, **element("SOPInstanceUID", claim.workitem_uid)}
        folder = self._claims.folder(claim)
        try:
            sets = input_sets(workitem)
            inputs = self._insist(
                lambda: fetch(self._connection, sets, folder / "inputs"), "fetch", bounded=True
            )
        except IncompleteInputsError as error:
            return self._give_up(claim, str(error), OBJECT_SET_INCOMPLETE)
        except RejectedError as error:
            return self._give_up(claim, f"inputs cannot be fetched: {error}", OBJECT_SET_INCOMPLETE)
        except (UnreachableError, OSError):
            return self._give_up(claim, "inputs could not be fetched in time", OBJECT_SET_INCOMPLETE)
        logger.info("inputs fetched", extra=_facts(claim, "performer.inputs_fetched", instances=len(inputs)))
        return self._run_app(claim, workitem, inputs)

    def _run_app(self, claim: Claim, workitem: DicomJson, inputs: tuple[Path, ...]) -> None:
        folder = self._claims.folder(claim)
        if not (folder / "result.json").exists():
            if claim.attempts >= self._limits.attempts:
                return self._give_up(claim, f"no result in {claim.attempts} attempts", EQUIPMENT_FAILURE)
            claim = self._insist(lambda: self._claims.started(claim), "record")
        job = Job(
            app=claim.app,
            inputs=inputs,
            context=result_context(
                workitem, performed_at=claim.performed_at, station_name=self._station.name
            ),
            parameters=run_parameters(workitem),
            app_folders=self._station.app_folders,
            threads=self._station.threads,
        )
        self._insist(lambda: write_job(folder, job), "record")
        logger.info("inference started", extra=_facts(claim, "performer.inference_started", app=claim.app))
        reporter = Reporter(
            self._client,
            claim,
            stop=self._stop,
            interval_s=self._limits.progress_s,
            watch_s=self._limits.watch_s,
            grace_s=self._limits.grace_s,
        )
        with reporter:
            outcome = self._outcome(folder, reporter)
        match outcome:
            case Finished(result=result):
                logger.info("inference finished", extra=_facts(claim, "performer.inference_finished"))
                return self._finish(claim, workitem, result)
            case Failed(failure=failure):
                return self._give_up(claim, failure.message, failure.reason)
            case TimedOut(timeout_s=timeout_s):
                return self._give_up(claim, f"no result within {timeout_s:g} s", EQUIPMENT_FAILURE)
            case Canceled():
                if reporter.lost:
                    raise LostError
                self._claims.write(replace(claim, attempts=claim.attempts - 1))  # stopped by us, not failed
                raise StoppedError

    def _outcome(self, folder: Path, reporter: Reporter) -> RunOutcome:
        try:
            return run_job(
                folder,
                timeout_s=self._limits.run_s,
                on_progress=reporter.progress,
                cancel=reporter.cancel,
                command=self._command,
                standby=self._standby,
            )
        except OSError as error:
            message = f"the app process cannot be started: {type(error).__name__}"
            return Failed(failure=RunFailure(message=message, reason=EQUIPMENT_FAILURE))

    def _finish(self, claim: Claim, workitem: DicomJson, result: RunResult) -> None:
        """Store in the order of the result (root SR last), tell what was performed, complete."""
        url = output_url(workitem, self._station.stow_url)
        for file in result.files:
            try:
                self._insist(partial(store, self._connection, url, file.path), "store", bounded=True)
            except RejectedError as error:
                return self._give_up(claim, f"a result was not stored: {error}", EQUIPMENT_FAILURE)
            except (UnreachableError, OSError):
                return self._give_up(claim, "results could not be stored in time", EQUIPMENT_FAILURE)
            logger.info(
                "result stored",
                extra=_facts(claim, "performer.result_stored", sop_instance_uid=file.sop_instance_uid),
            )
        changes = performed_update(
            workitem,
            outputs=[
                (one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid) for one in result.files
            ],
            station_name=self._station.name,
            started_at=claim.performed_at,
            ended_at=self._clock(),
            retrieve_base_url=url,
        )
        try:
            self._insist(lambda: self._update(claim, changes), "update")
            self._insist(lambda: self._change_state(claim, "COMPLETED"), "complete")
        except RejectedError as error:
            logger.warning(
                "completion refused", extra=_facts(claim, "performer.refused", status=error.status)
            )
            return self._give_up(claim, f"the manager refused completion: {error}", EQUIPMENT_FAILURE)
        logger.info("workitem completed", extra=_facts(claim, "performer.completed"))
        return None

    def _give_up(self, claim: Claim, message: str, reason: Code) -> None:
        """Say why and cancel; for a workitem that is final or another's there is nothing to cancel."""
        changes = cancellation_update(reason=reason, text=message)
        try:
            self._insist(lambda: self._update(claim, changes), "update")
            self._insist(lambda: self._change_state(claim, "CANCELED"), "cancel")
        except RejectedError as error:
            raise LostError from error
        logger.warning("workitem canceled", extra=_facts(claim, "performer.canceled", reason=reason.meaning))

    def _update(self, claim: Claim, changes: DicomJson) -> None:
        self._client.update(claim.workitem_uid, changes, transaction_uid=claim.transaction_uid)

    def _change_state(self, claim: Claim, state: str) -> None:
        self._client.change_state(claim.workitem_uid, state, transaction_uid=claim.transaction_uid)

    def _insist(self, attempt: Callable[[], _Result], step: str, *, bounded: bool = False) -> _Result:
        return insist(attempt, patience=self._patience, stop=self._stop, step=step, bounded=bounded)


def _facts(claim: Claim, action: str, **more: object) -> dict[str, object]:
    return {"action": action, "workitem": claim.workitem_uid, **more}
