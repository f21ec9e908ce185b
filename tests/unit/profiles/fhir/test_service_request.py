# SPDX-License-Identifier: Apache-2.0
"""ServiceRequests read as orders; every fault with its FHIRPath."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.codes import Code
from profiles.fhir.reading import Issue, RequestReading
from profiles.fhir.service_request import read_service_request
from profiles.order import OrderAction, OrderControl, Priority
from profiles.request import Request
from tests.fhir_requests import service_request

READING = RequestReading(issuers={"urn:site:placer": "RIS"}, accession_systems=("urn:site:acc",))


def read(content: object) -> Request | tuple[Issue, ...]:
    return read_service_request(content, name="1", source="EHR", document="{}", reading=READING)


def faults(content: object) -> list[tuple[str, str]]:
    found = read(content)
    assert isinstance(found, tuple)
    return [(one.code, one.expression) for one in found]


def test_a_whole_order() -> None:
    request = read(service_request())
    assert isinstance(request, Request)
    asked = request.asked
    assert (asked.accession_number, asked.placer_order_number, asked.placer_issuer) == ("A1", "PL9", "RIS")
    assert (asked.patient_id, asked.issuer_of_patient_id) == ("P1", "1.2.3.4")
    assert (asked.patient_name, asked.patient_birth_date, asked.patient_sex) == (
        "Doe^Jane^Q",
        "19700203",
        "F",
    )
    assert asked.requested_procedure_code == Code("24627-2", "LN", "CT Chest")
    assert (asked.reason, asked.priority, asked.control) == ("cough", Priority.HIGH, OrderControl.NEW)
    assert request.trigger.requester == "Ward 7"
    assert request.trigger.priority is Priority.HIGH
    assert request.tokens == ("urn:site:accession|A1", "urn:site:placer|PL9")


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("active", OrderAction.PLACE),
        ("on-hold", OrderAction.HOLD),
        ("revoked", OrderAction.CANCEL),
        ("entered-in-error", OrderAction.CANCEL),
        ("completed", OrderAction.STATUS),
    ],
)
def test_what_a_status_asks_for(status: str, action: OrderAction) -> None:
    request = read(service_request(status=status))
    assert isinstance(request, Request)
    assert request.asked.action is action


def identifier(value: str, system: str = "urn:x", **more: Any) -> dict[str, Any]:
    return {"system": system, "value": value, **more}


@pytest.mark.parametrize(
    ("identifiers", "field", "value"),
    [
        ([identifier("A7", "urn:site:acc")], "accession_number", "A7"),
        ([identifier("N1")], "placer_order_number", "N1"),
        ([identifier("urn:oid:1.2.3.9", "urn:dicom:uid")], "study_instance_uid", "1.2.3.9"),
    ],
    ids=["by its system", "of no kind", "a study's UID"],
)
def test_identifiers(identifiers: list[dict[str, Any]], field: str, value: str) -> None:
    request = read(service_request(identifier=identifiers))
    assert isinstance(request, Request)
    assert getattr(request.asked, field) == value


def test_a_study_may_be_named_by_supporting_info() -> None:
    study = {"type": "ImagingStudy", "identifier": identifier("urn:oid:1.2.3.9", "urn:dicom:uid")}
    request = read(service_request(supportingInfo=[study]))
    assert isinstance(request, Request)
    assert request.asked.study_instance_uid == "1.2.3.9"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], [("structure", "")]),
        ({}, [("structure", "resourceType")]),
        (service_request(colour="red"), [("structure", "ServiceRequest.colour")]),
        (service_request(subject=None), [("required", "ServiceRequest.subject")]),
        (service_request(authoredOn="yesterday"), [("value", "ServiceRequest.authoredOn")]),
        (service_request(status="draft"), [("business-rule", "ServiceRequest.status")]),
        (service_request(intent="proposal"), [("business-rule", "ServiceRequest.intent")]),
        (service_request(doNotPerform=True), [("business-rule", "ServiceRequest.doNotPerform")]),
        (service_request(priority="soon"), [("code-invalid", "ServiceRequest.priority")]),
        (service_request(identifier=None), [("required", "ServiceRequest.identifier")]),
        (service_request(subject={"reference": "Patient/1"}), [("required", "ServiceRequest.subject")]),
        (
            service_request(identifier=[identifier("x" * 65)]),
            [("value", "ServiceRequest.identifier[0].value"), ("required", "ServiceRequest.identifier")],
        ),
        (service_request(note=[{"text": "a\u0000b"}]), [("value", "ServiceRequest.note[0].text")]),
        (service_request(note=[{"text": "a" * 20_000}]), [("too-long", "ServiceRequest.note[0].text")]),
    ],
    ids=[
        *("a list", "no type", "unknown element", "no subject", "no date", "draft", "proposal", "do not"),
        *("priority", "no identifier", "patient elsewhere", "long number", "NUL", "long text"),
    ],
)
def test_faults(content: object, expected: list[tuple[str, str]]) -> None:
    assert faults(content) == expected


def test_all_faults_are_told_at_once() -> None:
    assert len(faults(service_request(status="draft", intent="plan", identifier=None))) == 3


@pytest.mark.parametrize("kind", ["deep", "wide"])
def test_hostile_shapes_cost_little(kind: str) -> None:
    nested: Any = {}
    for _ in range(200):
        nested = {"extension": [nested]}
    content = service_request(extension=[nested] if kind == "deep" else [{"url": "x"}] * 30_000)
    assert faults(content) == [("too-costly", "ServiceRequest")]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(service_request())), _JSON)
def test_nothing_breaks_the_reader(element: str, value: Any) -> None:
    assert isinstance(read({**service_request(), element: value}), Request | tuple)
