# SPDX-License-Identifier: Apache-2.0
"""Staged instances of one request into the intake: several at a time, answered in the order they came.

Commits of neighbours share a transaction, so a request that waited for each would be as slow as the disk.
"""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from informatics_gateway.dicomweb.stow_answer import StoreAnswer
from informatics_gateway.statuses import STATUSES
from task_manager.actor import Actor
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import InstanceIntake, StagedObject
from task_manager.study.header import announced_uids

_LOG = logging.getLogger(__name__)
_MOST_PENDING = 32


@dataclass(frozen=True, slots=True)
class _Outcome:
    sop_class_uid: str
    sop_instance_uid: str
    result: Accepted | int


class Committer:
    """Commits staged instances and gathers what became of them.

    Parameters
    ----------
    executor
        Whose threads commit.
    study_instance_uid
        Of the request's URL; empty for none.
    """

    def __init__(
        self,
        intake: InstanceIntake,
        executor: Executor,
        answer: StoreAnswer,
        *,
        actor: Actor,
        study_instance_uid: str,
    ) -> None:
        self._intake = intake
        self._executor = executor
        self._answer = answer
        self._actor = actor
        self._study_instance_uid = study_instance_uid
        self._pending: deque[Future[_Outcome]] = deque()
        self._last: StagedObject | None = None

    def stage(self) -> StagedObject | None:
        """Where the bytes of one instance or of bulk data go; None if there is no room."""
        self._submit_last()
        try:
            return self._intake.stage()
        except StoreError as error:
            self.no_room(error)
            return None

    def no_room(self, error: StoreError) -> None:
        """Note that the disk took no more."""
        _LOG.error("no room", extra={"action": "stow.store_failed", **facts_of(error)})

    def commit(self, staged: StagedObject) -> None:
        """Commit an instance whose bytes are complete, soon."""
        self._last = staged  # the last of a request needs no other thread, and most requests have one

    def fail(self, code: RefusalCode, sop_class_uid: str = "", sop_instance_uid: str = "") -> None:
        """Answer that an instance was not stored, in its place."""
        self._submit_last()
        done: Future[_Outcome] = Future()
        done.set_result(_Outcome(sop_class_uid, sop_instance_uid, STATUSES[code].dimse))
        self._pending.append(done)

    def finish(self) -> None:
        """Wait until everything that was begun is in the answer."""
        last, self._last = self._last, None
        outcome = None if last is None else self._receive(last)
        while self._pending:
            self._take(self._pending.popleft().result())
        if outcome is not None:
            self._take(outcome)

    def _submit_last(self) -> None:
        if self._last is None:
            return
        while len(self._pending) >= _MOST_PENDING:
            self._take(self._pending.popleft().result())
        self._pending.append(self._executor.submit(self._receive, self._last))
        self._last = None

    def _take(self, outcome: _Outcome) -> None:
        if isinstance(outcome.result, Accepted):
            self._answer.stored(outcome.sop_class_uid, outcome.result)
        else:
            self._answer.failed(outcome.sop_class_uid, outcome.sop_instance_uid, outcome.result)

    def _receive(self, staged: StagedObject) -> _Outcome:
        uids = announced_uids(staged.path)
        try:
            outcome = self._intake.receive_instance(
                staged, actor=self._actor, study_instance_uid=self._study_instance_uid
            )
        except StoreError as error:
            self.no_room(error)
            staged.discard()
            return _Outcome(*uids, STATUSES[RefusalCode.OUT_OF_RESOURCES].dimse)
        except Exception:  # noqa: BLE001 - the edge for one instance: log once, answer, take the others
            _LOG.exception("instance failed", extra={"action": "stow.failed"})
            staged.discard()
            return _Outcome(*uids, STATUSES[RefusalCode.PROCESSING_FAILURE].dimse)
        if isinstance(outcome, Refused):
            _LOG.warning(
                "instance refused",
                extra={
                    "action": "stow.refused",
                    "code": str(outcome.code),
                    "faults": [str(fault) for fault in outcome.faults],
                },
            )
            return _Outcome(*uids, STATUSES[outcome.code].dimse)
        return _Outcome(*uids, outcome)
