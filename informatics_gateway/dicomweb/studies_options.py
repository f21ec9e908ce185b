# SPDX-License-Identifier: Apache-2.0
"""Retrieve Capabilities (PS3.18 8.9) of the resources of studies: OPTIONS, answered from the same table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request, Response

from informatics_gateway.dicomweb.capabilities import capabilities
from informatics_gateway.dicomweb.media import JSON, WADL, parse_accept
from informatics_gateway.dicomweb.retrieval import base_url
from informatics_gateway.dicomweb.ups_resources import ELSEWHERE

_ROOTS = ("/studies", "/series", "/instances")


def router(*, prefix: str = "/dicom-web", public_url: str = "") -> APIRouter:
    """OPTIONS of every resource of studies: 200 with WADL or JSON and Allow, 304 if known, 406.

    Parameters
    ----------
    public_url
        Base URL of the service where it is not the one that clients write, such as behind a proxy.
    """
    routes = APIRouter(prefix=prefix, tags=["Capabilities"])

    def respond(resource: str, request: Request) -> Response:
        kind = _kind(request.headers.get("accept", ""))
        if not kind:
            return Response(status_code=406)
        found = capabilities(base_url(request, prefix, public_url), resource, kind)
        methods = dict.fromkeys(one.method for one in ELSEWHERE if one.path == resource)
        headers = {"ETag": found.etag, "Vary": "Accept", "Allow": ", ".join((*methods, "OPTIONS"))}
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=kind, headers=headers)

    for path in dict.fromkeys(one.path for one in ELSEWHERE if one.path.startswith(_ROOTS)):
        template = path.replace("{where}", "{where:path}")
        route = _route(partial(respond, path))
        routes.add_api_route(template, route, methods=["OPTIONS"], include_in_schema=False)
    return routes


def _route(respond: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def options(request: Request) -> Response:
        return respond(request)

    return options


def _kind(accept: str) -> str:
    """WADL unless JSON is asked for first; empty if neither is acceptable."""
    for kind in parse_accept(accept):
        if kind.name in (JSON, WADL):
            return kind.name
        if kind.name in ("application/*", "*/*"):
            return WADL
    return ""
