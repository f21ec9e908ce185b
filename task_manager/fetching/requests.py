# SPDX-License-Identifier: Apache-2.0
"""Asking for studies that archives have: a durable row and a job, whoever asks.

Asking again for what is being fetched changes nothing; asking again after it ended looks once more for what
is not here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from profiles.faults import Fault
from task_manager.fetching.model import Fetch, FetchPurpose, FetchState, FetchStatus, FetchTarget
from task_manager.outbox import PRIORS_LANE, JobKind, fetch_lane
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store import fetches, jobs
from task_manager.store.database import Connection, Database

_LOG = logging.getLogger(__name__)
_MOST_LISTED = 1000
_LONGEST_NAME = 64


class StudyFetches:
    """Fetches of studies: asked for, listed, given up or let go on.

    Parameters
    ----------
    archives
        Names of the archives, in the order they are asked.
    wake
        Called after commits that leave a job; for who plans in a transaction of his own too.
    """

    def __init__(
        self,
        database: Database,
        archives: Sequence[str],
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._archives = tuple(archives)
        self._clock = clock
        self.wake = wake

    @property
    def archives(self) -> tuple[str, ...]:
        """Names of the archives, in the order they are asked."""
        return self._archives

    def request(
        self,
        *,
        study_instance_uid: str = "",
        accession_number: str = "",
        patient_id: str = "",
        archive: str = "",
        asked_by: str = "",
        purpose: FetchPurpose = FetchPurpose.REQUEST,
    ) -> Accepted | Refused:
        """Have a study, or all of an accession number, fetched; the key of the fetch as `uid`.

        A study that is fetched by REQUEST goes through the rules when all of it is here; one that is here
        already is looked at anew only if something was missing. DUPLICATE tells that the same is being
        fetched already.

        Parameters
        ----------
        patient_id
            Whose accession number, where several patients have it.
        archive
            Name of the archive to fetch from; empty asks all.
        asked_by
            Who asks, for people.

        Raises
        ------
        StoreError
            If the database fails.
        """
        target = FetchTarget(
            study_instance_uid=study_instance_uid,
            accession_number=accession_number,
            patient_id=patient_id,
            archive=archive,
        )
        faults = [*target.faults()]
        if not self._archives:
            faults.append(Fault("fetch.archives", "no archive is configured"))
        elif archive and archive not in self._archives:
            faults.append(Fault("archive", f"none of the configured ones ({', '.join(self._archives)})"))
        if faults:
            return Refused(RefusalCode.INVALID_ATTRIBUTES, tuple(faults))
        with self._database.write() as connection:
            accepted = self.plan(connection, target, purpose=purpose, asked_by=asked_by)
        self.wake()
        extra = {"action": "fetch.asked", "purpose": purpose.value, "archive": archive}
        _LOG.info("a fetch was asked for", extra=extra)
        return accepted

    def plan(
        self,
        connection: Connection,
        target: FetchTarget,
        *,
        purpose: FetchPurpose,
        asked_by: str = "",
        parent_key: str = "",
    ) -> Accepted:
        """Write a fetch and its first job in a transaction of the caller; see :meth:`request`.

        One with a parent is its own, whoever else asks for the study.
        """
        now = self._clock()
        key = f"{parent_key}/{target.study_instance_uid}" if parent_key else target.key
        known = fetches.fetch_by_key(connection, key, lock=True)
        if known is not None and known.state.is_open and not self._is_lost(connection, known):
            if known.purpose is FetchPurpose.PRIOR and purpose is FetchPurpose.REQUEST:
                fetches.put_fetch(connection, replace(known, purpose=purpose, changed_at=now))
            return Accepted(uid=known.key, warnings=(WarningCode.DUPLICATE,))
        if known is not None:
            fetches.end_jobs(connection, self._job_keys(known), summary="asked for anew", now=now)
        fetch = Fetch(
            key=key,
            target=target,
            purpose=purpose,
            state=FetchState.WAITING,
            parent_key=parent_key,
            round=known.round + 1 if known else 1,
            asked_by=asked_by[:_LONGEST_NAME],
            asked_at=now,
            changed_at=now,
        )
        fetches.put_fetch(connection, fetch)
        if known is None:
            fetches.forget_jobs(connection, self._job_keys(fetch))
        plan_job_at(connection, fetch, target.archive or self._archives[0], now)
        return Accepted(uid=fetch.key)

    def status(self, key: str) -> FetchStatus | None:
        """Where a fetch stands; None if there is none."""
        with self._database.read() as connection:
            fetch = fetches.fetch_by_key(connection, key)
            return None if fetch is None else self._statuses(connection, [fetch])[0]

    def newest(self, *, limit: int = 100, offset: int = 0) -> tuple[FetchStatus, ...]:
        """Where the fetches stand that were asked for last."""
        with self._database.read() as connection:
            found = fetches.newest_fetches(connection, limit=min(limit, _MOST_LISTED), offset=offset)
            return tuple(self._statuses(connection, found))

    def of_study(self, study_instance_uid: str) -> tuple[FetchStatus, ...]:
        """The fetches of a study."""
        with self._database.read() as connection:
            found = fetches.fetches_of_study(connection, study_instance_uid)
            return tuple(self._statuses(connection, found))

    def retry(self, key: str) -> Accepted | Refused:
        """Try a fetch again now that was held for a person, or had ended."""
        with self._database.read() as connection:
            fetch = fetches.fetch_by_key(connection, key)
        if fetch is None:
            return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("key", "names no fetch"),))
        with self._database.write() as connection:
            accepted = self.plan(
                connection,
                fetch.target,
                purpose=fetch.purpose,
                asked_by=fetch.asked_by,
                parent_key=fetch.parent_key,
            )
        self.wake()
        return accepted

    def accept(self, key: str) -> Accepted | Refused:
        """Take what came of a held fetch as all there is, and let the rules look at it.

        That of an accession number takes what came of all its studies.
        """
        now = self._clock()
        with self._database.write() as connection:
            # studies before their accession number: so are they locked everywhere
            keys = [*(one.key for one in fetches.fetches_of_parent(connection, key)), key]
            found = [fetches.fetch_by_key(connection, one, lock=True) for one in keys]
            held = [one for one in found if one is not None and one.state is FetchState.HELD]
            if not held or held[-1].key != key:
                return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("key", "names no fetch that is held"),))
            for fetch in held:
                ended = replace(fetch, state=FetchState.DONE, changed_at=now, ended_at=now)
                fetches.put_fetch(connection, ended)
                summary = "a person took what is here"
                fetches.end_jobs(connection, self._job_keys(fetch), summary=summary, now=now)
                if fetch.purpose is FetchPurpose.REQUEST:
                    fetches.let_be_evaluated(connection, fetch.target.study_instance_uid, now)
            settle_fetch(connection, held[-1], now)
        self.wake()
        return Accepted(uid=key)

    def _job_keys(self, fetch: Fetch) -> list[str]:
        """The keys of all jobs that a round of a fetch may have."""
        return [job_key(fetch, name) for name in self._archives]

    def _is_lost(self, connection: Connection, fetch: Fetch) -> bool:
        """Whether an open fetch of a study has no job any more: its archive is no longer configured."""
        of_study = bool(fetch.target.study_instance_uid)
        return of_study and not fetches.unfinished_jobs(connection, self._job_keys(fetch))

    def _statuses(self, connection: Connection, found: Sequence[Fetch]) -> list[FetchStatus]:
        children = {
            one.key: fetches.fetches_of_parent(connection, one.key)
            for one in found
            if not one.target.study_instance_uid
        }
        every = [*found, *(child for several in children.values() for child in several)]
        uids = {one.target.study_instance_uid for one in every} - {""}
        held = fetches.count_held(connection, sorted(uids)) if uids else {}

        def status(fetch: Fetch) -> FetchStatus:
            below = tuple(status(child) for child in children.get(fetch.key, ()))
            own = held.get(fetch.target.study_instance_uid, 0) or sum(one.held for one in below)
            return FetchStatus(fetch=fetch, held=own, studies=below)

        return [status(fetch) for fetch in found]


def settle_fetch(connection: Connection, fetch: Fetch, now: datetime) -> None:
    """Write what the end of a fetch means for its accession number, and for rules that wait for it."""
    fetches.hasten_lane(connection, PRIORS_LANE, now)
    if not fetch.parent_key:
        return
    parent = fetches.fetch_by_key(connection, fetch.parent_key, lock=True)
    siblings = fetches.fetches_of_parent(connection, fetch.parent_key)
    if parent is None or any(one.state.is_open for one in siblings):
        return
    held = next((one for one in siblings if one.state is FetchState.HELD), None)
    ended = (
        replace(parent, state=FetchState.HELD, changed_at=now, error=held.error)
        if held
        else replace(parent, state=FetchState.DONE, changed_at=now, ended_at=now, error="")
    )
    fetches.put_fetch(connection, ended)


def job_key(fetch: Fetch, archive: str) -> str:
    """The key of the job that asks one archive for a fetch."""
    return f"fetch:{fetch.round}:{archive}:{fetch.key}"


def plan_job_at(connection: Connection, fetch: Fetch, archive: str, now: datetime) -> None:
    """Write the job that asks one archive for a fetch; once for a round."""
    jobs.plan_job(
        connection, key=job_key(fetch, archive), lane=fetch_lane(archive), kind=JobKind.FETCH, now=now
    )


def of_job_key(key: str) -> tuple[int, str, str]:
    """(round, archive, key of the fetch) of a job's key.

    Raises
    ------
    ValueError
        If it is not the key of such a job.
    """
    kind, number, archive, fetch_key = key.split(":", 3)
    if kind != "fetch":
        raise ValueError("not the job of a fetch")
    return int(number), archive, fetch_key
