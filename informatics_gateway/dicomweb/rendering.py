# SPDX-License-Identifier: Apache-2.0
"""A frame as a picture for people: PS3.18 8.3.5 (window, viewport, quality) and the pipeline of PS3.3 C.11.

Modality and VOI transformation, inversion of MONOCHROME1, palettes, then a region scaled to fit a viewport,
as JPEG, PNG or GIF of 8 bits. Nothing is drawn into the picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from profiles.faults import Fault

MAX_VIEWPORT = 8192
DEFAULT_QUALITY = 90
FORMATS: Mapping[str, str] = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}

_NUMBER = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})([eE][+-]?\d)?")


class VoiFunction(StrEnum):
    """How a window maps values (PS3.3 C.11.2.1.3)."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear-exact"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A VOI window in output units of the modality transformation."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewport:
    """Where a region of the source goes (8.3.5.1.3).

    Attributes
    ----------
    width, height
        Pixels to fit into.
    left, top
        Of the region, in pixels of the source.
    region_width, region_height
        Of the region; None to the edge, negative flips.
    """

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    region_width: float | None = None
    region_height: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a frame shall look."""

    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY


class RenderingError(ValueError):
    """The frame cannot be shown as a picture."""


def parse_wish(query: Mapping[str, str]) -> Wish | tuple[Fault, ...]:
    """The wish of query parameters, or all that is wrong with them."""
    faults: list[Fault] = []
    quality = query.get("quality", str(DEFAULT_QUALITY))
    if not (quality.isascii() and quality.isdigit() and len(quality) <= 3 and 1 <= int(quality) <= 100):
        faults.append(Fault("quality", "must be a whole number from 1 to 100"))
    window = _window(query["window"], faults) if "window" in query else None
    viewport = _viewport(query["viewport"], faults) if "viewport" in query else None
    if faults:
        return tuple(faults)
    return Wish(window=window, viewport=viewport, quality=int(quality))


def _window(text: str, faults: list[Fault]) -> Window | None:
    parts = text.split(",")
    function = parts[2].lower() if len(parts) == 3 else VoiFunction.LINEAR
    if len(parts) not in (2, 3) or not all(_NUMBER.fullmatch(part) for part in parts[:2]):
        faults.append(Fault("window", "must be center,width,function"))
    elif function not in tuple(VoiFunction):
        faults.append(Fault("window", "needs a function of linear, linear-exact or sigmoid"))
    elif float(parts[1]) < (1 if function == VoiFunction.LINEAR else 1e-9):
        faults.append(Fault("window", "needs a width of at least 1; of more than 0 if not linear"))
    else:
        return Window(center=float(parts[0]), width=float(parts[1]), function=VoiFunction(function))
    return None


def _viewport(text: str, faults: list[Fault]) -> Viewport | None:
    parts = text.split(",")
    good = len(parts) in (2, 6) and all(not part or _NUMBER.fullmatch(part) for part in parts)
    if not good or not all(part.isdigit() and 0 < int(part) <= MAX_VIEWPORT for part in parts[:2]):
        message = f"must be width,height[,x,y,width,height], the first two from 1 to {MAX_VIEWPORT}"
        faults.append(Fault("viewport", message))
        return None
    region = [float(part) if part else None for part in parts[2:]] or [None] * 4
    if any(part == 0 for part in region[2:]) or any(part is not None and part < 0 for part in region[:2]):
        faults.append(Fault("viewport", "needs a region that is not empty and begins inside the image"))
        return None
    return Viewport(
        width=int(parts[0]),
        height=int(parts[1]),
        left=region[0] or 0.0,
        top=region[1] or 0.0,
        region_width=region[2],
        region_height=region[3],
    )


def picture(pixels: NDArray[Any], header: Dataset, index: int, wish: Wish, media_type: str) -> bytes:
    """The encoded picture of one frame.

    Parameters
    ----------
    pixels
        Rows x columns, or rows x columns x 3 of RGB; stored values.
    header
        Of the image, with functional groups if it has them.
    index
        Of the frame, from 0.
    media_type
        One of :data:`FORMATS`.

    Raises
    ------
    RenderingError
        If the frame cannot be shown, or the region is outside of it.
    """
    try:
        shown = _grey_or_colour(pixels, header, index, wish.window)
    except Exception as error:  # headers that do not fit their pixels break this anywhere
        raise RenderingError(f"the frame cannot be rendered ({type(error).__name__})") from error
    image = Image.fromarray(shown)
    if wish.viewport is not None:
        image = _fitted(image, wish.viewport)
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": wish.quality} if media_type == "image/jpeg" else {}
    try:
        image.save(file, FORMATS[media_type], **options)
    except (OSError, ValueError) as error:  # JPEG takes no more than 65500 rows or columns
        raise RenderingError("the format takes no picture of this size") from error
    return file.getvalue()


def _grey_or_colour(
    pixels: NDArray[Any], header: Dataset, index: int, window: Window | None
) -> NDArray[np.uint8]:
    photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
    if pixels.ndim == 3:
        bits = 16 if pixels.dtype.itemsize == 2 else 8
        return np.ascontiguousarray((pixels >> (bits - 8)).astype(np.uint8))
    grey = _windowed(pixels, _of_frame(header, index), window)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _of_frame(header: Dataset, index: int) -> Dataset:
    """What transforms the values of one frame, from the functional groups where there are some."""
    found = Dataset()
    for source in _groups(header, index):
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in source.get(keyword) or ():
                found.update(item)
    for keyword in (
        *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter"),
        *("WindowWidth", "VOILUTFunction", "PixelPaddingValue", "BitsStored", "PixelRepresentation"),
    ):
        if keyword in header and keyword not in found:
            found[keyword] = header[keyword]
    return found


def _groups(header: Dataset, index: int) -> list[Dataset]:
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())[:1]
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    return [*shared, *([frames[index]] if index < len(frames) else [])]


def _windowed(pixels: NDArray[Any], frame: Dataset, window: Window | None) -> NDArray[np.uint8]:
    # nothing that is not a number may reach the picture
    values = np.nan_to_num(np.asarray(apply_modality_lut(pixels, frame), dtype=np.float64), copy=False)
    if window is None:
        if frame.get("VOILUTSequence"):
            looked_up = np.asarray(apply_voi(values.astype(np.int64), frame, index=0), dtype=np.float64)
            return _stretched(looked_up, float(looked_up.min()), float(looked_up.max()))
        window = _own_window(frame)
    if window is None:
        padding = frame.get("PixelPaddingValue")
        real = values[pixels != padding] if isinstance(padding, int) else values
        real = real if real.size else values
        return _stretched(values, float(real.min()), float(real.max()))
    center, width = window.center, window.width
    if window.function is VoiFunction.SIGMOID:
        exponent = np.clip(-4 * (values - center) / width, -60, 60)
        return np.rint(255 / (1 + np.exp(exponent))).astype(np.uint8)
    if window.function is VoiFunction.LINEAR:
        center, width = center - 0.5, width - 1
    return _stretched(values, center - width / 2, center + width / 2)


def _stretched(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """`low` to `high` as 0 to 255; a step at `low` where they are one."""
    if high <= low:
        return np.where(values > low, 255, 0).astype(np.uint8)
    return np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


def _own_window(frame: Dataset) -> Window | None:
    """The first window of the header, if it can be used."""
    center, width = _first(frame.get("WindowCenter")), _first(frame.get("WindowWidth"))
    function = str(frame.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    if center is None or width is None or width <= 0 or function not in tuple(VoiFunction):
        return None
    return Window(center=center, width=width, function=VoiFunction(function))


def _first(value: Any) -> float | None:
    values = value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value]
    for one in values:
        return None if one is None or not np.isfinite(float(one)) else float(one)
    return None


def _fitted(image: Image.Image, viewport: Viewport) -> Image.Image:
    """The region of `image` scaled to fit into the viewport, its shape kept."""
    wide, high = viewport.region_width, viewport.region_height
    left, top = viewport.left, viewport.top
    right = min(float(image.width), left + abs(wide) if wide else image.width)
    bottom = min(float(image.height), top + abs(high) if high else image.height)
    if right - left < 1 or bottom - top < 1:
        raise RenderingError("the region is outside of the image")
    scale = min(viewport.width / (right - left), viewport.height / (bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    shown = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    if wide is not None and wide < 0:
        shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if high is not None and high < 0:
        shown = shown.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return shown
