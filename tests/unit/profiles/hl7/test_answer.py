# SPDX-License-Identifier: Apache-2.0
"""Acknowledgements as receivers of several versions write them, and what is no acknowledgement."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from profiles.hl7.acknowledgement import AcknowledgementCode, acknowledge
from profiles.hl7.answer import AnswerCode, read_answer
from profiles.hl7.message import ErrorCode, Hl7Fault, Location, Message, read_message
from tests.unit.profiles.hl7.messages import message

HEAD = "MSH|^~\\&|RIS|HOSP|AIRWAY||20260504||ACK^R01^ACK|77|P|2.5.1\r"
OLD = "MSH|^~\\&|RIS|HOSP|AIRWAY||20260504||ACK|77|P|2.3.1\r"


@pytest.mark.parametrize(
    ("raw", "code", "told"),
    [
        pytest.param(f"{HEAD}MSA|AA|M1\r", AnswerCode.APPLICATION_ACCEPT, "AA", id="AA"),
        pytest.param(f"{HEAD}MSA|CA|M1\r", AnswerCode.COMMIT_ACCEPT, "CA", id="CA"),
        pytest.param(f"{HEAD}MSA|aa|M1", AnswerCode.APPLICATION_ACCEPT, "AA", id="lower case, no CR"),
        pytest.param(
            f"{HEAD}MSA|AE|M1|Doe^Jane unknown\rERR||PID^1^3^1^1|204^Doe^X|E||||Jane Doe is not here\r",
            AnswerCode.APPLICATION_ERROR,
            "AE (204 Unknown key identifier at PID-3.1)",
            id="one error, its free text left out",
        ),
        pytest.param(
            f"{HEAD}MSA|AR|M1\rERR||MSH^1^12|203|E\rERR||MSH^1^9|200|E\r",
            AnswerCode.APPLICATION_REJECT,
            "AR (203 Unsupported version id at MSH-12; 200 Unsupported message type at MSH-9)",
            id="two errors",
        ),
        pytest.param(
            f"{HEAD}MSA|AA|M1\rERR||PID^1^5|102|W||||a warning\r",
            AnswerCode.APPLICATION_ACCEPT,
            "AA",
            id="a warning is no error",
        ),
        pytest.param(
            f"{OLD}MSA|AE|M1\rERR|OBX^2^5^102&Data type error&HL70357~OBR^1^4^103\r",
            AnswerCode.APPLICATION_ERROR,
            "AE (102 Data type error at OBX[2]-5; 103 Table value not found at OBR-4)",
            id="ERR-1 of old versions",
        ),
        pytest.param(
            f"{HEAD}MSA|CE|M1\rERR||Jane Doe^x^y|Jane|E\r",
            AnswerCode.COMMIT_ERROR,
            "CE (error without a code)",
            id="an error that is no error of a table",
        ),
        pytest.param(f"{HEAD}MSA|CR|M1\r", AnswerCode.COMMIT_REJECT, "CR", id="CR without reasons"),
    ],
)
def test_answers(raw: str, code: AnswerCode, told: str) -> None:
    answer = read_answer(raw.encode())
    assert answer is not None
    assert (answer.code, answer.control_id, str(answer)) == (code, "M1", told)
    assert answer.accepted == code.value.endswith("A")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        HEAD.encode(),
        f"{HEAD}MSA|XX|M1\r".encode(),
        f"{HEAD}MSA\r".encode(),
        message(),
        b"MSH|^~\\&|" + b"\xff" * 5000,
    ],
)
def test_what_is_no_acknowledgement(raw: bytes) -> None:
    assert read_answer(raw) is None


def test_many_errors_are_bounded() -> None:
    errors = "".join(f"ERR||OBX^{n}^5|102|E\r" for n in range(1, 2000))
    answer = read_answer(f"{HEAD}MSA|AE|M1\r{errors}".encode())
    assert answer is not None
    assert len(answer.errors) == 8


@pytest.mark.parametrize("code", list(AcknowledgementCode))
def test_it_reads_what_airway_itself_answers(code: AcknowledgementCode) -> None:
    sent = read_message(message())
    assert isinstance(sent, Message)
    faults = [Hl7Fault(ErrorCode.UNKNOWN_KEY, Location("ORC", 1, 2), "no such order")]
    raw = acknowledge(
        sent.header,
        code,
        faults if code is not AcknowledgementCode.ACCEPT else (),
        control_id="1",
        sent_at=datetime(2026, 5, 4, tzinfo=UTC),
    )
    assert raw is not None
    answer = read_answer(raw)
    assert answer is not None
    assert (answer.code.value, answer.control_id) == (code.value, "RIS0002")
    assert [str(error) for error in answer.errors] == (
        [] if answer.accepted else ["204 Unknown key identifier at ORC-2"]
    )
