# SPDX-License-Identifier: Apache-2.0
"""What the stand-in EMR keeps, and FHIR R4's rules for creating, finding and transactions.

Everything is in memory and in one thread. A transaction is worked out on a copy and becomes
visible whole, or not at all.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

Json = dict[str, Any]

COMMON = {"_id": ("token", "id"), "_tag": ("token", "meta.tag"), "identifier": ("token", "identifier")}
PATIENT = {"patient": ("reference", "subject"), "subject": ("reference", "subject")}
SEARCH: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Patient": {"gender": ("token", "gender"), "birthdate": ("token", "birthDate")},
    "ServiceRequest": {
        **PATIENT,
        "status": ("token", "status"),
        "code": ("token", "code"),
        "category": ("token", "category"),
        "based-on": ("reference", "basedOn"),
    },
    "ImagingStudy": {
        **PATIENT,
        "status": ("token", "status"),
        "modality": ("token", "modality"),
        "basedon": ("reference", "basedOn"),
    },
    "Device": {"device-name": ("token", "deviceName.name"), "type": ("token", "type")},
    "Observation": {
        **PATIENT,
        "status": ("token", "status"),
        "code": ("token", "code"),
        "category": ("token", "category"),
        "value-concept": ("token", "valueCodeableConcept"),
        "based-on": ("reference", "basedOn"),
        "part-of": ("reference", "partOf"),
        "derived-from": ("reference", "derivedFrom"),
        "has-member": ("reference", "hasMember"),
        "device": ("reference", "device"),
    },
    "DiagnosticReport": {
        **PATIENT,
        "status": ("token", "status"),
        "code": ("token", "code"),
        "category": ("token", "category"),
        "based-on": ("reference", "basedOn"),
        "result": ("reference", "result"),
    },
    "Provenance": {
        "target": ("reference", "target"),
        "agent": ("reference", "agent.who"),
        "entity": ("reference", "entity.what"),
    },
}
"""Resource type to search parameter to (kind, path), beside :data:`COMMON`."""

_ENDED = frozenset({"entered-in-error", "unknown"})
_RESULT = frozenset({"registered", "preliminary", "final", "amended", "corrected", "cancelled"}) | _ENDED
_STATUSES: Mapping[str, frozenset[str]] = {
    "ServiceRequest": frozenset({"draft", "active", "on-hold", "revoked", "completed"}) | _ENDED,
    "ImagingStudy": frozenset({"registered", "available", "cancelled"}) | _ENDED,
    "Device": frozenset({"active", "inactive"}) | _ENDED,
    "Observation": _RESULT,
    "DiagnosticReport": frozenset({"partial", "appended"}) | _RESULT,
}
"""The required bindings of ``status``, which the models of fhir.resources leave open."""


class RefusedError(Exception):
    """A request is refused, with its HTTP status and OperationOutcome issues (code, text, element path)."""

    def __init__(self, status: int, code: str, text: str, expression: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.issues = [(code, text, expression)]

    def outcome(self) -> Json:
        """The OperationOutcome."""
        return {
            "resourceType": "OperationOutcome",
            "issue": [
                {"severity": "error", "code": code, "diagnostics": text}
                | ({"expression": [expression]} if expression else {})
                for code, text, expression in self.issues
            ],
        }


def check_resource(resource: object, expected_type: str = "") -> Json:
    """The resource, if it is a well-formed one of a known type.

    Raises
    ------
    RefusedError
        400 for what is no such resource, 422 for a value outside a required binding.
    """
    kind = str(resource.get("resourceType")) if isinstance(resource, dict) else ""
    if not isinstance(resource, dict) or kind not in SEARCH:
        raise RefusedError(400, "not-supported", "resource type is not served")
    if expected_type and kind != expected_type:
        raise RefusedError(400, "invalid", f"expected {expected_type}")
    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as error:
        refused = RefusedError(400, "structure", "not well-formed")
        refused.issues = [
            ("structure", str(each["type"]), _element_path(kind, each["loc"])) for each in error.errors()
        ]
        raise refused from error
    status = resource.get("status")
    if kind in _STATUSES and status is not None and status not in _STATUSES[kind]:
        raise RefusedError(422, "code-invalid", "not a status of this type", f"{kind}.status")
    return resource


def _element_path(kind: str, location: tuple[int | str, ...]) -> str:
    return kind + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


@dataclass
class Records:
    """All resources by type and id; ids and times are given when a resource is created."""

    base_url: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _kept: dict[str, dict[str, Json]] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything."""
        self._kept = {}

    def read(self, kind: str, identity: str) -> Json:
        """The resource ``kind/identity``.

        Raises
        ------
        RefusedError
            404 if there is none.
        """
        try:
            return self._kept[kind][identity]
        except KeyError:
            raise RefusedError(404, "not-found", "no such resource") from None

    def search(self, kind: str, query: str) -> list[Json]:
        """The resources that match every parameter of a URL-encoded query.

        Raises
        ------
        RefusedError
            404 for a type that is not served, 400 for a parameter that is not known.
        """
        if kind not in SEARCH:
            raise RefusedError(404, "not-supported", "resource type is not served")
        tests = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "_count":
                continue
            parameter = COMMON.get(name) or SEARCH[kind].get(name)
            if parameter is None:
                raise RefusedError(400, "not-supported", f"search parameter of {kind} is not known")
            tests.append((parameter, _split(value, ",")))
        return [
            resource
            for resource in self._kept.get(kind, {}).values()
            if all(any(self._matches(resource, p, value) for value in wanted) for p, wanted in tests)
        ]

    def _matches(self, resource: Json, parameter: tuple[str, str], wanted: str) -> bool:
        kind, path = parameter
        found = _reach(resource, path.split("."))
        if kind == "token":
            return any(_token_matches(each, wanted) for each in found)
        target = wanted.removeprefix(f"{self.base_url}/")
        references = (str(each.get("reference", "")) for each in found if isinstance(each, dict))
        return any(each == target or each.partition("/")[2] == target for each in references)

    def create(self, resource: Json, if_none_exist: str | None) -> tuple[Json, bool]:
        """The created resource and True, or the one that was there and False.

        Raises
        ------
        RefusedError
            412 if `if_none_exist` finds several.
        """
        if if_none_exist is not None:
            found = self.search(resource["resourceType"], if_none_exist)
            if len(found) > 1:
                raise RefusedError(412, "multiple-matches", "the condition finds several resources")
            if found:
                return found[0], False
        kept = copy.deepcopy(resource)
        kept["id"] = str(uuid.uuid4())
        moment = self.clock().isoformat(timespec="milliseconds")
        kept["meta"] = {**kept.get("meta", {}), "versionId": "1", "lastUpdated": moment}
        self._kept.setdefault(kept["resourceType"], {})[kept["id"]] = kept
        return kept, True

    def transact(self, bundle: object) -> Json:
        """Carry out a transaction of creates, all or nothing, and return its response.

        Raises
        ------
        RefusedError
            For the first entry that cannot be created; nothing is kept then.
        """
        entries = _creations(bundle)
        trial = Records(base_url=self.base_url, clock=self.clock)
        trial._kept = {kind: dict(of_kind) for kind, of_kind in self._kept.items()}
        outcome = [trial.create(resource, condition) for _, resource, condition in entries]
        addresses = {
            full_url: f"{kept['resourceType']}/{kept['id']}"
            for (full_url, _, _), (kept, _) in zip(entries, outcome, strict=True)
            if full_url
        }
        for kept, created in outcome:
            if created:
                trial._kept[kept["resourceType"]][kept["id"]] = _rewritten(kept, addresses)
        self._kept = trial._kept
        return {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": _entry_response(kept, created)} for kept, created in outcome],
        }


def _creations(bundle: object) -> list[tuple[str, Json, str | None]]:
    """fullUrl, resource and condition of every entry."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise RefusedError(400, "structure", "the body is no Bundle")
    if bundle.get("type") != "transaction":
        raise RefusedError(400, "not-supported", "only transactions are taken", "Bundle.type")
    found: list[tuple[str, Json, str | None]] = []
    entries = bundle.get("entry") or []
    if not isinstance(entries, list):
        raise RefusedError(400, "structure", "entries are a list", "Bundle.entry")
    for index, entry in enumerate(entries):
        where = f"Bundle.entry[{index}]"
        request = entry.get("request") if isinstance(entry, dict) else None
        if not isinstance(request, dict):
            raise RefusedError(400, "required", "an entry needs a request", f"{where}.request")
        if request.get("method") != "POST":
            raise RefusedError(400, "not-supported", "only POST is taken", f"{where}.request.method")
        resource = check_resource(entry.get("resource"), str(request.get("url", "")))
        full_url = str(entry.get("fullUrl") or "")
        if full_url and full_url in (known for known, _, _ in found):
            raise RefusedError(400, "duplicate", "two entries have one fullUrl", f"{where}.fullUrl")
        found.append((full_url, resource, request.get("ifNoneExist")))
    return found


def _rewritten(value: Any, addresses: Mapping[str, str]) -> Any:
    """`value` with every reference to an entry replaced by the address of its resource."""
    if isinstance(value, list):
        return [_rewritten(each, addresses) for each in value]
    if not isinstance(value, dict):
        return value
    whole = {key: _rewritten(each, addresses) for key, each in value.items()}
    reference = whole.get("reference")
    if isinstance(reference, str) and reference.startswith("urn:"):
        if reference not in addresses:
            raise RefusedError(400, "not-found", "a reference leads to no entry")
        whole["reference"] = addresses[reference]
    return whole


def _entry_response(kept: Json, created: bool) -> Json:
    version = kept["meta"]["versionId"]
    return {
        "status": "201 Created" if created else "200 OK",
        "location": f"{kept['resourceType']}/{kept['id']}/_history/{version}",
        "etag": f'W/"{version}"',
        "lastModified": kept["meta"]["lastUpdated"],
    }


def _reach(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _reach(each, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _reach(value[path[0]], path[1:])


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that no backslash escapes; the escapes stay."""
    return re.split(rf"(?<!\\){re.escape(separator)}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _token_matches(found: Any, wanted: str) -> bool:
    """Whether an Identifier, Coding, CodeableConcept or code matches ``[system|]code`` (R4 search)."""
    if isinstance(found, dict) and "coding" in found:
        return any(_token_matches(each, wanted) for each in found["coding"])
    parts = [_unescaped(part) for part in _split(wanted, "|")]
    if isinstance(found, dict):
        system, code = found.get("system", ""), found.get("value", found.get("code", ""))
    else:
        system, code = "", found
    if len(parts) == 1:
        return bool(code == parts[0])
    return bool(system == parts[0] and parts[1] in ("", code))
