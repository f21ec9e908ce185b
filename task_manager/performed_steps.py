# SPDX-License-Identifier: Apache-2.0
"""Performed procedure steps of modalities: kept, counted as evidence, and when completed a request.

Implements :class:`PerformedStepIntake`. What a step may say is in ``study/performed.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.doorkeeping import no_room
from task_manager.errors import ConflictError, StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.request_intake import RequestIntake
from task_manager.store import evidence, performed_steps
from task_manager.store.database import Connection, Database
from task_manager.study.performed import (
    PerformedStep,
    StepStatus,
    changed_step,
    created_step,
    step_evidence,
    step_request,
)

_LOG = logging.getLogger(__name__)
_TRIES = 5


class PerformedStepIntake(Protocol):
    """What the door of performed procedure steps needs (PS3.4 F.7)."""

    def create_step(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """N-CREATE: a step begins. All faults are told at once; accepted when it is durable."""

    def change_step(self, uid: str, changes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """N-SET: what is known of a step now, and whether it is over."""


class StoredPerformedSteps:
    """Implements :class:`PerformedStepIntake` on the database.

    Parameters
    ----------
    requests
        Where completed steps become requests.
    told
        Called after each commit: a study may be complete.
    takes_messages
        Whether there is room for anything new.
    """

    def __init__(
        self,
        database: Database,
        requests: RequestIntake,
        *,
        clock: Callable[[], datetime],
        told: Callable[[], None],
        takes_messages: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._requests = requests
        self._clock = clock
        self._told = told
        self._takes_messages = takes_messages

    def create_step(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """N-CREATE (F.7.2.1)."""
        return self._durable(lambda connection, now: self._created(connection, uid, attributes, actor, now))

    def change_step(self, uid: str, changes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """N-SET (F.7.2.2); the same again is accepted and changes nothing."""
        return self._durable(lambda connection, now: self._changed(connection, uid, changes, actor, now))

    def _durable(self, act: Callable[[Connection, datetime], PerformedStep | Refused]) -> Accepted | Refused:
        if not self._takes_messages():
            return no_room()
        for _ in range(_TRIES):
            try:
                with self._database.write() as connection:
                    outcome = act(connection, self._clock())
            except ConflictError:  # the same step on another association, or work on the same order
                continue
            if isinstance(outcome, Refused):
                return outcome
            extra = {
                "action": "performed_step.told",
                "source": outcome.source,
                "status": outcome.status.value,
            }
            _LOG.info("performed procedure step committed", extra=extra)
            self._told()
            return Accepted(uid=outcome.sop_instance_uid)
        raise StoreError("a performed procedure step could not be recorded: others keep changing the same")

    def _created(
        self, connection: Connection, uid: str, attributes: DicomJson, actor: Actor, now: datetime
    ) -> PerformedStep | Refused:
        if performed_steps.locked_step(connection, uid) is not None:
            fault = Fault("SOPInstanceUID", "names a step that is here")
            return Refused(RefusalCode.DUPLICATE_INSTANCE, (fault,))
        step = created_step(uid, attributes, source=actor.name)
        if not isinstance(step, Refused):
            performed_steps.add_step(connection, step, now)
            evidence.note_evidence(connection, step_evidence(step, now), now)
        return step

    def _changed(
        self, connection: Connection, uid: str, changes: DicomJson, actor: Actor, now: datetime
    ) -> PerformedStep | Refused:
        before = performed_steps.locked_step(connection, uid)
        if before is None:
            return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no step here"),))
        step = changed_step(before, changes, source=actor.name)
        if isinstance(step, Refused) or step is before:
            return step
        performed_steps.put_step(connection, step, now)
        if step.status is StepStatus.COMPLETED:
            self._requests.record_in(connection, step_request(step), actor=actor, now=now)
        evidence.note_evidence(connection, step_evidence(step, now), now)
        return step
