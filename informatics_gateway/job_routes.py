# SPDX-License-Identifier: Apache-2.0
"""REST over jobs and destinations: dead letters listed, retried, dropped, and how each destination fares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, HTTPException, Query, Request
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from task_manager.actor import Actor
from task_manager.delivery.breaker import Circuit, Health
from task_manager.delivery.commitment import Asked
from task_manager.delivery.dead_letters import JobsPage
from task_manager.outbox import JobState, delivery_lane
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.service import Service
from task_manager.store.deliveries import Decision, ListedJob
from task_manager.story import DeliveryFate

_MOST_AT_ONCE = 1000
_LONGEST_REASON = 500


def router(service: Service) -> APIRouter:
    """Routes of ``/api/jobs`` and ``/api/destinations``."""
    routes = APIRouter()

    @routes.get("/api/jobs")
    def jobs(
        state: Annotated[list[JobState] | None, Query()] = None,
        lane: str = "",
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MOST_AT_ONCE)] = 100,
    ) -> dict[str, Any]:
        """Jobs, oldest first: dead letters (HELD) unless states are named; `after` is a page's `next`."""
        states = tuple(state or (JobState.HELD,))
        return page_json(service.dead_letters.page(states=states, lane=lane, after_id=after, limit=limit))

    @routes.post("/api/jobs/{key:path}/retry")
    def retry(key: str, request: Request) -> dict[str, str]:
        """Let a job that was held for a person, or waits for its next try, be tried now."""
        return {"retry": _done(service.dead_letters.retry(key, actor=_person(request)))}

    @routes.post("/api/jobs/{key:path}/drop")
    def drop(
        key: str,
        request: Request,
        reason: Annotated[str, Body(embed=True, min_length=1, max_length=_LONGEST_REASON)],
    ) -> dict[str, str]:
        """End a delivery or an event that is not to be done any more; the reason is kept."""
        return {"dropped": _done(service.dead_letters.drop(key, reason=reason, actor=_person(request)))}

    @routes.get("/api/destinations")
    def destinations() -> dict[str, Any]:
        """How each destination fares, and how many jobs wait for it."""
        _, by_lane = service.counts()
        return {
            "destinations": [
                {
                    "name": name,
                    **health_json(health, circuit),
                    "jobs": {
                        state.value: by_lane.get((delivery_lane(name), state.value), 0) for state in JobState
                    },
                }
                for name, (health, circuit) in service.deliveries.health().items()
            ]
        }

    return routes


def page_json(page: JobsPage) -> dict[str, Any]:
    """A page of jobs as the API tells it; `next` is missing on the last."""
    told: dict[str, Any] = {"jobs": [_job_json(job, page.decisions.get(job.key, ())) for job in page.jobs]}
    if page.more:
        told["next"] = page.jobs[-1].id
    return told


def health_json(health: Health, circuit: Circuit) -> dict[str, Any]:
    """How a destination fares as the API tells it."""
    return {
        "circuit": circuit.value,
        "failures": health.failures,
        "open_until": health.open_until.isoformat() if health.open_until else None,
        "reason": health.reason,
    }


def fate_json(fate: DeliveryFate) -> dict[str, Any]:
    """What became of a delivery beside its job, as the API tells it."""
    return {
        "commitments": [_commitment_json(asked) for asked in fate.commitments],
        "decisions": [_decision_json(decision) for decision in fate.decisions],
        "destination_open_until": fate.health.open_until.isoformat()
        if fate.health and fate.health.open_until
        else None,
    }


def destination_metrics(service: Service) -> list[Metric]:
    """Whether each destination is tried, and how often in a row it was not reached."""
    circuits = GaugeMetricFamily(
        "airway_destination_circuit",
        "State of the circuit breaker: 0 closed, 1 half-open, 2 open",
        labels=["destination"],
    )
    failures = GaugeMetricFamily(
        "airway_destination_failures", "Failures in a row to reach a destination", labels=["destination"]
    )
    levels = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}
    for name, (health, now) in service.deliveries.health().items():
        circuits.add_metric([name], levels[now])
        failures.add_metric([name], health.failures)
    return [circuits, failures]


def _job_json(job: ListedJob, decisions: Sequence[Decision]) -> dict[str, Any]:
    key = quote(job.key, safe="")
    return {
        "key": job.key,
        "lane": job.lane,
        "kind": job.kind.value,
        "state": job.state.value,
        "workitem": job.workitem_uid,
        "study": job.study_instance_uid,
        "attempts": job.attempts,
        "since": job.created_at.isoformat(),
        "due": job.due_at.isoformat(),
        "why": job.why,
        "decisions": [_decision_json(one) for one in decisions],
        "retry": f"/api/jobs/{key}/retry",
        "drop": f"/api/jobs/{key}/drop",
    }


def _decision_json(decision: Decision) -> dict[str, str]:
    return {
        "decision": decision.decision,
        "by": decision.decided_by,
        "at": decision.decided_at.isoformat(),
        "reason": decision.reason,
    }


def _commitment_json(asked: Asked) -> dict[str, Any]:
    return {
        "transaction_uid": asked.ask.transaction_uid,
        "instances": len(asked.ask.instances),
        "asked_at": asked.asked_at.isoformat(),
        "answered_at": asked.answered_at.isoformat() if asked.answered_at else None,
        "failed": [{"sop_instance_uid": uid, "reason": f"{reason:04X}"} for uid, reason in asked.failed],
    }


def _person(request: Request) -> Actor:
    return Actor(door="person", address=request.client.host if request.client else "")


def _done(outcome: Accepted | Refused) -> str:
    if isinstance(outcome, Accepted):
        return outcome.uid
    status = 404 if outcome.code is RefusalCode.NO_SUCH_INSTANCE else 409
    raise HTTPException(status, "; ".join(f"{fault.path} {fault.message}" for fault in outcome.faults))
