# SPDX-License-Identifier: Apache-2.0
"""STOW-RS: instances, or data sets with bulk data, into the intake, part by part as they arrive.

Each instance is committed before the answer names it as stored; what was committed stays, also when a later
part is bad. Reading the body and its limits are here; ``stow_parts.py`` takes the parts.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor, ThreadPoolExecutor

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from informatics_gateway.dicomweb.media import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    MediaType,
    parse_accept,
    parse_media_type,
)
from informatics_gateway.dicomweb.retrieval import base_url
from informatics_gateway.dicomweb.stow_answer import StoreAnswer, answer_type, encoded
from informatics_gateway.dicomweb.stow_commit import Committer
from informatics_gateway.dicomweb.stow_parts import BodyReader, InstanceTaker, MetadataTaker, PartTaker
from profiles.multipart import MultipartError, MultipartParser
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.ports import InstanceIntake

_LOG = logging.getLogger(__name__)
_BATCH_BYTES = 1024 * 1024
_COMMITTING_THREADS = 4
_TAKEN = (DICOM, DICOM_JSON, DICOM_XML)
_TAKEN_NAMES = ", ".join((*(f'{MULTIPART}; type="{name}"' for name in _TAKEN), DICOM, DICOM_JSON))


def router(
    intake: InstanceIntake,
    *,
    prefix: str = "/dicom-web",
    public_url: str = "",
    max_part_bytes: int = 4 * 1024**3,
    max_parts: int = 10_000,
    idle_s: float = 60.0,
) -> APIRouter:
    """The Store transaction (PS3.18 10.5): ``POST .../studies`` and ``POST .../studies/{study}``.

    Answers: 200 all stored; 202 some, or with a warning; 409 none; 507 none for want of room; 400 a body that
    cannot be followed; 408 one that does not go on; 413 a part or a number of parts over the limit; 415
    another media type; 406 neither DICOM JSON nor XML accepted.

    Parameters
    ----------
    public_url
        Base URL of the service where it is not the one that clients write, such as behind a proxy.
    idle_s
        How long a sender may be silent within a body.
    """
    routes = APIRouter(prefix=prefix, tags=["STOW-RS"])
    executor = ThreadPoolExecutor(_COMMITTING_THREADS, thread_name_prefix="stow")
    door = _Door(intake, executor, max_part_bytes=max_part_bytes, max_parts=max_parts, idle_s=idle_s)

    async def store(request: Request, study: str) -> Response:
        return await door.store(request, study, f"{base_url(request, prefix, public_url)}/studies")

    @routes.post("/studies")
    async def store_instances(request: Request) -> Response:
        return await store(request, "")

    @routes.post("/studies/{study}")
    async def store_study(request: Request, study: str) -> Response:
        return await store(request, study)

    return routes


class _Door:
    """Takes requests."""

    def __init__(
        self,
        intake: InstanceIntake,
        executor: Executor,
        *,
        max_part_bytes: int,
        max_parts: int,
        idle_s: float,
    ) -> None:
        self._intake = intake
        self._executor = executor
        self._max_part_bytes = max_part_bytes
        self._max_parts = max_parts
        self._idle_s = idle_s

    async def store(self, request: Request, study: str, studies_url: str) -> Response:
        """The answer to one request."""
        answer = StoreAnswer(f"{studies_url}/{study}" if is_uid(study) else "")
        kind = answer_type(parse_accept(request.headers.get("accept", "")))

        def refused(status: int, comment: str, accept: str = "") -> Response:
            return encoded(answer.content(comment), status, kind or DICOM_JSON, accept)

        if not kind:
            return refused(406, f"answers are {DICOM_JSON} or {DICOM_XML}")
        if study and not is_uid(study):
            return refused(400, "the study in the URL is not a UID")
        content = parse_media_type(request.headers.get("content-type", ""))
        inside = _inside(content)
        if not inside:
            return refused(415, "send application/dicom or application/dicom+json", _TAKEN_NAMES)
        committer = Committer(
            self._intake,
            self._executor,
            answer,
            actor=Actor(door="dicomweb", address=request.client.host if request.client else ""),
            study_instance_uid=study,
        )
        taker: PartTaker = InstanceTaker(committer) if inside == DICOM else MetadataTaker(committer)
        try:
            reader = self._reader(request, content, taker, inside)
            await self._receive(request, reader)
        except (MultipartError, TimeoutError) as error:
            await run_in_threadpool(committer.finish)  # what was begun is told
            status = _status(error)
            comment = str(error) or "the body does not go on"
            _LOG.warning("body refused", extra={"action": "stow.malformed", "reason": comment})
            return refused(status, comment)
        except ClientDisconnect:
            await run_in_threadpool(committer.finish)
            _LOG.warning("sender went away", extra={"action": "stow.disconnected"})
            return Response(status_code=400)
        finally:
            if taker.holds_any:
                await run_in_threadpool(taker.discard)
        if answer.is_empty:
            return refused(400, "the body holds no instance")
        return encoded(answer.content(), answer.status, kind)

    def _reader(self, request: Request, content: MediaType, taker: PartTaker, inside: str) -> BodyReader:
        parser: MultipartParser | None = None
        if content.name == MULTIPART:
            parser = MultipartParser(
                content.parameter("boundary"), max_parts=self._max_parts, max_part_bytes=self._max_part_bytes
            )
        else:
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length[:20]) > self._max_part_bytes:
                raise MultipartError(f"an instance of more than {self._max_part_bytes} bytes", too_large=True)
        return BodyReader(taker, parser, inside, self._max_part_bytes)

    async def _receive(self, request: Request, reader: BodyReader) -> None:
        """Feed the body in batches, one being taken by a thread while the next is received."""
        stream = aiter(request.stream())
        batch: list[bytes] = []
        size = 0
        taking: asyncio.Future[None] | None = None
        try:
            while True:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                batch.append(chunk)
                size += len(chunk)
                if size >= _BATCH_BYTES:
                    if taking is not None:
                        await taking
                    taking = asyncio.ensure_future(run_in_threadpool(reader.feed, b"".join(batch)))
                    batch.clear()
                    size = 0
        finally:
            if taking is not None:
                await taking
        await run_in_threadpool(reader.finish, b"".join(batch))


def _inside(content: MediaType) -> str:
    """The media type of what a body holds; empty if it is not taken."""
    if content.name == MULTIPART:
        kind = (content.parameter("type") or DICOM).lower()
        return kind if kind in _TAKEN else ""
    return content.name if content.name in (DICOM, DICOM_JSON) else ""


def _status(error: Exception) -> int:
    if isinstance(error, TimeoutError):
        return 408
    return 413 if isinstance(error, MultipartError) and error.too_large else 400
