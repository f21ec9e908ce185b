# SPDX-License-Identifier: Apache-2.0
"""The rooms of dispatch joined: who follows a change of a workitem, in which order, and with what settings.

No decision is made here; each is in its module of ``dispatch/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from profiles.codes import Code
from task_manager.dispatch.assignment import Assignment
from task_manager.dispatch.model import LeaseLimits, PerformerOffer, Style, Verification
from task_manager.dispatch.push import PushStep, PushTarget
from task_manager.dispatch.pushing import Pushing
from task_manager.dispatch.replacement import Replacement
from task_manager.dispatch.subtasks import ParentWork
from task_manager.dispatch.verification import Verifying
from task_manager.requesting import Ask, Requesting, RequestingKind
from task_manager.store.database import Database
from task_manager.transaction import Follower, Interceptor
from task_manager.worklist import StoredWorklist


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """Who performs what, for how long.

    Attributes
    ----------
    station
        The manager's own AE title: the station of what it performs by way of sub-tasks.
    performers
        The preferred first.
    verifications
        App to how its results are verified.
    leases
        Limits of all apps that have none of their own in `leases_by_app`.
    readiness_poll, readiness_give_up
        Pause between two questions to archives; when inputs that never came are given up.
    requesting
        Which workitems of others ask for what the rules give.
    """

    station: str = "AIRWAY"
    performers: tuple[PerformerOffer, ...] = ()
    verifications: Mapping[str, Verification] = field(default_factory=dict)
    leases: LeaseLimits = field(default_factory=LeaseLimits)
    leases_by_app: Mapping[str, LeaseLimits] = field(default_factory=dict)
    readiness_poll: timedelta = timedelta(minutes=1)
    readiness_give_up: timedelta = timedelta(hours=72)
    requesting: tuple[RequestingKind, ...] = ()

    @property
    def push_performers(self) -> tuple[str, ...]:
        """AE titles of the performers that work is pushed to."""
        return tuple(offer.ae_title for offer in self.performers if offer.style is Style.PUSH)

    def limits_of(self, app: str) -> LeaseLimits:
        """Lease limits of an app; those of all for foreign work."""
        return self.leases_by_app.get(app, self.leases)


class Dispatching:
    """What :class:`task_manager.service.Service` needs of dispatch.

    Attributes
    ----------
    followers
        In the order they are to be called: replacements first, so that parents see the new child before they
        hear of the end of the old one; assignment after all that keep work for the manager.
    replacement
        The first of them: a person may ask it to begin again.
    requesting
        What brings workitems that ask for others after the work that rules made.
    interceptors
        Answer for the machine where the manager performs, or assigns anew.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        codes: Mapping[str, Code],
        *,
        base_url: Callable[[], str],
        new_uid: Callable[[], str],
        ask: Ask | None = None,
    ) -> None:
        self._settings = settings
        self._parents = ParentWork(new_uid)
        self._assignment = Assignment(settings.performers, codes)
        self._pushing = Pushing(settings.performers)
        verifying = Verifying(
            settings.verifications, codes, self._parents, station=settings.station, base_url=base_url
        )
        self.replacement = Replacement(settings.limits_of, performers=settings.performers)
        self.requesting = Requesting(settings.requesting, self._parents, station=settings.station, ask=ask)
        self.followers: tuple[Follower, ...] = (
            self.replacement,
            self.requesting,
            verifying,
            self._assignment,
            self._pushing,
        )
        self.interceptors: tuple[Interceptor, ...] = (
            self.requesting.kept,
            verifying.kept,
            self._pushing.kept,
            self._assignment.reassigned,
        )

    def push_step(
        self,
        ae_title: str,
        target: PushTarget,
        worklist: StoredWorklist,
        database: Database,
        *,
        poll: timedelta,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> PushStep:
        """What the worker does with the jobs of one push performer.

        Raises
        ------
        KeyError
            If there is no such performer.
        """
        offers = {offer.ae_title: offer for offer in self._settings.performers}
        return PushStep(
            offers[ae_title],
            target,
            worklist.transact,
            database,
            self._assignment,
            self._pushing,
            self._parents,
            limits=self._settings.limits_of,
            poll=poll,
            clock=clock,
            wake=wake,
        )
