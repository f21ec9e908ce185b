# SPDX-License-Identifier: Apache-2.0
"""The stand-in EMR's rules for creating, finding and transactions."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.peers.emr_records import Records, RefusedError, check_resource

BASE = "http://127.0.0.1:1/fhir"
URN = "urn:uuid:00000000-0000-4000-8000-00000000000"


def patient(value: str = "1", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:x:a", "value": value}], **more}


def observation(subject: str, **more: Any) -> dict[str, Any]:
    coding = {"system": "http://loinc.org", "code": "1-8"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "subject": {"reference": subject},
        **more,
    }


def entry(resource: Any, number: int = 1, condition: str | None = None, **request: str) -> dict[str, Any]:
    asked = {
        "method": "POST",
        "url": resource["resourceType"] if isinstance(resource, dict) else "",
        **request,
    }
    if condition is not None:
        asked["ifNoneExist"] = condition
    return {"fullUrl": f"{URN}{number}", "resource": resource, "request": asked}


def transaction(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries), **more}


@pytest.fixture
def records() -> Records:
    """An empty EMR."""
    return Records(base_url=BASE)


def test_create_gives_identity_and_version(records: Records) -> None:
    kept, created = records.create(patient(), None)
    assert created
    assert kept["meta"]["versionId"] == "1"
    assert records.read("Patient", kept["id"]) == kept


def test_conditional_create_finds_what_is_there(records: Records) -> None:
    first, _ = records.create(patient(), "identifier=urn:x:a|1")
    second, created = records.create(patient(), "identifier=urn:x:a|1")
    assert not created
    assert first == second


def test_conditional_create_refuses_an_ambiguous_condition(records: Records) -> None:
    records.create(patient(), None)
    records.create(patient(), None)
    with pytest.raises(RefusedError) as caught:
        records.create(patient(), "identifier=urn:x:a|1")
    assert caught.value.status == 412


def test_references_to_entries_become_addresses(records: Records) -> None:
    answer = records.transact(
        transaction(entry(observation(f"{URN}2"), 1), entry(patient(), 2, "identifier=urn:x:a|1"))
    )
    assert [each["response"]["status"] for each in answer["entry"]] == ["201 Created", "201 Created"]
    (kept,) = records.search("Patient", "")
    (found,) = records.search("Observation", f"patient=Patient/{kept['id']}")
    assert found["subject"] == {"reference": f"Patient/{kept['id']}"}


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        pytest.param(entry(observation(f"{URN}9"), 2), 400, id="reference to nothing"),
        pytest.param(entry({"resourceType": "Patient", "nme": "x"}, 2), 400, id="unknown element"),
        pytest.param(
            entry(observation("Patient/1", status="finalx"), 2), 422, id="status outside the binding"
        ),
        pytest.param(entry({"resourceType": "Basic"}, 2), 400, id="type not served"),
        pytest.param(entry(patient("2"), 1), 400, id="one fullUrl twice"),
        pytest.param(entry(patient("2"), 2, url="Observation"), 400, id="url of another type"),
        pytest.param(entry(patient("2"), 2, method="PUT"), 400, id="method"),
        pytest.param(entry(patient("2"), 2, "name=x"), 400, id="condition not known"),
        pytest.param(entry("text", 2), 400, id="resource of text"),
        pytest.param({"resource": patient("2")}, 400, id="no request"),
        pytest.param(7, 400, id="entry that is none"),
    ],
)
def test_a_transaction_is_whole_or_nothing(records: Records, bad: Any, status: int) -> None:
    with pytest.raises(RefusedError) as caught:
        records.transact(transaction(entry(patient(), 1), bad))
    assert caught.value.status == status
    assert records.search("Patient", "") == []


@pytest.mark.parametrize(
    "body", [None, [], {}, patient(), transaction(type="batch"), transaction() | {"entry": {"0": {}}}]
)
def test_what_is_no_transaction_is_refused(records: Records, body: object) -> None:
    with pytest.raises(RefusedError) as caught:
        records.transact(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 1),
        ("identifier=urn:x:a|p,q", 0),
        ("identifier=urn:x:a|p%5C,q%5C%7Cr", 1),
        ("identifier=urn:x:a|nobody,urn:x:a|p%5C,q%5C%7Cr", 1),
        ("identifier=p%5C,q%5C%7Cr", 1),
        ("identifier=urn:x:a|", 1),
        ("identifier=urn:x:b|", 0),
        ("identifier=urn:x:a|p%5C,q%5C%7Cr&gender=female", 1),
        ("identifier=urn:x:a|p%5C,q%5C%7Cr&gender=male", 0),
        ("_tag=urn:x:t|1", 1),
        ("_tag=urn:x:t|2", 0),
        ("_count=1", 1),
    ],
)
def test_tokens_are_matched_as_r4_says(records: Records, query: str, found: int) -> None:
    tagged = {"meta": {"tag": [{"system": "urn:x:t", "code": "1"}]}, "gender": "female"}
    records.create(patient("p,q|r", **tagged), None)
    assert len(records.search("Patient", query)) == found


@pytest.mark.parametrize("form", ["Patient/7", "7", f"{BASE}/Patient/7"])
def test_references_are_found_in_each_of_their_forms(records: Records, form: str) -> None:
    records.create(observation("Patient/7"), None)
    assert len(records.search("Observation", f"patient={form}")) == 1
    assert records.search("Observation", "patient=Patient/70") == []


@pytest.mark.parametrize(("kind", "query", "status"), [("Basic", "", 404), ("Patient", "foo=1", 400)])
def test_searches_that_are_not_known_are_refused(
    records: Records, kind: str, query: str, status: int
) -> None:
    with pytest.raises(RefusedError) as caught:
        records.search(kind, query)
    assert caught.value.status == status


def test_refusals_tell_the_element_and_never_its_value() -> None:
    with pytest.raises(RefusedError) as caught:
        check_resource({"resourceType": "Patient", "birthDate": "Doe^Jane"})
    outcome = caught.value.outcome()
    assert outcome["issue"][0]["expression"] == ["Patient.birthDate"]
    assert "Doe" not in str(outcome)
