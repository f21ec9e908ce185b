# SPDX-License-Identifier: Apache-2.0
"""A ServiceRequest and a Task as clients send them."""

from __future__ import annotations

from typing import Any

ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
PLAC = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]}


def service_request(**changes: Any) -> dict[str, Any]:
    """An order for a CT chest of patient P1 with accession number A1."""
    resource: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "meta": {"source": "urn:ehr:north"},
        "contained": [
            {
                "resourceType": "Patient",
                "id": "p",
                "identifier": [{"system": "urn:oid:1.2.3.4", "value": "P1"}],
                "name": [{"use": "official", "family": "Doe", "given": ["Jane", "Q"]}],
                "birthDate": "1970-02-03",
                "gender": "female",
            }
        ],
        "identifier": [
            {"type": ACSN, "system": "urn:site:accession", "value": "A1"},
            {"type": PLAC, "system": "urn:site:placer", "value": "PL9"},
        ],
        "status": "active",
        "intent": "order",
        "priority": "stat",
        "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}]},
        "subject": {"reference": "#p"},
        "requester": {"display": "Ward 7"},
        "reasonCode": [{"text": "cough"}],
    }
    return {key: value for key, value in {**resource, **changes}.items() if value is not None}


def task(**changes: Any) -> dict[str, Any]:
    """A task to analyse the study with accession number A1."""
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "identifier": [{"system": "urn:site:task", "value": "T1"}],
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}]},
        "input": [{"type": {"text": "accession-number"}, "valueString": "A1"}],
    }
    return {key: value for key, value in {**resource, **changes}.items() if value is not None}
