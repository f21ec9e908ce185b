# SPDX-License-Identifier: Apache-2.0
"""The stand-in EMR as a process: where it says it listens, and how it answers over HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.peers.emr import run_emr
from conformance.peers.fhir_server import FhirServer
from conformance.peers.process import PeerProcess, wait_until

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:x:a", "value": "1"}]}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def http(emr: FhirServer) -> Iterator[httpx.Client]:
    """A plain HTTP client at the base of an empty EMR."""
    emr.clear()
    with httpx.Client(base_url=emr.base_url, trust_env=False) as client:
        yield client


def is_outcome(response: httpx.Response) -> bool:
    body: dict[str, Any] = response.json()
    return body["resourceType"] == "OperationOutcome" and bool(body["issue"])


def test_the_endpoint_file_lives_as_long_as_the_server(tmp_path: Path) -> None:
    endpoint = tmp_path / "emr.json"
    command = [sys.executable, "-m", "conformance.peers.emr", "--endpoint-file", str(endpoint)]
    with PeerProcess("emr", command, tmp_path, environment={"PYTHONPATH": str(ROOT)}) as process:
        process.wait_ready(endpoint.exists)
        told = json.loads(endpoint.read_text())
        assert told["pid"] == process.pid
        assert told["base_url"].startswith("http://127.0.0.1:")
        assert httpx.get(f"{told['base_url']}/metadata", trust_env=False).json()["fhirVersion"] == "4.0.1"
    wait_until(lambda: not endpoint.exists(), "endpoint file removed")


def test_a_second_emr_forgets_what_the_first_was_told() -> None:
    with run_emr() as server:
        httpx.post(f"{server.base_url}/Patient", json=PATIENT, trust_env=False).raise_for_status()
        assert len(server.search("Patient")) == 1
    with run_emr() as server:
        assert server.search("Patient") == []


def test_conditional_create_over_http(http: httpx.Client) -> None:
    condition = {"If-None-Exist": "identifier=urn:x:a|1"}
    first = http.post("/Patient", json=PATIENT, headers=condition)
    assert first.status_code == 201
    assert first.headers["location"].endswith(f"/Patient/{first.json()['id']}/_history/1")
    assert first.headers["etag"] == 'W/"1"'
    second = http.post("/Patient", json=PATIENT, headers=condition)
    assert (second.status_code, second.json()) == (200, first.json())
    assert http.get(f"/Patient/{first.json()['id']}").json() == first.json()


def test_count_limits_the_page_and_not_the_total(http: httpx.Client) -> None:
    for _ in range(3):
        http.post("/Patient", json=PATIENT)
    answer = http.get("/Patient", params={"_count": "2"}).json()
    assert (answer["total"], len(answer["entry"])) == (3, 2)


@pytest.mark.parametrize(
    ("method", "path", "request_parts", "status"),
    [
        pytest.param("GET", "/Patient/none", {}, 404, id="no such resource"),
        pytest.param("GET", "/Basic", {}, 404, id="type not served"),
        pytest.param("GET", "/Patient?foo=1", {}, 400, id="unknown parameter"),
        pytest.param("GET", "/Patient?_count=many", {}, 400, id="count of text"),
        pytest.param("GET", "/a/b/c/d", {}, 404, id="no such path"),
        pytest.param("PUT", "/Patient/1", {"json": PATIENT}, 405, id="no update"),
        pytest.param("POST", "/Patient", {"json": {"resourceType": "Device"}}, 400, id="another type"),
        pytest.param("POST", "/Patient", {"content": b"{}"}, 415, id="no media type"),
        pytest.param(
            "POST",
            "",
            {"content": b"{", "headers": {"Content-Type": "application/fhir+json"}},
            400,
            id="no JSON",
        ),
        pytest.param("POST", "", {"json": []}, 400, id="no Bundle"),
    ],
)
def test_refusals_are_operation_outcomes(
    http: httpx.Client, method: str, path: str, request_parts: dict[str, Any], status: int
) -> None:
    response = http.request(method, path, **request_parts)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/fhir+json")
    assert is_outcome(response)


def test_deep_nesting_is_refused(http: httpx.Client) -> None:
    content = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    response = http.post("", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert is_outcome(response)
