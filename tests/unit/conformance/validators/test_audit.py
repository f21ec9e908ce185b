# SPDX-License-Identifier: Apache-2.0
"""The audit grammar accepts a full SOLE event and refuses each way of getting one wrong (PS3.15 A.5)."""

from __future__ import annotations

import pytest

from conformance.validators.audit import LARGEST_MESSAGE_BYTES, audit_message_faults

VALID = """<?xml version="1.0" encoding="UTF-8"?>
<AuditMessage>
  <EventIdentification EventActionCode="E" EventDateTime="2026-05-04T09:15:27.120Z" EventOutcomeIndicator="0">
    <EventID csd-code="SOLE" codeSystemName="IHE-RAD" originalText="Imaging Operational Event"/>
    <EventTypeCode csd-code="RID45833" codeSystemName="RadLex" originalText="AutomatedProcessingComplete"/>
  </EventIdentification>
  <ActiveParticipant UserID="AIENGINE" AlternativeUserID="4711" UserIsRequestor="true"
                     NetworkAccessPointTypeCode="1" NetworkAccessPointID="ai01.example.org">
    <RoleIDCode csd-code="110150" codeSystemName="DCM" originalText="Application"/>
  </ActiveParticipant>
  <AuditSourceIdentification AuditEnterpriseSiteID="Radiology" AuditSourceID="ai01.example.org">
    <AuditSourceTypeCode csd-code="4"/>
  </AuditSourceIdentification>
  <ParticipantObjectIdentification ParticipantObjectID="12345^^^HOSP&amp;1.2.3&amp;ISO"
      ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">
    <ParticipantObjectIDTypeCode csd-code="121025" codeSystemName="DCM" originalText="Patient"/>
    <ParticipantObjectName>Patient</ParticipantObjectName>
  </ParticipantObjectIdentification>
  <ParticipantObjectIdentification ParticipantObjectID="1.2.840.99999.1"
      ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="3" ParticipantObjectDataLifeCycle="1">
    <ParticipantObjectIDTypeCode csd-code="110180" codeSystemName="DCM" originalText="Study Instance UID"/>
    <ParticipantObjectName>Study</ParticipantObjectName>
    <ParticipantObjectDetail type="Function" value="bHVuZy1ub2R1bGUgMi4xLjA="/>
    <ParticipantObjectDescription>
      <Accession Number="ACC100"/>
      <SOPClass UID="1.2.840.10008.5.1.4.1.1.88.33" NumberOfInstances="1">
        <Instance UID="1.2.840.99999.1.9.1"/>
      </SOPClass>
    </ParticipantObjectDescription>
  </ParticipantObjectIdentification>
</AuditMessage>
"""


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(VALID, id="text"),
        pytest.param(VALID.encode(), id="bytes"),
        pytest.param(b"\xef\xbb\xbf" + VALID.encode(), id="byte-order-mark"),
        pytest.param(VALID.replace(' EventActionCode="E"', ""), id="optional-attribute-left-out"),
        pytest.param(
            VALID.replace(
                'csd-code="4"/>', 'csd-code="4" codeSystemName="DCM" originalText="Application Server"/>'
            ),
            id="source-type-as-coded-value",
        ),
        pytest.param(
            VALID.replace(
                "<ParticipantObjectName>Study</ParticipantObjectName>",
                "<ParticipantObjectQuery>AAEC</ParticipantObjectQuery>",
            ),
            id="query-instead-of-name",
        ),
    ],
)
def test_valid_message_has_no_faults(message: bytes | str) -> None:
    assert audit_message_faults(message) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param('csd-code="RID45833"', 'code="RID45833"', id="rfc-3881-spelling-of-the-code"),
        pytest.param(' originalText="Application"', "", id="coded-value-without-meaning"),
        pytest.param(' EventDateTime="2026-05-04T09:15:27.120Z"', "", id="event-without-time"),
        pytest.param("09:15:27.120Z", "09:15:27.120", id="time-without-zone"),
        pytest.param('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"', id="unknown-outcome"),
        pytest.param('EventActionCode="E"', 'EventActionCode="X"', id="unknown-action"),
        pytest.param(' UserIsRequestor="true"', "", id="requestor-not-said"),
        pytest.param('UserIsRequestor="true"', 'UserIsRequestor="yes"', id="requestor-no-boolean"),
        pytest.param(' AuditSourceID="ai01.example.org"', "", id="source-without-id"),
        pytest.param(
            '<AuditSourceTypeCode csd-code="4"/>', '<AuditSourceTypeCode csd-code="44"/>', id="source-type"
        ),
        pytest.param(' ParticipantObjectID="1.2.840.99999.1"', "", id="object-without-id"),
        pytest.param(
            'ParticipantObjectTypeCodeRole="3"', 'ParticipantObjectTypeCodeRole="27"', id="role-out-of-range"
        ),
        pytest.param("<ParticipantObjectName>Study</ParticipantObjectName>", "", id="neither-name-nor-query"),
        pytest.param('value="bHVuZy1ub2R1bGUgMi4xLjA="', 'value="lung-nodule 2.1.0"', id="detail-not-base64"),
        pytest.param(' NumberOfInstances="1"', "", id="instances-not-counted"),
        pytest.param('Instance UID="1.2.840.99999.1.9.1"', 'Instance UID="1.2.x"', id="no-uid"),
        pytest.param("<AuditMessage>", '<AuditMessage xmlns="urn:other">', id="a-namespace"),
        pytest.param("<AuditMessage>", "<AuditMessage><Other/>", id="unknown-element"),
    ],
)
def test_malformed_message_has_faults(right: str, wrong: str) -> None:
    assert VALID.count(right) == 1

    assert audit_message_faults(VALID.replace(right, wrong))


def test_elements_out_of_order_are_a_fault() -> None:
    start, end = (
        VALID.index("  <AuditSourceIdentification"),
        VALID.index("  <ParticipantObjectIdentification"),
    )
    moved = VALID[:start] + VALID[end:].replace("</AuditMessage>", VALID[start:end] + "</AuditMessage>")

    assert audit_message_faults(moved)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(b"", "not well-formed", id="empty"),
        pytest.param(VALID[:-20], "not well-formed", id="cut-short"),
        pytest.param(b"\x00\x01\x02", "not well-formed", id="no-xml"),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><AuditMessage>&e;</AuditMessage>',
            "document type",
            id="external-entity",
        ),
        pytest.param(b"<a>" + b" " * LARGEST_MESSAGE_BYTES + b"</a>", "more than", id="too-long"),
    ],
)
def test_hostile_input_is_a_fault_and_nothing_else(message: bytes | str, words: str) -> None:
    [fault] = audit_message_faults(message)

    assert words in fault


def test_fault_names_the_line() -> None:
    faults = audit_message_faults(VALID.replace('csd-code="RID45833"', 'code="RID45833"'))

    assert any(fault.startswith("line 5: ") for fault in faults)
