# SPDX-License-Identifier: Apache-2.0
"""What the FHIR door answers besides resources: OperationOutcome of every fault, and the CapabilityStatement.

Statuses of refusals come from ``informatics_gateway/statuses.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import orjson
from starlette.responses import Response

from informatics_gateway.statuses import STATUSES
from profiles.fhir.datatypes import instant
from profiles.fhir.identifiers import Json
from profiles.fhir.reading import Issue
from task_manager.outcome import RefusalCode, Refused

MEDIA_TYPE = "application/fhir+json"

_ISSUE_CODES: Mapping[RefusalCode, str] = {
    RefusalCode.NO_SUCH_INSTANCE: "not-found",
    RefusalCode.UNKNOWN_ORDER: "not-found",
    RefusalCode.PRECONDITION_FAILED: "conflict",
    RefusalCode.DUPLICATE_INSTANCE: "duplicate",
    RefusalCode.INVALID_ATTRIBUTES: "business-rule",
    RefusalCode.OUT_OF_RESOURCES: "transient",
    RefusalCode.NO_ROOM: "no-store",
}


def json_response(content: Json, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A resource as an answer."""
    return Response(
        orjson.dumps(content), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def outcome(issues: Iterable[Issue], *, severity: str = "error") -> Json:
    """The OperationOutcome of some issues."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": severity,
                "code": one.code,
                "diagnostics": f"{one.expression}: {one.text}" if one.expression else one.text,
                **({"expression": [one.expression]} if one.expression else {}),
            }
            for one in issues
        ],
    }


def refusal_response(resource_type: str, refused: Refused) -> Response:
    """The answer of a refusal; faults of attributes are told as 422."""
    issues = [
        Issue(
            code=_ISSUE_CODES.get(refused.code, "processing"),
            expression=f"{resource_type}.{fault.path}" if fault.path.islower() else "",
            text=fault.message,
        )
        for fault in refused.faults
    ]
    status = STATUSES[refused.code].http
    if refused.code in (RefusalCode.INVALID_ATTRIBUTES, RefusalCode.UNKNOWN_ORDER):
        status = 422
    return json_response(outcome(issues or [Issue(code="processing", expression="", text="refused")]), status)


def issues_response(issues: Iterable[Issue], status: int) -> Response:
    """The answer of faults of a resource, or of a request."""
    return json_response(outcome(issues), status)


def error_response(status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer of one fault of a request."""
    return json_response(outcome([Issue(code=code, expression="", text=text)]), status, headers)


def capability_statement(url: str, version: str, started: datetime) -> Json:
    """What this door does, and no more (FHIR R4 CapabilityStatement)."""
    resource = {
        "interaction": [{"code": "create"}, {"code": "read"}, {"code": "update"}],
        "versioning": "versioned-update",
        "readHistory": False,
        "updateCreate": False,
        "conditionalCreate": True,
        "conditionalRead": "not-supported",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(started),
        "kind": "instance",
        "software": {"name": "Airway", "version": version},
        "implementation": {"description": "Requests for the analysis of imaging studies", "url": url},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [{"type": name, **resource} for name in ("ServiceRequest", "Task")],
            }
        ],
    }
