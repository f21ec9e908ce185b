# SPDX-License-Identifier: Apache-2.0
"""Retrieve Capabilities (PS3.18 8.9 and Annex H): what the service can do, as WADL in XML or JSON.

Made from the tables of ``ups_resources.py``; nothing is said here that is not there. The JSON form is that of
Annex G: attributes as ``@name``, elements that may repeat as arrays.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from informatics_gateway.dicomweb.media import JSON
from informatics_gateway.dicomweb.ups_resources import (
    CAPABILITIES,
    DATA_SETS,
    ELSEWHERE,
    TRANSACTIONS,
    Body,
    Parameter,
    Transaction,
)
from informatics_gateway.statuses import Operation
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID

_NAMESPACE = "http://wadl.dev.java.net/2009/02"
_SINGLE = frozenset({"application", "resources", "request"})
_WELL_KNOWN = (GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID)
_SUBSCRIPTION = frozenset({Operation.SUBSCRIBE, Operation.UNSUBSCRIBE, Operation.SUSPEND})


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    given: Mapping[str, str]
    children: Sequence[_Element] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A capabilities document and the tag it is known by."""

    content: bytes
    etag: str


@lru_cache(maxsize=64)
def capabilities(base_url: str, resource: str, media_type: str) -> Capabilities:
    """What a resource and those below it can do.

    Parameters
    ----------
    base_url
        Of the service, without a slash at its end.
    resource
        Path template relative to the base, such as ``/workitems/{workitem}``; ``/`` for all of the service.
    media_type
        JSON, else the document is XML.
    """
    tree = _application(base_url, resource)
    content = orjson.dumps({tree.name: _as_json(tree)}) if media_type == JSON else _as_xml(tree)
    return Capabilities(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _application(base_url: str, resource: str) -> _Element:
    name = resource.lstrip("/") or "/"
    root = _resource(name, resource.rstrip("/"), _methods(resource))
    return _Element(
        "application", {"xmlns": _NAMESPACE}, [_Element("resources", {"base": f"{base_url}/"}, [root])]
    )


def _methods(resource: str) -> list[tuple[str, _Element]]:
    """Every method with the path of its resource, which is empty for the root.

    Only the well-known workitems can be suspended; the template stands for them where it is asked for.
    """
    found: list[tuple[str, _Element]] = [("", _method(CAPABILITIES, ""))]
    for transaction in TRANSACTIONS:
        subscribing = transaction.operation in _SUBSCRIPTION
        targets = [uid for uid in _WELL_KNOWN if subscribing]
        if transaction.operation is not Operation.SUSPEND or transaction.path == resource:
            targets.append("{workitem}")
        for target in targets:
            path = transaction.path.replace("{workitem}", target)
            found.append((path, _method(transaction, path)))
    served = dict.fromkeys(path for path, method in found if path)
    found += [(path, _method(CAPABILITIES, path)) for path in served]
    for other in ELSEWHERE:
        request = [_Element("request", {}, _representations(other.takes))] if other.takes else []
        response = _Element("response", {"status": str(other.status)}, _representations(other.answers))
        given = {"name": other.method, "id": _id(other.name, other.method, other.path)}
        found.append((other.path, _Element("method", given, [*request, response])))
    return found


def _resource(name: str, path: str, methods: Sequence[tuple[str, _Element]]) -> _Element:
    """A resource with its methods and all below it; `name` is its path relative to the one above."""
    below = dict.fromkeys(
        found[len(path) + 1 :].partition("/")[0] for found, method in methods if found.startswith(f"{path}/")
    )
    templates = [segment[1:-1] for segment in name.split("/") if segment.startswith("{")]
    children = [
        _Element("param", {"name": one, "style": "template", "required": "true"}) for one in templates
    ]
    children += [method for found, method in methods if found == path]
    children += [_resource(segment, f"{path}/{segment}", methods) for segment in below]
    return _Element("resource", {"path": name}, children)


def _method(transaction: Transaction, path: str) -> _Element:
    title = f"{transaction.name} (PS3.18 {transaction.clause})"
    if not transaction.formal:
        title += ", as some clients send it"
    params = [_param(one) for one in transaction.parameters]
    if transaction.answers:
        options = [_Element("option", {"value": kind}) for kind in transaction.answers]
        accept = {"name": "Accept", "style": "header", "default": transaction.answers[0]}
        params.append(_Element("param", accept, options))
    taken = _representations(DATA_SETS if transaction.body is not Body.NONE else ())
    answers = [
        _Element(
            "response",
            {"status": str(status)},
            _representations(transaction.answers if status == 200 else ()),
        )
        for status in transaction.successes
    ]
    answers.append(
        _Element("response", {"status": " ".join(map(str, transaction.errors))}, _representations((JSON,)))
    )
    request = [_Element("request", {}, [*params, *taken])] if params or taken else []
    return _Element(
        "method",
        {"name": transaction.method, "id": _id(transaction.name, transaction.method, path)},
        [_Element("doc", {"title": title}), *request, *answers],
    )


def _id(name: str, method: str, path: str) -> str:
    """An identifier that no other method of the document has (xs:ID)."""
    where = path.replace("{", "").replace("}", "").replace("/", ".")
    return f"{name.title().replace(' ', '')}.{method}{where}"


def _param(parameter: Parameter) -> _Element:
    kinds = {"string": "xs:string", "integer": "xs:unsignedInt", "boolean": "xs:boolean"}
    given = {"name": parameter.name, "style": "query", "type": kinds[parameter.kind]}
    if parameter.default:
        given["default"] = parameter.default
    options = [_Element("option", {"value": value}) for value in parameter.values]
    return _Element("param", given, [_Element("doc", {"title": parameter.description}), *options])


def _representations(media_types: Iterable[str]) -> list[_Element]:
    return [_Element("representation", {"mediaType": kind}) for kind in media_types]


def _as_xml(root: _Element) -> bytes:
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + "".join(_tags(root)) + "\n").encode()


def _tags(element: _Element) -> Iterator[str]:
    given = "".join(f' {name}="{html.escape(value)}"' for name, value in element.given.items())
    if not element.children:
        yield f"<{element.name}{given}/>"
        return
    yield f"<{element.name}{given}>"
    for child in element.children:
        yield from _tags(child)
    yield f"</{element.name}>"


def _as_json(element: _Element) -> dict[str, Any]:
    content: dict[str, Any] = {f"@{name}": value for name, value in element.given.items()}
    for child in element.children:
        if child.name in _SINGLE:
            content[child.name] = _as_json(child)
        else:
            content.setdefault(child.name, []).append(_as_json(child))
    return content
