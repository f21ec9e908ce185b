# SPDX-License-Identifier: Apache-2.0
"""The FHIR client against servers that fail, refuse, babble or are not there."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conformance.peers.process import free_port
from informatics_gateway.fhir.client import FhirClient, FhirEndpoint
from task_manager.errors import ConfigurationError, DeliveryError, FinalDeliveryError, RetryableDeliveryError
from tests.loopback.fhir.scripted_server import Answer, Script, scripted_server

BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}],
}
HTML = {"Content-Type": "text/html"}
SECRET = "Doe^Jane"


def response(*statuses: str, **changes: Any) -> bytes:
    whole = {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": status}} for status in statuses],
    }
    return json.dumps(whole | changes).encode()


def outcome(code: str, *expression: str) -> dict[str, Any]:
    issue = {
        "severity": "error",
        "code": code,
        "diagnostics": f"{SECRET} is wrong",
        "expression": list(expression),
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def told(status: int, code: str, *expression: str, headers: Mapping[str, str] | None = None) -> Answer:
    given = {"Content-Type": "application/fhir+json", **(headers or {})}
    return Answer(status=status, body=json.dumps(outcome(code, *expression)).encode(), headers=given)


CREATED = Answer(status=200, body=response("201 Created"))


@contextmanager
def client_of(base_url: str, **limits: Any) -> Iterator[FhirClient]:
    client = FhirClient(FhirEndpoint(base_url=base_url, **{"timeout_s": 5.0} | limits))
    try:
        yield client
    finally:
        client.close()


def failure(script: Script, **limits: Any) -> DeliveryError:
    with client_of(script.base_url, **limits) as client, pytest.raises(DeliveryError) as caught:
        client.transact(BUNDLE)
    assert SECRET not in str(caught.value)
    return caught.value


def test_the_request_is_a_fhir_transaction() -> None:
    with scripted_server(CREATED) as script, client_of(f"{script.base_url}/") as client:
        assert client.transact(BUNDLE).created == 1
    ((path, headers, body),) = script.requests
    assert path == "/fhir"
    assert headers["Content-Type"] == "application/fhir+json; charset=utf-8"
    assert headers["Accept"] == "application/fhir+json"
    assert "Authorization" not in headers
    assert json.loads(body) == BUNDLE


def test_a_server_that_recovers_gets_the_result() -> None:
    with scripted_server(told(503, "transient"), CREATED) as script, client_of(script.base_url) as client:
        with pytest.raises(RetryableDeliveryError, match=r"^HTTP 503 \(transient\)$"):
            client.transact(BUNDLE)
        assert client.transact(BUNDLE).created == 1


@pytest.mark.parametrize("status", [408, 409, 423, 425, 429, 500, 502, 503, 504])
def test_later_may_work(status: int) -> None:
    with scripted_server(told(status, "throttled")) as script:
        assert isinstance(failure(script), RetryableDeliveryError)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 410, 412, 413, 415, 422])
def test_it_will_not_work_unchanged(status: int) -> None:
    with scripted_server(told(status, "invalid")) as script:
        assert isinstance(failure(script), FinalDeliveryError)
        assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(seconds=120)),
        ("999999999", timedelta(hours=1)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(hours=1)),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_heard(header: str, wait: timedelta | None) -> None:
    with scripted_server(told(429, "throttled", headers={"Retry-After": header})) as script:
        error = failure(script)
    assert isinstance(error, RetryableDeliveryError)
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(
            told(422, "required", "Observation.code"), "HTTP 422 (required at Observation.code)", id="path"
        ),
        pytest.param(
            told(422, "required", f"Patient.name.where(text='{SECRET}')"), "HTTP 422 (required)", id="value"
        ),
        pytest.param(told(422, SECRET), "HTTP 422", id="code that is none"),
        pytest.param(Answer(status=400, body=b"{"), "HTTP 400", id="broken JSON"),
        pytest.param(Answer(status=400, body=SECRET.encode(), headers=HTML), "HTTP 400", id="a page"),
        pytest.param(
            Answer(status=400, body=b'{"resourceType":"OperationOutcome","issue":[1,{"code":7}]}'),
            "HTTP 400",
            id="outcome of nonsense",
        ),
        pytest.param(Answer(status=400, body=b"[" * 100_000), "HTTP 400", id="deep JSON"),
    ],
)
def test_refusals_tell_codes_and_nothing_else(answer: Answer, message: str) -> None:
    with scripted_server(answer) as script:
        assert str(failure(script)) == message


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(status=200, body=response("201"), headers=HTML), id="wrong content type"),
        pytest.param(Answer(status=200, body=b""), id="empty"),
        pytest.param(Answer(status=200, body=b"[]"), id="a list"),
        pytest.param(Answer(status=200, body=json.dumps(BUNDLE).encode()), id="a request"),
        pytest.param(Answer(status=200, body=response()), id="no entries"),
        pytest.param(Answer(status=200, body=response("201", "201")), id="too many entries"),
        pytest.param(Answer(status=200, body=response(entry="x")), id="entries of text"),
        pytest.param(Answer(status=200, body=response(entry=[{}])), id="entry without response"),
        pytest.param(Answer(status=200, body=response("fine")), id="status that is none"),
        pytest.param(Answer(status=200, body=response("412 Precondition Failed")), id="entry refused"),
        pytest.param(Answer(status=200, body=response("200") + b" " * 5000), id="huge"),
    ],
)
def test_an_answer_that_is_none_is_final(answer: Answer) -> None:
    with scripted_server(answer) as script:
        assert isinstance(failure(script, max_response_bytes=4096), FinalDeliveryError)


def test_an_entry_that_may_work_later_is_retried() -> None:
    body = response(entry=[{"response": {"status": "503", "outcome": outcome("transient")}}])
    with scripted_server(Answer(status=200, body=body)) as script:
        error = failure(script)
    assert isinstance(error, RetryableDeliveryError)
    assert str(error) == "HTTP 503 (transient)"


def test_a_final_entry_outweighs_one_to_retry() -> None:
    two = {**BUNDLE, "entry": BUNDLE["entry"] * 2}
    with scripted_server(Answer(status=200, body=response("503", "422"))) as script:
        with client_of(script.base_url) as client, pytest.raises(FinalDeliveryError, match="422"):
            client.transact(two)


def test_a_broken_answer_is_retried() -> None:
    with scripted_server(Answer(status=200, body=b"{", declared_length=4000)) as script:
        assert isinstance(failure(script), RetryableDeliveryError)


def test_nobody_there_is_retried() -> None:
    with client_of(f"http://127.0.0.1:{free_port()}/fhir") as client:
        with pytest.raises(RetryableDeliveryError, match="ConnectError"):
            client.transact(BUNDLE)


def test_a_server_that_speaks_no_tls_is_retried() -> None:
    with scripted_server(CREATED) as script, client_of(script.base_url.replace("http:", "https:")) as client:
        with pytest.raises(RetryableDeliveryError):
            client.transact(BUNDLE)
    assert script.requests == []


def test_the_token_is_read_for_every_request(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first\n")
    with scripted_server(CREATED) as script, client_of(script.base_url, token_file=token_file) as client:
        client.transact(BUNDLE)
        token_file.write_text("second")
        client.transact(BUNDLE)
    sent = [headers["Authorization"] for _, headers, _ in script.requests]
    assert sent == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("text", [None, "", "two words", "line\r\nX-Other: 1", "ü"])
def test_without_a_token_nothing_is_sent(tmp_path: Path, text: str | None) -> None:
    token_file = tmp_path / "token"
    if text is not None:
        token_file.write_text(text, encoding="utf-8")
    with scripted_server(CREATED) as script:
        assert isinstance(failure(script, token_file=token_file), RetryableDeliveryError)
    assert script.requests == []


@pytest.mark.parametrize(
    ("base_url", "options", "path"),
    [
        pytest.param("ftp://emr.example/fhir", {}, "base_url", id="scheme"),
        pytest.param("emr.example/fhir", {}, "base_url", id="no scheme"),
        pytest.param("https:///fhir", {}, "base_url", id="no host"),
        pytest.param("https://u:p@emr.example/fhir", {}, "base_url", id="password in the address"),
        pytest.param("https://emr.example/fhir?x=1", {}, "base_url", id="query"),
        pytest.param("https://emr.example:http/fhir", {}, "base_url", id="no URL"),
        pytest.param("http://emr.example/fhir", {"token_file": Path("t")}, "token_file", id="token in clear"),
        pytest.param("https://emr.example/fhir", {"timeout_s": 0}, "timeout_s", id="no time"),
    ],
)
def test_unsafe_endpoints_are_refused(base_url: str, options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FhirClient(FhirEndpoint(base_url=base_url, **options))
    assert path in {fault.path for fault in caught.value.faults}


def test_certificates_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigurationError) as caught:
            FhirClient(FhirEndpoint(base_url="https://emr.example/fhir", ca_file=tmp_path / name))
        assert isinstance(caught.value.__cause__, (OSError, ssl.SSLError))
