# SPDX-License-Identifier: Apache-2.0
"""What a webhook is told, and how it is signed. Pure: no sockets, no files, no clock.

Signing follows Standard Webhooks 1.0.0, so that receivers find libraries for it in most languages. Nothing
tells who the patient is unless the site wants it; free text of others is never told.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from profiles.dicom_json import DicomJson, items, text
from profiles.sole.events import EventType, OperationalEvent, Outcome
from task_manager.ports import Shipment

Json = dict[str, Any]

SCHEMA = "airway-webhook/1"
LEAST_SECRET_BYTES = 24
_PREFIX = "whsec_"


class WebhookEvent(StrEnum):
    """What can be told; `RESULT_AVAILABLE` is told to every webhook a result is for."""

    RESULT_AVAILABLE = "result.available"
    STUDY_COMPLETED = "study.completed"
    STUDY_NOT_RUN = "study.not_run"
    WORKITEM_SCHEDULED = "workitem.scheduled"
    WORKITEM_IN_PROGRESS = "workitem.in_progress"
    WORKITEM_COMPLETED = "workitem.completed"
    WORKITEM_CANCELED = "workitem.canceled"
    WORKITEM_GIVEN_UP = "workitem.given_up"
    RESULT_STORED = "result.stored"
    DELIVERY_DONE = "delivery.done"
    DELIVERY_GIVEN_UP = "delivery.given_up"
    DELIVERY_DROPPED = "delivery.dropped"


EVENT_TYPES: Mapping[WebhookEvent, tuple[EventType, ...]] = {
    WebhookEvent.STUDY_COMPLETED: (EventType.STUDY_COMPLETE,),
    WebhookEvent.STUDY_NOT_RUN: (EventType.STUDY_NOT_RUN,),
    WebhookEvent.WORKITEM_SCHEDULED: (EventType.WORKITEM_SCHEDULED,),
    WebhookEvent.WORKITEM_IN_PROGRESS: (EventType.PROCESSING_STARTED,),
    WebhookEvent.WORKITEM_COMPLETED: (EventType.PROCESSING_COMPLETED,),
    WebhookEvent.WORKITEM_CANCELED: (EventType.PROCESSING_COMPLETED, EventType.WORKITEM_CANCELED),
    WebhookEvent.WORKITEM_GIVEN_UP: (EventType.PROCESSING_COMPLETED,),
    WebhookEvent.RESULT_STORED: (EventType.RESULTS_STORED,),
    WebhookEvent.DELIVERY_DONE: (EventType.EXPORTED,),
    WebhookEvent.DELIVERY_GIVEN_UP: (EventType.DELIVERY_GIVEN_UP,),
    WebhookEvent.DELIVERY_DROPPED: (EventType.EXPORTED,),
}
"""The operational events each is made of."""

_STATES = {
    WebhookEvent.WORKITEM_SCHEDULED: "SCHEDULED",
    WebhookEvent.WORKITEM_IN_PROGRESS: "IN PROGRESS",
    WebhookEvent.WORKITEM_COMPLETED: "COMPLETED",
    WebhookEvent.WORKITEM_CANCELED: "CANCELED",
    WebhookEvent.WORKITEM_GIVEN_UP: "CANCELED",
    WebhookEvent.RESULT_STORED: "COMPLETED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: its identity (the same however often it is sent), its event and its body."""

    id: str
    event: WebhookEvent
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where what is told of can be read: the HTTP door, without a slash at its end."""

    http: str

    def study(self, uid: str) -> str:
        """WADO-RS address of a study."""
        return f"{self.http}/dicom-web/studies/{uid}"

    def explanation(self, uid: str) -> str:
        """What happened to a study and why."""
        return f"{self.http}/api/studies/{uid}/explanation"

    def workitem(self, uid: str) -> str:
        """UPS-RS address of a workitem."""
        return f"{self.http}/dicom-web/workitems/{uid}"


def told_event(event: OperationalEvent) -> WebhookEvent | None:
    """What an operational event is to a webhook; None if it is nothing to it."""
    succeeded = event.outcome is Outcome.SUCCESS
    if event.type is EventType.PROCESSING_COMPLETED and event.outcome is Outcome.MAJOR_FAILURE:
        return WebhookEvent.WORKITEM_GIVEN_UP  # tried often enough: it waits for a person
    if event.type is EventType.PROCESSING_COMPLETED:
        return WebhookEvent.WORKITEM_COMPLETED if succeeded else WebhookEvent.WORKITEM_CANCELED
    if event.type is EventType.EXPORTED:
        return WebhookEvent.DELIVERY_DONE if succeeded else WebhookEvent.DELIVERY_DROPPED
    return next((name for name, types in EVENT_TYPES.items() if event.type in types), None)


def event_message(
    event: OperationalEvent, name: WebhookEvent, *, destination: str, addresses: Addresses, patient: bool
) -> Message:
    """The message about an operational event.

    Parameters
    ----------
    patient
        Whether the patient's identifier is told; an operational event holds no name.
    """
    content: Json = {"occurred_at": _instant(event.occurred_at)}
    if event.outcome is not Outcome.SUCCESS:
        content["outcome"] = "failure"
    content |= _study(event.study_instance_uid, event.accession_number, addresses)
    if event.workitem_uid:
        workitem = {"uid": event.workitem_uid, "url": addresses.workitem(event.workitem_uid)}
        if state := _STATES.get(name):
            workitem["state"] = state
        content["workitem"] = workitem
    if event.destination:
        content["destination"] = event.destination
    if event.instances:
        content["results"] = [
            {"sop_class_uid": sop_class, "sop_instance_uid": uid} for sop_class, uid in event.instances
        ]
    if patient and event.patient_id:
        content["patient"] = {"id": event.patient_id, "issuer": event.issuer_of_patient_id}
    return _message(name, content, key=f"{destination}:{name.value}:{event.key}")


def result_message(shipment: Shipment, *, addresses: Addresses, patient: bool) -> Message:
    """The message that the result of a workitem is there.

    Parameters
    ----------
    patient
        Whether it is told who the patient is.
    """
    workitem = shipment.workitem
    study_uid = text(workitem, "StudyInstanceUID") or next(
        (instance.study_instance_uid for instance in shipment.instances), ""
    )
    requests = items(workitem, "ReferencedRequestSequence")
    content = _study(study_uid, text(requests[0], "AccessionNumber") if requests else "", addresses)
    content["workitem"] = {
        "uid": shipment.workitem_uid,
        "url": addresses.workitem(shipment.workitem_uid),
        "state": text(workitem, "ProcedureStepState"),
        "label": text(workitem, "ProcedureStepLabel"),
        "code": _code(workitem),
    }
    content["results"] = [
        {
            "sop_class_uid": one.sop_class_uid,
            "sop_instance_uid": one.sop_instance_uid,
            "series_instance_uid": one.series_instance_uid,
            "study_instance_uid": one.study_instance_uid,
            "url": f"{addresses.study(one.study_instance_uid)}/series/{one.series_instance_uid}"
            f"/instances/{one.sop_instance_uid}",
        }
        for one in shipment.instances
    ]
    if patient:
        content["patient"] = _patient(shipment)
    uids = "\x1f".join(one.sop_instance_uid for one in shipment.instances)
    key = f"{shipment.destination}:{shipment.workitem_uid}:{uids}"
    return _message(WebhookEvent.RESULT_AVAILABLE, content, key=key)


def read_secrets(content: str) -> tuple[bytes, ...]:
    """The keys of a secret, one a line: ``whsec_`` and base64, or text taken as it is.

    Raises
    ------
    ValueError
        If there is none, or one is too short or no base64.
    """
    secrets = []
    for line in (line.strip() for line in content.splitlines()):
        if not line:
            continue
        if line.startswith(_PREFIX):
            try:
                secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
            except (binascii.Error, ValueError) as error:
                raise ValueError("holds a key that is no base64") from error
        else:
            secret = line.encode()
        if len(secret) < LEAST_SECRET_BYTES:
            raise ValueError(f"holds a key of less than {LEAST_SECRET_BYTES} bytes")
        secrets.append(secret)
    if not secrets:
        raise ValueError("holds no key")
    return tuple(secrets)


def signed_headers(message: Message, secrets: Sequence[bytes], sent_at: datetime) -> dict[str, str]:
    """The headers of one sending: identity, time, and a signature with each key over both and the body.

    References
    ----------
    Standard Webhooks 1.0.0, "Webhook metadata" and "Signature scheme".
    """
    timestamp = str(int(sent_at.timestamp()))
    signed = b".".join([message.id.encode(), timestamp.encode(), message.body])
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    signatures = [f"v1,{base64.b64encode(digest).decode('ascii')}" for digest in digests]
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": message.id,
        "webhook-id": message.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _message(event: WebhookEvent, content: Json, *, key: str) -> Message:
    identity = f"msg_{hashlib.sha256(key.encode()).hexdigest()[:40]}"
    whole = {"schema": SCHEMA, "id": identity, "event": event.value, **content}
    return Message(id=identity, event=event, body=orjson.dumps(whole))


def _study(uid: str, accession_number: str, addresses: Addresses) -> Json:
    if not uid:
        return {}
    study = {"study_instance_uid": uid, "accession_number": accession_number, "url": addresses.study(uid)}
    return {"study": {**study, "explanation_url": addresses.explanation(uid)}}


def _code(workitem: DicomJson) -> Json | None:
    for code in items(workitem, "ScheduledWorkitemCodeSequence"):
        return {
            "value": text(code, "CodeValue"),
            "scheme": text(code, "CodingSchemeDesignator"),
            "meaning": text(code, "CodeMeaning"),
        }
    return None


def _patient(shipment: Shipment) -> Json:
    """As known by now, else as the workitem has it."""
    known, workitem = shipment.patient, shipment.workitem
    return {
        "id": known.patient_id if known else text(workitem, "PatientID"),
        "issuer": (known.issuer if known else "") or text(workitem, "IssuerOfPatientID"),
        "name": (known.name if known else "") or text(workitem, "PatientName"),
        "birth_date": (known.birth_date if known else "") or text(workitem, "PatientBirthDate"),
        "sex": (known.sex if known else "") or text(workitem, "PatientSex"),
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
