# SPDX-License-Identifier: Apache-2.0
"""One message in, one answer out: what each outcome of the intake becomes on the wire."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from informatics_gateway.hl7.receiver import MessageReceiver, Reply, unique_control_ids
from informatics_gateway.statuses import STATUSES
from profiles.faults import Fault
from profiles.hl7.options import Reading, ReadingOptions
from task_manager.errors import StoreError
from task_manager.outcome import RefusalCode, Refused
from tests.unit.informatics_gateway.hl7.intakes import MemoryIntake
from tests.unit.profiles.hl7.messages import MSH, changed, message, with_field

NOW = datetime(2026, 5, 4, 9, 15, tzinfo=UTC)


def receiver(intake: MemoryIntake) -> MessageReceiver:
    return MessageReceiver(intake, clock=lambda: NOW, control_ids=lambda: "A1")


def msa(reply: Reply) -> list[str]:
    assert reply.message is not None
    return reply.message.decode().split("\r")[1].split("|")


def test_an_order_is_committed_before_it_is_accepted() -> None:
    intake = MemoryIntake()
    reply = receiver(intake).answer(message(), address="10.0.0.1")
    assert msa(reply) == ["MSA", "AA", "RIS0002"]
    ((order,),) = intake.orders.values()
    assert order.accession_number == "ACC100"
    assert intake.raw == [message()]
    (actor,) = intake.actors
    assert (actor.door, actor.name, actor.address, actor.called) == ("hl7", "RIS", "10.0.0.1", "AIRWAY")


def test_the_same_message_again_is_accepted_again() -> None:
    intake = MemoryIntake()
    answers = [msa(receiver(intake).answer(message())) for _ in range(2)]
    assert answers == [["MSA", "AA", "RIS0002"], ["MSA", "AA", "RIS0002", "Received before"]]
    assert len(intake.orders) == 1


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_of_the_intake_has_its_answer(code: RefusalCode) -> None:
    intake = MemoryIntake(before=lambda: Refused(code, (Fault("ORC-2", "no such order"),)))
    reply = receiver(intake).answer(with_field("MSH", 12, "2.5.1"))
    expected, error = STATUSES[code].hl7
    assert msa(reply)[1] == expected
    assert reply.message is not None
    assert f"ERR||ORC^1^2^1|{error}^" in reply.message.decode()
    assert not reply.close


def test_a_refusal_without_faults_still_says_why() -> None:
    reply = receiver(MemoryIntake(before=lambda: Refused(RefusalCode.UNKNOWN_ORDER))).answer(message())
    assert reply.message is not None
    assert "204&Unknown key identifier" in reply.message.decode()


def fail_store() -> None:
    raise StoreError("disk full")


def fail_otherwise() -> None:
    raise KeyError("SECRET")


@pytest.mark.parametrize("failure", [fail_store, fail_otherwise])
def test_a_failure_of_ours_is_AE_207_and_tells_nothing_more(failure: object) -> None:
    assert callable(failure)
    reply = receiver(MemoryIntake(before=failure)).answer(message())
    assert msa(reply)[1] == "AE"
    assert reply.message is not None
    assert "207&" in reply.message.decode()
    assert "SECRET" not in reply.message.decode()


def test_enhanced_mode() -> None:
    segment = changed(changed(MSH, 15, "AL"), 16, "NE")
    raw = message().replace(MSH.encode(), segment.encode())
    assert msa(receiver(MemoryIntake()).answer(raw))[1] == "CA"


def test_a_sender_may_get_both_acknowledgements() -> None:
    segment = changed(changed(MSH, 15, "AL"), 16, "AL")
    raw = message().replace(MSH.encode(), segment.encode())
    assert receiver(MemoryIntake()).answer(raw).second is None
    both = Reading(default=ReadingOptions(both_acknowledgements=True))
    reply = MessageReceiver(MemoryIntake(), both).answer(raw)
    assert msa(reply)[1] == "CA"
    assert reply.second is not None
    assert b"MSA|AA|RIS0002" in reply.second


def test_a_sender_that_wants_no_answer_gets_none_and_stays_connected() -> None:
    intake = MemoryIntake()
    segment = changed(changed(MSH, 15, "NE"), 16, "NE")
    reply = receiver(intake).answer(message().replace(MSH.encode(), segment.encode()))
    assert reply == Reply(message=None, close=False)
    assert len(intake.orders) == 1


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (with_field("MSH", 9, "OML^O21"), "AR"),
        (with_field("OBR", 4, ""), "AE"),
        (message(MSH, "no segment"), "AR"),
    ],
)
def test_messages_that_cannot_be_taken(raw: bytes, code: str) -> None:
    intake = MemoryIntake()
    assert msa(receiver(intake).answer(raw))[1] == code
    assert intake.orders == {}


@pytest.mark.parametrize("raw", [b"", b"hello", b"MSH", b"\x00" * 10])
def test_without_a_header_the_connection_ends(raw: bytes) -> None:
    assert receiver(MemoryIntake()).answer(raw) == Reply(message=None, close=True)


@pytest.mark.parametrize(
    ("head", "code"),
    [(message()[:300], "AR"), (message()[:90], "AR"), (b"x" * 300, None)],
)
def test_a_message_over_the_limit(head: bytes, code: str | None) -> None:
    reply = receiver(MemoryIntake()).oversize(head)
    assert reply.close
    assert (msa(reply)[1] if reply.message else None) == code


def test_nothing_of_the_patient_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver(MemoryIntake()).answer(message())
    receiver(MemoryIntake()).answer(with_field("PID", 7, "SECRET"))
    receiver(MemoryIntake(before=fail_store)).answer(message())
    receiver(MemoryIntake(before=fail_otherwise)).answer(message())
    text = " ".join(str(record.__dict__) for record in caplog.records)
    assert len(caplog.records) == 6
    for word in ("Roe", "12345", "19700101", "SECRET", "Smith"):
        assert word not in text


def test_control_ids_are_short_and_never_the_same() -> None:
    first, second = unique_control_ids(), unique_control_ids()
    found = [first(), first(), second(), second()]
    assert len(set(found)) == 4
    assert {len(text) for text in found} == {20}


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_whatever_arrives_there_is_an_answer_or_an_end(junk: bytes, at: int, replace: bool) -> None:
    raw = message()
    reply = receiver(MemoryIntake()).answer(raw[:at] + junk + raw[at + len(junk) * replace :])
    assert reply.message is not None or reply.close or b"NE" in junk
