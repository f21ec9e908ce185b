# SPDX-License-Identifier: Apache-2.0
"""Retrieve Capabilities: PS3.18 8.9, the resources of table H-1, and the JSON form of Annex G."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi.routing import APIRoute

from informatics_gateway.dicomweb import qido_rs, stow_rs, wado_rs
from informatics_gateway.dicomweb.capabilities import capabilities
from informatics_gateway.dicomweb.media import JSON, WADL
from informatics_gateway.dicomweb.ups_resources import ELSEWHERE, TRANSACTIONS
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from tests.unit.informatics_gateway.dicomweb.ups_web import BASE, UID, Web

NS = "{http://wadl.dev.java.net/2009/02}"


@pytest.fixture
def web() -> Web:
    return Web()


def methods(resource: ElementTree.Element, above: str = "") -> dict[str, list[str]]:
    """Path to the methods of every resource in the tree."""
    path = f"{above}/{resource.get('path')}".replace("//", "/")
    found = {path: [str(one.get("name")) for one in resource.findall(f"{NS}method")]}
    for below in resource.findall(f"{NS}resource"):
        found.update(methods(below, path))
    return found


def tree(path: str = "/") -> ElementTree.Element:
    root = ElementTree.fromstring(capabilities(BASE, path, WADL).content)
    resource = root.find(f"{NS}resources/{NS}resource")
    assert resource is not None
    return resource


def test_the_resources_of_table_h_1() -> None:
    found = methods(tree())
    subscribers = "/workitems/{}/subscribers/{{aetitle}}"
    expected = {
        "/": ["OPTIONS"],
        "/workitems": ["GET", "POST", "OPTIONS"],
        "/workitems/{workitem}": ["GET", "POST", "PUT", "OPTIONS"],
        "/workitems/{workitem}/state": ["PUT", "OPTIONS"],
        "/workitems/{workitem}/cancelrequest": ["POST", "OPTIONS"],
        subscribers.format("{workitem}"): ["POST", "DELETE", "OPTIONS"],
        "/subscribers/{aetitle}": ["GET"],
    }
    for uid in (GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID):
        expected[subscribers.format(uid)] = ["POST", "DELETE", "OPTIONS"]
        expected[subscribers.format(uid) + "/suspend"] = ["POST", "OPTIONS"]
    assert {path: found[path] for path in expected} == expected
    assert "/workitems/{workitem}/subscribers/{aetitle}/suspend" not in found


def test_every_transaction_is_told_with_parameters_and_answers() -> None:
    told = {
        (method.get("name"), tuple(str(one.get("name")) for one in method.findall(f"{NS}request/{NS}param")))
        for method in tree().iter(f"{NS}method")
    }
    for transaction in TRANSACTIONS:
        names = [parameter.name for parameter in transaction.parameters]
        names += ["Accept"] if transaction.answers else []
        assert (transaction.method, tuple(names)) in told


def test_identifiers_are_unique() -> None:
    ids = [str(one.get("id")) for one in tree().iter(f"{NS}method")]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z][\w.-]*", one) for one in ids)


def test_the_other_doors_serve_what_is_told_of_them() -> None:
    served = set()
    for door in (stow_rs.router, wado_rs.router, qido_rs.router):
        for route in door(None, prefix="").routes:  # type: ignore[arg-type]
            assert isinstance(route, APIRoute)
            served |= {(method, route.path.replace(":path}", "}")) for method in route.methods or ()}
    told = {(one.method, one.path) for one in ELSEWHERE if not one.path.startswith("/subscribers")}
    assert told == served


def test_one_resource_and_what_is_below_it() -> None:
    assert list(methods(tree("/workitems/{workitem}/state"))) == [
        "/workitems/{workitem}/state",
        "/workitems/{workitem}/state/{requester}",
    ]


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", WADL),
        ("*/*", WADL),
        (WADL, WADL),
        (JSON, JSON),
        (f"{WADL};q=0.1, {JSON}", JSON),
        ("text/html, application/*", WADL),
    ],
)
def test_media_types(web: Web, path: str, accept: str, media_type: str) -> None:
    answer = web.ask("OPTIONS", path, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content == capabilities(BASE, "/", media_type).content


def test_the_json_form(web: Web) -> None:
    content: dict[str, Any] = web.ask("OPTIONS", "", headers={"Accept": JSON}).json()
    resources = content["application"]["resources"]
    assert resources["@base"] == f"{BASE}/"
    (root,) = resources["resource"]
    workitems = next(one for one in root["resource"] if one["@path"] == "workitems")
    search = next(one for one in workitems["method"] if one["@name"] == "GET")
    assert search["@id"] == "Search.GET.workitems"
    assert {one["@name"] for one in search["request"]["param"]} > {"limit", "offset", "Accept"}
    assert [one["@status"] for one in search["response"]] == ["200", "204", "400 406 414 503"]


@pytest.mark.parametrize(
    "path",
    [
        "/workitems",
        f"/workitems/{UID}",
        f"/workitems/{UID}/state",
        f"/workitems/{UID}/cancelrequest",
        f"/workitems/{UID}/subscribers/AE",
        f"/workitems/{GLOBAL_SUBSCRIPTION_UID}/subscribers/AE/suspend",
    ],
)
def test_every_resource_tells_its_own(web: Web, path: str) -> None:
    answer = web.ask("OPTIONS", path)
    resource = ElementTree.fromstring(answer.content).find(f"{NS}resources/{NS}resource")
    assert resource is not None
    told = next(iter(methods(resource).values()))
    assert web.ask("PATCH", path).headers["allow"] == ", ".join(told)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_not_changed(web: Web, form: str) -> None:
    tag = web.ask("OPTIONS", "/").headers["etag"]
    answer = web.ask("OPTIONS", "/", headers={"If-None-Match": form.format(tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)


@pytest.mark.parametrize(
    ("headers", "status"), [({"If-None-Match": '"other"'}, 200), ({"Accept": "text/html"}, 406)]
)
def test_changed_or_not_acceptable(web: Web, headers: dict[str, str], status: int) -> None:
    assert web.ask("OPTIONS", "/", headers=headers).status_code == status
