# SPDX-License-Identifier: Apache-2.0
"""What is done with the delivery jobs of all destinations, whatever their kind.

A job is claimed if the breaker of its destination allows it; its objects are chosen and sent, their
commitment is asked for, and what came of it is recorded in one transaction. Threads are the worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from profiles import dicom_json
from profiles.ups.states import ProcedureStepState
from task_manager.delivery.breaker import Circuit, Health
from task_manager.delivery.commitment import (
    Answer,
    Asked,
    CommitmentAsk,
    CommitmentAsker,
    CommitmentReport,
    NextStep,
    SopReference,
    Step,
    next_step,
)
from task_manager.delivery.consequences import Consequences
from task_manager.delivery.dead_letters import RETRY
from task_manager.delivery.filtering import Chosen, FilterProgram
from task_manager.delivery.plan import output_sop_instance_uids, ship_order
from task_manager.delivery.policy import Commitment, DeliveryPolicy
from task_manager.errors import (
    DeliveryError,
    FinalDeliveryError,
    RetryableDeliveryError,
    StoppedDeliveryError,
    StoreError,
)
from task_manager.outbox import Job, delivery_lane
from task_manager.ports import Deliverer, FailureDeliverer, Shipment, Turn, at_once
from task_manager.store import (
    commitments,
    deliveries,
    identities,
    jobs,
    orders,
    studies,
    superseding,
    workitems,
)
from task_manager.store.acquisitions import StoredAcquisition
from task_manager.store.database import Connection, Database
from task_manager.study.model import Instance

_LOG = logging.getLogger(__name__)
_NOT_REPORTED = 0x0110
_WAITS = "waits for the report of storage commitment"


class _NothingLeftError(FinalDeliveryError):
    """What was to be sent is not here; the destination was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """A job with what it has to send, chosen by the filter of its destination."""

    job: Job
    destination: str
    shipment: Shipment
    chosen: Chosen


class Deliveries:
    """The delivery jobs of one service.

    Parameters
    ----------
    policies
        How each destination is served; one without is served by the defaults.
    object_path
        Where the object with a path of the store lies.
    new_uid
        Makes Transaction UIDs.
    wake
        Called when a job may go on.
    """

    def __init__(
        self,
        database: Database,
        consequences: Consequences,
        policies: Sequence[DeliveryPolicy],
        *,
        object_path: Callable[[str], Path],
        clock: Callable[[], datetime],
        new_uid: Callable[[], str],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._consequences = consequences
        self._policies = {policy.name: policy for policy in policies}
        self._filters = {policy.name: FilterProgram(policy.results) for policy in policies}
        self._object_path = object_path
        self._clock = clock
        self._new_uid = new_uid
        self._wake = wake

    def policy(self, destination: str) -> DeliveryPolicy:
        """How a destination is served."""
        return self._policies.get(destination) or DeliveryPolicy(name=destination)

    def health(self) -> Mapping[str, tuple[Health, Circuit]]:
        """How each configured destination fares, and what its breaker allows now."""
        now = self._clock()
        with self._database.read() as connection:
            known = deliveries.all_health(connection)
        found = {name: known.get(name) or Health() for name in self._policies}
        return {name: (health, health.circuit(now)) for name, health in found.items()}

    def claim(self, destination: str, *, worker: str, lease: timedelta) -> Job | None:
        """The next job that may go to a destination, or None. Looks before it locks."""
        now = self._clock()
        due = self.next_due(destination)
        if due is None or due > now:
            return None
        with self._database.write() as connection:
            health = deliveries.health_of(connection, destination, lock=True)
            if health is not None and health.closed_until(now) is not None:
                return None
            job = jobs.claim_job(
                connection, delivery_lane(destination), worker=worker, now=now, until=now + lease
            )
            if job is not None and health is not None and health.circuit(now) is Circuit.HALF_OPEN:
                probing = self.policy(destination).breaker.probing(health, now, until=now + lease)
                deliveries.set_health(connection, destination, probing)
        return job

    def next_due(self, destination: str) -> datetime | None:
        """When the next job of a destination may go."""
        with self._database.read() as connection:
            due = jobs.next_due(connection, delivery_lane(destination))
            health = deliveries.health_of(connection, destination) if due is not None else None
        closed = health.closed_until(self._clock()) if health is not None else None
        return max(due, closed) if due is not None and closed is not None else due

    def resume(self) -> None:
        """After a restart: what was probing then no longer is."""
        with self._database.write() as connection:
            deliveries.end_probes(connection)

    def release(self, destination: str, *, worker: str) -> None:
        """Free what `worker` had claimed for a destination: it could not tell what came of it."""
        with self._database.write() as connection:
            jobs.release_claims(connection, worker, delivery_lane(destination))
            deliveries.end_probes(connection, destination)

    def keep_claim(self, job: Job, *, worker: str, lease: timedelta) -> None:
        """Keep a claimed job for longer.

        Raises
        ------
        StoppedDeliveryError
            If another worker has it by now.
        """
        with self._database.write() as connection:
            if not deliveries.renew_claim(connection, job.id, worker, self._clock() + lease):
                raise StoppedDeliveryError("the claim ran out")

    def shipment(self, job: Job, destination: str) -> Shipment:
        """What a job has to send.

        Raises
        ------
        StoreError
            If the workitem is gone.
        """
        return self._load(job, destination).shipment

    def perform(self, job: Job, destination: str, deliverer: Deliverer, turn: Turn = at_once) -> bool:
        """Do a claimed job as far as it goes now, and record what came of it.

        False if it was broken off: then its claim is to be released.
        """
        extra = {"lane": job.lane, "workitem": job.workitem_uid, "attempt": job.attempts + 1}
        _LOG.info("delivery started", extra={"action": "delivery.started", **extra})
        try:
            done = self._perform(job, destination, deliverer, turn)
        except StoppedDeliveryError:
            _LOG.info("delivery broken off", extra={"action": "delivery.stopped", **extra})
            return False
        except FinalDeliveryError as error:
            self._hold(job, destination, error)
            _LOG.error(
                "delivery held for a person", extra={"action": "delivery.held", "error": str(error), **extra}
            )
        except (DeliveryError, StoreError) as error:
            due = self._try_later(job, destination, error)
            facts = {"action": "delivery.postponed", "error": str(error), **extra}
            _LOG.warning("delivery postponed", extra={**facts, "due": due.isoformat() if due else "never"})
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose the job: it is tried again and shown
            self._try_later(job, destination, DeliveryError(f"unexpected {type(error).__name__}"))
            _LOG.exception("delivery failed unexpectedly", extra={"action": "delivery.error", **extra})
        else:
            action = "delivery.done" if done else "delivery.committing"
            _LOG.info("delivery done" if done else "delivery waits", extra={"action": action, **extra})
        return True

    def report_commitment(self, report: CommitmentReport) -> bool:
        """Keep what a destination reports, durably; whether its transaction is known.

        What the report does not mention is not committed.
        """
        now = self._clock()
        with self._database.write() as connection:
            key = commitments.job_of_commitment(connection, report.transaction_uid)
            if key is None:
                return False
            job = deliveries.job_by_key(connection, key, lock=True)  # before what it waits for is changed
            asked = commitments.asked_instances(connection, report.transaction_uid)
            told = dict(report.failed)
            kept = frozenset(report.committed) - told.keys()
            failed = [(uid, told.get(uid, _NOT_REPORTED)) for uid in asked if uid not in kept]
            commitments.answer_commitment(connection, report.transaction_uid, failed, now)
            if job is not None:
                deliveries.hasten_job(connection, key, now)
        facts = {"committed": len(asked) - len(failed), "failed": len(failed)}
        _LOG.info("commitment reported to us", extra={"action": "delivery.commitment", **facts})
        self._wake()
        return True

    def _perform(self, job: Job, destination: str, deliverer: Deliverer, turn: Turn) -> bool:
        """Whether the job is done; else it waits for storage commitment."""
        load = self._load(job, destination)
        if not load.shipment.instances:
            if load.chosen.why:
                self._finish(load, load.chosen.why, ())
            elif _failed(load.shipment) and isinstance(deliverer, FailureDeliverer):
                receipt = deliverer.deliver_failure(load.shipment, turn)
                self._finish(load, receipt.summary, (), reached=receipt.sent)
            else:
                raise _NothingLeftError("the objects of this result are no longer here")
            return True
        mode = self.policy(destination).commitment.mode
        if mode is Commitment.OFF or not isinstance(deliverer, CommitmentAsker):
            receipt = deliverer.deliver(load.shipment, turn)
            self._finish(load, receipt.summary, load.shipment.instances if receipt.sent else ())
            return True
        return self._perform_committed(load, deliverer, deliverer, turn)

    def _perform_committed(
        self, load: _Load, deliverer: Deliverer, asker: CommitmentAsker, turn: Turn
    ) -> bool:
        job, wanted = load.job, _references(load.shipment.instances)
        step = self._next_step(load, wanted)
        if step.step is Step.ASK and self._is_over(job, load.destination, self._clock()):
            raise FinalDeliveryError("given up: no report of storage commitment, however often it was asked")
        if step.step is Step.SEND:
            deliverer.deliver(_only(load.shipment, step.instances), turn)
        if step.step in (Step.SEND, Step.ASK):
            ask = CommitmentAsk(transaction_uid=self._new_uid(), instances=step.instances)
            with self._database.write() as connection:
                commitments.add_commitment(connection, job.key, ask, self._clock())
            if asker.ask_commitment(ask, self.report_commitment) is Answer.NOT_OFFERED:
                return self._without_commitment(load)
            with self._database.write() as connection:
                commitments.accept_commitment(connection, ask.transaction_uid, self._clock())
            step = self._next_step(load, wanted)
        if step.step is Step.WAIT:
            self._wait(load, wanted, step)
            return False
        if step.step is not Step.DONE:
            raise self._not_committed(job, step)
        note = f"{len(wanted)} instances stored, and committed by the destination"
        self._finish(load, note, load.shipment.instances)
        return True

    def _not_committed(self, job: Job, step: NextStep) -> DeliveryError:
        with self._database.read() as connection:
            asked = commitments.commitments_of(connection, job.key)
        reasons = sorted({reason for one in asked for _, reason in one.failed})
        told = ", ".join(f"{reason:04X}" for reason in reasons)
        message = f"{len(step.instances)} instances are not committed by the destination: {told}"
        if step.step is Step.GIVE_UP:
            return FinalDeliveryError(message)
        return RetryableDeliveryError(message)

    def _without_commitment(self, load: _Load) -> bool:
        with self._database.write() as connection:
            commitments.forget_commitments(connection, [load.job.key])
        if self.policy(load.destination).commitment.mode is Commitment.REQUIRED:
            raise FinalDeliveryError("storage commitment is required, and the destination does not offer it")
        note = f"{len(load.shipment.instances)} instances stored; storage commitment is not offered"
        self._finish(load, note, load.shipment.instances)
        return True

    def _next_step(
        self, load: _Load, wanted: Sequence[SopReference], asked: Sequence[Asked] | None = None
    ) -> NextStep:
        policy = self.policy(load.destination).commitment
        if asked is None:
            with self._database.read() as connection:
                asked = commitments.commitments_of(connection, load.job.key)
        return next_step(wanted, asked, now=self._clock(), timeout=policy.timeout, rounds=policy.rounds)

    def _wait(self, load: _Load, wanted: Sequence[SopReference], step: NextStep) -> None:
        """Put a job back until its report is late; one that came meanwhile makes it due now."""
        now = self._clock()
        with self._database.write() as connection:
            deliveries.clear_health(connection, load.destination)
            jobs.put_back_job(connection, load.job, due_at=step.until or now, note=_WAITS)
            asked = commitments.commitments_of(connection, load.job.key)
            if self._next_step(load, wanted, asked).step is not Step.WAIT:
                deliveries.hasten_job(connection, load.job.key, now)

    def _load(self, job: Job, destination: str) -> _Load:
        with self._database.read() as connection:
            record = workitems.record_by_uid(connection, job.workitem_uid)
            if record is None:
                raise StoreError("workitem of a delivery is gone")
            workitem, origin = record.workitem, record.origin
            failed = workitem.state is ProcedureStepState.CANCELED  # what it left behind is no result
            outputs = () if failed else output_sop_instance_uids(workitem.attributes)
            found = studies.find_instances(connection, sop_instance_uids=outputs) if outputs else ()
            instances = ship_order(found)
            order = orders.order_by_key(connection, origin.order_key) if origin.order_key else None
            patient = identities.patient_of(connection, instances[-1].attributes) if instances else None
            outdated = superseding.superseded_of(
                connection, dicom_json.text(workitem.attributes, "StudyInstanceUID")
            )
            chosen = Chosen(instances=instances)
            program = self._filters.get(destination)
            if program is not None:
                study_uid = dicom_json.text(workitem.attributes, "StudyInstanceUID")
                asks = program.asks_study and bool(study_uid)
                chosen = program.chosen(
                    instances,
                    app=record.dispatch.app,
                    rule=origin.rule,
                    study=studies.whole_study(connection, study_uid) if asks else None,
                    order=order,
                    acquisition=StoredAcquisition(connection, study_uid, self._object_path),
                )
        shipment = Shipment(
            destination=destination,
            workitem_uid=workitem.uid,
            workitem=workitem.attributes,
            instances=chosen.instances,
            paths=tuple(self._object_path(instance.path) for instance in chosen.instances),
            order=order,
            patient=patient,
            supersedes=tuple(sorted(uid for uid, mark in outdated.items() if mark.by == workitem.uid)),
            is_superseded=workitem.uid in outdated,
        )
        return _Load(job=job, destination=destination, shipment=shipment, chosen=chosen)

    def _finish(self, load: _Load, summary: str, sent: Sequence[Instance], *, reached: bool = False) -> None:
        """Mark a job done and record its event, in one transaction."""
        now = self._clock()
        told = f"{summary}; {load.chosen.why}" if sent and load.chosen.why else summary
        with self._database.write() as connection:
            jobs.finish_job(connection, load.job, summary=told, now=now)
            workitem = workitems.workitem_by_uid(connection, load.job.workitem_uid)
            if sent or reached:
                deliveries.clear_health(connection, load.destination)
            else:
                deliveries.end_probes(connection, load.destination)
            if sent and workitem is not None:
                self._consequences.exported(connection, workitem, load.destination, now, sent)

    def _hold(self, job: Job, destination: str, error: FinalDeliveryError) -> None:
        with self._database.write() as connection:
            held = jobs.hold_job(connection, job, error=str(error))
            if isinstance(error, _NothingLeftError):
                deliveries.end_probes(connection, destination)
            else:
                deliveries.clear_health(connection, destination)
            if held:
                self._tell_given_up(connection, job, destination)

    def _try_later(self, job: Job, destination: str, error: Exception) -> datetime | None:
        """Put a job back, or give it up where its time is over; when it is due again."""
        now = self._clock()
        due = self.policy(destination).retry.next_due(job.attempts + 1, now, key=job.key)
        if isinstance(error, RetryableDeliveryError) and error.retry_after is not None:
            due = max(due, now + error.retry_after)
        over = self._is_over(job, destination, due)
        with self._database.write() as connection:
            if over:
                if jobs.hold_job(connection, job, error=f"given up: {error}"):
                    self._tell_given_up(connection, job, destination)
            else:
                jobs.postpone_job(connection, job, error=str(error), due_at=due)
            self._note_failure(connection, job, destination, error, now)
        return None if over else due

    def _is_over(self, job: Job, destination: str, at: datetime) -> bool:
        """Whether the time that a job is tried for is over at `at`; a person's retry begins it anew."""
        give_up = self.policy(destination).give_up
        if give_up is None or at <= job.created_at + give_up:
            return False
        with self._database.read() as connection:
            decided = deliveries.decisions_of(connection, [job.key]).get(job.key, [])
        return all(one.decision != RETRY or at > one.decided_at + give_up for one in decided)

    def _tell_given_up(self, connection: Connection, job: Job, destination: str) -> None:
        workitem = workitems.workitem_by_uid(connection, job.workitem_uid)
        if workitem is not None:
            self._consequences.given_up(connection, workitem, destination, self._clock())

    def _note_failure(
        self, connection: Connection, job: Job, destination: str, error: Exception, now: datetime
    ) -> None:
        if not isinstance(error, RetryableDeliveryError):
            deliveries.end_probes(connection, destination)  # ours: it tells nothing of the destination
            return
        if not error.unreachable:
            deliveries.clear_health(connection, destination)
            return
        health = deliveries.health_of(connection, destination, lock=True) or Health()
        breaker = self.policy(destination).breaker
        after = breaker.failed(health, now, reason=str(error), key=f"{destination}:{job.key}")
        deliveries.set_health(connection, destination, after)
        if after.openings > health.openings:
            facts = {"action": "delivery.breaker_opened", "destination": destination}
            _LOG.warning("destination is left alone for a while", extra=facts)


def _failed(shipment: Shipment) -> bool:
    """Whether it is of a run that brought no result."""
    state = dicom_json.text(shipment.workitem, "ProcedureStepState")
    return state == ProcedureStepState.CANCELED.value


def _references(instances: Sequence[Instance]) -> tuple[SopReference, ...]:
    return tuple((instance.sop_class_uid, instance.sop_instance_uid) for instance in instances)


def _only(shipment: Shipment, wanted: Sequence[SopReference]) -> Shipment:
    """A shipment of some of its instances."""
    uids = {uid for _, uid in wanted}
    kept = [
        (instance, path)
        for instance, path in zip(shipment.instances, shipment.paths, strict=True)
        if instance.sop_instance_uid in uids
    ]
    return replace(
        shipment,
        instances=tuple(instance for instance, _ in kept),
        paths=tuple(path for _, path in kept),
    )
