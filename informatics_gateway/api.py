# SPDX-License-Identifier: Apache-2.0
"""Airway's own REST: why a study did or did not run, health, and metrics for operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from informatics_gateway import job_routes
from informatics_gateway.disk_metrics import DiskMetrics
from informatics_gateway.story_words import explanations_json
from informatics_gateway.study_words import completeness_json, superseded_json
from profiles import dicom_json
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.attention import ForAPerson
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.patient_story import ToldStory
from task_manager.service import Service
from task_manager.story import StudyStory, WorkitemStatus, WorkitemStory, workitem_status


def router(
    service: Service, is_ready: Callable[[], bool], disk: Callable[[], Mapping[str, Any]] = dict
) -> APIRouter:
    """Routes of ``/api``, ``/health`` and ``/metrics``.

    Parameters
    ----------
    disk
        What the disk is like now; empty where nobody looks after it.
    """
    routes = APIRouter()
    registry = CollectorRegistry()
    registry.register(_Counts(service))
    registry.register(DiskMetrics(disk))
    routes.include_router(job_routes.router(service))

    @routes.get("/api/studies/{study_instance_uid}")
    def study(study_instance_uid: str) -> dict[str, Any]:
        """The whole story of one study: order, evidence, rules, workitems, deliveries, events."""
        story = service.story(study_instance_uid) if is_uid(study_instance_uid) else None
        if story is None:
            raise HTTPException(404, "no such study")
        return story_json(story)

    @routes.get("/api/workitems/{uid}")
    def workitem(uid: str) -> dict[str, Any]:
        """Where one workitem stands: who has it, until when, what it replaces and what replaces it."""
        status = workitem_status(service.database, uid) if is_uid(uid) else None
        if status is None:
            raise HTTPException(404, "no such workitem")
        return status_json(status)

    @routes.get("/api/attention")
    def attention() -> dict[str, Any]:
        """What waits for a person: workitems given up, jobs held, and lanes that nobody works on."""
        return attention_json(service.attention.everything())

    @routes.post("/api/workitems/{uid}/retry")
    def try_again(uid: str, request: Request) -> dict[str, str]:
        """Begin the tries of a workitem that waits for a person anew."""
        return {"retried": uid, "replaced_by": _done(service.attention.retry(uid, actor=_person(request)))}

    @routes.post("/api/workitems/{uid}/dismiss")
    def dismiss(uid: str, request: Request) -> dict[str, str]:
        """Leave a workitem that waits for a person as it is."""
        return {"dismissed": _done(service.attention.dismiss(uid, actor=_person(request)))}

    @routes.get("/health/live")
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/health/ready")
    def ready(response: Response) -> dict[str, str]:
        """All doors are open and the store answers."""
        try:
            service.check()
        except StoreError:
            response.status_code = 503
            return {"status": "the store does not answer"}
        if not is_ready():
            response.status_code = 503
            return {"status": "starting"}
        state = disk().get("state")
        return {"status": "ready", **({"disk": state} if state else {})}

    @routes.get("/api/disk")
    def look_at_disk() -> dict[str, Any]:
        """How full the disk is, what is taken for that, and what is wrong with files."""
        return dict(disk())

    @routes.get("/metrics")
    def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _person(request: Request) -> Actor:
    return Actor(door="person", address=request.client.host if request.client else "")


def _done(outcome: Accepted | Refused) -> str:
    """UID of what a person's decision made or left."""
    if isinstance(outcome, Accepted):
        return outcome.uid
    status = 404 if outcome.code is RefusalCode.NO_SUCH_INSTANCE else 409
    raise HTTPException(status, "; ".join(f"{fault.path} {fault.message}" for fault in outcome.faults))


class _Counts:
    """Reads the gauges from the store when asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> list[Metric]:
        """Workitems by state, jobs by lane and state, what waits for a person, leases lost."""
        by_state, by_lane = self._service.counts()
        workitems = GaugeMetricFamily("airway_workitems", "Workitems by state", labels=["state"])
        for state, number in by_state.items():
            workitems.add_metric([state], number)
        jobs = GaugeMetricFamily("airway_jobs", "Outbox jobs by lane and state", labels=["lane", "state"])
        for (lane, state), number in by_lane.items():
            jobs.add_metric([lane, state], number)
        waiting = GaugeMetricFamily(
            "airway_workitems_attention",
            "Workitems that wait for a person",
            value=self._service.attention.count(),
        )
        lost = CounterMetricFamily(
            "airway_leases_lost",
            "Workitems this process took back from performers that were lost",
            value=self._service.sweeps.leases_lost,
        )
        return [workitems, jobs, waiting, lost, *job_routes.destination_metrics(self._service)]


def story_json(story: StudyStory) -> dict[str, Any]:
    """The story as plain JSON values; times in ISO 8601."""
    study = story.study
    return {
        "study_instance_uid": study.study_instance_uid,
        "state": study.state.value,
        "revision": study.revision,
        "evidence": study.evidence.value if study.evidence else None,
        "accession_number": dicom_json.text(study.attributes, "AccessionNumber"),
        "series": [
            {
                "series_instance_uid": series.series_instance_uid,
                "modality": dicom_json.text(series.attributes, "Modality"),
                "instances": series.number_of_instances,
            }
            for series in study.series
        ],
        "first_received_at": _iso(study.first_received_at),
        "last_received_at": _iso(study.last_received_at),
        "deadline_at": _iso(study.deadline_at),
        "completed_at": _iso(study.completed_at),
        "order": None
        if story.order is None
        else {
            "order_number": story.order.order_number,
            "accession_number": story.order.accession_number,
            "requested_procedure": story.order.requested_procedure,
            "priority": story.order.priority,
            "status": story.order.status,
            "received_at": _iso(story.order.received_at),
        },
        "completeness": completeness_json(story.completeness),
        "told": told_json(story.told),
        "fetches": [
            {
                "key": one.key,
                "purpose": one.purpose.value,
                "state": one.state.value,
                "source": one.source,
                "why": one.error,
                "asked_by": one.asked_by,
                "asked_at": _iso(one.asked_at),
            }
            for one in story.fetches
        ],
        "requests": [
            {
                "key": one.request_key,
                "kind": one.kind.value,
                "source": one.source,
                "app": one.app,
                "priority": one.priority.value if one.priority else None,
                "status": one.status.value,
                "received_at": _iso(one.received_at),
                "changed_at": _iso(one.changed_at),
            }
            for one in story.requests
        ],
        "removed": [
            {
                "policy": one.policy,
                "at": _iso(one.removed_at),
                "instances": one.number,
                "bytes": one.size,
            }
            for one in story.removed
        ],
        "explanations": explanations_json(story),
        "workitems": [_workitem_json(workitem) for workitem in story.workitems],
        "events": [
            {
                "code": event.type.value,
                "name": event.type.name,
                "occurred_at": _iso(event.occurred_at),
                "outcome": event.outcome.value,
                "machine": event.machine,
                "destination": event.destination,
                "workitem_uid": event.workitem_uid,
            }
            for event in story.events
        ],
    }


def told_json(told: ToldStory) -> dict[str, Any]:
    """What other systems told of order and patient as plain JSON values; times in ISO 8601."""
    return {
        "orders": [
            {
                "control": change.control,
                "status": change.order_status,
                "changed": change.fields.split(",") if change.fields else [],
                "effect": change.effect,
                "sender": change.sender,
                "control_id": change.control_id,
                "at": _iso(change.changed_at),
            }
            for change in told.orders
        ],
        "identities": [
            {
                "kind": record.kind,
                "patient_id": record.patient_id,
                "issuer": record.issuer,
                "former_id": record.former_id,
                "former_issuer": record.former_issuer,
                "changed": record.fields.split(",") if record.fields else [],
                "sender": record.sender,
                "control_id": record.control_id,
                "at": _iso(record.changed_at),
            }
            for record in told.identities
        ],
        "priors": [
            {
                "report_number": prior.report_number,
                "accession_number": prior.accession_number,
                "description": prior.description,
                "status": prior.status,
                "observed_at": _iso(prior.observed_at),
                "received_at": _iso(prior.received_at),
            }
            for prior in told.priors
        ],
    }


def status_json(status: WorkitemStatus) -> dict[str, Any]:
    """Where a workitem stands as plain JSON values; times in ISO 8601."""
    return {
        "uid": status.uid,
        "label": status.label,
        "rule": status.rule,
        "app": status.app,
        "state": status.state,
        "created_at": _iso(status.created_at),
        "modified_at": _iso(status.modified_at),
        "final_at": _iso(status.final_at),
        "claimed_by": status.claimed_by,
        "claimed_at": _iso(status.claimed_at),
        "heard_at": _iso(status.heard_at),
        "lease_until": _iso(status.lease_until),
        "expires_at": _iso(status.expires_at),
        "cancel_requested_at": _iso(status.cancel_requested_at),
        "reason": status.reason,
        "progress": status.progress,
        "tries": status.tries,
        "attention": status.attention,
        "replaces": list(status.replaces),
        "replaced_by": status.replaced_by,
        "superseded": superseded_json(status.superseded),
        "parent": status.parent,
        "subtasks": [
            {
                "uid": child.child_uid,
                "role": child.role.value,
                "performer": child.performer,
                "state": child.state.value,
                "created_at": _iso(child.created_at),
            }
            for child in status.subtasks
        ],
    }


def attention_json(waiting: ForAPerson) -> dict[str, Any]:
    """What waits for a person as plain JSON values, with where to send the decision."""
    return {
        "workitems": [
            {
                "uid": one.uid,
                "since": _iso(one.since),
                "why": one.why,
                "tries": one.tries,
                "app": one.app,
                "label": one.label,
                "study_instance_uid": one.study_instance_uid,
                "retry": f"/api/workitems/{one.uid}/retry",
                "dismiss": f"/api/workitems/{one.uid}/dismiss",
            }
            for one in waiting.workitems
        ],
        "jobs": [
            {
                "key": one.key,
                "lane": one.lane,
                "workitem_uid": one.workitem_uid,
                "since": _iso(one.since),
                "attempts": one.attempts,
                "why": one.why,
                "retry": f"/api/jobs/{quote(one.key, safe='')}/retry",
            }
            for one in waiting.jobs
        ],
        "lanes": [
            {
                "lane": one.lane,
                "waiting": one.waiting,
                "held": one.held,
                "since": _iso(one.since),
                "why": one.why,
            }
            for one in waiting.lanes
        ],
    }


def _workitem_json(workitem: WorkitemStory) -> dict[str, Any]:
    return {
        **status_json(workitem.status),
        "states": [{"state": state, "by": actor, "at": _iso(at)} for state, actor, at in workitem.states],
        "outputs": [
            {
                "sop_class_uid": instance.sop_class_uid,
                "sop_instance_uid": instance.sop_instance_uid,
                "series_instance_uid": instance.series_instance_uid,
                "size": instance.size,
            }
            for instance in workitem.outputs
        ],
        "deliveries": [
            {
                "key": job.key,
                "lane": job.lane,
                "state": job.state.value,
                "attempts": job.attempts,
                "last_error": job.last_error,
                "summary": job.summary,
                "due_at": _iso(job.due_at),
                "done_at": _iso(job.done_at),
                **job_routes.fate_json(workitem.fates[job.key]),
            }
            for job in workitem.deliveries
        ],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None
