# SPDX-License-Identifier: Apache-2.0
"""Reads what a FHIR server answered to a transaction: done, later, or never.

The answer is untrusted. Errors hold HTTP status, issue codes and element paths and nothing else of it, for
diagnostics and values may name a patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from informatics_gateway.retry_after import pause_of
from task_manager.delivery.answers import tells_absence
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError

Json = dict[str, Any]

_RETRYABLE = frozenset({408, 409, 423, 425, 429})
_CODE = re.compile(r"[a-z-]{1,32}")
_ELEMENT_PATH = re.compile(r"[A-Za-z]{1,64}(\[\d{1,4}\])?(\.[A-Za-z]{1,64}(\[\d{1,4}\])?){0,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """What became of the entries of one transaction: how many were new, how many were there before."""

    created: int
    found: int


def check_response(answer: Json, entries: int) -> TransactionResult:
    """What a transaction-response says, if every entry succeeded.

    Raises
    ------
    RetryableDeliveryError
        If the worst entry may succeed later.
    FinalDeliveryError
        If an entry was refused, or the answer does not answer every entry.
    """
    if answer.get("resourceType") != "Bundle" or answer.get("type") != "transaction-response":
        raise FinalDeliveryError("the answer is no transaction-response")
    told = answer.get("entry")
    responses = (
        [entry.get("response") for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    )
    if len(responses) != entries:
        raise FinalDeliveryError(f"{entries} entries sent, {len(responses)} answered")
    statuses: Counter[int] = Counter()
    refused: list[DeliveryError] = []
    for response in responses:
        status = _entry_status(response)
        statuses[status] += 1
        if not 200 <= status < 300:
            outcome = response.get("outcome") if isinstance(response, dict) else None
            refused.append(refusal(status, "", outcome if isinstance(outcome, dict) else None))
    if refused:
        raise next((error for error in refused if isinstance(error, FinalDeliveryError)), refused[0])
    return TransactionResult(created=statuses[201], found=entries - statuses[201])


def refusal(status: int, retry_after: str, outcome: Json | None) -> DeliveryError:
    """The error of an HTTP status; its text holds status, issue codes and element paths, nothing else."""
    told = ", ".join(dict.fromkeys(_issues(outcome)))
    message = f"HTTP {status}" + (f" ({told})" if told else "")
    if status >= 500 or status in _RETRYABLE:
        return RetryableDeliveryError(
            message,
            retry_after=pause_of(retry_after, datetime.now(UTC)),
            unreachable=tells_absence(status),
        )
    return FinalDeliveryError(message)


def _issues(outcome: Json | None) -> Iterator[str]:
    issues = outcome.get("issue") if outcome and outcome.get("resourceType") == "OperationOutcome" else None
    for issue in issues[:8] if isinstance(issues, list) else []:
        if not isinstance(issue, dict):
            continue
        if issue.get("severity") in ("warning", "information"):
            continue
        code = issue.get("code")
        where = issue.get("expression")
        path = where[0] if isinstance(where, list) and where else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            known = isinstance(path, str) and _ELEMENT_PATH.fullmatch(path)
            yield f"{code} at {path}" if known else code


def _entry_status(response: object) -> int:
    """The number a response status starts with (``201`` or ``201 Created``); 0 if there is none."""
    status = response.get("status") if isinstance(response, dict) else None
    digits = str(status)[:3]
    return int(digits) if re.fullmatch(r"[1-5][0-9]{2}", digits) else 0


def json_object(headers: httpx.Headers, body: bytes) -> Json | None:
    """The JSON object of a body, or None if it is of another media type or cannot be read."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/fhir+json", "application/json"):
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
