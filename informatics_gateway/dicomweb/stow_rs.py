# SPDX-License-Identifier: Apache-2.0
"""STOW-RS: DICOM instances in multipart/related bodies into the intake, part by part as they arrive.

A body is never held: parts go to staged objects while they are received. Each instance is committed before
the answer names it as stored; what was committed stays, also when a later part is bad.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from informatics_gateway.dicomweb.media import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    accepts_json,
    parse_accept,
    parse_media_type,
)
from informatics_gateway.statuses import STATUSES
from profiles.dicom_json import DicomJson, element, merged
from profiles.multipart import (
    MultipartError,
    MultipartParser,
    PartBegan,
    PartData,
    PartEnded,
)
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import InstanceIntake, StagedObject
from task_manager.study.header import announced_uids

_LOG = logging.getLogger(__name__)
_BATCH_BYTES = 1024 * 1024
_OUT_OF_RESOURCES = STATUSES[RefusalCode.OUT_OF_RESOURCES]
_CANNOT_PROCESS = STATUSES[RefusalCode.PROCESSING_FAILURE]


class StowReceiver:
    """Takes one request body in pieces and gathers what became of its instances.

    Parameters
    ----------
    parser
        None for a body that is one instance without multipart frames.
    study_instance_uid
        Of the request's URL; empty for none.
    studies_url
        Address of ``.../studies``, for retrieve URLs.
    """

    def __init__(
        self,
        intake: InstanceIntake,
        parser: MultipartParser | None,
        *,
        actor: Actor,
        study_instance_uid: str,
        studies_url: str,
        max_part_bytes: int,
    ) -> None:
        self._intake = intake
        self._parser = parser
        self._actor = actor
        self._study_instance_uid = study_instance_uid
        self._studies_url = studies_url
        self._max_part_bytes = max_part_bytes
        self._staged: StagedObject | None = None
        self._failed_part: RefusalCode | None = None
        self._stored: list[DicomJson] = []
        self._failed: list[DicomJson] = []
        self._others: list[DicomJson] = []
        self._reasons: set[int] = set()

    def feed(self, data: bytes) -> None:
        """Take some bytes of the body.

        Raises
        ------
        MultipartError
            If the body is malformed or too large.
        """
        if self._parser is None:
            if self._staged is None and self._failed_part is None:
                self._begin({})
            self._append(data)
            return
        for event in self._parser.feed(data):
            match event:
                case PartBegan(headers):
                    self._begin(headers)
                case PartData(body):
                    self._append(body)
                case PartEnded():
                    self._end()

    def finish(self) -> None:
        """The body has ended.

        Raises
        ------
        MultipartError
            If it ended too early or held nothing.
        """
        if self._parser is not None:
            self._parser.close()
        elif self._staged is not None or self._failed_part is not None:
            self._end()
        if not (self._stored or self._failed or self._others):
            raise MultipartError("the body holds no instance")

    def discard(self) -> None:
        """Drop the part that is being received; for bodies that end early."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None

    @property
    def status(self) -> int:
        """The HTTP status of a body that was understood (PS3.18 table 10.5.3-1)."""
        if not (self._failed or self._others):
            return 200
        if self._stored:
            return 202
        return _OUT_OF_RESOURCES.http if self._reasons == {_OUT_OF_RESOURCES.dimse} else 409

    @property
    def answer(self) -> DicomJson:
        """The Store Instances Response module (PS3.18 I.2) in DICOM JSON."""
        parts: list[DicomJson] = []
        if self._study_instance_uid:
            parts.append(element("RetrieveURL", f"{self._studies_url}/{self._study_instance_uid}"))
        for keyword, items in (
            ("FailedSOPSequence", self._failed),
            ("ReferencedSOPSequence", self._stored),
            ("OtherFailuresSequence", self._others),
        ):
            if items:
                parts.append(element(keyword, *items))
        return merged(parts)

    def _begin(self, headers: dict[str, str]) -> None:
        kind = parse_media_type(headers.get("content-type", DICOM)).name
        self._failed_part = None
        if kind != DICOM:
            self._failed_part = RefusalCode.NOT_STORABLE
            return
        try:
            self._staged = self._intake.stage()
        except StoreError:
            self._no_room()

    def _append(self, data: bytes) -> None:
        if self._staged is None:
            return
        try:
            self._staged.write(data)
        except StoreError:
            self._no_room()
            return
        if self._staged.size > self._max_part_bytes:
            raise MultipartError(f"an instance of more than {self._max_part_bytes} bytes", too_large=True)

    def _no_room(self) -> None:
        _LOG.exception("no room", extra={"action": "stow.store_failed"})
        self.discard()
        self._failed_part = RefusalCode.OUT_OF_RESOURCES

    def _end(self) -> None:
        staged, self._staged = self._staged, None
        if staged is None:
            self._fail("", "", STATUSES[self._failed_part or RefusalCode.NOT_STORABLE].dimse)
            return
        sop_class_uid, sop_instance_uid = announced_uids(staged.path)
        reason = _CANNOT_PROCESS.dimse
        try:
            outcome: Accepted | Refused | None = self._intake.receive_instance(
                staged, actor=self._actor, study_instance_uid=self._study_instance_uid
            )
        except StoreError:
            _LOG.exception("no room", extra={"action": "stow.store_failed"})
            outcome, reason = None, _OUT_OF_RESOURCES.dimse
        except Exception:  # noqa: BLE001 - the edge for one part: log once, answer, take the others
            _LOG.exception("instance failed", extra={"action": "stow.failed"})
            outcome = None
        if isinstance(outcome, Accepted):
            self._stored.append(
                merged(
                    (
                        element("ReferencedSOPClassUID", sop_class_uid),
                        element("ReferencedSOPInstanceUID", outcome.uid),
                    )
                )
            )
            return
        if outcome is None:
            staged.discard()
        else:
            reason = STATUSES[outcome.code].dimse
            _LOG.warning(
                "instance refused",
                extra={
                    "action": "stow.refused",
                    "code": str(outcome.code),
                    "faults": [str(fault) for fault in outcome.faults],
                },
            )
        self._fail(sop_class_uid, sop_instance_uid, reason)

    def _fail(self, sop_class_uid: str, sop_instance_uid: str, reason: int) -> None:
        self._reasons.add(reason)
        if not (sop_class_uid and sop_instance_uid):
            self._others.append(element("FailureReason", reason))
            return
        self._failed.append(
            merged(
                (
                    element("ReferencedSOPClassUID", sop_class_uid),
                    element("ReferencedSOPInstanceUID", sop_instance_uid),
                    element("FailureReason", reason),
                )
            )
        )


def router(
    intake: InstanceIntake,
    *,
    prefix: str = "/dicom-web",
    max_part_bytes: int = 4 * 1024**3,
    max_parts: int = 10_000,
) -> APIRouter:
    """The Store transaction (PS3.18 10.5): ``POST .../studies`` and ``POST .../studies/{study}``.

    Answers: 200 all stored; 202 some; 409 none; 503 none for want of room; 400 a body that cannot be
    followed; 413 a part or a number of parts over the limit; 415 another media type; 406 no DICOM JSON
    accepted.
    """
    routes = APIRouter(prefix=prefix, tags=["STOW-RS"])

    async def store(request: Request, study_instance_uid: str) -> Response:
        if study_instance_uid and not is_uid(study_instance_uid):
            return _problem(400, "the study in the URL is not a UID")
        if not accepts_json(parse_accept(request.headers.get("accept", ""))):
            return _problem(406, "answers are application/dicom+json")
        content = parse_media_type(request.headers.get("content-type", ""))
        kind = content.parameter("type") or DICOM if content.name == MULTIPART else content.name
        if kind.lower() != DICOM:
            return _problem(
                415, 'send multipart/related; type="application/dicom"', accept=f"{MULTIPART}, {DICOM}"
            )
        parser: MultipartParser | None = None
        if content.name == MULTIPART:
            try:
                parser = MultipartParser(
                    content.parameter("boundary"), max_parts=max_parts, max_part_bytes=max_part_bytes
                )
            except MultipartError as error:
                return _problem(400, str(error))
        receiver = StowReceiver(
            intake,
            parser,
            actor=_actor(request),
            study_instance_uid=study_instance_uid,
            studies_url=f"{str(request.base_url).rstrip('/')}{prefix}/studies",
            max_part_bytes=max_part_bytes,
        )
        return await _receive(request, receiver)

    @routes.post("/studies")
    async def store_instances(request: Request) -> Response:
        return await store(request, "")

    @routes.post("/studies/{study}")
    async def store_study(request: Request, study: str) -> Response:
        return await store(request, study)

    return routes


async def _receive(request: Request, receiver: StowReceiver) -> Response:
    batch = bytearray()
    try:
        async for chunk in request.stream():
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                await run_in_threadpool(receiver.feed, bytes(batch))
                batch.clear()
        await run_in_threadpool(receiver.feed, bytes(batch))
        await run_in_threadpool(receiver.finish)
    except MultipartError as error:
        _LOG.warning("body refused", extra={"action": "stow.malformed", "reason": str(error)})
        return _problem(413 if error.too_large else 400, str(error), stored=receiver.answer)
    except ClientDisconnect:
        _LOG.warning("sender went away", extra={"action": "stow.disconnected"})
        return Response(status_code=400)
    finally:
        await run_in_threadpool(receiver.discard)
    return Response(orjson.dumps(receiver.answer), status_code=receiver.status, media_type=DICOM_JSON)


def _problem(status: int, message: str, *, accept: str = "", stored: DicomJson | None = None) -> Response:
    """An error answer; `stored` tells what was committed before the body went wrong."""
    content: dict[str, Any] = dict(stored or {})
    content.update(element("ErrorComment", message[:64]))
    return Response(
        orjson.dumps(content),
        status_code=status,
        media_type=DICOM_JSON,
        headers={"Accept": accept} if accept else None,
    )


def _actor(request: Request) -> Actor:
    return Actor(door="dicomweb", address=request.client.host if request.client else "")
