# SPDX-License-Identifier: Apache-2.0
"""The one front door of the task manager: doors, worker and people all come in here.

It holds the rooms behind it and no rule of its own. One object per process; safe to use from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from profiles.request import Request
from profiles.sole.events import EventType, OperationalEvent
from task_manager.actor import Actor
from task_manager.archive import StoredArchive
from task_manager.archive_questions import ArchiveQuestions
from task_manager.attention import Attention, configured_lanes
from task_manager.completion import Completion, changes_of
from task_manager.delivery.consequences import Consequences
from task_manager.delivery.dead_letters import DeadLetters
from task_manager.delivery.policy import DeliveryPolicy, policies_of
from task_manager.delivery.runner import Deliveries
from task_manager.dispatch.availability import StoredAvailability
from task_manager.dispatch.model import RetentionLimits
from task_manager.dispatch.push import PushStep, PushTarget
from task_manager.dispatch.readiness import ArchiveQuery, Readiness
from task_manager.dispatch.sweeps import Sweeps
from task_manager.dispatching import Dispatching, DispatchSettings
from task_manager.fetching.archives import StudyArchive
from task_manager.fetching.performing import FetchLimits, FetchStep
from task_manager.fetching.prior_waits import PriorStep
from task_manager.fetching.requests import StudyFetches
from task_manager.intake import Intake
from task_manager.outbox import Job, RetryPolicy, question_lane
from task_manager.outcome import Refused
from task_manager.performed_steps import StoredPerformedSteps
from task_manager.ports import ObjectStore
from task_manager.request_intake import Recorded, RequestIntake, requested_fetch
from task_manager.rules.model import RuleSet
from task_manager.scheduling import AppOffer, Scheduler
from task_manager.store import evidence as evidence_store
from task_manager.store import jobs, studies, workitems
from task_manager.store.database import Database
from task_manager.store.journal import StoredJournal
from task_manager.story import StudyStory, study_story
from task_manager.study.completeness import CompletenessPolicy
from task_manager.study.evidence import StudyEvidence
from task_manager.study.sources import Policies
from task_manager.study_decisions import StudyDecisions
from task_manager.subscriptions import StoredSubscriptions
from task_manager.transaction import WorklistTransaction
from task_manager.worklist import StoredWorklist

_TOLD_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A claimed telling job and its event; None if the event is gone."""

    job: Job
    event: OperationalEvent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchingSettings:
    """What watchers may ask for.

    Attributes
    ----------
    deletion_locks
        Whether they may keep final workitems from being deleted.
    most_pending
        Reports kept for one that is away.
    fallback
        AE titles that are told of restarts without any subscription.
    callable_aes
        AE titles that can be called: only these may listen over DIMSE.
    """

    deletion_locks: bool = True
    most_pending: int = 10_000
    fallback: tuple[str, ...] = ()
    callable_aes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What the service needs to know of the configuration.

    Attributes
    ----------
    quiet_period
        How long no image must arrive before a study counts as complete, where `completeness` is None.
    completeness
        What completes studies, by their sources; rules bring their own.
    destinations, event_sinks
        Names of all result destinations and event repositories.
    told_events
        Events of our own that somebody wants to be told of.
    failure_destinations
        Destinations that are told of runs that brought no result.
    deliveries
        How destinations are served; those without are served by the defaults.
    retry
        When failed jobs are tried again.
    dispatch
        Who performs what.
    retention
        How long what is finished is kept.
    watching
        What watchers may ask for.
    fetching
        What is borne of archives that studies are fetched from.
    """

    quiet_period: timedelta
    completeness: Policies | None = None
    destinations: tuple[str, ...] = ()
    event_sinks: tuple[str, ...] = ()
    told_events: frozenset[EventType] = frozenset()
    failure_destinations: frozenset[str] = frozenset()
    deliveries: tuple[DeliveryPolicy, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    retention: RetentionLimits = field(default_factory=RetentionLimits)
    watching: WatchingSettings = field(default_factory=WatchingSettings)
    fetching: FetchLimits = field(default_factory=FetchLimits)


class Service:
    """The task manager.

    Parameters
    ----------
    wake
        Called when a study or an input came: deadlines may be nearer.
    news, wake_jobs, wake_tellings
        Called after commits of the worklist that leave something to tell, something to do, and nothing to do
        but to tell repositories events.
    archives
        Asked for inputs that are not yet here.
    study_archives
        Studies are fetched from them, the first first.
    has_room, takes_messages
        Whether images are taken now (nothing is fetched while they are not), and whether anything new is.
    new_uid
        Makes Transaction UIDs, which nobody must be able to guess.

    Attributes
    ----------
    intake, worklist, archive
        What the storage and order doors, the UPS doors and the retrieve doors need.
    database
        Where all is kept.
    subscriptions, journal
        Who watches, and what watchers are owed.
    scheduler
        Turns complete studies into workitems.
    requests, performed_steps
        What the doors need that somebody may ask at for the analysis of a study, and the modalities' door.
    sweeps, readiness
        End what its time has passed for; make ready what has all its inputs.
    questions, studies
        What archives are asked about studies, and what persons may decide about them.
    deliveries, dead_letters
        What is done with jobs that send results, and what persons may decide about jobs.
    attention
        What waits for a person.
    availability
        What the door of Instance Availability Notifications needs.
    fetches
        Studies that are fetched from archives: asked for, listed, let go on.
    fetching, priors
        What the worker does with the jobs of fetches, and of rules that wait for earlier studies.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        rules: RuleSet,
        apps: Mapping[str, AppOffer],
        settings: ServiceSettings,
        *,
        base_url: Callable[[], str],
        clock: Callable[[], datetime],
        wake: Callable[[], None] = lambda: None,
        news: Callable[[], None] = lambda: None,
        wake_jobs: Callable[[], None] = lambda: None,
        wake_tellings: Callable[[], None] = lambda: None,
        archives: Sequence[ArchiveQuery] = (),
        study_archives: Sequence[StudyArchive] = (),
        has_room: Callable[[], bool] = lambda: True,
        takes_messages: Callable[[], bool] = lambda: True,
        new_uid: Callable[[], str],
    ) -> None:
        self.database = database
        self._database = database
        self._settings = settings
        self._clock = clock
        self._wake = wake
        consequences = Consequences(
            sinks=settings.event_sinks,
            told=settings.told_events,
            failures=settings.failure_destinations,
        )
        codes = {name: app.code for name, app in apps.items()}
        self._dispatching = Dispatching(
            settings.dispatch, codes, base_url=base_url, new_uid=new_uid, ask=self._ask
        )
        self.worklist = StoredWorklist(
            database,
            followers=(*self._dispatching.followers, consequences),
            interceptors=self._dispatching.interceptors,
            limits=settings.dispatch.limits_of,
            sinks=settings.event_sinks,
            clock=clock,
            wake=news,
            wake_jobs=wake_jobs,
            wake_tellings=wake_tellings,
            wake_new=self._workitems_came,
        )
        self.subscriptions = StoredSubscriptions(
            database,
            clock=clock,
            wake=news,
            deletion_locks=settings.watching.deletion_locks,
            known_ae=settings.watching.callable_aes.__contains__,
        )
        self.journal = StoredJournal(
            database,
            most_pending=settings.watching.most_pending,
            fallback=settings.watching.fallback,
            clock=clock,
        )
        self.sweeps = Sweeps(
            self.worklist.transact,
            database,
            settings.dispatch.limits_of,
            settings.retention,
            clock=clock,
        )
        self.attention = Attention(
            self.worklist.transact,
            database,
            self._dispatching.replacement,
            lanes=configured_lanes(
                settings.destinations,
                settings.event_sinks,
                settings.dispatch.push_performers,
                [one.name for one in study_archives],
            )
            | {question_lane(one.name) for one in archives},
        )
        self.readiness = Readiness(
            self.worklist.transact,
            database,
            archives,
            poll=settings.dispatch.readiness_poll,
            give_up=settings.dispatch.readiness_give_up,
            base_url=base_url,
            clock=clock,
        )
        self.fetches = StudyFetches(
            database, [one.name for one in study_archives], clock=clock, wake=wake_jobs
        )
        self.archive = StoredArchive(database, objects)
        usual = settings.completeness or Policies(usual=CompletenessPolicy(quiet=settings.quiet_period))
        policies = replace(usual, rules=changes_of(rules))
        self.questions = ArchiveQuestions(
            database,
            archives if policies.ask_archives else (),
            retry=settings.retry,
            clock=clock,
            wake=wake,
        )
        self.intake = Intake(
            database,
            objects,
            self.worklist,
            policies=policies,
            clock=clock,
            wake=self._inputs_came,
        )
        self.fetching = FetchStep(
            database,
            {archive.name: archive for archive in study_archives},
            self.intake,
            self.fetches,
            limits=settings.fetching,
            retry=settings.retry,
            clock=clock,
            wake=wake,
            has_room=has_room,
        )
        self.scheduler = scheduler = Scheduler(
            database,
            self.worklist,
            rules,
            apps,
            requesting=self._dispatching.requesting,
            completion=Completion(
                policies, [rule.name for rule in rules.rules], [archive.name for archive in archives]
            ),
            destinations=settings.destinations,
            sinks=settings.event_sinks,
            base_url=base_url,
            object_path=objects.absolute,
            clock=clock,
            told=settings.told_events,
        )
        self.requests = RequestIntake(
            database,
            self.worklist,
            apps={rule.app for rule in rules.rules},
            looks_at_triggers=self.scheduler.looks_at_triggers,
            clock=clock,
            wake=self._inputs_came,
            fetch=requested_fetch(self.fetches),
            takes_messages=takes_messages,
        )
        self.priors = PriorStep(
            database,
            self.fetching.archives,
            self.fetches,
            rules,
            scheduler.run_with_priors,
            most_studies=settings.fetching.most_studies,
            object_path=objects.absolute,
            clock=clock,
        )
        set_for = {policy.name: policy for policy in settings.deliveries}
        self.studies = StudyDecisions(database, self.worklist, clock=clock, wake=wake)
        self.deliveries = Deliveries(
            database,
            consequences,
            [set_for.get(one.name, one) for one in policies_of(settings.destinations, settings.retry)],
            object_path=objects.absolute,
            clock=clock,
            new_uid=new_uid,
            wake=wake_jobs,
        )
        self.dead_letters = DeadLetters(database, sinks=settings.event_sinks, clock=clock, wake=wake_jobs)
        self.availability = StoredAvailability(
            database.write, clock=clock, told=self._inputs_came, requests=self.requests
        )
        self.performed_steps = StoredPerformedSteps(
            database,
            self.requests,
            clock=clock,
            told=self._inputs_came,
            takes_messages=takes_messages,
        )

    def push_step(self, ae_title: str, target: PushTarget, *, poll: timedelta) -> PushStep:
        """What the worker does with the jobs of one push performer.

        Raises
        ------
        KeyError
            If there is no such performer.
        """
        return self._dispatching.push_step(
            ae_title, target, self.worklist, self._database, poll=poll, clock=self._clock, wake=self._wake
        )

    def _ask(self, work: WorklistTransaction, request: Request, actor: Actor) -> Recorded | Refused:
        return self.requests.ask_with(work, request, actor)

    def _inputs_came(self) -> None:
        self.readiness.wake()
        self._wake()

    def _workitems_came(self) -> None:
        self.readiness.wake()  # what is new may wait for what is here already

    def note_evidence(self, told: StudyEvidence, now: datetime | None = None) -> bool:
        """Keep what somebody says of a study, and have it looked at; whether it is receiving images.

        Saying the same again is harmless. A door that has a record of its own to write calls
        :func:`task_manager.store.evidence.note_evidence` in the transaction of it, and then `wake`.

        Raises
        ------
        StoreError
            If the database fails; nothing was kept.
        """
        with self._database.write() as connection:
            known = evidence_store.note_evidence(connection, told, now or self._clock())
        self._wake()
        return known

    def story(self, study_instance_uid: str) -> StudyStory | None:
        """Everything known about a study; None if it was never seen."""
        return study_story(self._database, study_instance_uid)

    def is_recorded(self, path: str) -> bool:
        """Whether an instance is kept at `path`, relative to the object store."""
        with self._database.read() as connection:
            return studies.is_recorded(connection, path)

    def check(self) -> None:
        """Return if the database answers.

        Raises
        ------
        StoreError
            If it does not.
        """
        with self._database.read() as connection:
            studies.next_deadline(connection)

    def counts(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """Workitems by state, and jobs by (lane, state)."""
        with self._database.read() as connection:
            return workitems.count_by_state(connection), jobs.count_jobs(connection)

    # What the worker does with jobs

    def release_claims(self, worker: str, lane: str = "") -> None:
        """Free the jobs that `worker` had claimed, in one lane or in all, and no longer works on."""
        with self._database.write() as connection:
            jobs.release_claims(connection, worker, lane)

    def claim_job(self, lane: str, *, worker: str, lease: timedelta) -> Job | None:
        """The next due job of a lane, or None. Looks before it locks, so an idle lane writes nothing."""
        now = self._clock()
        due = self.next_due(lane)
        if due is None or due > now:
            return None
        with self._database.write() as connection:
            return jobs.claim_job(connection, lane, worker=worker, now=now, until=now + lease)

    def next_due(self, lane: str) -> datetime | None:
        """When the lane's next job is due."""
        with self._database.read() as connection:
            return jobs.next_due(connection, lane)

    def claim_tellings(self, lane: str, *, worker: str, lease: timedelta) -> list[Telling]:
        """The events of a lane that can be told now, in order; see :meth:`claim_job`."""
        now = self._clock()
        due = self.next_due(lane)
        if due is None or due > now:
            return []
        with self._database.write() as connection:
            claimed = jobs.claim_in_order(
                connection, lane, worker=worker, now=now, until=now + lease, most=_TOLD_AT_ONCE
            )
            events = jobs.events_by_id(
                connection, [job.event_id for job in claimed if job.event_id is not None]
            )
        return [Telling(job=job, event=events.get(job.event_id or 0)) for job in claimed]

    def told(self, done: Sequence[Job], *, untried: Sequence[Job] = ()) -> None:
        """Mark telling jobs done, and put back those that had to wait for one that failed."""
        with self._database.write() as connection:
            if done:
                jobs.finish_jobs(connection, done, summary="sent", now=self._clock())
            if untried:
                jobs.release_jobs(connection, untried)

    def pushed(self, job: Job) -> None:
        """Mark a push done: its workitem is final, or somebody else's."""
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary="pushed", now=self._clock())

    def look_again(self, job: Job, due_at: datetime) -> None:
        """Put a job back that did what it could for now; that is no failure."""
        with self._database.write() as connection:
            jobs.put_back_job(connection, job, due_at=due_at)

    def try_later(self, job: Job, error: str) -> datetime:
        """Put a job back after a failure that may pass; when it is due again."""
        now = self._clock()
        due = self._settings.retry.next_due(job.attempts + 1, now, key=job.key)
        with self._database.write() as connection:
            jobs.postpone_job(connection, job, error=error, due_at=due)
        return due

    def hold(self, job: Job, error: str) -> None:
        """Set a job aside for a person after a failure that will not pass by itself."""
        with self._database.write() as connection:
            jobs.hold_job(connection, job, error=error)
