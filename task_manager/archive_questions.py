# SPDX-License-Identifier: Apache-2.0
"""Asks archives what they have of studies that wait for it, by durable jobs in a lane for each archive.

The answer is evidence; what it comes to is decided where studies are looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from task_manager.dispatch.readiness import ArchiveQuery
from task_manager.errors import DeliveryError, FinalDeliveryError, StoreError, facts_of
from task_manager.outbox import Job, RetryPolicy, question_lane
from task_manager.store import evidence, jobs, studies
from task_manager.store.database import Database
from task_manager.store.questions import asked_study
from task_manager.study.evidence import StudyEvidence
from task_manager.study.model import Evidence, StudyState

_LOG = logging.getLogger(__name__)


class ArchiveQuestions:
    """Answers questions that wait in the outbox. Each lane is for one thread.

    Parameters
    ----------
    archives
        Those that can be asked; none where no policy asks any.
    wake
        Called after each answer: a study may be complete.
    """

    def __init__(
        self,
        database: Database,
        archives: Iterable[ArchiveQuery],
        *,
        retry: RetryPolicy,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._archives = {question_lane(one.name): one for one in archives}
        self._retry = retry
        self._clock = clock
        self._wake = wake

    @property
    def lanes(self) -> tuple[str, ...]:
        """Lanes that somebody has to work on."""
        return tuple(self._archives)

    def answer(self, job: Job) -> None:
        """Ask what a claimed job is about, and keep the answer or when to try again.

        Raises
        ------
        StoreError
            If the database fails.
        """
        archive, uid = self._archives[job.lane], asked_study(job.key)
        extra = {"lane": job.lane, "attempt": job.attempts + 1}
        try:
            if not self._is_waiting(uid):
                self._finish(job, "the study waits no longer")
                return
            instances = archive.available_instances(uid)
        except FinalDeliveryError as error:
            with self._database.write() as connection:
                jobs.hold_job(connection, job, error=str(error))
            _LOG.error("question held for a person", extra={"action": "question.held", **extra})
        except DeliveryError as error:
            self._later(job, str(error))
            _LOG.warning("question postponed", extra={"action": "question.postponed", **extra})
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one question: it is tried again and shown
            self._later(job, f"unexpected {type(error).__name__}")
            _LOG.error("question failed", extra={"action": "question.failed", **extra, **facts_of(error)})
        else:
            self._keep(job, archive.name, uid, instances)
            _LOG.info(
                "archive has answered",
                extra={"action": "question.answered", "instances": len(instances), **extra},
            )

    def _is_waiting(self, uid: str) -> bool:
        with self._database.read() as connection:
            study = studies.whole_study(connection, uid)
        return study is not None and study.state is StudyState.RECEIVING

    def _keep(self, job: Job, name: str, uid: str, instances: frozenset[str]) -> None:
        now = self._clock()
        told = StudyEvidence(
            kind=Evidence.ARCHIVE,
            study_instance_uid=uid,
            source=name,
            told_at=now,
            series={"": instances} if instances else {},
        )
        with self._database.write() as connection:
            evidence.note_evidence(connection, told, now)
            jobs.finish_job(connection, job, summary=f"{len(instances)} instances", now=now)
        self._wake()

    def _finish(self, job: Job, summary: str) -> None:
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary=summary, now=self._clock())

    def _later(self, job: Job, error: str) -> None:
        due = self._retry.next_due(job.attempts + 1, self._clock(), key=job.key)
        with self._database.write() as connection:
            jobs.postpone_job(connection, job, error=error, due_at=due)
