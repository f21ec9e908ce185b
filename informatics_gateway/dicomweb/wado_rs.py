# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: stored instances as their bytes are, and their headers as DICOM JSON.

Nothing is transcoded: an instance is served in the transfer syntax it came in. A request that names another
one is answered 406; one that names none gets what is there (PS3.18 would have explicit VR little endian).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from informatics_gateway.dicomweb.media import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    MediaType,
    accepts_json,
    parse_accept,
)
from profiles.multipart import PART_END, closing, part_head
from profiles.uids import is_uid
from task_manager.errors import StoreError
from task_manager.ports import InstanceArchive
from task_manager.study.model import Instance

_LOG = logging.getLogger(__name__)
_CHUNK_BYTES = 1024 * 1024


def router(archive: InstanceArchive, *, prefix: str = "/dicom-web") -> APIRouter:
    """The Retrieve transaction (PS3.18 10.4) for studies, series and instances, and their metadata.

    Answers: 200; 400 a UID in the URL is none; 404 nothing is stored under it; 406 no acceptable media type
    or transfer syntax.
    """
    routes = APIRouter(prefix=prefix, tags=["WADO-RS"])

    def retrieve(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        found = _find(archive, study, series, instance)
        if isinstance(found, Response):
            return found
        accept = parse_accept(request.headers.get("accept", ""))
        if instance and _wants_single(accept) and _acceptable(found, accept, DICOM):
            return _one(archive, found[0])
        if not _acceptable(found, accept, MULTIPART):
            return Response(status_code=406)
        return _many(archive, found)

    def metadata(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        if not accepts_json(parse_accept(request.headers.get("accept", ""))):
            return Response(status_code=406)
        found = _find(archive, study, series, instance)
        if isinstance(found, Response):
            return found
        return Response(orjson.dumps([item.attributes for item in found]), media_type=DICOM_JSON)

    of_study = "/studies/{study}"
    of_series = f"{of_study}/series/{{series}}"
    of_instance = f"{of_series}/instances/{{instance}}"

    @routes.get(of_study)
    def retrieve_study(request: Request, study: str) -> Response:
        return retrieve(request, study)

    @routes.get(of_series)
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        return retrieve(request, study, series)

    @routes.get(of_instance)
    def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return retrieve(request, study, series, instance)

    @routes.get(f"{of_study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        return metadata(request, study)

    @routes.get(f"{of_series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        return metadata(request, study, series)

    @routes.get(f"{of_instance}/metadata")
    def instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return metadata(request, study, series, instance)

    return routes


def _find(archive: InstanceArchive, study: str, series: str, instance: str) -> Sequence[Instance] | Response:
    if not all(is_uid(uid) for uid in (study, series, instance) if uid):
        return Response("a UID in the URL is none", status_code=400, media_type="text/plain")
    found = archive.find_instances(
        study_instance_uid=study, series_instance_uid=series, sop_instance_uid=instance
    )
    return found or Response("nothing is stored here", status_code=404, media_type="text/plain")


def _wants_single(accept: Sequence[MediaType]) -> bool:
    return accept[0].name == DICOM if accept else False


def _acceptable(found: Sequence[Instance], accept: Sequence[MediaType], container: str) -> bool:
    """Whether one of the ranges takes DICOM in `container` in the transfer syntaxes that are stored."""
    stored = {instance.transfer_syntax_uid for instance in found}
    for kind in accept:
        fits = kind.name in ("*/*", f"{container.partition('/')[0]}/*", container)
        if kind.name == MULTIPART and kind.parameter("type").lower() not in ("", DICOM):
            fits = False
        if fits and kind.parameter("transfer-syntax") in ("", "*", *(stored if len(stored) == 1 else ())):
            return True
    return False


def _one(archive: InstanceArchive, instance: Instance) -> Response:
    try:
        path = archive.open_path(instance)
        size = path.stat().st_size
    except (OSError, StoreError):
        return _lost()
    return StreamingResponse(
        _chunks(path),
        media_type=f"{DICOM}; transfer-syntax={instance.transfer_syntax_uid}",
        headers={"Content-Length": str(size)},
    )


def _many(archive: InstanceArchive, found: Sequence[Instance]) -> Response:
    try:
        paths = [archive.open_path(instance) for instance in found]
        sizes = [path.stat().st_size for path in paths]
    except (OSError, StoreError):
        return _lost()
    boundary = uuid4().hex
    heads = [
        part_head(boundary, f"{DICOM}; transfer-syntax={instance.transfer_syntax_uid}") for instance in found
    ]
    end = closing(boundary)
    size = sum(map(len, heads)) + sum(sizes) + len(PART_END) * len(paths) + len(end)

    def body() -> Iterator[bytes]:
        for head, path in zip(heads, paths, strict=True):
            yield head
            yield from _chunks(path)
            yield PART_END
        yield end

    return StreamingResponse(
        body(),
        media_type=f'{MULTIPART}; type="{DICOM}"; boundary={boundary}',
        headers={"Content-Length": str(size)},
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _lost() -> Response:
    _LOG.error("a stored instance cannot be read", extra={"action": "wado.lost"})
    return Response("a stored instance cannot be read", status_code=500, media_type="text/plain")
