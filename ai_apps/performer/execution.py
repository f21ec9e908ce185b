# SPDX-License-Identifier: Apache-2.0
"""One workitem from claim to final state.

Every step may be repeated, so a run that died anywhere is resumed from its claim: inputs that came are kept,
a finished app is not run again, storing twice is harmless, and results of a re-run are the same objects
because their UIDs are derived and their time is the claim's.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from ai_apps.manifest import Manifest
from ai_apps.performer.assignment import Identity, unfitness
from ai_apps.performer.attention import Attention
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
from ai_apps.performer.job import Job, RunFailure, RunResult, write_job
from ai_apps.performer.objects import IncompleteInputsError, fetch, input_sets, output_url, store
from ai_apps.performer.patience import Patience, StoppedError, insist
from ai_apps.performer.reporter import CancelRequestedError, LostError, Reporter
from ai_apps.ups_rs.client import UpsRsClient, cancel_details
from ai_apps.ups_rs.connection import Connection
from ai_apps.ups_rs.errors import RefusedError, UnreachableError
from ai_apps.ups_rs.events import UpsEvent
from profiles import dicom_json
from profiles.codes import (
    ASSIGNMENT_REJECTED,
    DISCONTINUED_FOR_UNSPECIFIED_REASON,
    EQUIPMENT_FAILURE,
    OBJECT_SET_INCOMPLETE,
    Code,
)
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


class UnfitError(Exception):
    """The app cannot do this workitem; the message says why and names no patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """The work is done: what completes the workitem."""

    changes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """The work cannot be done: why the workitem is canceled."""

    message: str
    reason: Code


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
    heartbeat_s
        Seconds after which progress is told again; a third of an app's silence limit if that is less.
    """

    run_s: float = 1800.0
    attempts: int = 10
    grace_s: float = 10.0
    progress_s: float = 1.0
    watch_s: float = 5.0
    heartbeat_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """This performer as its results name it, and where things are.

    Attributes
    ----------
    identity
        Who it is; its station is the Code Value of the performed station, and Station Name of results.
    stow_url
        Where results go when the workitem names no place.
    app_folders
        Folders of further apps.
    threads
        CPU threads of an app; 0 leaves it to the runtime.
    """

    identity: Identity
    stow_url: str
    app_folders: tuple[Path, ...] = ()
    threads: int = 0


class Execution:
    """Performs claims, one after the other; call it in the thread that lives as long as the performer.

    Parameters
    ----------
    offered
        Name of an app to its manifest, for what it requires and its limits; the performer's own limits are
        the upper bounds.
    attention
        Where cancel requests come from; None if nobody listens.
    """

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
        offered: Mapping[str, Manifest] | None = None,
        attention: Attention | None = None,
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
        self._offered = offered or {}
        self._attention = attention

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
        reporter = self._reporter(claim)
        listening = (
            contextlib.nullcontext()
            if self._attention is None
            else self._attention.holding(claim.workitem_uid, reporter.told)
        )
        try:
            with listening:
                self._take(claim)
                self._run_whatever_happens(claim, reporter)
        except (LostError, RefusedError, UnfitError) as error:
            extra = _facts(claim, "performer.dropped", error=type(error).__name__)
            logger.warning("nothing left to do for a claim", extra=extra)
            self._claims.remove(claim)
            return False
        self._claims.remove(claim)
        return True

    def _reporter(self, claim: Claim) -> Reporter:
        manifest = self._offered.get(claim.app)
        silence_s = manifest.limits.silence_s if manifest else None
        heartbeat_s = self._limits.heartbeat_s
        return Reporter(
            self._client,
            claim,
            stop=self._stop,
            interval_s=self._limits.progress_s,
            watch_s=self._limits.watch_s,
            heartbeat_s=min(heartbeat_s, silence_s / 3) if silence_s else heartbeat_s,
            grace_s=self._limits.grace_s,
        )

    def _take(self, claim: Claim) -> None:
        """Make the workitem ours, or find that it is already."""
        workitem = self._insist(lambda: self._client.retrieve(claim.workitem_uid), "retrieve")
        state = dicom_json.text(workitem, "ProcedureStepState")
        if state == "SCHEDULED":
            self._refuse_unfit(claim, workitem)
            try:
                self._insist(lambda: self._change_state(claim, _IN_PROGRESS), "claim")
            except RefusedError:
                self._make_sure(claim)  # an answer that got lost may hide that the claim was granted
        elif state == _IN_PROGRESS:
            self._make_sure(claim)
            if self._attention is not None and self._attention.listening:
                self._attention.follow(claim.workitem_uid)
        else:
            raise LostError
        logger.info("workitem claimed", extra=_facts(claim, "performer.claimed"))

    def _refuse_unfit(self, claim: Claim, workitem: DicomJson) -> None:
        """Leave alone what is not ready or not for the app; say so of what is assigned to us (AIW-I 8.1)."""
        if dicom_json.text(workitem, "InputReadinessState") == "INCOMPLETE":
            raise LostError
        manifest = self._offered.get(claim.app)
        why = unfitness(workitem, manifest.requires) if manifest else ""
        if not why:
            return
        if self._station.identity.is_named_by(workitem):
            self._insist(lambda: reject(self._client, claim.workitem_uid, why), "reject")
        raise UnfitError(why)

    def _make_sure(self, claim: Claim) -> None:
        """Only the holder of the Transaction UID may update: an update proves whose the workitem is."""
        try:
            self._insist(lambda: self._update(claim, progress_update(0, "claimed")), "claim")
        except RefusedError as error:
            raise LostError from error

    def _run_whatever_happens(self, claim: Claim, reporter: Reporter) -> None:
        """Run; a workitem that breaks our own code is canceled, or it would break every later start too."""
        try:
            try:
                with reporter:
                    ending = self._work(claim, reporter)
            except CancelRequestedError as asked:
                ending = _canceled_by(asked.request)
            self._conclude(claim, ending)  # the reporter tells nothing any more
        except (LostError, RefusedError, StoppedError):
            raise
        except Exception as error:
            logger.exception("workitem could not be performed", extra=_facts(claim, "performer.failed"))
            failed = GivenUp(
                message=f"the performer failed: {type(error).__name__}", reason=EQUIPMENT_FAILURE
            )
            self._conclude(claim, failed)

    def _work(self, claim: Claim, reporter: Reporter) -> Performed | GivenUp:
        retrieved = self._insist(lambda: self._client.retrieve(claim.workitem_uid), "retrieve")
        workitem = {**retrieved, **element("SOPInstanceUID", claim.workitem_uid)}
        folder = self._claims.folder(claim) / "inputs"
        try:
            sets = input_sets(workitem)
            inputs = self._insist(
                lambda: fetch(self._connection, sets, folder, check=reporter.check), "fetch", bounded=True
            )
        except IncompleteInputsError as error:
            return GivenUp(message=str(error), reason=OBJECT_SET_INCOMPLETE)
        except RefusedError as error:
            return GivenUp(message=f"inputs cannot be fetched: {error}", reason=OBJECT_SET_INCOMPLETE)
        except (UnreachableError, OSError):
            return GivenUp(message="inputs could not be fetched in time", reason=OBJECT_SET_INCOMPLETE)
        logger.info("inputs fetched", extra=_facts(claim, "performer.inputs_fetched", instances=len(inputs)))
        return self._run_app(claim, workitem, inputs, reporter)

    def _run_app(
        self, claim: Claim, workitem: DicomJson, inputs: tuple[Path, ...], reporter: Reporter
    ) -> Performed | GivenUp:
        folder = self._claims.folder(claim)
        if not (folder / "result.json").exists():
            if claim.attempts >= self._limits.attempts:
                message = f"no result in {claim.attempts} attempts"
                return GivenUp(message=message, reason=EQUIPMENT_FAILURE)
            claim = self._insist(lambda: self._claims.started(claim), "record")
        job = Job(
            app=claim.app,
            inputs=inputs,
            context=result_context(
                workitem, performed_at=claim.performed_at, station_name=self._station.identity.station
            ),
            parameters=run_parameters(workitem),
            app_folders=self._station.app_folders,
            threads=self._station.threads,
        )
        self._insist(lambda: write_job(folder, job), "record")
        logger.info("inference started", extra=_facts(claim, "performer.inference_started", app=claim.app))
        match self._outcome(claim, folder, reporter):
            case Finished(result=result):
                logger.info("inference finished", extra=_facts(claim, "performer.inference_finished"))
                return self._stored(claim, workitem, result, reporter)
            case Failed(failure=failure):
                return GivenUp(message=failure.message, reason=failure.reason)
            case TimedOut(timeout_s=timeout_s):
                return GivenUp(message=f"no result within {timeout_s:g} s", reason=EQUIPMENT_FAILURE)
            case Canceled():
                if reporter.request is None and not reporter.lost:
                    # Stopped by us, not failed.
                    self._claims.write(replace(claim, attempts=claim.attempts - 1))
                reporter.check()
                raise StoppedError

    def _outcome(self, claim: Claim, folder: Path, reporter: Reporter) -> RunOutcome:
        manifest = self._offered.get(claim.app)
        run_s = manifest.limits.run_s if manifest else None
        try:
            return run_job(
                folder,
                timeout_s=min(run_s or self._limits.run_s, self._limits.run_s),
                on_progress=reporter.progress,
                cancel=reporter.cancel,
                command=self._command,
                standby=self._standby,
            )
        except OSError as error:
            message = f"the app process cannot be started: {type(error).__name__}"
            return Failed(failure=RunFailure(message=message, reason=EQUIPMENT_FAILURE))

    def _stored(
        self, claim: Claim, workitem: DicomJson, result: RunResult, reporter: Reporter
    ) -> Performed | GivenUp:
        """Store in the order of the result (root SR last); then what was performed.

        A cancel request that comes this late is not followed: results are on their way.
        """
        url = output_url(workitem, self._station.stow_url)
        for file in result.files:
            try:
                self._insist(partial(store, self._connection, url, file.path), "store", bounded=True)
            except RefusedError as error:
                return GivenUp(message=f"a result was not stored: {error}", reason=EQUIPMENT_FAILURE)
            except (UnreachableError, OSError):
                return GivenUp(message="results could not be stored in time", reason=EQUIPMENT_FAILURE)
            if reporter.lost:
                raise LostError
            logger.info(
                "result stored",
                extra=_facts(claim, "performer.result_stored", sop_instance_uid=file.sop_instance_uid),
            )
        changes = performed_update(
            workitem,
            outputs=[
                (one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid) for one in result.files
            ],
            station_name=self._station.identity.station,
            started_at=claim.performed_at,
            ended_at=self._clock(),
            retrieve_base_url=url,
        )
        return Performed(changes=changes)

    def _conclude(self, claim: Claim, ending: Performed | GivenUp) -> None:
        """Say what was done and complete, or say why not and cancel.

        Raises
        ------
        LostError
            If the workitem is final or another's: there is nothing to cancel.
        """
        if isinstance(ending, Performed):
            try:
                self._insist(lambda: self._update(claim, ending.changes), "update")
                self._insist(lambda: self._change_state(claim, "COMPLETED"), "complete")
            except RefusedError as error:
                extra = _facts(claim, "performer.refused", status=error.status)
                logger.warning("completion refused", extra=extra)
                message = f"the manager refused completion: {error}"
                return self._conclude(claim, GivenUp(message=message, reason=EQUIPMENT_FAILURE))
            logger.info("workitem completed", extra=_facts(claim, "performer.completed"))
            return None
        changes = cancellation_update(reason=ending.reason, text=ending.message)
        try:
            self._insist(lambda: self._update(claim, changes), "update")
            self._insist(lambda: self._change_state(claim, "CANCELED"), "cancel")
        except RefusedError as error:
            raise LostError from error
        extra = _facts(claim, "performer.canceled", reason=ending.reason.meaning)
        logger.warning("workitem canceled", extra=extra)
        return None

    def _update(self, claim: Claim, changes: DicomJson) -> None:
        self._client.update(claim.workitem_uid, changes, transaction_uid=claim.transaction_uid)

    def _change_state(self, claim: Claim, state: str) -> None:
        self._client.change_state(claim.workitem_uid, state, transaction_uid=claim.transaction_uid)

    def _insist(self, attempt: Callable[[], _Result], step: str, *, bounded: bool = False) -> _Result:
        return insist(attempt, patience=self._patience, stop=self._stop, step=step, bounded=bounded)


def reject(client: UpsRsClient, uid: str, why: str) -> None:
    """Tell the manager that a workitem assigned to us is not for us (IHE AIW-I 50.4.2.4)."""
    client.request_cancel(uid, cancel_details(reason=why, code=ASSIGNMENT_REJECTED))
    logger.warning("assignment rejected", extra={"action": "performer.rejected", "workitem": uid})


def _canceled_by(request: UpsEvent) -> GivenUp:
    """What becomes of a workitem whose cancellation was asked for: canceled as proposed."""
    by = f" by {request.requesting_ae}" if request.requesting_ae else ""
    return GivenUp(
        message=request.reason or f"canceled on request{by}",
        reason=request.reason_code or DISCONTINUED_FOR_UNSPECIFIED_REASON,
    )


def _facts(claim: Claim, action: str, **more: object) -> dict[str, object]:
    return {"action": action, "workitem": claim.workitem_uid, **more}
