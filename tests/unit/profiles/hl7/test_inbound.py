# SPDX-License-Identifier: Apache-2.0
"""Each sender's messages are read its own way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from profiles.hl7.inbound import parse_inbound
from profiles.hl7.message import FieldPath
from profiles.hl7.options import Reading, ReadingOptions, Sender
from profiles.hl7.order import ParsedOrderMessage
from profiles.hl7.reading import MessageRefusal
from profiles.order import Order, Priority
from tests.unit.profiles.hl7.messages import MSH, OBR, ORC, PID, PV1, ZDS, changed, message, with_field

EAST = ReadingOptions(
    time_zone=timezone(timedelta(hours=3)),
    undeclared_codecs=("iso8859-5",),
    fields={"accession_number": (FieldPath("ZAC", 1),)},
    accept_unknown_orders=True,
)
READING = Reading(
    default=ReadingOptions(routine_priority=Priority.LOW, processing_ids=frozenset({"P"})),
    senders=(
        Sender(application="RIS", facility="EAST", options=EAST),
        Sender(application="", facility="TEST", options=ReadingOptions()),
    ),
)


def order(raw: bytes) -> Order:
    found = parse_inbound(raw, READING)
    assert isinstance(found, ParsedOrderMessage), found
    return found.orders[0]


def test_a_listed_sender_has_its_own_options() -> None:
    head = changed(changed(MSH, 4, "EAST^1.2^ISO"), 18, "")
    raw = message(head, changed(PID, 5, "Иванов"), PV1, ORC, OBR, ZDS, "ZAC|E1").decode().encode("iso8859-5")
    found = parse_inbound(raw, READING)
    assert isinstance(found, ParsedOrderMessage)
    assert found.accept_unknown_orders
    (one,) = found.orders
    assert (one.patient_name, one.accession_number) == ("Иванов", "E1")
    assert one.scheduled_at == datetime(2026, 5, 4, 6, 10, tzinfo=UTC)


def test_all_others_have_those_of_all() -> None:
    found = order(message(MSH, PID, PV1, changed(ORC, 7, "1^^^20260504091000^^R"), OBR, ZDS, "ZAC|E1"))
    assert (found.accession_number, found.priority) == ("ACC100", Priority.LOW)
    assert found.scheduled_at == datetime(2026, 5, 4, 9, 10, tzinfo=UTC)


@pytest.mark.parametrize(("facility", "taken"), [("TEST", True), ("HOSP", False)])
def test_test_messages_of_test_systems_only(facility: str, taken: bool) -> None:
    raw = message(changed(changed(MSH, 4, facility), 11, "T"), PID, PV1, ORC, OBR, ZDS)
    assert isinstance(parse_inbound(raw, READING), ParsedOrderMessage) is taken


def test_message_types_that_are_not_taken_are_told_which_are() -> None:
    found = parse_inbound(with_field("MSH", 9, "MDM^T02"), READING)
    assert isinstance(found, MessageRefusal)
    assert [fault.text for fault in found.faults] == ["message types taken here: ADT, OMG, OMI, ORM, ORU"]
