# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: rendered instances and frames, and thumbnails (PS3.18 10.4.1.1.3 and 10.4.1.1.7).

A rendered instance of several frames is its representative frame, as a thumbnail is: the one the header
names, else the middle one. What is not done, annotation and colour profiles, is told in a Warning header.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext

from fastapi import APIRouter, Request, Response

from informatics_gateway.dicomweb.media import MediaType
from informatics_gateway.dicomweb.rendering import (
    FORMATS,
    RenderingError,
    Viewport,
    Wish,
    parse_wish,
    picture,
)
from informatics_gateway.dicomweb.retrieval import Found, accepted, answering, find, refused
from informatics_gateway.dicomweb.wado_frames import located
from informatics_gateway.pixels.transcoding import TranscodingError, decoded, pixel_header
from profiles.dicom_json import first
from profiles.faults import Fault
from task_manager.ports import InstanceArchive
from task_manager.study.content import UNREADABLE
from task_manager.study.frames import geometry_of

MAX_RENDERED_PIXELS = 64 * 1024**2
THUMBNAIL = Viewport(width=128, height=128)
_UNSUPPORTED = ("annotation", "iccprofile")
_LARGE_PIXELS = 8 * 1024**2
_LARGE = threading.Lock()
"""Held while a large frame is rendered: each pixel takes tens of bytes on the way to a picture."""


def add_routes(
    routes: APIRouter, archive: InstanceArchive, of_study: str, of_series: str, of_instance: str
) -> None:
    """Add the rendered resources."""

    @answering
    def render(
        request: Request, found: Sequence[Found], frame: int | None, *, thumbnail: bool = False
    ) -> Response:
        media_type = picture_type(accepted(request))
        wish = parse_wish(dict(request.query_params))
        if not isinstance(wish, Wish):
            raise refused(400, *wish)
        if thumbnail and wish.viewport is None:
            wish = Wish(window=wish.window, viewport=THUMBNAIL, quality=wish.quality)
        content = _rendered(_representative(found), frame, wish, media_type)
        ignored = [name for name in _UNSUPPORTED if request.query_params.get(name, "no") != "no"]
        warnings = ", ".join(
            f"299 airway: The {name} parameter is not supported and was ignored" for name in ignored
        )
        return Response(content, media_type=media_type, headers={"Warning": warnings} if warnings else None)

    @routes.get(f"{of_instance}/rendered")
    @answering
    def rendered_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return render(request, find(archive, study, series, instance), None)

    @routes.get(f"{of_instance}/frames/{{frames}}/rendered")
    @answering
    def rendered_frame(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        return render(request, find(archive, study, series, instance), _number(frames))

    @routes.get(f"{of_study}/thumbnail")
    @answering
    def study_thumbnail(request: Request, study: str) -> Response:
        return render(request, find(archive, study), None, thumbnail=True)

    @routes.get(f"{of_series}/thumbnail")
    @answering
    def series_thumbnail(request: Request, study: str, series: str) -> Response:
        return render(request, find(archive, study, series), None, thumbnail=True)

    @routes.get(f"{of_instance}/thumbnail")
    @answering
    def instance_thumbnail(request: Request, study: str, series: str, instance: str) -> Response:
        return render(request, find(archive, study, series, instance), None, thumbnail=True)

    @routes.get(f"{of_instance}/frames/{{frames}}/thumbnail")
    @answering
    def frame_thumbnail(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        return render(request, find(archive, study, series, instance), _number(frames), thumbnail=True)


def picture_type(accept: Sequence[MediaType]) -> str:
    """The media type of a picture that the request accepts; JPEG where it takes any.

    Raises
    ------
    AnsweredError
        406 if it takes none that is made here.
    """
    for kind in accept:
        if kind.name in FORMATS:
            return kind.name
        if kind.name in ("*/*", "image/*"):
            return "image/jpeg"
    raise refused(406, Fault("", f"pictures are {', '.join(FORMATS)}"))


def _number(frames: str) -> int:
    if not (frames.isascii() and frames.isdigit() and len(frames) < 10):
        raise refused(400, Fault("", "one frame can be rendered at a time, given by its number"))
    return int(frames)


def _representative(found: Sequence[Found]) -> Found:
    """The middle image of the first series that has images."""
    images = [one for one in found if geometry_of(one.instance.attributes).rows]
    if not images:
        raise refused(406, Fault("", "there is no image to render"))
    series = images[0].instance.series_instance_uid
    images = [one for one in images if one.instance.series_instance_uid == series]
    return images[len(images) // 2]


def _rendered(found: Found, frame: int | None, wish: Wish, media_type: str) -> bytes:
    frames = located(found)
    if frame is None:
        named = first(found.instance.attributes, "RepresentativeFrameNumber")
        frame = named if isinstance(named, int) and 1 <= named <= frames.count else frames.count // 2 + 1
    if not 1 <= frame <= frames.count:
        raise refused(404, Fault("", f"the image has frames 1 to {frames.count}"))
    size = frames.geometry.rows * frames.geometry.columns
    if size > MAX_RENDERED_PIXELS:
        raise refused(406, Fault("", f"a frame of more than {MAX_RENDERED_PIXELS} pixels is not rendered"))
    try:
        with _LARGE if size > _LARGE_PIXELS else nullcontext():
            header = pixel_header(found.path)
            pixels = decoded(found.path, frames, header, frame - 1, raw=False)
            return picture(pixels, header, frame - 1, wish, media_type)
    except (RenderingError, TranscodingError, *UNREADABLE) as error:
        raise refused(406, Fault("", "the frame cannot be rendered")) from error
