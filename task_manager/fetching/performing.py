# SPDX-License-Identifier: Apache-2.0
"""What the worker does with the job of a fetch: ask one archive, retrieve what is not here, tell of it.

A job that was interrupted is done again: what is here by then is not retrieved again. Nothing is written but
small rows; instances go through the intake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError, StoreError
from task_manager.fetching.accessions import distinct_patients, exact_matches
from task_manager.fetching.archives import Archives, Piece, RemoteStudy, Stopping, StudyArchive, StudyQuestion
from task_manager.fetching.model import Fetch, FetchPurpose, FetchState, FetchTarget
from task_manager.fetching.planning import missing_pieces, named_instances
from task_manager.fetching.receiving import PieceReceiver
from task_manager.fetching.requests import StudyFetches, job_key, of_job_key, plan_job_at, settle_fetch
from task_manager.outbox import Job, JobState, RetryPolicy
from task_manager.ports import InstanceIntake
from task_manager.store import fetches, jobs
from task_manager.store.database import Connection, Database

_LOG = logging.getLogger(__name__)
_LONGEST_RUN = timedelta(minutes=5)
_LONGEST_PIECE = timedelta(minutes=45)
"""Within the claim of a job: what takes longer is ended, and goes on with what is missing."""

_WITHOUT_ROOM = timedelta(seconds=30)
_MOST_REFUSALS = 10
"""Pieces one after the other that an archive refuses for good before the others are not asked for."""

_KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What is borne of archives.

    Attributes
    ----------
    most_at_once
        Studies fetched at a time by this process, over all archives.
    most_instances
        Instances of one study; an archive that names more is not believed.
    most_studies
        Studies of one accession number or patient.
    most_tries
        Tries in which nothing new came before a person has to look.
    give_up
        How long an archive that does not answer is tried.
    priors_run_rules
        Whether rules look at a study that was fetched as a prior.
    """

    most_at_once: int = 4
    most_instances: int = 50_000
    most_studies: int = 200
    most_tries: int = 5
    give_up: timedelta = timedelta(hours=24)
    priors_run_rules: bool = False


class NothingCameError(RetryableDeliveryError):
    """The archive answered, and instances are still missing."""


class FetchStep:
    """Performs the jobs of fetches; one object for all lanes and threads.

    Parameters
    ----------
    archives
        By name, in the order they are asked.
    intake
        Where instances go.
    requests
        Plans the studies that an accession number is made of.
    wake
        Called when a study may be looked at by rules.
    has_room
        Whether images are taken now; fetches wait while they are not.
    """

    def __init__(
        self,
        database: Database,
        archives: Archives,
        intake: InstanceIntake,
        requests: StudyFetches,
        *,
        limits: FetchLimits,
        retry: RetryPolicy,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self.archives = archives
        self._intake = intake
        self._requests = requests
        self.limits = limits
        self._retry = retry
        self._clock = clock
        self._wake = wake
        self._has_room = has_room

    def perform(self, job: Job, stopping: Stopping) -> None:
        """Do what can be done of a claimed job and write what came of it.

        Raises
        ------
        StoreError
            If that cannot be written: the job stays claimed.
        """
        if not self._has_room():
            self._go_on_later(job, _WITHOUT_ROOM)
            return
        number, name, key = of_job_key(job.key)
        with self._database.read() as connection:
            fetch = fetches.fetch_by_key(connection, key)
        archive = self.archives.get(name)
        if fetch is None or archive is None or fetch.round != number or fetch.state in _ENDED:
            self._end_job(job, "settled elsewhere")
            return
        began = self._clock()
        before = self._held(fetch)
        try:
            if fetch.target.study_instance_uid:
                self._fetch_study(job, fetch, archive, began, stopping)
            else:
                self._find_studies(job, fetch, archive)
        except FinalDeliveryError as error:
            self._pass_on(job, fetch, str(error), final=True)
        except NothingCameError as error:
            came = self._held(fetch) > before
            self._postpone(job, fetch, str(error), reset=came)
        except (DeliveryError, StoreError) as error:
            self._pass_on(job, fetch, str(error), final=False)

    def failed(self, job: Job, error: str) -> None:
        """Write that a claimed job broke off for a reason nobody thought of: some tries, then a person."""
        with self._database.read() as connection:
            fetch = fetches.fetch_by_key(connection, of_job_key(job.key)[2])
        if fetch is None or fetch.state in _ENDED:
            self._end_job(job, "settled elsewhere")
        else:
            self._postpone(job, fetch, error, reset=False)

    # One study

    def _fetch_study(
        self, job: Job, fetch: Fetch, archive: StudyArchive, began: datetime, stopping: Stopping
    ) -> None:
        uid = fetch.target.study_instance_uid
        remote = archive.find_instances(uid, limit=self.limits.most_instances)
        wanted = named_instances(remote)
        if not wanted:
            self._not_found(job, fetch)
            return
        with self._database.write() as connection:
            self._change(
                connection,
                fetch,
                state=FetchState.RUNNING,
                source=archive.name,
                expected=len(wanted),
                error="",
            )
            held = fetches.held_instances(connection, uid)
        refused: list[str] = []
        trouble: DeliveryError | None = None
        refusal: DeliveryError | None = None
        refusals = 0
        for piece in _turned(missing_pieces(uid, remote, held), job.attempts):
            if stopping():
                self._go_on_later(job)
                return
            if self._clock() - began > _LONGEST_RUN:
                if self._held(fetch) == len(held):
                    break  # nothing came in all that time
                self._go_on_later(job)
                return
            if not self._has_room():
                self._go_on_later(job, _WITHOUT_ROOM)
                return
            until = self._clock() + _LONGEST_PIECE
            receiver = PieceReceiver(
                self._intake,
                piece,
                archive.actor,
                lambda until=until: stopping() or self._clock() > until,  # type: ignore[misc]
            )
            try:
                archive.retrieve(piece, receiver)
                refusals = 0
            except FinalDeliveryError as error:
                refusal, refusals = error, refusals + 1
                if refusals == _MOST_REFUSALS:
                    raise
            except RetryableDeliveryError as error:
                if trouble is not None:
                    raise  # twice: it is not this series
                trouble = error
            finally:
                refused += receiver.refused
        with self._database.read() as connection:
            missing = wanted - fetches.held_instances(connection, uid)
        if missing:
            self._note_refused(fetch, len(refused))
            reason = trouble or refusal
            why = f"; {reason}" if reason else f"; {len(refused)} refused" if refused else ""
            message = f"{len(missing)} of {len(wanted)} instances have not come{why}"
            raise FinalDeliveryError(message) if refusal and not trouble else NothingCameError(message)
        self._done(job, fetch, archive, refused=len(refused))

    def _not_found(self, job: Job, fetch: Fetch) -> None:
        """This archive has not got it: the next one, if there is one."""
        now = self._clock()
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary="the archive has not got it", now=now)
            if self._plan_next(connection, fetch, job, now):
                return
            others = self._others(connection, fetch, job)
            if _goes_on(others.values()):
                return
            ended = (
                self._change(connection, fetch, state=FetchState.HELD, error=_A_PERSON)
                if others
                else self._change(connection, fetch, state=FetchState.NOT_FOUND, ended_at=now, error="")
            )
            self._end_without(connection, ended, now)
        self._wake()

    def _done(self, job: Job, fetch: Fetch, archive: StudyArchive, *, refused: int) -> None:
        now = self._clock()
        uid = fetch.target.study_instance_uid
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary="all of it is here", now=now)
            ended = self._change(
                connection, fetch, state=FetchState.DONE, ended_at=now, refused=refused, error=""
            )
            others = [job_key(fetch, name) for name in self.archives if job_key(fetch, name) != job.key]
            fetches.end_jobs(connection, others, summary="settled elsewhere", now=now)
            prior = ended.purpose is FetchPurpose.PRIOR and not self.limits.priors_run_rules
            if fetches.has_news(connection, uid, not_from=self._sources() if prior else ()):
                fetches.let_be_evaluated(connection, uid, now)
            settle_fetch(connection, ended, now)
            fetches.purge_fetches(connection, now - _KEPT_FOR)
        self._wake()
        extra = {"action": "fetch.done", "archive": archive.name, "study": uid}
        _LOG.info("a study was fetched", extra=extra)

    # An accession number

    def _find_studies(self, job: Job, fetch: Fetch, archive: StudyArchive) -> None:
        target, limit = fetch.target, self.limits.most_studies
        question = StudyQuestion(accession_number=target.accession_number, patient_id=target.patient_id)
        found = exact_matches(archive.find_studies(question, limit=limit + 1), target)
        if not found:
            self._not_found(job, fetch)
            return
        if len(found) > limit:
            raise FinalDeliveryError(f"more than {limit} studies have this accession number")
        with self._database.read() as connection:
            patients = distinct_patients(connection, found)
        if patients > 1:
            raise FinalDeliveryError(
                f"studies of {patients} patients have this accession number: ask with the patient"
            )
        self._plan_studies(job, fetch, archive, found)

    def _plan_studies(
        self, job: Job, fetch: Fetch, archive: StudyArchive, found: Sequence[RemoteStudy]
    ) -> None:
        now = self._clock()
        with self._database.write() as connection:
            for study in found:
                target = FetchTarget(study_instance_uid=study.study_instance_uid, archive=archive.name)
                self._requests.plan(
                    connection, target, purpose=fetch.purpose, asked_by=fetch.asked_by, parent_key=fetch.key
                )
            summary = f"{len(found)} studies have it"
            jobs.finish_job(connection, job, summary=summary, now=now)
            self._change(connection, fetch, state=FetchState.RUNNING, source=archive.name, error="")
        self._requests.wake()

    # What came of it

    def _pass_on(self, job: Job, fetch: Fetch, error: str, *, final: bool) -> None:
        """An archive failed: others are asked meanwhile, and this one again unless it refused for good."""
        now = self._clock()
        with self._database.write() as connection:
            planned = self._plan_next(connection, fetch, job, now)
            given_up = final or now - fetch.asked_at >= self.limits.give_up
            if given_up:
                jobs.hold_job(connection, job, error=error)
            else:
                due = self._retry.next_due(job.attempts + 1, now)
                jobs.postpone_job(connection, job, error=error, due_at=due)
            alone = not planned and not _goes_on(self._others(connection, fetch, job).values())
            held = given_up and alone
            state = FetchState.HELD if held else FetchState.WAITING
            changed = self._change(connection, fetch, state=state, error=error)
            if held:
                self._end_without(connection, changed, now)
        self._tell(job, error, given_up)
        if planned:
            self._requests.wake()
        if held:
            self._wake()

    def _postpone(self, job: Job, fetch: Fetch, error: str, *, reset: bool) -> None:
        """Instances are missing: try again soon if others came, and not for ever if none does."""
        now = self._clock()
        given_up = not reset and job.attempts + 1 >= self.limits.most_tries
        with self._database.write() as connection:
            if given_up:
                jobs.hold_job(connection, job, error=error)
            elif reset:
                jobs.put_back_job(connection, job, due_at=self._retry.next_due(1, now))
            else:
                due = self._retry.next_due(job.attempts + 1, now)
                jobs.postpone_job(connection, job, error=error, due_at=due)
            state = FetchState.HELD if given_up else FetchState.WAITING
            changed = self._change(connection, fetch, state=state, error=error)
            if given_up:
                self._end_without(connection, changed, now)
        self._tell(job, error, given_up)
        if given_up:
            self._wake()

    def _end_without(self, connection: Connection, fetch: Fetch, now: datetime) -> None:
        """It ended and is not all here: what others sent meanwhile was only kept, and is looked at now.

        If no archive has what a person asked for, so is all that is here.
        """
        uid = fetch.target.study_instance_uid
        asked = fetch.state is FetchState.NOT_FOUND and fetch.purpose is FetchPurpose.REQUEST
        if uid and fetches.has_news(connection, uid, not_from=() if asked else self._sources()):
            fetches.let_be_evaluated(connection, uid, now)
        settle_fetch(connection, fetch, now)

    def _sources(self) -> list[str]:
        """As whose what comes from archives is marked."""
        return [archive.actor.source for archive in self.archives.values()]

    def _tell(self, job: Job, error: str, given_up: bool) -> None:
        action = "fetch.held" if given_up else "fetch.postponed"
        _LOG.warning("a fetch did not succeed", extra={"action": action, "lane": job.lane, "error": error})

    def _go_on_later(self, job: Job, pause: timedelta = timedelta(0)) -> None:
        with self._database.write() as connection:
            jobs.put_back_job(connection, job, due_at=self._clock() + pause)

    def _end_job(self, job: Job, summary: str) -> None:
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary=summary, now=self._clock())

    def _note_refused(self, fetch: Fetch, refused: int) -> None:
        with self._database.write() as connection:
            self._change(connection, fetch, refused=refused)

    def _held(self, fetch: Fetch) -> int:
        with self._database.read() as connection:
            uid = fetch.target.study_instance_uid
            return fetches.count_held(connection, [uid]).get(uid, 0)

    def _plan_next(self, connection: Connection, fetch: Fetch, job: Job, now: datetime) -> bool:
        """Plan the job at the archive after this one, unless one was named; whether one goes on there.

        Planned once for a round: the key of its job sees to that.
        """
        if fetch.target.archive:
            return False
        names = list(self.archives)
        following = names[names.index(of_job_key(job.key)[1]) + 1 :]
        if not following:
            return False
        plan_job_at(connection, fetch, following[0], now)
        return _goes_on(fetches.unfinished_jobs(connection, [job_key(fetch, following[0])]).values())

    def _others(self, connection: Connection, fetch: Fetch, job: Job) -> dict[str, JobState]:
        """Jobs of other archives that are not done."""
        keys = [job_key(fetch, name) for name in self.archives]
        return fetches.unfinished_jobs(connection, [key for key in keys if key != job.key])

    def _change(self, connection: Connection, fetch: Fetch, **changes: object) -> Fetch:
        """Write changes of a fetch as it is now."""
        current = fetches.fetch_by_key(connection, fetch.key, lock=True) or fetch
        changed = replace(current, changed_at=self._clock(), **changes)  # type: ignore[arg-type]
        fetches.put_fetch(connection, changed)
        return changed


def _goes_on(states: Iterable[JobState]) -> bool:
    """Whether one of these jobs is done or tried again by itself."""
    return any(state is not JobState.HELD for state in states)


def _turned(pieces: Sequence[Piece], attempts: int) -> tuple[Piece, ...]:
    """The pieces, beginning further on after each try that failed: one that never comes stops no other."""
    first = attempts % len(pieces) if pieces else 0
    return (*pieces[first:], *pieces[:first])


_ENDED = (FetchState.DONE, FetchState.NOT_FOUND)
_A_PERSON = "an archive refused; see its job"
