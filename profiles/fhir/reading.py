# SPDX-License-Identifier: Apache-2.0
"""Reading resources that others send: hostile JSON to plain values, every fault with its FHIRPath.

The models of FHIR R4B say which elements there are (for these resources those of R4); what a resource must
hold to be done here is asked in ``service_request.py`` and ``task.py``. Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from profiles.codes import Code
from profiles.fhir.identifiers import CODE_SYSTEMS, DICOM_UID_SYSTEM, IDENTIFIER_TYPE_SYSTEM, Json
from profiles.uids import is_uid

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_TEXT = 10_240
_MAX_ISSUES = 50
_LONGEST_ID = 64
_LONGEST_TOKEN = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OID = "urn:oid:"
_SCHEMES = {system: scheme for scheme, system in CODE_SYSTEMS.items()}
_NOT_IN_A_NAME = str.maketrans({"^": " ", "=": " ", "\\": "/"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault: a code of IssueType, where (FHIRPath), and what is wrong in words that show no value."""

    code: str
    expression: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReading:
    """How a site's requests are read.

    Attributes
    ----------
    issuers
        Identifier system to the issuer that HL7 orders and images name for it. Of other systems an OID is the
        issuer, and anything else tells none.
    code_systems
        Code system to coding scheme designator, added to those of DICOM.
    accession_systems, placer_systems, filler_systems
        Systems of order identifiers that carry no type of HL7 table 0203.
    """

    issuers: Mapping[str, str] = field(default_factory=dict)
    code_systems: Mapping[str, str] = field(default_factory=dict)
    accession_systems: tuple[str, ...] = ()
    placer_systems: tuple[str, ...] = ()
    filler_systems: tuple[str, ...] = ()

    def issuer(self, system: str) -> str:
        """The issuer of identifiers of a system; empty if it tells none."""
        if system in self.issuers:
            return self.issuers[system]
        oid = system.removeprefix(_OID)
        return oid if system.startswith(_OID) and is_uid(oid) else ""

    def scheme(self, system: str) -> str:
        """The coding scheme designator of a code system; empty if it has none."""
        return self.code_systems.get(system) or _SCHEMES.get(system, "")


@dataclass(slots=True)
class Issues:
    """Faults found so far; of hostile input only the first are listed."""

    found: list[Issue] = field(default_factory=list)

    def add(self, expression: str, text: str, code: str = "invalid") -> None:
        """Add a fault."""
        if len(self.found) < _MAX_ISSUES:
            self.found.append(Issue(code=code, expression=expression, text=text))


def structure_issues(content: Any, resource_type: str) -> list[Issue]:
    """Whether `content` is a resource of a type, by its model; empty if it is."""
    issues = Issues()
    if not isinstance(content, dict):
        issues.add("", "the body has to be one resource", "structure")
    elif content.get("resourceType") != resource_type:
        issues.add("resourceType", f"has to be {resource_type} at this address", "structure")
    else:
        _check_size(content, resource_type, issues)
    if issues.found or not isinstance(content, dict):
        return issues.found
    try:
        get_fhir_model_class(resource_type).model_validate(content)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False, include_context=False):
            issues.add(_expression(resource_type, one["loc"]), *_worded(str(one["type"])))
    except (RecursionError, ValueError, TypeError, AttributeError, KeyError):
        issues.add(resource_type, "is no such resource", "structure")  # the models trip over some shapes
    return issues.found


def _worded(kind: str) -> tuple[str, str]:
    if kind == "missing":
        return "is required", "required"
    if kind == "extra_forbidden":
        return "there is no such element", "structure"
    return "has no value that its type allows", "value"


def _expression(resource_type: str, location: Sequence[str | int]) -> str:
    path = resource_type
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{_shown(str(step))}"
    return path


def _shown(name: str) -> str:
    return re.sub(r"[^A-Za-z_]", "?", name)[:40]


def _check_size(content: Json, resource_type: str, issues: Issues) -> None:
    """Depth, number of nodes and length of texts; control characters, which no store and no message takes."""
    nodes = 0
    waiting: list[tuple[str, Any, int]] = [(resource_type, content, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            issues.add(resource_type, "is too deep or too large", "too-costly")
            return
        if isinstance(value, dict):
            waiting += [(f"{path}.{_shown(name)}", one, depth + 1) for name, one in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", one, depth + 1) for index, one in enumerate(value)]
        elif isinstance(value, str):
            if _CONTROL.search(value):
                issues.add(path, "has control characters", "value")
            if len(value) > MAX_TEXT and not path.endswith((".div", ".data")):
                issues.add(path, f"has more than {MAX_TEXT} characters", "too-long")


def list_of(item: Json, name: str) -> list[Json]:
    """The objects of a repeating element."""
    value = item.get(name)
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, dict)]


def object_of(item: Json, name: str) -> Json:
    """An element that is an object; empty without one."""
    value = item.get(name)
    return value if isinstance(value, dict) else {}


def text_of(item: Json, name: str) -> str:
    """An element that is a text; empty without one."""
    value = item.get(name)
    return value.strip() if isinstance(value, str) else ""


def references(resource: Json, reference: Json) -> Iterator[Json]:
    """The identifiers that a reference gives: its own, then those of the contained resource it names."""
    if object_of(reference, "identifier"):
        yield object_of(reference, "identifier")
    yield from list_of(contained(resource, reference), "identifier")


def contained(resource: Json, reference: Json) -> Json:
    """The contained resource that a reference names; empty if it names none."""
    name = text_of(reference, "reference")
    if not name.startswith("#"):
        return {}
    found = (one for one in list_of(resource, "contained") if text_of(one, "id") == name[1:])
    return next(found, {})


def identifier_type(identifier: Json) -> str:
    """The code of HL7 table 0203 of an identifier; empty without one."""
    codings = list_of(object_of(identifier, "type"), "coding")
    return next(
        (text_of(one, "code") for one in codings if text_of(one, "system") == IDENTIFIER_TYPE_SYSTEM), ""
    )


def study_uid(identifier: Json) -> str:
    """The DICOM UID that an identifier is; empty if it is none."""
    value = text_of(identifier, "value").removeprefix(_OID)
    return value if text_of(identifier, "system") == DICOM_UID_SYSTEM and is_uid(value) else ""


def identifier_value(identifier: Json, expression: str, issues: Issues) -> str:
    """The value of an identifier, if DICOM can carry it."""
    value = text_of(identifier, "value")
    if len(value) > _LONGEST_ID or "\\" in value:
        issues.add(f"{expression}.value", f"DICOM takes {_LONGEST_ID} characters and no backslash", "value")
        return ""
    return value


def tokens_of(resource: Json, issues: Issues) -> tuple[str, ...]:
    """``system|value`` of each identifier, as conditional creates name them."""
    found = []
    for index, one in enumerate(list_of(resource, "identifier")):
        token = f"{text_of(one, 'system')}|{text_of(one, 'value')}"
        if len(token.encode()) > _LONGEST_TOKEN:
            place = f"{text_of(resource, 'resourceType')}.identifier[{index}]"
            issues.add(place, f"has more than {_LONGEST_TOKEN} bytes", "too-long")
        elif text_of(one, "value"):
            found.append(token)
    return tuple(found)


def code_of(concept: Json, reading: RequestReading) -> Code | None:
    """The code of a CodeableConcept: the first of a known scheme, else the first at all."""
    found = [
        Code(
            text_of(one, "code"),
            reading.scheme(text_of(one, "system")),
            text_of(one, "display") or text_of(concept, "text") or text_of(one, "code"),
        )
        for one in list_of(concept, "coding")
        if text_of(one, "code")
    ]
    return next((one for one in found if one.scheme), found[0] if found else None)


def concept_text(concept: Json) -> str:
    """A CodeableConcept in words."""
    told = [text_of(concept, "text"), *(text_of(one, "display") for one in list_of(concept, "coding"))]
    codes = [text_of(one, "code") for one in list_of(concept, "coding")]
    return next((one for one in (*told, *codes) if one), "")


def person_name(names: Sequence[Json]) -> str:
    """A HumanName in DICOM form: the official one, else the first."""
    chosen = next((one for one in names if text_of(one, "use") == "official"), names[0] if names else {})
    given = [str(one) for one in chosen.get("given") or () if isinstance(one, str)]
    prefix, suffix = (
        " ".join(str(one) for one in chosen.get(key) or () if one) for key in ("prefix", "suffix")
    )
    parts = [text_of(chosen, "family"), *(given[:1] or [""]), " ".join(given[1:]), prefix, suffix]
    name = "^".join(part.translate(_NOT_IN_A_NAME).strip() for part in parts).rstrip("^")
    return name or text_of(chosen, "text").translate(_NOT_IN_A_NAME)
