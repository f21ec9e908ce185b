# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: frames and bulk data (PS3.18 10.4.1.1.5 and 10.4.1.1.4), streamed from their place in the file.

A frame is sent as it is stored, or decoded as ``application/octet-stream`` in little endian. Which of the two
an Accept header means stands in one function here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from fastapi import APIRouter, Request, Response
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from informatics_gateway.dicomweb.media import MULTIPART, OCTET_STREAM, MediaType
from informatics_gateway.dicomweb.retrieval import (
    Found,
    Part,
    accepted,
    answering,
    file_chunks,
    find,
    multipart,
    refused,
    single,
)
from informatics_gateway.pixels.transcoding import (
    TranscodingError,
    can_decode,
    native_frame,
    pixel_header,
    stored_frame,
    swapped,
    word_width,
)
from profiles.faults import Fault
from task_manager.ports import InstanceArchive
from task_manager.study.content import UNREADABLE, BulkValue, find_bulk
from task_manager.study.frames import Frames, locate_frames

MAX_FRAME_LIST = 10_000
_NATIVE = str(ExplicitVRLittleEndian)
_PIXEL_DATA = "7FE00010"
_FRAME_LIST = re.compile(r"\d{1,9}(,\d{1,9})*", re.ASCII)
_WHERE = re.compile(r"[0-9A-F]{8}(/\d{1,6}/[0-9A-F]{8}){0,24}", re.ASCII)

_JPEG = ("50", "51", "57", "70")
_MPEG = ("100", "101", "100.1", "101.1")
_MP4 = ("102", "103", "104", "105", "106", "102.1", "103.1", "104.1", "105.1", "106.1")
MEDIA_TYPES = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **{f"1.2.840.10008.1.2.4.{number}": "image/jpeg" for number in _JPEG},
    **{f"1.2.840.10008.1.2.4.{number}": "image/jls" for number in ("80", "81")},
    **{f"1.2.840.10008.1.2.4.{number}": "image/jp2" for number in ("90", "91")},
    **{f"1.2.840.10008.1.2.4.{number}": "image/jpx" for number in ("92", "93")},
    **{f"1.2.840.10008.1.2.4.{number}": "image/jphc" for number in ("201", "202", "203")},
    **{f"1.2.840.10008.1.2.4.{number}": "video/mpeg" for number in _MPEG},
    **{f"1.2.840.10008.1.2.4.{number}": "video/mp4" for number in _MP4},
    **{f"1.2.840.10008.1.2.4.{number}": "video/h265" for number in ("107", "108")},
}
"""Transfer syntax to the media type of its code stream (PS3.18 table 8.7.3-5)."""

# names of earlier editions and of viewers
_ALIASES = {"image/x-dicom-rle": "image/dicom-rle", "image/x-jls": "image/jls", "image/jpeg2000": "image/jp2"}


def add_routes(routes: APIRouter, archive: InstanceArchive, of_instance: str) -> None:
    """Add the resources of frames and bulk data below an instance."""

    @answering
    def retrieve(request: Request, found: Found, numbers: Sequence[int] | None) -> Response:
        frames = located(found)
        if numbers is None:
            numbers = range(1, frames.count + 1)
        if not all(1 <= number <= frames.count for number in numbers):
            raise refused(404, Fault("", f"the image has frames 1 to {frames.count}"))
        wish = frame_form(accepted(request), frames.value.transfer_syntax_uid, one=len(numbers) == 1)
        parts = _frame_parts(found, frames, numbers, wish.decode)
        first = next(iter(parts), None) if wish.single else None
        if first is not None:
            return single(first)
        return multipart(parts, OCTET_STREAM if wish.decode else _stored_type(frames).partition(";")[0])

    @routes.get(f"{of_instance}/frames/{{frames}}")
    @answering
    def retrieve_frames(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        (found, *_) = find(archive, study, series, instance)
        if not _FRAME_LIST.fullmatch(frames) or frames.count(",") >= MAX_FRAME_LIST:
            raise refused(
                400, Fault("", f"frames are numbers from 1, joined by commas, at most {MAX_FRAME_LIST}")
            )
        return retrieve(request, found, [int(number) for number in frames.split(",")])

    @routes.get(f"{of_instance}/bulkdata/{{where:path}}")
    @answering
    def retrieve_bulk_data(request: Request, study: str, series: str, instance: str, where: str) -> Response:
        (found, *_) = find(archive, study, series, instance)
        where = where.upper()
        if not _WHERE.fullmatch(where):
            raise refused(400, Fault("", "bulk data are named by a tag, or by tag/item/tag"))
        try:
            value = find_bulk(found.path, where)
        except UNREADABLE:
            value = None
        if value is None:
            raise refused(404, Fault("", "the instance has no bulk data there"))
        if value.encapsulated and where == _PIXEL_DATA:
            return retrieve(request, found, None)
        form = frame_form(accepted(request), _NATIVE, one=True)
        part = _bulk_part(found, value)
        return single(part) if form.single else multipart([part], OCTET_STREAM)


def located(found: Found) -> Frames:
    """The frames of an instance.

    Raises
    ------
    AnsweredError
        404 if it has none that can be found.
    """
    try:
        frames = locate_frames(found.path, found.instance.attributes)
    except UNREADABLE as error:
        raise refused(404, Fault("", f"the frames cannot be told apart: {error}")) from error
    if frames is None:
        raise refused(404, Fault("", "the instance has no pixel data"))
    return frames


class _Form:
    """In what form frames are sent."""

    def __init__(self, *, decode: bool, single: bool) -> None:
        self.decode = decode
        self.single = single


def frame_form(accept: Sequence[MediaType], stored: str, *, one: bool) -> _Form:
    """In what form to send frames that are stored in a transfer syntax; `one` may go without multipart.

    Raises
    ------
    AnsweredError
        406 if in none that is accepted.

    References
    ----------
    PS3.18 8.7.3.3, 8.7.4; ``transfer-syntax=*`` asks for what is stored.
    """
    is_native = not UID(stored).is_compressed
    own = MEDIA_TYPES.get(stored, OCTET_STREAM)
    for kind in accept:
        inside = kind.name in (MULTIPART, "multipart/*", "*/*")
        name = (kind.parameter("type").lower() or "*/*") if kind.name == MULTIPART else kind.name
        name = "*/*" if name == "multipart/*" else _ALIASES.get(name, name)
        if not inside and not one:
            continue
        syntax = kind.parameter("transfer-syntax")
        if name == OCTET_STREAM:
            if syntax == "*" or (is_native and syntax in ("", _NATIVE, stored)):
                return _Form(decode=False, single=not inside)
            if syntax in ("", _NATIVE) and can_decode(stored):
                return _Form(decode=True, single=not inside)
        if name in ("*/*", own, f"{own.partition('/')[0]}/*") and syntax in ("", "*", stored):
            return _Form(decode=False, single=not inside)
    raise refused(406, Fault("", f"frames are stored as {own}; transfer-syntax={stored}"))


def _frame_parts(found: Found, frames: Frames, numbers: Sequence[int], decode: bool) -> Iterable[Part]:
    if decode:
        return _decoded_parts(found, frames, numbers)
    native = not frames.value.encapsulated
    kind = _stored_type(frames)
    size = -(-frames.geometry.frame_bits // 8)
    return [
        Part(
            content_type=kind,
            content=partial(stored_frame, found.path, frames, number - 1),
            size=size if native else sum(end - start for start, end in frames.ranges(number - 1)),
        )
        for number in numbers
    ]


def _decoded_parts(found: Found, frames: Frames, numbers: Sequence[int]) -> Iterable[Part]:
    """The frames decoded one after the other, while they are sent."""
    header: Dataset | None = None
    for number in numbers:
        try:
            header = header if header is not None else pixel_header(found.path)
            content = native_frame(found.path, frames, header, number - 1)
        except (TranscodingError, *UNREADABLE) as error:
            raise refused(406, Fault("", "the frame cannot be decoded")) from error
        yield Part(
            content_type=f"{OCTET_STREAM}; transfer-syntax={_NATIVE}",
            content=partial(iter, (content,)),
            size=len(content),
        )


def _stored_type(frames: Frames) -> str:
    syntax = frames.value.transfer_syntax_uid
    if not frames.value.encapsulated:
        return f"{OCTET_STREAM}; transfer-syntax={_NATIVE}"
    return f"{MEDIA_TYPES.get(syntax, OCTET_STREAM)}; transfer-syntax={syntax}"


def _bulk_part(found: Found, value: BulkValue) -> Part:
    """A value as it is in the file, its words in little endian."""
    width = 1 if value.little_endian else word_width(value.vr)

    def content() -> Iterable[bytes]:
        if value.inflated is not None:
            yield value.inflated[value.start : value.end]
            return
        for chunk in file_chunks(found.path, value.start, value.end):
            yield swapped(chunk, width)

    return Part(
        content_type=f"{OCTET_STREAM}; transfer-syntax={_NATIVE}",
        content=content,
        size=value.end - value.start,
    )
