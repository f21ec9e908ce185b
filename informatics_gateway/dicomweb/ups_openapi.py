# SPDX-License-Identifier: Apache-2.0
"""The UPS-RS routes in OpenAPI, made from the table of ``ups_resources.py``.

Descriptions only: nothing here is asked when a request is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Response

from informatics_gateway.dicomweb.media import DICOM_JSON, JSON, MULTIPART_XML
from informatics_gateway.dicomweb.ups_resources import Body, Parameter, Transaction
from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from profiles.ups.values import ALL_VRS

_ELEMENT: Mapping[str, Any] = {
    "type": "object",
    "required": ["vr"],
    "properties": {
        "vr": {"type": "string", "enum": sorted(ALL_VRS)},
        "Value": {"type": "array"},
        "InlineBinary": {"type": "string"},
    },
    "additionalProperties": False,
}
_DATA_SET: Mapping[str, Any] = {
    "type": "object",
    "description": "A data set in DICOM JSON (PS3.18 F.2): tag to vr and Value",
    "patternProperties": {"^[0-9A-F]{8}$": _ELEMENT},
    "additionalProperties": False,
}
_ARRAY: Mapping[str, Any] = {"type": "array", "items": _DATA_SET}
_ONE: Mapping[str, Any] = {**_ARRAY, "minItems": 1, "maxItems": 1}
_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "required": ["status", "code", "faults"],
    "properties": {
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_ERRORS: Mapping[int, str] = {
    304: "Not changed",
    400: "The request or the data set is wrong; every fault is listed",
    403: "Not allowed, or events are not supported",
    404: "No such workitem or subscription",
    406: "No acceptable media type",
    409: "Not possible in the present state",
    410: "The workitem was deleted",
    413: "The body is too large",
    414: "The query is too long",
    415: "The body is of another media type",
    503: "The store does not answer now",
}

_CODE = merged(
    [
        element("CodeValue", "LUNG"),
        element("CodingSchemeDesignator", "99AI"),
        element("CodeMeaning", "Lung CT"),
    ]
)
_EXAMPLES: Mapping[Body, DicomJson] = {
    Body.WORKITEM: merged(
        [
            element("ScheduledProcedureStepPriority", "MEDIUM"),
            element("ProcedureStepLabel", "Lung CT"),
            element("WorklistLabel", "AIRWAY"),
            element("ScheduledProcedureStepStartDateTime", "20260301080000+0000"),
            element("ScheduledWorkitemCodeSequence", _CODE),
            element("InputReadinessState", "READY"),
            element("ProcedureStepState", "SCHEDULED"),
            element("PatientName", "Doe^Jane"),
            element("PatientID", "P-1"),
        ]
    ),
    Body.CHANGES: merged(
        [element("ProcedureStepProgressInformationSequence", element("ProcedureStepProgress", "40"))]
    ),
    Body.STATE: merged([element("TransactionUID", "2.25.1"), element("ProcedureStepState", "IN PROGRESS")]),
    Body.CANCEL: merged([element("ReasonForCancellation", "Ordered twice")]),
}
_DEFAULTS: Mapping[str, Callable[[str], object]] = {"string": str, "integer": int, "boolean": "true".__eq__}
_PATH_EXAMPLES: Mapping[str, str] = {"workitem": "2.25.100", "aetitle": "WATCHER1", "requester": "RIS1"}


def description(transaction: Transaction) -> dict[str, Any]:
    """Keyword arguments of ``add_api_route`` that describe a transaction."""
    where = " ".join(part.strip("{}") for part in transaction.path.split("/") if part)
    extra: dict[str, Any] = {"parameters": [*_path(transaction), *map(_parameter, transaction.parameters)]}
    if transaction.body is not Body.NONE:
        extra["requestBody"] = _request_body(transaction.body)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": text, **_content(transaction, status)}
        for status, text in transaction.successes.items()
    }
    for status in transaction.errors:
        responses[status] = {"description": _ERRORS[status], "content": {JSON: {"schema": _PROBLEM}}}
    title = f"{transaction.name} (PS3.18 {transaction.clause})"
    return {
        "summary": title if transaction.formal else f"{title}, as some clients send it",
        "operation_id": f"{transaction.operation.value} {transaction.method.lower()} {where}".strip().replace(
            " ", "_"
        ),
        "status_code": next(iter(transaction.successes)),
        "response_class": Response,  # no payload but those below
        "responses": responses,
        "openapi_extra": extra,
    }


def _path(transaction: Transaction) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in transaction.path.split("/") if part.startswith("{")]
    suspends = transaction.path.endswith("/suspend")
    examples = {**_PATH_EXAMPLES, "workitem": GLOBAL_SUBSCRIPTION_UID} if suspends else _PATH_EXAMPLES
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": examples[name],
        }
        for name in names
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.kind == "integer":
        schema["minimum"] = 0
    if parameter.values:
        schema["enum"] = list(parameter.values)
    if parameter.default:
        schema["default"] = _DEFAULTS[parameter.kind](parameter.default)
    shown: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": schema,
    }
    return {**shown, "example": parameter.example} if parameter.example else shown


def _request_body(body: Body) -> dict[str, Any]:
    content: dict[str, Any] = {
        kind: {"schema": {"oneOf": [_ONE, _DATA_SET]}, "example": [_EXAMPLES[body]]}
        for kind in (DICOM_JSON, JSON)
    }
    content[MULTIPART_XML] = {"schema": {"type": "string", "description": "One Native DICOM Model (PS3.19)"}}
    return {"required": body is not Body.CANCEL, "content": content}


def _content(transaction: Transaction, status: int) -> dict[str, Any]:
    if status != 200 or not transaction.answers:
        return {}
    schemas = {DICOM_JSON: _ARRAY, JSON: _ARRAY if DICOM_JSON in transaction.answers else {"type": "object"}}
    text = {"type": "string"}
    return {"content": {kind: {"schema": schemas.get(kind, text)} for kind in transaction.answers}}
