# SPDX-License-Identifier: Apache-2.0
"""Each FHIR gate passes a correct Bundle and finds the faults it is there for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from conformance.validators.fhir import GATES, Gate, build_definitions, model_faults, r4_faults

pytestmark = pytest.mark.peers

PATIENT_URL = "urn:uuid:11111111-1111-4111-8111-111111111111"


def entry(number: int, resource: dict[str, Any], **request: str) -> dict[str, Any]:
    return {
        "fullUrl": f"urn:uuid:{str(number) * 8}-1111-4111-8111-111111111111",
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], **request},
    }


def coding(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def results() -> dict[str, Any]:
    """A transaction with a patient, a measurement, a task and an audit event."""
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:example:mrn", "value": "P1"}],
        "gender": "female",
        "birthDate": "1970-01-31",
    }
    observation = {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging")],
        "code": coding("http://snomed.info/sct", "118565006"),
        "subject": {"reference": PATIENT_URL},
        "valueQuantity": {"value": 4200, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL"},
    }
    task = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "input": [{"type": {"text": "model"}, "valueString": "lung-ct"}],
    }
    audit = {
        "resourceType": "AuditEvent",
        "type": {"system": "urn:ihe:rad", "code": "SOLE"},
        "recorded": "2026-05-04T09:15:27.120Z",
        "agent": [{"requestor": True, "network": {"address": "ai01.example.org", "type": "1"}}],
        "source": {"observer": {"display": "ai01"}},
        "entity": [{"detail": [{"type": "Function", "valueString": "lung-ct 0.1"}]}],
    }
    once = "identifier=urn:example:mrn|P1"
    entries = [entry(1, patient, ifNoneExist=once), entry(2, observation), entry(3, task), entry(4, audit)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def changed(index: int, **elements: Any) -> dict[str, Any]:
    bundle = copy.deepcopy(results())
    resource = bundle["entry"][index]["resource"]
    resource.update(elements)
    for name in [name for name, value in elements.items() if value is None]:
        del resource[name]
    return bundle


def test_correct_bundle_passes_every_gate() -> None:
    assert r4_faults(results()) == []


ALL = set(Gate)


@pytest.mark.parametrize(
    ("bundle", "finders"),
    [
        pytest.param(changed(1, colour="red"), ALL, id="unknown-element"),
        pytest.param(
            changed(1, valueQuantity={"value": 1, "colour": "red"}), ALL, id="unknown-element-in-a-data-type"
        ),
        pytest.param(changed(1, code=None), ALL, id="required-element-missing"),
        pytest.param(changed(0, birthDate="yesterday"), ALL, id="no-date"),
        pytest.param(
            changed(1, status="finalx"), {Gate.PYFHIRCHECK, Gate.NPM_FHIR}, id="code-not-in-binding"
        ),
        pytest.param(
            changed(1, subject={"reference": "Observation/1"}),
            {Gate.PYFHIRCHECK, Gate.NPM_FHIR},
            id="reference-to-wrong-type",
        ),
        pytest.param(
            changed(1, dataAbsentReason={"text": "lost"}), {Gate.PYFHIRCHECK}, id="invariant-obs-6-broken"
        ),
        pytest.param(
            changed(1, valueString="4200 mL"), {Gate.MODEL, Gate.PYFHIRCHECK}, id="two-values-of-one-choice"
        ),
        pytest.param(changed(2, input=[{"type": {"text": "model"}}]), ALL, id="nested-choice-missing"),
        pytest.param(
            changed(2, input=[{"type": {"text": "a"}}, {"type": {"text": "b"}, "valueString": "c"}]),
            ALL,
            id="nested-choice-missing-in-one-of-two",
        ),
        pytest.param({"resourceType": "Rumour"}, ALL, id="no-such-resource"),
        pytest.param({}, ALL, id="no-resource"),
    ],
)
def test_fault_is_found_by_the_gates_that_can(bundle: dict[str, Any], finders: set[Gate]) -> None:
    assert {gate for gate, faults in GATES.items() if faults(bundle)} == finders


def test_fault_names_gate_path_and_reason() -> None:
    [fault] = model_faults(changed(1, colour="red"))

    assert str(fault).startswith("fhir.resources: entry.1.resource.colour: ")


def test_checking_leaves_the_resource_as_it_was() -> None:
    bundle = results()

    r4_faults(bundle)

    assert bundle == results()


def test_definitions_are_built_once_and_complete(tmp_path: Path) -> None:
    package = build_definitions(tmp_path)
    built = (package / "package.json").stat().st_mtime_ns

    assert build_definitions(tmp_path) == package
    assert (package / "package.json").stat().st_mtime_ns == built
    for name in ("StructureDefinition-Observation", "ValueSet-observation-status", "CodeSystem-v2-0203"):
        assert (package / f"{name}.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
