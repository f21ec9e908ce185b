# SPDX-License-Identifier: Apache-2.0
"""ADT messages read into changes of identity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.hl7.identity import MAX_CHANGES, ParsedIdentityMessage
from profiles.hl7.inbound import parse_inbound
from profiles.hl7.options import Reading, ReadingOptions
from profiles.hl7.reading import MessageRefusal
from profiles.patient import IdentityChange, IdentityKind, PatientIdentity
from tests.unit.profiles.hl7.messages import MSH, PID, changed, message

EVN = "EVN||20260504085900"
MRG = "MRG|99^^^HOSP&1.2.3&ISO^MR"
JANE = PatientIdentity(patient_id="12345", issuer="HOSP", name="Roe^Jane", birth_date="19700101", sex="F")


def adt(trigger: str, *segments: str) -> bytes:
    return message(changed(MSH, 9, f"ADT^{trigger}"), EVN, *segments)


def changes(raw: bytes, options: ReadingOptions | None = None) -> tuple[IdentityChange, ...]:
    found = parse_inbound(raw, Reading(default=options or ReadingOptions()))
    assert isinstance(found, ParsedIdentityMessage), found
    return found.changes


def faults(raw: bytes) -> list[tuple[str, str]]:
    found = parse_inbound(raw, Reading())
    assert isinstance(found, MessageRefusal), found
    return [(str(fault.location), fault.code.value) for fault in found.faults]


@pytest.mark.parametrize("trigger", ["A01", "A04", "A05", "A08", "A31"])
def test_updates(trigger: str) -> None:
    assert changes(adt(trigger, PID, "PV1|1|O")) == (IdentityChange(kind=IdentityKind.UPDATED, patient=JANE),)


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        ("A40", IdentityKind.MERGED),
        ("A34", IdentityKind.MERGED),
        ("A39", IdentityKind.MERGED),
        ("A47", IdentityKind.RENUMBERED),
        ("A30", IdentityKind.RENUMBERED),
    ],
)
def test_merges_and_new_numbers(trigger: str, kind: IdentityKind) -> None:
    assert changes(adt(trigger, PID, MRG)) == (
        IdentityChange(kind=kind, patient=JANE, former_id="99", former_issuer="HOSP"),
    )


@pytest.mark.parametrize("trigger", ["A02", "A03", "A11", "A13"])
def test_visits_change_nobody(trigger: str) -> None:
    assert [change.kind for change in changes(adt(trigger, PID))] == [IdentityKind.VISIT]


def test_several_pairs() -> None:
    pairs = [PID, MRG, changed(PID, 3, "2^^^HOSP"), "MRG|98^^^HOSP"]
    found = changes(adt("A40", *pairs))
    assert [(one.former_id, one.patient.patient_id) for one in found] == [("99", "12345"), ("98", "2")]


def test_the_former_id_is_that_of_the_same_issuer() -> None:
    (found,) = changes(adt("A40", PID, "MRG|5^^^OTHER^MR~99^^^HOSP^PI"))
    assert (found.former_id, found.former_issuer) == ("99", "HOSP")


def test_the_authority_of_the_site_counts_for_both() -> None:
    options = ReadingOptions(patient_id_authority="B")
    (found,) = changes(adt("A40", changed(PID, 3, "1^^^A^MR~2^^^B^PI"), "MRG|3^^^A^MR~4^^^B^PI"), options)
    assert (found.patient.patient_id, found.former_id) == ("2", "4")


def test_deleted_values_are_told_apart() -> None:
    (found,) = changes(adt("A08", changed(changed(PID, 7, '""'), 8, "")))
    assert (found.patient.birth_date, found.patient.sex, found.patient.cleared) == ("", "", ("birth_date",))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(adt("A23", PID), [("MSH-9.2", "201")], id="deletes-are-not-taken"),
        pytest.param(adt("A08"), [("PID", "100")], id="no-pid"),
        pytest.param(adt("A08", changed(PID, 3, "")), [("PID-3", "101")], id="no-id"),
        pytest.param(adt("A40", PID), [("MRG", "100")], id="no-mrg"),
        pytest.param(adt("A40", PID, "MRG|"), [("MRG-1", "101")], id="no-former-id"),
        pytest.param(adt("A40", PID, "MRG|12345^^^HOSP"), [("MRG-1", "103")], id="into-itself"),
        pytest.param(adt("A40", PID, "MRG|" + "9" * 65), [("MRG-1.1", "104")], id="former-id-too-long"),
        pytest.param(adt("A08", changed(PID, 7, "soon")), [("PID-7", "102")], id="birth-date"),
        pytest.param(adt("A40", *[PID, MRG] * (MAX_CHANGES + 1)), [("PID", "198")], id="too-many"),
    ],
)
def test_refusals(raw: bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(raw) == expected


@given(st.binary(max_size=200), st.integers(0, 300))
def test_damaged_messages_are_read_or_refused(junk: bytes, at: int) -> None:
    raw = adt("A40", PID, MRG)
    found = parse_inbound(raw[:at] + junk + raw[at + len(junk) :], Reading())
    assert isinstance(found, MessageRefusal) or found.key.control_id is not None


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ("8859/1", b"\x8aebek^Jan"),
        ("", b"\x8aebek^Jan"),
        ("ASCII", rb"\M2442\;3ED\C2842" + b"\\^Taro"),
        ("ASCII", b"\x1b$B;3ED\x1b(B^Taro"),
        ("UNICODE UTF-8", rb"M\XFC\ller^Jan"),
    ],
    ids=[
        "Windows-1252",
        "undeclared",
        "escape to another set",
        "switch to another set",
        "byte of another set",
    ],
)
def test_a_name_in_no_declared_set_is_refused_not_mangled(declared: str, name: bytes) -> None:
    head = changed(changed(MSH, 9, "ADT^A08"), 18, declared).encode("ascii")
    assert faults(head + b"\rPID|1||1||" + name + b"\r") == [("PID-5", "102")]


def test_an_identifier_loses_no_character() -> None:
    assert faults(adt("A08", r"PID|1||12\C2842\34")) == [("PID-3.1", "102")]


def test_a_name_that_its_sender_could_not_write_is_taken_as_sent() -> None:
    (change,) = changes(adt("A08", "PID|1||1||M\ufffdller^Jan"))
    assert change.patient.name == "M\ufffdller^Jan"
