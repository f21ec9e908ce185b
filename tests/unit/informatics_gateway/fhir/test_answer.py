# SPDX-License-Identifier: Apache-2.0
"""What the answer to a transaction comes to; the whole of its failures is in tests/loopback/fhir."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from informatics_gateway.fhir.answer import TransactionResult, check_response, json_object, refusal
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError


def answer(*statuses: object) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": status}} for status in statuses],
    }


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        (("201", "200"), TransactionResult(created=1, found=1)),
        (("201 Created", "200 OK", "201 Created"), TransactionResult(created=2, found=1)),
        ((201,), TransactionResult(created=1, found=0)),
        ((), TransactionResult(created=0, found=0)),
    ],
)
def test_created_and_found_are_counted(statuses: tuple[object, ...], result: TransactionResult) -> None:
    assert check_response(answer(*statuses), len(statuses)) == result


@pytest.mark.parametrize("status", [None, "", "OK", "2", "999", {}, ["201"]])
def test_a_status_that_is_none_is_final(status: object) -> None:
    with pytest.raises(FinalDeliveryError, match=r"^HTTP 0$"):
        check_response(answer(status), 1)


def test_the_kind_of_refusal_follows_the_status() -> None:
    assert isinstance(refusal(503, "", None), RetryableDeliveryError)
    assert isinstance(refusal(422, "5", None), FinalDeliveryError)


def test_only_errors_are_told_and_each_once() -> None:
    issues = [
        {"severity": "warning", "code": "incomplete"},
        {"severity": "error", "code": "required", "expression": ["Patient.name[0].family"]},
        {"severity": "error", "code": "required", "expression": ["Patient.name[0].family"]},
        {"severity": "fatal", "code": "invalid"},
    ]
    error = refusal(400, "", {"resourceType": "OperationOutcome", "issue": issues})
    assert str(error) == "HTTP 400 (required at Patient.name[0].family, invalid)"


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/fhir+json; charset=utf-8", b'{"a":1}', {"a": 1}),
        ("Application/JSON", b"{}", {}),
        ("text/html", b"{}", None),
        ("", b"{}", None),
        ("application/json", b"", None),
        ("application/json", b"\xff", None),
        ("application/json", b"1", None),
    ],
)
def test_json_object(content_type: str, body: bytes, expected: dict[str, int] | None) -> None:
    assert json_object(httpx.Headers({"content-type": content_type}), body) == expected
