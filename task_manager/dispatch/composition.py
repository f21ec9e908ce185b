# SPDX-License-Identifier: Apache-2.0
"""The followers of dispatch, in the order they have to be called, made from what a site has configured.

A workitem is first kept for verification, then what is left open is assigned, then what is assigned to a push
performer is planned to be pushed: each sees what those before it have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from profiles.codes import Code
from task_manager.dispatch.assignment import Assignment
from task_manager.dispatch.model import LeaseLimits, PerformerOffer, Style, Verification
from task_manager.dispatch.push import Pushing, PushStep, PushTarget
from task_manager.dispatch.subtasks import ParentWork
from task_manager.dispatch.verification import Verifying
from task_manager.store.database import Database
from task_manager.transaction import Follower, Interceptor, WorklistTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """What dispatch needs to know of the configuration.

    Attributes
    ----------
    performers
        Whom work is assigned to, the preferred first; none leaves all workitems open to all.
    verifications
        App to how its results are verified.
    station
        The manager's own AE title.
    polls
        AE title of a push performer to the pause between two looks at what was pushed to it.
    """

    performers: tuple[PerformerOffer, ...] = ()
    verifications: Mapping[str, Verification] = field(default_factory=dict)
    station: str = "AIRWAY"
    polls: Mapping[str, timedelta] = field(default_factory=dict)


class Dispatching:
    """The rooms of dispatch of one process.

    Parameters
    ----------
    codes
        App to its Scheduled Workitem Code.
    base_url
        Of our DICOMweb door.
    new_transaction_uid
        Makes Transaction UIDs for what the manager itself performs: nobody may guess them.

    Attributes
    ----------
    followers, interceptors
        For :class:`task_manager.worklist.StoredWorklist`, in this order.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        codes: Mapping[str, Code],
        *,
        base_url: Callable[[], str],
        new_transaction_uid: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._parents = ParentWork(new_transaction_uid)
        self._assignment = Assignment(settings.performers, codes)
        self._pushing = Pushing(settings.performers)
        verifying = Verifying(
            settings.verifications, codes, self._parents, station=settings.station, base_url=base_url
        )
        self.followers: tuple[Follower, ...] = (verifying, self._assignment, self._pushing)
        self.interceptors: tuple[Interceptor, ...] = (verifying.kept, self._assignment.reassigned)

    def push_steps(
        self,
        targets: Mapping[str, PushTarget],
        transact: Callable[[], AbstractContextManager[WorklistTransaction]],
        database: Database,
        *,
        limits: Callable[[str], LeaseLimits],
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> dict[str, PushStep]:
        """What does the jobs of each push performer, by AE title; `targets` holds their worklists."""
        return {
            offer.ae_title: PushStep(
                offer,
                targets[offer.ae_title],
                transact,
                database,
                self._assignment,
                self._pushing,
                self._parents,
                limits=limits,
                poll=self._settings.polls.get(offer.ae_title, timedelta(seconds=5)),
                clock=clock,
                wake=wake,
            )
            for offer in self._settings.performers
            if offer.style is Style.PUSH and offer.ae_title in targets
        }
