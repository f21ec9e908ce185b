# SPDX-License-Identifier: Apache-2.0
"""The loop behind the doors: completes studies and empties the outbox.

Each lane has threads of its own, so that a slow or dead destination delays no other; one more is for study
deadlines. Threads only take the next job, have it done, and wait; decisions are the service's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile

from task_manager.delivery.pace import Pace
from task_manager.delivery.runner import Deliveries
from task_manager.dispatch.push import PushStep
from task_manager.errors import DeliveryError, FinalDeliveryError, StoppedDeliveryError, StoreError
from task_manager.outbox import PRIORS_LANE, Job, delivery_lane, event_lane, fetch_lane, push_lane
from task_manager.ports import Deliverer, EventSink
from task_manager.service import Service, Telling

_LOG = logging.getLogger(__name__)
_LEASE = timedelta(minutes=10)
_KEEP_CLAIM_S = 60.0
_FETCH_LEASE = timedelta(hours=1)
_MOST_PRIOR_TRIES = 10
"""Unexpected errors one after the other before a person is shown a rule that waits for earlier studies."""

_LONGEST_WAIT_S = 1.0
_NO_ROOM_S = 0.1
_BLOCKED_S = 0.2  # what is due waits for another job of its study
_AFTER_ERROR_S = 1.0
_TELLING_REST_S = 0.1  # what happens meanwhile is told together
_TELLING_SHARE = 9  # times as long as it took: events may lag a moment behind, the doors may not


class Worker:
    """Runs the lanes of one process.

    Parameters
    ----------
    name
        Identity of this process across restarts: at start it frees what its former self had claimed.
    """

    def __init__(
        self,
        service: Service,
        deliverers: Mapping[str, Deliverer],
        sinks: Mapping[str, EventSink],
        pushes: Mapping[str, PushStep] | None = None,
        *,
        name: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._pushes = dict(pushes or {})
        self._service = service
        self._deliverers = deliverers
        self._sinks = sinks
        self._name = name
        self._clock = clock
        self._stopping = threading.Event()
        self._wakes: list[threading.Event] = []
        self._job_wakes: list[threading.Event] = []
        self._telling_wakes: list[threading.Event] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Free old claims and start one thread per lane."""
        self._service.release_claims(self._name)
        self._service.deliveries.resume()
        self._service.sweeps.started(self._clock())
        self._spawn("deadlines", self._deadline_step, self._wakes)
        self._spawn("sweeps", self._sweep_step, self._wakes)
        self._spawn("readiness", self._readiness_step, self._wakes)
        for name, step in self._pushes.items():
            step.listen()
            self._spawn(
                push_lane(name), _Lane(self, push_lane(name), _push(self._service, step)), self._job_wakes
            )
        for name, deliverer in self._deliverers.items():
            policy = self._service.deliveries.policy(name)
            turnstile = _Turnstile(Pace(policy.interval_s, burst=policy.burst), self._stopping)
            for number in range(policy.parallel):
                worker = f"{self._name}#{number}"
                hand = _Hand(self, self._service.deliveries, name, deliverer, turnstile, worker)
                self._spawn(f"{delivery_lane(name)}#{number}", hand, self._job_wakes)
        for name, sink in self._sinks.items():
            lane = event_lane(name)
            self._spawn(lane, _EventLane(self, self._service, lane, sink), self._telling_wakes)
        self._start_fetching()
        for lane in self._service.questions.lanes:
            self._spawn(lane, _Lane(self, lane, self._service.questions.answer), self._job_wakes)

    def _start_fetching(self) -> None:
        fetching = self._service.fetching
        waiting = _Lane(self, PRIORS_LANE, _settle_priors(self._service))
        self._spawn(PRIORS_LANE, waiting, self._job_wakes)
        room = threading.BoundedSemaphore(fetching.limits.most_at_once)
        for name, archive in fetching.archives.items():
            lane = fetch_lane(name)
            for number in range(archive.most_at_once):
                worker = f"{self._name}#{number}"
                hand = _FetchHand(self, self._service, lane, worker, room, self._stopping.is_set)
                self._spawn(f"{lane}#{number}", hand, self._job_wakes)

    def wake(self) -> None:
        """Look for work now, in all lanes."""
        for wake in self._wakes:
            wake.set()
        self.wake_jobs()

    def wake_jobs(self) -> None:
        """Look for jobs now: some were committed."""
        for wake in self._job_wakes:
            wake.set()
        self.wake_tellings()

    def wake_tellings(self) -> None:
        """Look for events to tell now: some were committed."""
        for wake in self._telling_wakes:
            wake.set()

    def stop(self, timeout_s: float = 20.0) -> None:
        """Let every lane finish its job and stop; one that takes longer stays claimed and is redone.

        Parameters
        ----------
        timeout_s
            Seconds for all lanes together.
        """
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def claim(self, lane: str) -> Job | None:
        """The next due job of a lane."""
        return self._service.claim_job(lane, worker=self._name, lease=_LEASE)

    def claim_tellings(self, lane: str) -> list[Telling]:
        """What an event lane can tell now."""
        return self._service.claim_tellings(lane, worker=self._name, lease=_LEASE)

    def rest(self, seconds: float) -> None:
        """Do nothing for a while, whatever is committed; ends when the worker stops."""
        self._stopping.wait(seconds)

    def release(self, lane: str) -> None:
        """Free what this process has claimed in a lane."""
        self._service.release_claims(self._name, lane)

    def seconds_until(self, due: datetime | None) -> float:
        """How long a lane may wait for `due`; bounded, since another process may write work too."""
        if due is None:
            return _LONGEST_WAIT_S
        return min(max((due - self._clock()).total_seconds(), 0.01), _LONGEST_WAIT_S)

    def next_due(self, lane: str) -> datetime | None:
        """When the lane's next job is due."""
        return self._service.next_due(lane)

    def _deadline_step(self) -> float:
        self._service.scheduler.complete_due_studies()
        return self.seconds_until(self._service.scheduler.next_deadline())

    def _sweep_step(self) -> float:
        self._service.sweeps.run_due()
        return self.seconds_until(self._service.sweeps.next_due())

    def _readiness_step(self) -> float:
        self._service.readiness.run_due()
        return self.seconds_until(self._service.readiness.next_due())

    def _spawn(self, name: str, step: Callable[[], float], wakes: list[threading.Event]) -> None:
        """Start a thread that takes `step` after `step`, also when its event, one of `wakes`, is set."""
        wake = threading.Event()
        wakes.append(wake)
        thread = threading.Thread(target=self._run, args=(name, step, wake), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, step: Callable[[], float], wake: threading.Event) -> None:
        while not self._stopping.is_set():
            wake.clear()
            try:
                wait_s = step()
            except StoreError:
                _LOG.exception(
                    "store failed, trying again", extra={"action": "worker.store_error", "lane": name}
                )
                wait_s = _AFTER_ERROR_S
            except Exception:  # noqa: BLE001 - the edge of this thread: log once and go on, the job stays in the store
                _LOG.exception("worker step failed", extra={"action": "worker.error", "lane": name})
                wait_s = _AFTER_ERROR_S
            if wait_s > 0:
                wake.wait(wait_s)


class _Lane:
    """One step of a lane: take a job, do it, or say how long to wait."""

    def __init__(self, worker: Worker, lane: str, perform: Callable[[Job], None]) -> None:
        self._worker = worker
        self._lane = lane
        self._perform = perform
        self._unsettled = False

    def __call__(self) -> float:
        if self._unsettled:  # the store failed before it could tell what came of the last job
            self._worker.release(self._lane)
        self._unsettled = True
        job = self._worker.claim(self._lane)
        if job is not None:
            self._perform(job)
        self._unsettled = False
        return 0.0 if job else self._worker.seconds_until(self._worker.next_due(self._lane))


class _Turnstile:
    """The rate limit of one destination, shared by the threads that serve it."""

    def __init__(self, pace: Pace, stopping: threading.Event) -> None:
        self._pace = pace
        self._stopping = stopping
        self._lock = threading.Lock()

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Wait for the next turn; `meanwhile` is called now and then.

        Raises
        ------
        StoppedDeliveryError
            If the worker stops before it comes.
        """
        with self._lock:
            left_s = self._pace.reserve(time.monotonic())
        while left_s > 0:
            step_s = min(left_s, _KEEP_CLAIM_S / 2)
            if self._stopping.wait(step_s):
                raise StoppedDeliveryError("the worker stops")
            left_s -= step_s
            meanwhile()


class _Hand:
    """One thread of a delivery lane: take a job, have it done, or say how long to wait."""

    def __init__(
        self,
        worker: Worker,
        deliveries: Deliveries,
        destination: str,
        deliverer: Deliverer,
        turnstile: _Turnstile,
        name: str,
    ) -> None:
        self._worker = worker
        self._deliveries = deliveries
        self._destination = destination
        self._deliverer = deliverer
        self._turnstile = turnstile
        self._name = name
        self._unsettled = False
        self._kept_s = 0.0

    def __call__(self) -> float:
        if self._unsettled:  # see _Lane
            self._deliveries.release(self._destination, worker=self._name)
        self._unsettled = True
        job = self._deliveries.claim(self._destination, worker=self._name, lease=_LEASE)
        if job is not None:
            self._kept_s = time.monotonic()
            if not self._deliveries.perform(job, self._destination, self._deliverer, lambda: self._turn(job)):
                self._deliveries.release(self._destination, worker=self._name)
        self._unsettled = False
        if job is not None:
            return 0.0
        due = self._deliveries.next_due(self._destination)
        return max(self._worker.seconds_until(due), _BLOCKED_S)

    def _turn(self, job: Job) -> None:
        self._turnstile.wait(lambda: self._keep(job))
        self._keep(job)

    def _keep(self, job: Job) -> None:
        if time.monotonic() - self._kept_s > _KEEP_CLAIM_S:
            self._deliveries.keep_claim(job, worker=self._name, lease=_LEASE)
            self._kept_s = time.monotonic()


class _FetchHand:
    """One thread of an archive's lane: take a fetch while there is room for one more."""

    def __init__(
        self,
        worker: Worker,
        service: Service,
        lane: str,
        name: str,
        room: threading.BoundedSemaphore,
        stopping: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._service = service
        self._lane = lane
        self._name = name
        self._room = room
        self._stopping = stopping
        self._unsettled = False

    def __call__(self) -> float:
        if self._unsettled:  # see _Lane
            self._service.release_claims(self._name, self._lane)
        self._unsettled = True
        job = None
        if self._room.acquire(blocking=False):
            try:
                job = self._service.claim_job(self._lane, worker=self._name, lease=_FETCH_LEASE)
                if job is not None:
                    self._perform(job)
            finally:
                self._room.release()
        self._unsettled = False
        if job is not None:
            return 0.0
        return max(self._worker.seconds_until(self._worker.next_due(self._lane)), _NO_ROOM_S)

    def _perform(self, job: Job) -> None:
        try:
            self._service.fetching.perform(job, self._stopping)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the job is tried again and shown
            self._service.fetching.failed(job, f"unexpected {type(error).__name__}")
            _LOG.exception("fetch failed unexpectedly", extra={"action": "fetch.error", "lane": job.lane})


class _EventLane:
    """One step of an event lane: tell what can be told, in order, or say how long to wait."""

    def __init__(self, worker: Worker, service: Service, lane: str, sink: EventSink) -> None:
        self._worker = worker
        self._service = service
        self._lane = lane
        self._sink = sink
        self._unsettled = False

    def __call__(self) -> float:
        if self._unsettled:  # see _Lane
            self._worker.release(self._lane)
        self._unsettled = True
        began = time.monotonic()
        claimed = self._worker.claim_tellings(self._lane)
        if claimed:
            told = self._tell(claimed)
            jobs = [telling.job for telling in claimed]
            self._service.told(jobs[:told], untried=jobs[told:])
            if told:
                spent_s = time.monotonic() - began
                self._worker.rest(min(max(_TELLING_REST_S, _TELLING_SHARE * spent_s), _LONGEST_WAIT_S))
        self._unsettled = False
        return self._worker.seconds_until(self._worker.next_due(self._lane))

    def _tell(self, claimed: Sequence[Telling]) -> int:
        """How many were told; of one that could not be, when to try again is written."""
        events = [event for event in takewhile(bool, (telling.event for telling in claimed)) if event]
        job = claimed[0].job
        extra = {"lane": job.lane}
        if not events:
            self._service.hold(job, "the event of this job is gone")
            return 0
        try:
            return self._sink.send_all(events)
        except FinalDeliveryError as error:
            self._service.hold(job, str(error))
            _LOG.error("event held for a person", extra={"action": "event.held", **extra})
        except (DeliveryError, StoreError) as error:
            self._service.try_later(job, str(error))
            _LOG.warning("event postponed", extra={"action": "event.postponed", **extra})
        except Exception as error:  # noqa: BLE001 - the job is tried again and shown
            self._service.try_later(job, f"unexpected {type(error).__name__}")
            _LOG.exception("event failed unexpectedly", extra={"action": "event.error", **extra})
        return 0


def _settle_priors(service: Service) -> Callable[[Job], None]:
    def perform(job: Job) -> None:
        try:
            service.priors.perform(job)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the job is tried again and shown
            put_back = service.hold if job.attempts >= _MOST_PRIOR_TRIES else service.try_later
            put_back(job, f"unexpected {type(error).__name__}")
            _LOG.exception("priors failed unexpectedly", extra={"action": "priors.error", "lane": job.lane})

    return perform


def _push(service: Service, step: PushStep) -> Callable[[Job], None]:
    def perform(job: Job) -> None:
        try:
            due = step.perform(job)
        except StoreError as error:
            service.try_later(job, str(error))
            _LOG.warning("push postponed", extra={"action": "push.postponed", "lane": job.lane})
        except Exception as error:  # noqa: BLE001 - the job is tried again and shown
            service.try_later(job, f"unexpected {type(error).__name__}")
            _LOG.exception("push failed unexpectedly", extra={"action": "push.error", "lane": job.lane})
        else:
            if due is None:
                service.pushed(job)
            else:
                service.look_again(job, due)

    return perform
