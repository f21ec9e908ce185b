# SPDX-License-Identifier: Apache-2.0
"""Three independent gates for a FHIR R4 resource: R4B models, pyfhircheck, and the npm package ``fhir``.

Each misses what another finds: the models know types and dates, pyfhircheck bindings and invariants, ``fhir``
codes and reference types. Only errors are faults; a gate's known false errors are left out here.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError
from pyfhircheck import Validator
from pyfhircheck.config import ValidatorConfig

from conformance.peers.installed import PEERS_FOLDER, node_modules, node_program, node_script

_NODE_TIMEOUT_S = 120
_DEFINITION_FILES = (
    "profiles-types",
    "profiles-resources",
    "profiles-others",
    "extension-definitions",
    "valuesets",
    "v3-codesystems",
    "v2-tables",
)
_DEFINITION_TYPES = frozenset({"StructureDefinition", "ValueSet", "CodeSystem"})


class Gate(StrEnum):
    """The independent code base that found a fault."""

    MODEL = "fhir.resources"
    PYFHIRCHECK = "pyfhircheck"
    NPM_FHIR = "npm fhir"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFault:
    """One error a gate reports.

    Attributes
    ----------
    gate : Gate
        Who found it.
    path : str
        Where, as that gate writes paths.
    message : str
        What, in that gate's words.
    """

    gate: Gate
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.path}: {self.message}"


def model_faults(resource: Mapping[str, Any]) -> list[GateFault]:
    """Return what the R4B models of ``fhir.resources`` refuse; R4B equals R4 for what Airway writes."""
    resource_type = resource.get("resourceType")
    try:
        model = get_fhir_model_class(str(resource_type))
    except ValueError:
        return [GateFault(gate=Gate.MODEL, path="resourceType", message=f"no R4 resource: {resource_type}")]
    try:
        model.model_validate(copy.deepcopy(dict(resource)))
    except ValidationError as error:
        return [
            GateFault(
                gate=Gate.MODEL, path=".".join(str(part) for part in fault["loc"]), message=fault["msg"]
            )
            for fault in error.errors(include_url=False, include_context=False)
        ]
    return []


def pyfhircheck_faults(resource: Mapping[str, Any]) -> list[GateFault]:
    """Return the errors of pyfhircheck with the complete R4 definitions, without its known false ones.

    Raises
    ------
    PeerMissingError
        When the npm packages, which carry the definitions, are not installed.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # its FHIRPath engine prints what trace() is given
        report = _pyfhircheck().validate_resource(copy.deepcopy(dict(resource)))
    faults = []
    for issue in report.issues:
        path = issue.path or issue.resource_type or ""
        # It only warns of an element that no data type has, which no R4 receiver may accept.
        is_error = issue.severity.value == "error" or issue.code == "datatype.unknown-field"
        if is_error and not _is_present_nested_choice(issue.code, path, resource):
            faults.append(GateFault(gate=Gate.PYFHIRCHECK, path=path, message=issue.message))
    return faults


def npm_fhir_faults(resource: Mapping[str, Any]) -> list[GateFault]:
    """Return the errors of the npm package ``fhir``, unexpected elements included.

    Raises
    ------
    PeerMissingError
        When the npm packages are not installed.
    """
    command = [str(node_program()), str(node_script("validate_fhir.mjs")), str(node_modules())]
    done = subprocess.run(
        command,
        input=json.dumps([resource]).encode(),
        check=True,
        capture_output=True,
        timeout=_NODE_TIMEOUT_S,
    )
    answers: Sequence[Sequence[Mapping[str, str]]] = json.loads(done.stdout)
    return [
        GateFault(gate=Gate.NPM_FHIR, path=message.get("location", ""), message=message["message"])
        for messages in answers
        for message in messages
        if message.get("severity") in {"error", "fatal"}
    ]


GATES: Mapping[Gate, Callable[[Mapping[str, Any]], list[GateFault]]] = {
    Gate.MODEL: model_faults,
    Gate.PYFHIRCHECK: pyfhircheck_faults,
    Gate.NPM_FHIR: npm_fhir_faults,
}


def r4_faults(resource: Mapping[str, Any]) -> list[GateFault]:
    """Return every error of every gate; an empty list is a valid R4 resource or Bundle."""
    return list(dict.fromkeys(fault for gate in GATES.values() for fault in gate(resource)))


def _is_present_nested_choice(code: str, path: str, resource: Mapping[str, Any]) -> bool:
    """Whether this is pyfhircheck's false "value[x] is required" for a choice that is there."""
    found = re.fullmatch(r"(?P<parent>.*)\.(?P<name>\w+)\[x\]", path)
    if code != "cardinality.min" or found is None:
        return False
    parents = [
        node
        for candidate in _candidates(resource, found["parent"])
        for node in _nodes_at(candidate, found["parent"].split(".")[1:])
    ]
    return bool(parents) and all(any(key.startswith(found["name"]) for key in node) for node in parents)


def _candidates(resource: Mapping[str, Any], path: str) -> Iterator[Mapping[str, Any]]:
    resource_type = path.partition(".")[0]
    if resource.get("resourceType") == resource_type:
        yield resource
    for entry in resource.get("entry", []) if resource.get("resourceType") == "Bundle" else []:
        inner = entry.get("resource", {})
        if inner.get("resourceType") == resource_type:
            yield inner


def _nodes_at(node: Any, parts: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from _nodes_at(item, parts)
    elif isinstance(node, Mapping):
        if not parts:
            yield node
            return
        name, _, index = parts[0].partition("[")
        value = node.get(name)
        if index and isinstance(value, list):
            position = int(index.rstrip("]"))
            value = value[position] if position < len(value) else None
        yield from _nodes_at(value, parts[1:])


@lru_cache(maxsize=1)
def _pyfhircheck() -> Validator:
    package = build_definitions(PEERS_FOLDER / "fhir-r4")
    config = {
        "fhirVersion": "4.0.1",
        "localPackagePaths": [str(package)],
        "packageCacheDir": str(PEERS_FOLDER / "fhir-r4" / "cache"),
        "terminology": {"mode": "local"},
    }
    return Validator(ValidatorConfig.load_dict(config))


def build_definitions(folder: Path) -> Path:
    """Return the R4 definitions as a package folder below `folder`; written once, then reused.

    Parameters
    ----------
    folder : Path
        Made when missing. The package appears in it whole or not at all.

    Raises
    ------
    PeerMissingError
        When the npm package that carries the definitions is not installed.
    """
    package = folder / "package"
    if (package / "package.json").exists():
        return package
    source = node_modules() / "@medplum" / "definitions" / "dist" / "fhir" / "r4"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as temporary:
        building = Path(temporary) / "package"
        building.mkdir()
        for name in _DEFINITION_FILES:
            bundle = json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
            for resource in (entry["resource"] for entry in bundle["entry"]):
                if resource["resourceType"] in _DEFINITION_TYPES:
                    path = building / f"{resource['resourceType']}-{resource['id']}.json"
                    path.write_text(json.dumps(resource), encoding="utf-8")
        manifest = {"name": "hl7.fhir.r4.core", "version": "4.0.1", "fhirVersions": ["4.0.1"]}
        (building / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
        try:
            os.replace(building, package)
        except OSError:
            if not (package / "package.json").exists():  # another process was first: its folder is as good
                raise
    return package
