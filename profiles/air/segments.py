# SPDX-License-Identifier: Apache-2.0
"""Decoding a stored BINARY Segmentation back into masks on the grid of images, by position.

Frames are placed by their position in the patient, never by their order or by the images they name, so what
is decoded is what any display shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from profiles.air.grid import Grid, ResultError, grid_of
from profiles.air.items import items, numbers, text, whole_number
from profiles.faults import Fault

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_NATIVE = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")


def place_segments(seg: Dataset, sources: Sequence[Dataset]) -> dict[int, NDArray[np.bool_]]:
    """Segment number to mask, on the grid of `sources`.

    Parameters
    ----------
    seg
        A BINARY Segmentation in a native transfer syntax, with pixel data.
    sources
        Headers of single-frame images; axis 0 of every mask is in their order.

    Returns
    -------
    dict
        bool arrays of shape (images, rows, columns); a segment without frames is all False.

    Raises
    ------
    ResultError
        If the segmentation is of another kind, inconsistent, or has a frame that lies on no image.

    References
    ----------
    PS3.3 A.51.5, C.7.6.16.2.3, C.8.20; PS3.5 8.1.1 (frames of single bits are packed without gap).
    """
    grid = grid_of(sources)
    described = [whole_number(item, "SegmentNumber") for item in items(seg, "SegmentSequence")]
    faults = _kind_faults(seg, grid)
    if not described or None in described or len(set(described)) < len(described):
        faults.append(Fault("SegmentSequence", "must number its segments, each once"))
    if faults:
        raise ResultError(faults)
    masks = {number: np.zeros(grid.shape, dtype=np.bool_) for number in described if number is not None}
    taken: set[tuple[int, int]] = set()
    for frame, (number, position, orientation) in enumerate(_frames(seg)):
        path = f"PerFrameFunctionalGroupsSequence[{frame}]"
        index = None if position is None else grid.slice_at(position)
        if orientation is None or not grid.same_orientation(orientation):
            faults.append(Fault(f"{path}.PlaneOrientationSequence", "must be that of the images"))
        elif index is None:
            faults.append(Fault(f"{path}.PlanePositionSequence", "must be that of an image"))
        elif number not in masks:
            faults.append(
                Fault(f"{path}.SegmentIdentificationSequence", "must name a segment that is described")
            )
        elif (number, index) in taken:
            faults.append(Fault(path, "another frame of this segment lies on the same image"))
        else:
            taken.add((number, index))
            masks[number][index] = _bits(seg.PixelData, frame, grid)
    if faults:
        raise ResultError(faults)
    return masks


def _kind_faults(seg: Dataset, grid: Grid) -> list[Fault]:
    faults = []
    for keyword, expected in (
        ("SOPClassUID", SEGMENTATION_STORAGE),
        ("SegmentationType", "BINARY"),
        ("BitsAllocated", "1"),
        ("Rows", str(grid.rows)),
        ("Columns", str(grid.columns)),
    ):
        if text(seg, keyword) != expected:
            faults.append(Fault(keyword, f"must be {expected}"))
    if text(getattr(seg, "file_meta", Dataset()), "TransferSyntaxUID") not in _NATIVE:
        faults.append(Fault("TransferSyntaxUID", "must be a native one"))
    count = whole_number(seg, "NumberOfFrames") or 0
    if count != len(items(seg, "PerFrameFunctionalGroupsSequence")) or count < 1:
        faults.append(Fault("NumberOfFrames", "must be the number of per-frame items, at least 1"))
    needed = (count * grid.rows * grid.columns + 7) // 8
    pixels = seg.get("PixelData")
    if not isinstance(pixels, bytes) or len(pixels) < needed:
        faults.append(Fault("PixelData", f"must have at least {needed} bytes"))
    return faults


def _frames(seg: Dataset) -> Iterator[tuple[int | None, list[float] | None, list[float] | None]]:
    """Segment number, position and orientation of every frame; its own item goes before the shared one."""
    shared = next(iter(items(seg, "SharedFunctionalGroupsSequence")), Dataset())
    for own in items(seg, "PerFrameFunctionalGroupsSequence"):

        def macro(keyword: str, own: Dataset = own) -> Dataset:
            return next(iter(items(own, keyword) or items(shared, keyword)), Dataset())

        yield (
            whole_number(macro("SegmentIdentificationSequence"), "ReferencedSegmentNumber"),
            numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3),
            numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        )


def _bits(pixels: bytes, frame: int, grid: Grid) -> NDArray[np.bool_]:
    size = grid.rows * grid.columns
    first = frame * size
    start = first // 8
    packed = np.frombuffer(pixels, dtype=np.uint8, count=(first + size + 7) // 8 - start, offset=start)
    bits = np.unpackbits(packed, bitorder="little")[first - 8 * start :][:size]
    return bits.reshape(grid.rows, grid.columns).astype(np.bool_)
