# SPDX-License-Identifier: Apache-2.0
"""Event reports as servers send them: what is read, what is guessed, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ai_apps.ups_rs.events import read_events
from profiles.codes import Code
from profiles.dicom_json import element, merged
from profiles.ups.report import EventType
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID

UID = "2.25.5"
PUSH = "1.2.840.10008.5.1.4.34.6.1"
EVENT_CLASS = "1.2.840.10008.5.1.4.34.6.4"


def report(event_type: Any = 1, uid: str = UID, sop_class: str = PUSH, **more: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "00000002": {"vr": "UI", "Value": [sop_class]},
        "00000110": {"vr": "US", "Value": [23]},
        "00001000": {"vr": "UI", "Value": [uid]},
        "00001002": {"vr": "US", "Value": [event_type]},
    }
    return {**content, **more}


STATE = {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00404041": {"vr": "CS", "Value": ["READY"]}}


@pytest.mark.parametrize(
    "message",
    [
        json.dumps(report(**STATE)),
        json.dumps([report(**STATE)]),
        json.dumps(report(**STATE)).encode(),
        json.dumps(report("1", **STATE)),
        json.dumps(report(1.0, **STATE)),
        json.dumps(report(sop_class=EVENT_CLASS, **STATE)),
        json.dumps(
            report(
                **{
                    "00741000": {"vr": "LT", "Value": ["IN PROGRESS"]},
                    "00404041": {"vr": "US", "Value": ["READY"]},
                }
            )
        ),
        json.dumps(
            report(**{"00741000": {"vr": "CS", "Value": "IN PROGRESS"}, "00404041": {"Value": ["READY"]}})
        ),
        json.dumps({key.lower(): value for key, value in report(**STATE).items()}),
        json.dumps(
            {
                "EventTypeID": {"Value": [1]},
                "AffectedSOPInstanceUID": {"Value": [UID]},
                "ProcedureStepState": {"Value": ["IN PROGRESS"]},
                "InputReadinessState": {"Value": ["READY"]},
            }
        ),
        json.dumps({"00080018": {"vr": "UI", "Value": [UID]}, **STATE}),
        json.dumps(report(uid=UID + "\0", **STATE)),
    ],
    ids=[
        "object",
        "array of one",
        "bytes",
        "type as text",
        "type as decimal",
        "event class",
        "printed VRs",
        "bare value",
        "small letters",
        "keywords",
        "no addressing",
        "padded UID",
    ],
)
def test_a_state_report_whatever_its_form(message: str | bytes) -> None:
    (event,) = read_events(message)
    assert (event.type, event.workitem_uid) == (EventType.STATE_REPORT, UID)
    assert (event.state, event.input_readiness) == ("IN PROGRESS", "READY")
    assert set(event.payload) <= {"00741000", "00404041", "00080018"}


def test_several_reports_in_one_message() -> None:
    both = read_events(json.dumps([report(1, **STATE), report(2, **element("RequestingAE", "RIS"))]))
    assert [event.type for event in both] == [1, 2]


def test_a_cancel_request_tells_who_and_why() -> None:
    why = Code("110514", "DCM", "Incorrect worklist entry selected")
    details = merged(
        [
            element("RequestingAE", "RIS"),
            element("ReasonForCancellation", "wrong patient"),
            element("ProcedureStepDiscontinuationReasonCodeSequence", why.to_json()),
        ]
    )
    (event,) = read_events(json.dumps(report(2, **details)))
    assert (event.requesting_ae, event.reason, event.reason_code) == ("RIS", "wrong patient", why)


def test_progress() -> None:
    item = merged(
        [element("ProcedureStepProgress", "40"), element("ProcedureStepProgressDescription", "half")]
    )
    (event,) = read_events(json.dumps(report(3, **element("ProcedureStepProgressInformationSequence", item))))
    assert event.progress == ("40", "half")


def test_a_status_change_needs_no_instance() -> None:
    content = report(4, **element("SCPStatus", "RESTARTED"))
    del content["00001000"]
    (event,) = read_events(json.dumps(content))
    assert (event.workitem_uid, event.server_status) == (GLOBAL_SUBSCRIPTION_UID, "RESTARTED")


def test_human_performers_come_nested_or_on_top() -> None:
    code = Code("DR1", "L", "Doctor").to_json()
    person = merged(
        [element("HumanPerformerCodeSequence", code), element("HumanPerformerOrganization", "Reading room")]
    )
    nested = report(5, **element("ScheduledHumanPerformersSequence", person))
    on_top = report(5, **person)
    told = [read_events(json.dumps(one))[0].payload for one in (nested, on_top)]
    for payload in told:
        assert payload["00404009"]["Value"] == [code]
        assert payload["00404036"]["Value"] == ["Reading room"]


@pytest.mark.parametrize(
    ("content", "event_type"),
    [
        (element("RequestingAE", "RIS"), 2),
        (element("SCPStatus", "GOING DOWN"), 4),
        (element("ProcedureStepProgressInformationSequence", {}), 3),
        (STATE, 1),
        (element("ScheduledStationNameCodeSequence", {}), 5),
    ],
    ids=["cancel", "status", "progress", "state", "assigned"],
)
def test_the_type_is_seen_from_the_content_if_it_is_missing(content: dict[str, Any], event_type: int) -> None:
    whole = report(**content)
    del whole["00001002"]
    assert read_events(json.dumps(whole))[0].type == event_type


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "[]",
        "5",
        "null",
        '"text"',
        "[5]",
        "{",
        "[" * 100_000,
        b"\xff\xfe",
        json.dumps(report(6, **STATE)),
        json.dumps(report("one", **STATE)),
        json.dumps(report(1e400, **STATE)),
        json.dumps(report(uid="../x")),
        json.dumps({"00001002": 5}),
        json.dumps([report()] * 1001),
    ],
    ids=[
        "empty",
        "no content",
        "no report",
        "number",
        "null",
        "text",
        "array of numbers",
        "torn",
        "deep",
        "no UTF-8",
        "type 6",
        "no number",
        "infinite",
        "no UID",
        "no data set",
        "too many",
    ],
)
def test_what_is_no_report_is_refused(message: str | bytes) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - any message will do
        read_events(message)
    assert "../x" not in str(refused.value)
