# SPDX-License-Identifier: Apache-2.0
"""Acknowledgements, in original and enhanced mode, held against hl7apy's definitions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from profiles.hl7.acknowledgement import (
    MAX_FAULTS_TOLD,
    AcknowledgementCode,
    acknowledge,
    application_acknowledgement,
    code_for,
)
from profiles.hl7.message import ErrorCode, Header, Hl7Fault, Location, read_message
from tests.unit.profiles.hl7.messages import MSH, changed, message

NOW = datetime(2026, 5, 4, 9, 15, 1, tzinfo=UTC)
ACCEPT, ERROR, REJECT = AcknowledgementCode
MISSING = Hl7Fault(ErrorCode.REQUIRED_FIELD_MISSING, Location("OBR", 2, 4, 1, 1), "a procedure is required")
SEQUENCE = Hl7Fault(ErrorCode.SEGMENT_SEQUENCE, Location("ORC"), "an ORC | is & required")


def header(*changes: tuple[int, str]) -> Header:
    segment = MSH
    for number, value in changes:
        segment = changed(segment, number, value)
    found = read_message(message(segment)).header
    assert found is not None
    return found


def segments(answer: bytes | None) -> list[str]:
    assert answer is not None
    assert answer.endswith(b"\r")
    return answer.decode().split("\r")[:-1]


def test_accept() -> None:
    answer = acknowledge(header(), ACCEPT, control_id="A1", sent_at=NOW)
    assert segments(answer) == [
        "MSH|^~\\&|AIRWAY|HOSP|RIS|HOSP|20260504091501+0000||ACK^O01^ACK|A1|P|2.3.1||||||UNICODE UTF-8",
        "MSA|AA|RIS0002",
    ]


@pytest.mark.parametrize(
    ("version", "errors"),
    [
        (
            "2.5.1",
            [
                "ERR||OBR^2^4^1^1|101^Required field missing^HL70357|E||||a procedure is required",
                "ERR||ORC^1|100^Segment sequence error^HL70357|E||||an ORC \\F\\ is \\T\\ required",
            ],
        ),
        (
            "2.3.1",
            ["ERR|OBR^2^4^101&Required field missing&HL70357~ORC^1^^100&Segment sequence error&HL70357"],
        ),
    ],
)
def test_errors_by_version(version: str, errors: list[str]) -> None:
    answer = acknowledge(header((12, version)), REJECT, [MISSING, SEQUENCE], control_id="A1", sent_at=NOW)
    found = segments(answer)
    assert found[1] == "MSA|AR|RIS0002|OBR[2]-4.1: a procedure is required (and 1 more)"
    assert found[2:] == errors


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5", "2.5.1"])
@pytest.mark.parametrize("faults", [[], [MISSING, SEQUENCE]], ids=["accepted", "rejected"])
def test_answers_meet_the_definitions_of_hl7apy(version: str, faults: list[Hl7Fault]) -> None:
    answer = acknowledge(
        header((12, version), (18, "")), code_for(faults), faults, control_id="A1", sent_at=NOW
    )
    assert answer is not None
    assert parse_message(answer.decode(), validation_level=VALIDATION_LEVEL.STRICT).validate()


@pytest.mark.parametrize(
    ("accept", "application", "code", "expected"),
    [
        ("", "", ACCEPT, "AA"),
        ("", "", ERROR, "AE"),
        ("", "", REJECT, "AR"),
        ("AL", "NE", ACCEPT, "CA"),
        ("AL", "NE", ERROR, "CE"),
        ("AL", "AL", REJECT, "CR"),
        ("SU", "NE", ACCEPT, "CA"),
        ("SU", "NE", ERROR, None),
        ("ER", "NE", ACCEPT, None),
        ("ER", "NE", ERROR, "CE"),
        ("NE", "NE", ERROR, None),
        ("NE", "AL", ACCEPT, "AA"),
        ("", "AL", ERROR, "AE"),
        ("", "ER", ACCEPT, None),
        ("?", "", ACCEPT, "CA"),
    ],
)
def test_modes(accept: str, application: str, code: AcknowledgementCode, expected: str | None) -> None:
    """Tables 0008 and 0155; in enhanced mode the accept level is the one answer."""
    answer = acknowledge(header((15, accept), (16, application)), code, control_id="A1", sent_at=NOW)
    assert (segments(answer)[1].split("|")[1] if answer else None) == expected


@pytest.mark.parametrize(
    ("accept", "application", "code", "expected"),
    [
        ("", "", ACCEPT, None),
        ("AL", "NE", ACCEPT, None),
        ("NE", "AL", ACCEPT, None),
        ("AL", "AL", ACCEPT, "AA"),
        ("AL", "ER", ACCEPT, None),
        ("AL", "ER", ERROR, None),
        ("AL", "AL", ERROR, None),
        ("AL", "AL", REJECT, None),
        ("SU", "AL", ERROR, None),
        ("AL", "SU", REJECT, None),
    ],
)
def test_the_second_answer(
    accept: str, application: str, code: AcknowledgementCode, expected: str | None
) -> None:
    """Only who asks for both gets it; it asks for no acknowledgement itself."""
    asked = header((15, accept), (16, application))
    answer = application_acknowledgement(asked, code, control_id="A2", sent_at=NOW)
    assert (segments(answer)[1].split("|")[1] if answer else None) == expected
    assert answer is None or segments(answer)[0].split("|")[14:16] == ["NE", "NE"]


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ([], ACCEPT),
        ([MISSING], ERROR),
        ([MISSING, SEQUENCE], REJECT),
        ([Hl7Fault(ErrorCode.VERSION, Location(), "x")], REJECT),
        ([Hl7Fault(ErrorCode.UNKNOWN_KEY, Location(), "x")], ERROR),
    ],
)
def test_what_faults_come_to(faults: list[Hl7Fault], code: AcknowledgementCode) -> None:
    assert code_for(faults) is code


def test_every_error_code_has_a_meaning() -> None:
    faults = [Hl7Fault(code, Location("MSH"), "x") for code in ErrorCode]
    answer = acknowledge(header((12, "2.5.1")), ERROR, faults, control_id="A1", sent_at=NOW)
    assert len(segments(answer)) == 2 + len(ErrorCode)


def test_told_faults_are_limited() -> None:
    answer = acknowledge(header((12, "2.5.1")), ERROR, [MISSING] * 1000, control_id="A1", sent_at=NOW)
    assert len(segments(answer)) == 2 + MAX_FAULTS_TOLD
    assert "(and 999 more)" in segments(answer)[1]


def test_the_separators_and_the_control_id_are_those_of_the_message() -> None:
    found = read_message(b"MSH$%*!@$R%1.2%ISO$H$A$B$2026$$ORM%O01$C!F!1$P$2.5.1\r").header
    assert found is not None
    answer = acknowledge(found, ERROR, [SEQUENCE], control_id="A1", sent_at=NOW)
    assert segments(answer)[0].startswith("MSH$%*!@$A$B$R%1.2%ISO$H$")
    assert segments(answer)[1].startswith("MSA$AE$C!F!1$")


@pytest.mark.parametrize(("version", "answered"), [("2.9", "2.5.1"), ("", "2.5.1"), ("x|y", "2.5.1")])
def test_an_unknown_version_is_answered_in_a_known_one(version: str, answered: str) -> None:
    answer = acknowledge(header((12, version)), REJECT, control_id="A1", sent_at=NOW)
    assert segments(answer)[0].split("|")[11] == answered


def test_the_answer_is_in_the_character_set_of_the_message() -> None:
    found = read_message(changed(changed(MSH, 18, "8859/1"), 3, "Müller").encode("iso8859-1")).header
    assert found is not None
    answer = acknowledge(found, ACCEPT, control_id="A1", sent_at=NOW)
    assert answer is not None
    assert "|Müller|" in answer.decode("iso8859-1")
