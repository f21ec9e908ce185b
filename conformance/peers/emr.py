# SPDX-License-Identifier: Apache-2.0
"""A stand-in EMR for demonstrations: FHIR R4 over HTTP, in memory, on 127.0.0.1 only.

It takes transactions with conditional creates (all or nothing), creates, reads and searches, and refuses what
is not well-formed. ``python -m conformance.peers.emr --port 0 --endpoint-file FILE`` runs it; FILE then says
``{"base_url": ..., "pid": ...}`` for as long as it listens. It has no access control and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from conformance.peers.emr_records import COMMON, SEARCH, Records, RefusedError, check_resource
from conformance.peers.fhir_server import FhirServer
from conformance.peers.process import PeerProcess, free_port

_LARGEST_BODY_BYTES = 64 * 1024 * 1024
_MEDIA_TYPE = "application/fhir+json; charset=utf-8"
_JSON_TYPES = ("application/fhir+json", "application/json")


def create_app(base_url: str) -> FastAPI:
    """The HTTP application; `base_url` is where it will be reached."""
    app = FastAPI(title="Stand-in EMR", docs_url=None, redoc_url=None, openapi_url=None)
    records = Records(base_url=base_url)

    @app.exception_handler(RefusedError)
    async def refuse(_request: Request, error: RefusedError) -> Response:
        return _answer(error.outcome(), error.status)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def unknown(_request: Request, error: Any) -> Response:
        return _answer(
            RefusedError(error.status_code, "not-supported", "no such").outcome(), error.status_code
        )

    @app.get("/fhir/metadata")
    async def metadata() -> Response:
        return _answer(_capabilities())

    @app.delete("/records")
    async def clear() -> Response:
        records.clear()
        return Response(status_code=204)

    @app.post("/fhir")
    @app.post("/fhir/")
    async def transaction(request: Request) -> Response:
        return _answer(records.transact(await _body(request)))

    @app.post("/fhir/{kind}")
    async def create(kind: str, request: Request) -> Response:
        resource = check_resource(await _body(request), kind)
        kept, created = records.create(resource, request.headers.get("if-none-exist"))
        location = f"{base_url}/{kind}/{kept['id']}/_history/{kept['meta']['versionId']}"
        return _answer(kept, 201 if created else 200, {"Location": location} if created else {})

    @app.get("/fhir/{kind}")
    async def search(kind: str, request: Request) -> Response:
        found = records.search(kind, request.url.query)
        return _answer(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "total": len(found),
                "entry": [
                    {
                        "fullUrl": f"{base_url}/{kind}/{each['id']}",
                        "resource": each,
                        "search": {"mode": "match"},
                    }
                    for each in found[: _count(request)]
                ],
            }
        )

    @app.get("/fhir/{kind}/{identity}")
    async def read(kind: str, identity: str) -> Response:
        return _answer(records.read(kind, identity))

    return app


async def _body(request: Request) -> object:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise RefusedError(415, "not-supported", "the body must be FHIR JSON")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY_BYTES:
            raise RefusedError(413, "too-costly", "the body is too large")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "structure", "the body is no JSON") from error


def _count(request: Request) -> int:
    text = request.query_params.get("_count", "1000")
    if not (text.isascii() and text.isdigit()):
        raise RefusedError(400, "invalid", "_count is a number")
    return int(text[:6])


def _answer(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    version = body.get("meta", {}).get("versionId")
    tag = {"ETag": f'W/"{version}"'} if version else {}
    return Response(json.dumps(body), status, {**tag, **(headers or {})}, media_type=_MEDIA_TYPE)


def _capabilities() -> dict[str, Any]:
    interactions = [{"code": code} for code in ("create", "read", "search-type")]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "implementation": {"description": "Stand-in EMR for demonstrations; keeps nothing"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "interaction": [{"code": "transaction"}],
                "resource": [
                    {
                        "type": kind,
                        "interaction": interactions,
                        "conditionalCreate": True,
                        "searchParam": [
                            {"name": name, "type": parameter[0]}
                            for name, parameter in {**COMMON, **parameters}.items()
                        ],
                    }
                    for kind, parameters in SEARCH.items()
                ],
            }
        ],
    }


@contextmanager
def run_emr(*, port: int | None = None) -> Iterator[FhirServer]:
    """Run the stand-in EMR as a process of its own and yield it once it answers; stop it afterwards.

    Raises
    ------
    PeerFailedError
        When it does not come up; quotes its log.
    """
    chosen = port or free_port()
    command = [sys.executable, "-m", "conformance.peers.emr", "--port", str(chosen)]
    root = Path(__file__).resolve().parents[2]
    search_path = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH", "")) if part)
    with tempfile.TemporaryDirectory(prefix="emr-", ignore_cleanup_errors=True) as temporary:
        environment = {"PYTHONPATH": search_path}
        with PeerProcess("emr", command, Path(temporary), environment=environment) as process:
            server = FhirServer(process, port=chosen)
            try:
                process.wait_ready(server.answers)
                yield server
            finally:
                server.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m conformance.peers.emr", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--endpoint-file", type=Path, help="JSON file that says where the EMR listens")
    options = parser.parse_args(arguments)
    for stop in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again once it has closed
        signal.signal(stop, _exit)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", options.port))
        listening.listen()
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/fhir"
        server = uvicorn.Server(uvicorn.Config(create_app(base_url), log_level="warning", access_log=False))
        if options.endpoint_file:
            _write_endpoint(options.endpoint_file, base_url)
        try:
            server.run(sockets=[listening])
        finally:
            if options.endpoint_file:
                options.endpoint_file.unlink(missing_ok=True)
    return 0


def _exit(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _write_endpoint(path: Path, base_url: str) -> None:
    """Write whole or not at all, for somebody waits for the file to appear."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps({"base_url": base_url, "pid": os.getpid()}), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
