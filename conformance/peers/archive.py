# SPDX-License-Identifier: Apache-2.0
"""A stand-in image archive for demonstrations: C-ECHO, C-STORE, STOW-RS, QIDO-RS and WADO-RS on 127.0.0.1.

``python -m conformance.peers.archive --dicom-port 0 --http-port 0 --folder D --endpoint-file F`` runs it; F
then says ``{"dicom": {"host", "port", "ae_title"}, "dicom_web_url": ..., "pid": ...}`` for as long as it
listens. It has no access control. It shares no code with the product.
"""

from __future__ import annotations

import argparse
import email.parser
import email.policy
import json
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from conformance.peers.archive_files import ArchivedInstance, ArchiveFiles, NotStorableError
from conformance.peers.process import PeerProcess

_DICOM_JSON = "application/dicom+json"
_LARGEST_BODY_BYTES = 2 * 1024**3
_CANNOT_UNDERSTAND = 0xC000


def create_app(files: ArchiveFiles) -> FastAPI:
    """The DICOMweb application over `files`, below ``/dicom-web``."""
    app = FastAPI(title="Stand-in archive", docs_url=None, redoc_url=None, openapi_url=None)
    root = "/dicom-web/studies"

    @app.post(root)
    @app.post(root + "/{study}")
    async def store(request: Request, study: str = "") -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY_BYTES:
                return Response(status_code=413)
        parts = _parts(request.headers.get("content-type", ""), bytes(body))
        if parts is None:
            return Response(status_code=415)
        return _stored(files, parts, study) if parts else Response(status_code=400)

    @app.get(root)
    def search_studies(request: Request) -> Response:
        return _found(files.search("study", request.query_params.multi_items()))

    @app.get(root + "/{study}/series")
    def search_series(request: Request, study: str) -> Response:
        return _found(files.search("series", request.query_params.multi_items(), study=study))

    @app.get(root + "/{study}/instances")
    @app.get(root + "/{study}/series/{series}/instances")
    def search_instances(request: Request, study: str, series: str = "") -> Response:
        query = request.query_params.multi_items()
        return _found(files.search("instance", query, study=study, series=series))

    @app.get(root + "/{study}")
    @app.get(root + "/{study}/series/{series}")
    @app.get(root + "/{study}/series/{series}/instances/{instance}")
    def retrieve(study: str, series: str = "", instance: str = "") -> Response:
        return _retrieved(files.select(study, series, instance))

    return app


def _parts(content_type: str, body: bytes) -> list[bytes] | None:
    """The bodies of a multipart/related request; None when it is something else."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1")
    policy = email.policy.HTTP
    kind = email.parser.BytesParser(policy=policy).parsebytes(head, headersonly=True)
    if kind.get_content_type() != "multipart/related":
        return None
    boundary = str(kind.get_param("boundary", "")).encode("latin-1")
    if not boundary:
        return []
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary)
    return [section.partition(b"\r\n\r\n")[2] for section in sections[1:] if not section.startswith(b"--")]


def _stored(files: ArchiveFiles, parts: list[bytes], study: str) -> Response:
    stored: list[dict[str, Any]] = []
    failures = 0
    for part in parts:
        try:
            kept = files.store(part)
        except NotStorableError:
            failures += 1
            continue
        stored.append(
            {
                "00081150": {"vr": "UI", "Value": [kept.sop_class_uid]},
                "00081155": {"vr": "UI", "Value": [kept.sop_instance_uid]},
            }
        )
    answer: dict[str, Any] = {}
    if stored:
        answer["00081199"] = {"vr": "SQ", "Value": stored}
    if failures:
        reason = {"00081197": {"vr": "US", "Value": [_CANNOT_UNDERSTAND]}}
        answer["0008119A"] = {"vr": "SQ", "Value": [reason] * failures}
    status = 200 if not failures else 202 if stored else 409
    return Response(json.dumps(answer), status, media_type=_DICOM_JSON)


def _found(answers: list[dict[str, Any]]) -> Response:
    if not answers:
        return Response(status_code=204)
    return Response(json.dumps(answers), media_type=_DICOM_JSON)


def _retrieved(instances: list[ArchivedInstance]) -> Response:
    if not instances:
        return Response(status_code=404)
    boundary = uuid.uuid4().hex
    parts = [
        f"\r\n--{boundary}\r\nContent-Type: application/dicom; "
        f"transfer-syntax={each.transfer_syntax_uid}\r\n\r\n".encode()
        + each.path.read_bytes()
        for each in instances
    ]
    body = b"".join(parts) + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f'multipart/related; type="application/dicom"; boundary={boundary}')


def _dicom_entity(ae_title: str) -> AE:
    entity = AE(ae_title=ae_title)
    entity.maximum_pdu_size = 0
    entity.maximum_associations = 50
    entity.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
    return entity


def _store(event: Any, files: ArchiveFiles) -> int:
    try:
        files.store(event.encoded_dataset())
    except NotStorableError:
        return _CANNOT_UNDERSTAND
    return 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A running stand-in archive: its addresses and the folder it stores in."""

    process: PeerProcess
    ae_title: str
    host: str
    dicom_port: int
    dicom_web_url: str
    folder: Path


@contextmanager
def run_archive(*, folder: Path | None = None, ae_title: str = "ARCHIVE") -> Iterator[Archive]:
    """Run the archive as a process of its own and yield it once it listens; stop it afterwards.

    Raises
    ------
    PeerFailedError
        When it does not come up; quotes its log.
    """
    root = Path(__file__).resolve().parents[2]
    search_path = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH", "")) if part)
    with tempfile.TemporaryDirectory(prefix="archive-", ignore_cleanup_errors=True) as temporary:
        endpoint = Path(temporary) / "endpoint.json"
        stored = folder or Path(temporary) / "stored"
        command: list[str | Path] = [sys.executable, "-m", "conformance.peers.archive"]
        command += ["--ae-title", ae_title, "--folder", stored, "--endpoint-file", endpoint]
        environment = {"PYTHONPATH": search_path}
        with PeerProcess("archive", command, Path(temporary), environment=environment) as process:
            process.wait_ready(endpoint.exists)
            addresses = json.loads(endpoint.read_text(encoding="utf-8"))
            yield Archive(
                process=process,
                ae_title=ae_title,
                host=addresses["dicom"]["host"],
                dicom_port=addresses["dicom"]["port"],
                dicom_web_url=addresses["dicom_web_url"],
                folder=stored,
            )


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m conformance.peers.archive", description=__doc__)
    parser.add_argument("--dicom-port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--http-port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--ae-title", default="ARCHIVE", help="what it is called as a DICOM node")
    parser.add_argument("--folder", type=Path, required=True, help="where the files are kept")
    parser.add_argument("--endpoint-file", type=Path, help="JSON file that says where the archive listens")
    options = parser.parse_args(arguments)
    files = ArchiveFiles(options.folder)
    entity = _dicom_entity(options.ae_title)
    listener = entity.start_server(
        ("127.0.0.1", options.dicom_port), block=False, evt_handlers=[(evt.EVT_C_STORE, _store, [files])]
    )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", options.http_port))
        listening.listen(64)
        addresses = {
            "dicom": {
                "host": "127.0.0.1",
                "port": listener.server_address[1] if listener else 0,
                "ae_title": options.ae_title,
            },
            "dicom_web_url": f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web",
            "pid": os.getpid(),
        }
        server = uvicorn.Server(uvicorn.Config(create_app(files), log_level="warning", access_log=False))
        if options.endpoint_file:
            _write_endpoint(options.endpoint_file, addresses)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # uvicorn raises them again when it has stopped
        try:
            server.run(sockets=[listening])
        finally:
            if options.endpoint_file:
                options.endpoint_file.unlink(missing_ok=True)
            entity.shutdown()
    return 0


def _write_endpoint(path: Path, addresses: dict[str, Any]) -> None:
    """Write whole or not at all, for somebody waits for the file to appear."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(addresses), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
