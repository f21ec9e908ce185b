# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: stored instances as their bytes are or in Explicit VR Little Endian, and their metadata.

What is accepted as it is stored is sent as it is stored, from the disk, never read into memory. Who names no
transfer syntax gets Explicit VR Little Endian (PS3.18 8.7.3.5.2), or what is stored if that cannot be made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydicom.uid import ExplicitVRLittleEndian

from informatics_gateway.dicomweb import wado_frames, wado_rendered
from informatics_gateway.dicomweb.media import DICOM, MULTIPART, MediaType, metadata_type
from informatics_gateway.dicomweb.metadata import metadata_answer
from informatics_gateway.dicomweb.retrieval import (
    CHUNK_BYTES,
    Found,
    Part,
    accepted,
    answering,
    base_url,
    file_chunks,
    find,
    multipart,
    refused,
    single,
)
from informatics_gateway.pixels.transcoding import TranscodingError, can_decode, transcoded
from profiles.faults import Fault
from task_manager.ports import InstanceArchive
from task_manager.study.content import UNREADABLE
from task_manager.study.frames import locate_frames

_LOG = logging.getLogger(__name__)
_NATIVE = str(ExplicitVRLittleEndian)


def router(archive: InstanceArchive, *, prefix: str = "/dicom-web", public_url: str = "") -> APIRouter:
    """The Retrieve transaction (PS3.18 10.4): studies, series, instances, metadata, frames, bulk data,
    rendered images and thumbnails.

    Answers: 200; 400 a UID, frame list or parameter in the URL is none; 404 nothing is stored under it; 406
    no acceptable media type or transfer syntax.

    Parameters
    ----------
    public_url
        Base URL of the service where it is not the one that clients write, such as behind a proxy.
    """
    routes = APIRouter(prefix=prefix, tags=["WADO-RS"])

    @answering
    def retrieve(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        found = find(archive, study, series, instance)
        wish = _wish(accepted(request), one=bool(instance))
        plans = [_plan(one, wish) for one in found]
        stored = [_stored(one) for one in found]  # what is lost is told before the answer begins
        if not any(plans):
            return single(stored[0]) if wish.single else multipart(stored, DICOM)
        parts = (
            _decoded_part(one, part, wish) if plan else part
            for one, part, plan in zip(found, stored, plans, strict=True)
        )
        return single(next(parts)) if wish.single else multipart(parts, DICOM)

    @answering
    def metadata(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        kind = metadata_type(
            request.headers.get("accept", ""), tuple(request.query_params.getlist("accept")[:4])
        )
        if not kind:
            raise refused(406, Fault("", "metadata are application/dicom+json or application/dicom+xml"))
        found = find(archive, study, series, instance)
        return metadata_answer(found, base_url(request, prefix, public_url), kind)

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

    wado_frames.add_routes(routes, archive, of_instance)
    wado_rendered.add_routes(routes, archive, of_study, of_series, of_instance)
    return routes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is accepted.

    Attributes
    ----------
    syntaxes
        Transfer syntaxes that were named; ``*`` for any.
    unnamed
        Whether a range named none: Explicit VR Little Endian is then wanted, any other is better than none.
    """

    single: bool
    syntaxes: frozenset[str]
    unnamed: bool


def _wish(accept: Sequence[MediaType], *, one: bool) -> _Wish:
    """What the request wants; `one` if it names one instance, which may come without multipart."""
    containers: list[str] = []
    syntaxes: set[str] = set()
    unnamed = False
    for kind in accept:
        container = _container(kind, one=one)
        if not container:
            continue
        containers.append(container)
        if container != containers[0]:
            continue
        syntax = kind.parameter("transfer-syntax") or ("*" if "*" in kind.name else "")
        if syntax:
            syntaxes.add(syntax)
        else:
            unnamed = True
    if not containers:
        raise refused(406, Fault("", f'instances are multipart/related; type="{DICOM}"'))
    return _Wish(single=containers[0] == DICOM, syntaxes=frozenset(syntaxes), unnamed=unnamed)


def _container(kind: MediaType, *, one: bool) -> str:
    """In what a media range takes instances; empty if in nothing."""
    if kind.name in (MULTIPART, "multipart/*", "*/*"):
        return MULTIPART if kind.parameter("type").lower() in ("", DICOM) else ""
    return DICOM if one and kind.name in (DICOM, "application/*") else ""


def _plan(one: Found, wish: _Wish) -> bool:
    """Whether an instance must be decoded."""
    stored = one.instance.transfer_syntax_uid
    if stored == _NATIVE and (wish.unnamed or _NATIVE in wish.syntaxes):
        return False
    if "*" in wish.syntaxes or stored in wish.syntaxes:
        return False
    if (wish.unnamed or _NATIVE in wish.syntaxes) and can_decode(stored):
        return True
    if wish.unnamed:
        return False
    raise refused(
        406, Fault("", f"stored in {stored}, which is not accepted and cannot be made what is accepted")
    )


def _stored(one: Found) -> Part:
    return Part(
        content_type=_type(one.instance.transfer_syntax_uid),
        content=lambda: file_chunks(one.path),
        size=one.path.stat().st_size,
    )


def _decoded_part(one: Found, stored: Part, wish: _Wish) -> Part:
    """One instance decoded; as it is stored where that fails and no transfer syntax was named."""
    try:
        chunks = _decoded(one)
    except TranscodingError as error:
        if not wish.unnamed:
            raise refused(406, Fault("", str(error))) from error
        return stored
    return Part(content_type=_type(_NATIVE), content=lambda: chunks)


def _type(transfer_syntax_uid: str) -> str:
    return f"{DICOM}; transfer-syntax={transfer_syntax_uid}"


def _decoded(one: Found) -> Iterator[bytes]:
    """The file in Explicit VR Little Endian, made before the first chunk is asked for."""
    try:
        file = transcoded(one.path, locate_frames(one.path, one.instance.attributes))
    except (TranscodingError, *UNREADABLE) as error:
        extra = {"action": "wado.not_decoded", "syntax": one.instance.transfer_syntax_uid}
        _LOG.warning("an instance cannot be decoded", extra=extra)
        raise TranscodingError("the instance cannot be decoded") from error

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    return chunks()
