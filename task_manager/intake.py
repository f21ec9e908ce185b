# SPDX-License-Identifier: Apache-2.0
"""What comes in: instances and messages. Success is answered only after bytes and record are durable.

Implements :class:`task_manager.ports.InstanceIntake`, :class:`task_manager.ports.OrderIntake` and
:class:`task_manager.ports.ContextIntake`; instances and messages have a module of their own each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from profiles.order import MessageKey, Order
from profiles.patient import IdentityChange, PriorReport
from task_manager.actor import Actor
from task_manager.instance_intake import StoringIntake
from task_manager.message_intake import MessageIntake
from task_manager.outcome import Accepted, Refused
from task_manager.ports import ObjectStore, StagedObject
from task_manager.store.database import Database
from task_manager.study.sources import Policies
from task_manager.worklist import StoredWorklist


class Intake:
    """Receives instances and messages into the store.

    Parameters
    ----------
    policies
        When to look whether a study is complete, by where its images come from.
    clock
        Gives aware UTC time.
    wake
        Called after commits that leave the worker something to do, so that it looks at once.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        worklist: StoredWorklist,
        *,
        policies: Policies,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._instances = StoringIntake(database, objects, policies=policies, clock=clock, wake=wake)
        self._messages = MessageIntake(database, worklist, clock=clock, wake=wake)

    def stage(self) -> StagedObject:
        """Where to stream the bytes of one instance."""
        return self._instances.stage()

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        """Commit a staged instance and its record, or refuse and discard it.

        Raises
        ------
        StoreError
            If disk or database failed; nothing was acknowledged, the sender may try again.
        """
        return self._instances.receive_instance(
            staged,
            actor=actor,
            announced_sop_class_uid=announced_sop_class_uid,
            announced_sop_instance_uid=announced_sop_instance_uid,
            study_instance_uid=study_instance_uid,
        )

    def receive_order(
        self,
        received: Sequence[Order],
        *,
        key: MessageKey,
        raw: bytes,
        actor: Actor,
        accept_unknown: bool = False,
    ) -> Accepted | Refused:
        """Commit all orders of one message, or none; the same message again changes nothing."""
        return self._messages.receive_order(
            received, key=key, raw=raw, actor=actor, accept_unknown=accept_unknown
        )

    def receive_identities(
        self, changes: Sequence[IdentityChange], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit who patients are from now on, with all that follows."""
        return self._messages.receive_identities(changes, key=key, raw=raw, actor=actor)

    def receive_reports(
        self, reports: Sequence[PriorReport], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit reports of other examinations."""
        return self._messages.receive_reports(reports, key=key, raw=raw, actor=actor)
