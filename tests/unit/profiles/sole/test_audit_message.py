# SPDX-License-Identifier: Apache-2.0
"""Operational events as audit messages, held against the PS3.15 A.5 grammar of ``conformance``."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.validators.audit import audit_message_faults
from profiles.codes import Code
from profiles.sole.audit_message import (
    EVENT_NAMES,
    MAX_DESCRIPTION,
    MAX_INSTANCES,
    audit_message,
    event_code,
    timestamp,
)
from profiles.sole.events import EventType, OperationalEvent, Outcome
from tests.unit.profiles.sole.happenings import EVENT, SEG, SR, event

HOSTILE = [
    "<&>\"'",
    "]]><!-- -->",
    "a\x00b\x0bc\x1f\ufffe\ud800",
    "line one\r\nline two\ttab",
    "山田 Müller \U0001f642",
    "x" * 30_000,
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;",
]


def xml(of: OperationalEvent) -> Element:
    message = audit_message(of, source_id="ai01", enterprise_site_id="Radiology")
    assert audit_message_faults(message) == []
    assert b"\n" not in message
    return fromstring(message)


def attributes(node: Element | None) -> dict[str, str]:
    assert node is not None
    return dict(node.attrib)


def test_the_whole_message() -> None:
    root = xml(EVENT)
    assert [node.tag for node in root] == [
        "EventIdentification",
        "ActiveParticipant",
        "ActiveParticipant",
        "AuditSourceIdentification",
        *["ParticipantObjectIdentification"] * 4,
    ]
    assert attributes(root[0]) == {
        "EventActionCode": "E",
        "EventDateTime": "2026-05-04T09:15:27.120Z",
        "EventOutcomeIndicator": "0",
    }
    assert attributes(root.find("EventIdentification/EventID")) == {
        "csd-code": "SOLE",
        "codeSystemName": "IHE-RAD",
        "originalText": "Imaging Operational Event",
    }
    assert attributes(root.find("EventIdentification/EventTypeCode")) == {
        "csd-code": "RID45833",
        "codeSystemName": "RadLex",
        "originalText": "AutomatedProcessingComplete",
    }
    assert attributes(root[1]) == {
        "UserID": "AIENGINE",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": "ai01.example.org",
        "NetworkAccessPointTypeCode": "1",
    }
    assert attributes(root[2])["UserID"] == "PACS1"
    assert attributes(root[2])["UserIsRequestor"] == "false"
    assert attributes(root[3]) == {"AuditEnterpriseSiteID": "Radiology", "AuditSourceID": "ai01"}


def test_the_participant_objects() -> None:
    nodes = xml(EVENT).findall("ParticipantObjectIdentification")
    told = [
        (
            node.get("ParticipantObjectID"),
            node.get("ParticipantObjectTypeCode"),
            node.get("ParticipantObjectTypeCodeRole"),
            attributes(node.find("ParticipantObjectIDTypeCode"))["csd-code"],
        )
        for node in nodes
    ]
    assert told == [
        ("12345^^^HOSP", "1", "1", "121025"),
        ("1.2.840.99999.1", "2", "3", "110180"),
        ("ACC100", "2", "20", "121022"),
        ("1.2.840.99999.7", "2", "20", "AW2001"),
    ]
    study = nodes[1]
    assert study.get("ParticipantObjectDataLifeCycle") == "8"
    detail = attributes(study.find("ParticipantObjectDetail"))
    assert (detail["type"], base64.b64decode(detail["value"])) == ("Function", b"lung-ct 0.1.0")
    description = study.find("ParticipantObjectDescription")
    assert description is not None
    assert attributes(description.find("Accession")) == {"Number": "ACC100"}
    assert [
        (c.get("UID"), c.get("NumberOfInstances"), [i.get("UID") for i in c])
        for c in description.findall("SOPClass")
    ] == [(SEG, "2", ["1.2.3.1", "1.2.3.3"]), (SR, "1", ["1.2.3.2"])]


@pytest.mark.parametrize("event_type", list(EventType))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_event_meets_the_grammar(event_type: EventType, outcome: Outcome) -> None:
    root = xml(event(type=event_type, outcome=outcome, outcome_description="what happened"))
    assert root[0].get("EventOutcomeIndicator") == outcome.value
    assert root.findtext("EventIdentification/EventOutcomeDescription") == "what happened"


def test_every_event_has_a_name_of_its_own() -> None:
    assert set(EVENT_NAMES) == set(EventType)
    assert len(set(EVENT_NAMES.values())) == len(EventType)
    assert event_code(EventType.ORDER_RECEIVED) == Code("RID45895", "RadLex", "OrderReceived")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"patient_id": ""}, id="no-patient"),
        pytest.param({"study_instance_uid": ""}, id="no-study"),
        pytest.param({"study_instance_uid": "", "accession_number": ""}, id="order-number-only"),
        pytest.param(
            {"study_instance_uid": "", "accession_number": "", "order_number": ""}, id="workitem-only"
        ),
        pytest.param({"instances": (), "accession_number": ""}, id="nothing-to-describe"),
        pytest.param({"machine": "", "machine_address": ""}, id="machine-unknown"),
        pytest.param({"destination": ""}, id="no-destination"),
        pytest.param({"issuer_of_patient_id": ""}, id="no-issuer"),
    ],
)
def test_what_is_unknown_is_left_out(changes: dict[str, object]) -> None:
    root = xml(event(**changes))
    text = "".join(str(node.attrib) for node in root.iter())
    assert "Function" in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("patient_id", "issuer", "cx"),
    [
        ("12345", "", "12345"),
        ("12345", "HOSP", "12345^^^HOSP"),
        ("12345", "1.2.3", "12345^^^&1.2.3&ISO"),
        ("1^2&3", "A|B", "1\\S\\2\\T\\3^^^A\\F\\B"),
    ],
)
def test_the_patient_is_told_as_cx(patient_id: str, issuer: str, cx: str) -> None:
    root = xml(event(patient_id=patient_id, issuer_of_patient_id=issuer))
    assert attributes(root.find("ParticipantObjectIdentification"))["ParticipantObjectID"] == cx


@pytest.mark.parametrize(
    ("address", "kind"),
    [("10.0.0.1", "2"), ("::1", "2"), ("fe80::1", "2"), ("ai01", "1"), ("ai01.example.org", "1")],
)
def test_network_access_points(address: str, kind: str) -> None:
    assert xml(event(machine_address=address))[1].get("NetworkAccessPointTypeCode") == kind


def test_many_instances_are_counted_and_some_named() -> None:
    instances = tuple((SEG, f"1.2.{n}") for n in range(5000))
    message = audit_message(event(instances=instances), source_id="x")
    node = fromstring(message).find(".//SOPClass")
    assert node is not None
    assert (node.get("NumberOfInstances"), len(node)) == ("5000", MAX_INSTANCES)
    assert len(message) < 32_000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(text: str) -> None:
    root = xml(
        event(
            machine=text,
            machine_address=text,
            function=text,
            patient_id=text,
            issuer_of_patient_id=text,
            accession_number=text,
            order_number=text,
            destination=text,
            outcome_description=text,
            instances=((text, text),),
        )
    )
    assert [node.tag for node in root][-1] == "ParticipantObjectIdentification"
    assert len(root.findtext("EventIdentification/EventOutcomeDescription") or "") <= MAX_DESCRIPTION


def test_non_ascii_text_is_kept() -> None:
    root = xml(event(machine="Säge 山田", function="größe 山"))
    assert root[1].get("UserID") == "Säge 山田"
    detail = attributes(root.find(".//ParticipantObjectDetail"))
    assert base64.b64decode(detail["value"]).decode() == "größe 山"


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_gives_a_valid_message(first: str, second: str) -> None:
    xml(event(machine=first, patient_id=second, accession_number=first, outcome_description=second))


def test_time_is_utc_with_milliseconds() -> None:
    moment = datetime(2026, 5, 4, 11, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-05-04T09:00:00.999Z"


def test_the_event_id_can_be_another() -> None:
    message = audit_message(EVENT, source_id="x", event_id=Code("SOLE", "urn:ihe:rad", "Event"))
    assert b'codeSystemName="urn:ihe:rad"' in message


def test_a_merge_tells_both_identifiers_of_the_patient() -> None:
    merged = event(type=EventType.PATIENT_MERGED, former_patient_id="99", former_issuer="1.2.3")
    told = [
        (node.get("ParticipantObjectID"), node.findtext("ParticipantObjectName"))
        for node in xml(merged).findall("ParticipantObjectIdentification")[:2]
    ]
    assert told == [("12345^^^HOSP", "Patient"), ("99^^^&1.2.3&ISO", "Former Patient")]


def test_the_documented_events_are_these() -> None:
    page = (Path(__file__).parents[4] / "docs" / "concepts" / "events.md").read_text(encoding="utf-8")
    rows = {
        tuple(cell.strip() for cell in line.split("|")[1:3])
        for line in page.split("\n")
        if line.startswith(("| RID", "| 110", "| AW"))
    }
    assert rows == {(kind.value, name) for kind, name in EVENT_NAMES.items()}
