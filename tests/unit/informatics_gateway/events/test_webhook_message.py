# SPDX-License-Identifier: Apache-2.0
"""What webhooks are told and how it is signed, with the worked example of Standard Webhooks."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from informatics_gateway.events.webhook_message import (
    SCHEMA,
    Addresses,
    Message,
    WebhookEvent,
    event_message,
    read_secrets,
    result_message,
    signed_headers,
    told_event,
)
from profiles.patient import PatientIdentity
from profiles.sole.events import EventType, OperationalEvent, Outcome
from tests.shipments import IMAGE, SHIPMENT

HERE = Addresses(http="https://airway.example")
AT = datetime(2026, 5, 4, 9, 15, 27, 123000, tzinfo=UTC)
EVENT = OperationalEvent(
    key="exported:2.25.77:PACS",
    type=EventType.EXPORTED,
    occurred_at=AT,
    patient_id="PAT-0001",
    issuer_of_patient_id="HOSP",
    study_instance_uid="2.25.98",
    accession_number="ACC-77",
    workitem_uid="2.25.77",
    destination="PACS",
    outcome_description="Doe^Jane is not known",
    instances=(("1.2.840.10008.5.1.4.1.1.88.34", "2.25.100"),),
)


def body(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(message.body)
    return found


def told(event: OperationalEvent = EVENT, *, patient: bool = False) -> dict[str, Any]:
    name = told_event(event)
    assert name is not None
    return body(event_message(event, name, destination="HOOK", addresses=HERE, patient=patient))


def test_a_result() -> None:
    message = result_message(SHIPMENT, addresses=HERE, patient=False)
    assert body(message) == {
        "schema": SCHEMA,
        "id": message.id,
        "event": "result.available",
        "study": {
            "study_instance_uid": "2.25.98",
            "accession_number": "ACC-77",
            "url": "https://airway.example/dicom-web/studies/2.25.98",
            "explanation_url": "https://airway.example/api/studies/2.25.98/explanation",
        },
        "workitem": {
            "uid": "2.25.77",
            "url": "https://airway.example/dicom-web/workitems/2.25.77",
            "state": "COMPLETED",
            "label": "Lung CT",
            "code": {"value": "AW1001", "scheme": "99AIRWAY", "meaning": "Lung CT quantification"},
        },
        "results": [
            {
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
                "sop_instance_uid": "2.25.100",
                "series_instance_uid": "2.25.99",
                "study_instance_uid": "2.25.98",
                "url": "https://airway.example/dicom-web/studies/2.25.98/series/2.25.99/instances/2.25.100",
            }
        ],
    }


def test_an_event() -> None:
    assert told() == {
        "schema": SCHEMA,
        "id": told()["id"],
        "event": "delivery.done",
        "occurred_at": "2026-05-04T09:15:27.123Z",
        "study": {
            "study_instance_uid": "2.25.98",
            "accession_number": "ACC-77",
            "url": "https://airway.example/dicom-web/studies/2.25.98",
            "explanation_url": "https://airway.example/api/studies/2.25.98/explanation",
        },
        "workitem": {"uid": "2.25.77", "url": "https://airway.example/dicom-web/workitems/2.25.77"},
        "destination": "PACS",
        "results": [{"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34", "sop_instance_uid": "2.25.100"}],
    }


@pytest.mark.parametrize(
    ("kind", "outcome", "name", "state"),
    [
        (EventType.STUDY_COMPLETE, Outcome.SUCCESS, "study.completed", None),
        (EventType.STUDY_NOT_RUN, Outcome.SUCCESS, "study.not_run", None),
        (EventType.WORKITEM_SCHEDULED, Outcome.SUCCESS, "workitem.scheduled", "SCHEDULED"),
        (EventType.PROCESSING_STARTED, Outcome.SUCCESS, "workitem.in_progress", "IN PROGRESS"),
        (EventType.PROCESSING_COMPLETED, Outcome.SUCCESS, "workitem.completed", "COMPLETED"),
        (EventType.PROCESSING_COMPLETED, Outcome.SERIOUS_FAILURE, "workitem.canceled", "CANCELED"),
        (EventType.PROCESSING_COMPLETED, Outcome.MAJOR_FAILURE, "workitem.given_up", "CANCELED"),
        (EventType.WORKITEM_CANCELED, Outcome.SUCCESS, "workitem.canceled", "CANCELED"),
        (EventType.RESULTS_STORED, Outcome.SUCCESS, "result.stored", "COMPLETED"),
        (EventType.EXPORTED, Outcome.SUCCESS, "delivery.done", None),
        (EventType.EXPORTED, Outcome.SERIOUS_FAILURE, "delivery.dropped", None),
        (EventType.DELIVERY_GIVEN_UP, Outcome.SERIOUS_FAILURE, "delivery.given_up", None),
    ],
)
def test_names_of_events(kind: EventType, outcome: Outcome, name: str, state: str | None) -> None:
    content = told(replace(EVENT, type=kind, outcome=outcome))
    assert content["event"] == name
    assert content["workitem"].get("state") == state
    assert content.get("outcome") == (None if outcome is Outcome.SUCCESS else "failure")


@pytest.mark.parametrize(
    "kind", [EventType.ORDER_RECEIVED, EventType.PATIENT_MERGED, EventType.INSTANCES_REMOVED]
)
def test_what_is_nothing_to_a_webhook(kind: EventType) -> None:
    assert told_event(replace(EVENT, type=kind)) is None


def test_every_name_is_told_of_something() -> None:
    found = {told_event(replace(EVENT, type=kind, outcome=one)) for kind in EventType for one in Outcome}
    assert found - {None} == set(WebhookEvent) - {WebhookEvent.RESULT_AVAILABLE}


def test_patients_are_told_only_where_that_is_wanted() -> None:
    hidden = (result_message(SHIPMENT, addresses=HERE, patient=False).body.decode(), str(told()))
    assert not any(one in text for text in hidden for one in ("PAT-0001", "Doe", "HOSP"))
    known = PatientIdentity(patient_id="P9", issuer="HOSP", name="Roe^Jane")
    shown = result_message(replace(SHIPMENT, patient=known), addresses=HERE, patient=True)
    assert body(shown)["patient"] == {
        "id": "P9",
        "issuer": "HOSP",
        "name": "Roe^Jane",
        "birth_date": "",
        "sex": "",
    }
    own = body(result_message(SHIPMENT, addresses=HERE, patient=True))["patient"]
    assert (own["id"], own["name"]) == ("PAT-0001", "Doe^Jane")
    assert told(patient=True)["patient"] == {"id": "PAT-0001", "issuer": "HOSP"}


def test_the_same_is_told_under_the_same_id() -> None:
    first = result_message(SHIPMENT, addresses=HERE, patient=False)
    assert result_message(SHIPMENT, addresses=HERE, patient=False) == first
    more = replace(SHIPMENT, instances=(*SHIPMENT.instances, IMAGE))
    ids = {
        first.id,
        result_message(replace(SHIPMENT, destination="OTHER"), addresses=HERE, patient=False).id,
        result_message(replace(SHIPMENT, workitem_uid="2.25.78"), addresses=HERE, patient=False).id,
        result_message(more, addresses=HERE, patient=False).id,
        told()["id"],
        told(replace(EVENT, key="exported:2.25.77:EMR"))["id"],
    }
    assert len(ids) == 6


def test_the_example_of_standard_webhooks() -> None:
    """The values that the libraries of Standard Webhooks test themselves with."""
    secrets = read_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = Message(
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        event=WebhookEvent.RESULT_AVAILABLE,
        body=b'{"test": 2432232314}',
    )
    headers = signed_headers(message, secrets, datetime.fromtimestamp(1614265330, UTC))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-id"] == headers["Idempotency-Key"] == message.id


def test_two_keys_sign_twice() -> None:
    message = result_message(SHIPMENT, addresses=HERE, patient=False)
    first, second = "x" * 24, "whsec_" + base64.b64encode(b"y" * 32).decode()
    both = signed_headers(message, read_secrets(f"{first}\n\n  {second}\n"), AT)["webhook-signature"]
    single = [signed_headers(message, read_secrets(one), AT)["webhook-signature"] for one in (first, second)]
    assert both.split(" ") == single
    assert single[0] != single[1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no key"),
        ("\n \n", "no key"),
        ("short", "less than 24"),
        ("whsec_" + base64.b64encode(b"short").decode(), "less than 24"),
        ("whsec_!!!", "no base64"),
        (f"{'x' * 24}\nshort", "less than 24"),
    ],
)
def test_what_is_no_secret(content: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_secrets(content)
