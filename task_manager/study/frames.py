# SPDX-License-Identifier: Apache-2.0
"""Where each frame of an image lies in its file, native or encapsulated (PS3.5 8 and A.4).

Nothing is decoded and no pixel is loaded: frames are ranges of bytes, found by reading item tags.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from profiles.dicom_json import DicomJson, first, text
from task_manager.study.content import BulkValue, find_bulk

MAX_FRAMES = 100_000
MAX_FRAME_BYTES = 1024**3
MAX_FRAGMENTS = 1_000_000

_PIXELS = {"7FE00010": 0, "7FE00008": 32, "7FE00009": 64}
_ITEM, _DELIMITER = 0xE000, 0xE0DD
_END_OF_IMAGE = b"\xff\xd9"
Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What of a header decides how pixels lie in bytes (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    number_of_frames: int
    photometric: str

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The frames of one image.

    Attributes
    ----------
    fragments
        For an encapsulated image, the byte ranges that make each frame; empty for a native one.
    """

    geometry: Geometry
    value: BulkValue
    fragments: tuple[tuple[Range, ...], ...] = ()

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.fragments) if self.value.encapsulated else self.geometry.number_of_frames

    def ranges(self, index: int) -> tuple[Range, ...]:
        """The half-open byte ranges of frame `index` (from 0); of single bits, all bytes it touches."""
        if self.value.encapsulated:
            return self.fragments[index]
        bits = self.geometry.frame_bits
        start = self.value.start
        return ((start + index * bits // 8, start + -(-(index + 1) * bits // 8)),)


def geometry_of(attributes: DicomJson) -> Geometry:
    """The geometry that a header tells; zero rows where it tells none."""

    def whole(keyword: str, default: int) -> int:
        value = first(attributes, keyword)
        return value if isinstance(value, int) and 0 <= value < 2**31 else default

    return Geometry(
        rows=whole("Rows", 0),
        columns=whole("Columns", 0),
        samples=whole("SamplesPerPixel", 1),
        bits_allocated=whole("BitsAllocated", 16),
        number_of_frames=max(1, whole("NumberOfFrames", 1)),
        photometric=text(attributes, "PhotometricInterpretation"),
    )


def locate_frames(path: Path, attributes: DicomJson) -> Frames | None:
    """Where the frames of the image at `path` are; None if it has no pixel data.

    Parameters
    ----------
    attributes
        Its header.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError, IndexError, struct.error, zlib.error
        If header and pixel data do not fit each other.
    """
    geometry = geometry_of(attributes)
    for where, bits in _PIXELS.items():
        value = find_bulk(path, where)
        if value is None:
            continue
        if bits and bits != geometry.bits_allocated:
            raise ValueError("the bits allocated are not those of such pixels")
        if value.encapsulated:
            return Frames(geometry=geometry, value=value, fragments=_frame_fragments(path, value, geometry))
        if not 0 < geometry.frame_bits <= MAX_FRAME_BYTES * 8:
            raise ValueError("the header tells no size of a frame")
        if -(-geometry.frame_bits * geometry.number_of_frames // 8) > value.end - value.start:
            raise ValueError("the pixel data are shorter than the frames")
        return Frames(geometry=geometry, value=value)
    return None


def _frame_fragments(path: Path, value: BulkValue, geometry: Geometry) -> tuple[tuple[Range, ...], ...]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offsets, fragments = _items(data, value)
        number = geometry.number_of_frames
        if number > MAX_FRAMES:
            raise ValueError(f"more than {MAX_FRAMES} frames")
        if len(offsets) == number > 1:
            return _by_offsets(offsets, fragments)
        if number == 1:
            return (tuple(fragments),)
        if len(fragments) == number:
            return tuple((one,) for one in fragments)
        frames = _by_end_of_image(data, fragments)
        if len(frames) != number:
            raise ValueError("fragments and number of frames do not agree")
        return frames


def _items(data: mmap.mmap, value: BulkValue) -> tuple[list[int], list[Range]]:
    """The Basic Offset Table and the ranges of all fragments."""
    found: list[Range] = []
    at = value.start
    while at + 8 <= value.end:
        group, number, length = struct.unpack_from("<HHL", data, at)
        at += 8
        if group != 0xFFFE or number != _ITEM:
            break
        if at + length > value.end:
            raise ValueError("a fragment does not end within the pixel data")
        found.append((at, at + length))
        if len(found) > MAX_FRAGMENTS:
            raise ValueError(f"more than {MAX_FRAGMENTS} fragments")
        at += length
    if not found or len(found) < 2:
        raise ValueError("encapsulated pixel data without a fragment")
    start, end = found[0]
    offsets = list(struct.unpack_from(f"<{(end - start) // 4}L", data, start))
    return offsets, found[1:]


def _by_offsets(offsets: Sequence[int], fragments: Sequence[Range]) -> tuple[tuple[Range, ...], ...]:
    """Frames begin where the table says, counted from the first item after it."""
    origin = fragments[0][0] - 8
    starts = {origin + offset: number for number, offset in enumerate(offsets)}
    if len(starts) != len(offsets) or list(offsets) != sorted(offsets):
        raise ValueError("the offsets of the frames do not rise")
    frames: list[list[Range]] = []
    for start, end in fragments:
        if start - 8 in starts:
            frames.append([])
        if not frames:
            raise ValueError("the first offset is not that of the first fragment")
        frames[-1].append((start, end))
    if len(frames) != len(offsets):
        raise ValueError("an offset is not that of a fragment")
    return tuple(map(tuple, frames))


def _by_end_of_image(data: mmap.mmap, fragments: Sequence[Range]) -> tuple[tuple[Range, ...], ...]:
    """Without a table, a frame ends where its code stream says so."""
    frames: list[list[Range]] = [[]]
    for start, end in fragments:
        frames[-1].append((start, end))
        if _END_OF_IMAGE in data[max(start, end - 10) : end]:
            frames.append([])
    return tuple(tuple(frame) for frame in frames if frame)
