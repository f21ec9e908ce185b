# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI of the UPS-RS routes, held against the doors by schemathesis and against the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from informatics_gateway.dicomweb.ups_resources import CAPABILITIES, TRANSACTIONS, Transaction
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from tests.contract.worklist import bring_to
from tests.unit.informatics_gateway.dicomweb.test_ups_subscriptions import Store
from tests.unit.informatics_gateway.dicomweb.ups_web import UID, C, P, S, Web

UIDS = (UID, "2.25.101", "2.25.102", GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    store = Store(tmp_path_factory.mktemp("api"))
    for uid, state in zip(UIDS[1:], (P, C), strict=False):
        bring_to(store.worklist, state, uid)
    yield schemathesis.openapi.from_asgi("/openapi.json", store.web.app)
    store.close()


@pytest.mark.parametrize(
    "transaction", [*TRANSACTIONS, CAPABILITIES], ids=lambda one: f"{one.method} {one.path}"
)
def test_every_answer_is_documented(api: Any, transaction: Transaction) -> None:
    operation = api[f"/dicom-web{transaction.path}"][transaction.method]

    @settings(
        max_examples=20,
        derandomize=True,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def holds(case: Any) -> None:
        if "workitem" in case.path_parameters:
            uid = str(case.path_parameters["workitem"])
            case.path_parameters["workitem"] = UIDS[sum(uid.encode()) % len(UIDS)]
        case.call_and_validate(checks=CHECKS)

    holds()


def openapi() -> dict[str, Any]:
    found: dict[str, Any] = Web().app.openapi()
    return found


def test_every_transaction_is_described_once() -> None:
    described = openapi()["paths"]
    told = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert told == {(one.method, f"/dicom-web{one.path}") for one in (*TRANSACTIONS, CAPABILITIES)}
    ids = [one["operationId"] for methods in described.values() for one in methods.values()]
    assert len(set(ids)) == len(ids) == len(told)


@pytest.mark.parametrize("transaction", TRANSACTIONS, ids=lambda one: f"{one.method} {one.path}")
def test_what_is_described(transaction: Any) -> None:
    described = openapi()["paths"][f"/dicom-web{transaction.path}"][transaction.method.lower()]
    names = {one["name"] for one in described["parameters"] if one["in"] == "query"}
    assert names == {one.name for one in transaction.parameters}
    assert {int(status) for status in described["responses"]} == {*transaction.successes, *transaction.errors}
    in_path = {one["name"] for one in described["parameters"] if one["in"] == "path"}
    assert all(f"{{{name}}}" in transaction.path for name in in_path)


@pytest.mark.parametrize(
    ("method", "path", "status", "state"),
    [
        ("post", "/workitems", 201, ""),
        ("post", "/workitems/{workitem}", 200, S),
        ("put", "/workitems/{workitem}/state", 200, S),
        ("post", "/workitems/{workitem}/cancelrequest", 202, P),
    ],
)
@pytest.mark.parametrize("media_type", ["application/dicom+json", "application/json"])
def test_the_examples_are_good(method: str, path: str, status: int, state: str, media_type: str) -> None:
    web = Web()
    if state:
        web.create(state)
    body = openapi()["paths"][f"/dicom-web{path}"][method]["requestBody"]
    example = body["content"][media_type]["example"]
    answer = web.ask(
        method.upper(), path.replace("{workitem}", UID), example, headers={"Content-Type": media_type}
    )
    assert answer.status_code == status, answer.text
