# SPDX-License-Identifier: Apache-2.0
"""What the resources of WADO-RS share: finding what a URL names, and multipart answers that stream.

An answer that cannot be given is raised as :class:`AnsweredError` and caught at the edge of each route.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import ParamSpec
from uuid import uuid4

import orjson
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from informatics_gateway.dicomweb.media import JSON, MULTIPART, MediaType, requested
from profiles.faults import Fault
from profiles.multipart import PART_END, closing, part_head
from profiles.uids import is_uid
from task_manager.errors import StoreError
from task_manager.ports import InstanceArchive
from task_manager.study.model import Instance

CHUNK_BYTES = 1024 * 1024

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")


class AnsweredError(Exception):
    """The request is answered otherwise than hoped for."""

    def __init__(self, answer: Response) -> None:
        super().__init__(f"answered {answer.status_code}")
        self.answer = answer


def refused(status: int, *faults: Fault) -> AnsweredError:
    """An error answer that names every fault."""
    content = orjson.dumps({"faults": [str(fault) for fault in faults]})
    return AnsweredError(Response(content, status_code=status, media_type=JSON))


def answering(route: Callable[_P, Response]) -> Callable[_P, Response]:
    """The route with its errors as answers: the edge of WADO-RS."""

    @wraps(route)
    def answered(*args: _P.args, **kwargs: _P.kwargs) -> Response:
        try:
            return route(*args, **kwargs)
        except AnsweredError as error:
            return error.answer
        except (OSError, struct.error, zlib.error) as error:
            return lost(error)

    return answered


def lost(error: BaseException) -> Response:
    """The answer when what was stored cannot be read."""
    _LOG.error(
        "a stored instance cannot be read", extra={"action": "wado.lost", "error": type(error).__name__}
    )
    return refused(500, Fault("", "a stored instance cannot be read")).answer


@dataclass(frozen=True, slots=True)
class Found:
    """A stored instance and its file."""

    instance: Instance
    path: Path


def find(archive: InstanceArchive, study: str, series: str = "", instance: str = "") -> list[Found]:
    """What a URL names.

    Raises
    ------
    AnsweredError
        400 if a UID is none, 404 if nothing is stored under it.
    StoreError
        If the archive cannot be asked.
    """
    if not all(is_uid(uid) for uid in (study, series, instance) if uid):
        raise refused(400, Fault("", "a UID in the URL is none"))
    found = archive.find_instances(
        study_instance_uid=study, series_instance_uid=series, sop_instance_uid=instance
    )
    if not found:
        raise refused(404, Fault("", "nothing is stored here"))
    try:
        return [Found(one, archive.open_path(one)) for one in found]
    except StoreError as error:
        raise AnsweredError(lost(error)) from error


def accepted(request: Request) -> list[MediaType]:
    """What the request accepts, best first."""
    return requested(request.headers.get("accept", ""), request.query_params.getlist("accept"))


def base_url(request: Request, prefix: str, public_url: str) -> str:
    """The base URL of the service, as configured or as the client wrote it."""
    if public_url:
        return public_url.rstrip("/")
    url = request.base_url
    server = request.scope.get("server") or ("", None)
    if url.port is None and url.hostname == server[0] and server[1] not in (None, 80, 443):
        url = url.replace(port=server[1])  # dicomweb-client 0.61 leaves the port out of Host
    return f"{str(url).rstrip('/')}{prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of an answer.

    Attributes
    ----------
    content
        Makes its bytes, once.
    size
        Of the content if it is known, else None.
    """

    content_type: str
    content: Callable[[], Iterable[bytes]]
    size: int | None = None
    location: str = ""


def multipart(parts: Iterable[Part], root_type: str, warning: str = "") -> Response:
    """A multipart/related answer of at least one part.

    The first part is made before the answer begins, others while it is sent. A list whose parts all know
    their sizes is sent with its length.
    """
    boundary = uuid4().hex
    made = iter(parts)
    first = next(made)

    def body() -> Iterator[bytes]:
        for part in chain((first,), made):
            yield _head(boundary, part)
            yield from part.content()
            yield PART_END
        yield closing(boundary)

    headers = {"Warning": warning} if warning else {}
    if isinstance(parts, list):
        sizes = [part.size for part in parts if part.size is not None]
        if len(sizes) == len(parts):
            frames = sum(len(_head(boundary, part)) + len(PART_END) for part in parts)
            headers["Content-Length"] = str(sum(sizes) + frames + len(closing(boundary)))
    kind = f'{MULTIPART}; type="{root_type}"; boundary={boundary}'
    return StreamingResponse(_gathered(body()), media_type=kind, headers=headers)


def _head(boundary: str, part: Part) -> bytes:
    fields = {"content_location": part.location} if part.location else {}
    return part_head(boundary, part.content_type, **fields)


def single(part: Part, warning: str = "") -> Response:
    """An answer of one part without a frame around it."""
    headers = {"Warning": warning} if warning else {}
    if part.size is not None:
        headers["Content-Length"] = str(part.size)
    if part.location:
        headers["Content-Location"] = part.location
    return StreamingResponse(iter(part.content()), media_type=part.content_type, headers=headers)


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """`chunks` in larger ones: each is a step between threads."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def file_chunks(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from `start` to `end`, in chunks."""
    with path.open("rb") as file:
        file.seek(start)
        left = end - start if end is not None else None
        while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
            yield chunk
            if left is not None:
                left -= len(chunk)
