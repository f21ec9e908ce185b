# SPDX-License-Identifier: Apache-2.0
"""Tasks read as requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.reading import Issue, RequestReading
from profiles.fhir.task import TaskRead, read_task
from profiles.order import OrderAction, Priority
from tests.fhir_requests import ACSN, task

STUDY = {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.9"}}


def read(content: object) -> TaskRead | tuple[Issue, ...]:
    return read_task(content, name="1", source="EHR", document="{}", reading=RequestReading())


def given_input(kind: str, **value: Any) -> dict[str, Any]:
    return {"type": {"coding": [{"system": "urn:x", "code": kind}]}, **value}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({}, "accession_number", "A1"),
        ({"focus": STUDY, "input": None}, "study_instance_uid", "1.2.3.9"),
        ({"basedOn": [STUDY], "input": None}, "study_instance_uid", "1.2.3.9"),
        (
            {"focus": {"identifier": {"type": ACSN, "system": "urn:x", "value": "A5"}}, "input": None},
            "accession_number",
            "A5",
        ),
        (
            {"input": [given_input("study-instance-uid", valueId="1.2.3.9")]},
            "study_instance_uid",
            "1.2.3.9",
        ),
        ({"for": {"identifier": {"system": "urn:p", "value": "P1"}}}, "patient_id", "P1"),
        ({"priority": "urgent"}, "priority", Priority.HIGH),
    ],
    ids=["input", "focus", "based on", "accession as focus", "study as input", "patient", "priority"],
)
def test_what_a_task_is_about(changes: dict[str, Any], field: str, value: object) -> None:
    found = read(task(**changes))
    assert isinstance(found, TaskRead)
    assert getattr(found.request.asked, field) == value


@pytest.mark.parametrize(
    "reference",
    ["ServiceRequest/abc", "http://airway.test/fhir/ServiceRequest/abc", "ServiceRequest/abc/_history/2"],
)
def test_the_order_it_fulfils(reference: str) -> None:
    found = read(task(focus={"reference": reference}, input=None))
    assert isinstance(found, TaskRead)
    assert found.service_request_id == "abc"


def test_the_app_that_is_wanted() -> None:
    wanted = [given_input("app", valueString="lung-ct"), given_input("colour", valueString="red")]
    found = read(task(focus=STUDY, input=wanted))
    assert isinstance(found, TaskRead)
    assert found.request.trigger.app == "lung-ct"


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("requested", OrderAction.PLACE),
        ("cancelled", OrderAction.CANCEL),
        ("on-hold", OrderAction.HOLD),
        ("completed", OrderAction.STATUS),
    ],
)
def test_what_a_status_asks_for(status: str, action: OrderAction) -> None:
    found = read(task(status=status))
    assert isinstance(found, TaskRead)
    assert found.request.asked.action is action


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "draft"}, ("business-rule", "Task.status")),
        ({"intent": "plan"}, ("business-rule", "Task.intent")),
        ({"code": {"coding": [{"code": "abort"}]}}, ("not-supported", "Task.code")),
        ({"input": None}, ("required", "Task.focus")),
        ({"priority": "soon"}, ("code-invalid", "Task.priority")),
        (
            {"input": [given_input("study-instance-uid", valueString="no uid")], "focus": STUDY},
            ("value", "Task.input[0].value"),
        ),
        ({"input": [given_input("app")], "focus": STUDY}, ("value", "Task.input[0]")),
    ],
    ids=["draft", "plan", "abort", "about nothing", "priority", "no UID", "no value"],
)
def test_faults(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    found = read(task(**changes))
    assert isinstance(found, tuple)
    assert (
        expected in [(one.code, one.expression) for one in found] or expected[1] == "Task.input[0].value[x]"
    )


@given(st.sampled_from(sorted(task())), st.none() | st.integers() | st.text(max_size=4) | st.just([{}]))
def test_nothing_breaks_the_reader(element: str, value: Any) -> None:
    assert isinstance(read({**task(), element: value}), TaskRead | tuple)
