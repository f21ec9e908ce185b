# SPDX-License-Identifier: Apache-2.0
"""The grid of pixels that a list of single-frame images spans in the patient.

Masks live on this grid: axis 0 in the order of the images as given, whatever that order is, axes 1 and 2 rows
and columns. Nothing here sorts images or reads pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from profiles.air.items import numbers, whole_number
from profiles.faults import Fault

_SAME = 1e-4
"""Direction cosines, and spacings in mm, that differ less are one value written by differing software."""

_NEAR = 0.01
"""A frame lies on a slice if it is nearer than this fraction of the smallest distance of slices."""


class ResultError(ValueError):
    """Result objects cannot be made from, or placed on, these images.

    Attributes
    ----------
    faults
        Everything found wrong.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, faults)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where every voxel of a mask lies.

    Attributes
    ----------
    positions_mm
        Centre of the first pixel of each image, shape (slices, 3), patient frame (LPS).
    orientation
        Direction cosines of rows, then of columns (ImageOrientationPatient).
    rows, columns
        Size of each image.
    row_spacing_mm, column_spacing_mm
        Distance of rows and of columns (PixelSpacing).
    step_mm
        Distance of neighbouring slices along the normal; None for one slice or for uneven distances.
    """

    positions_mm: NDArray[np.float64]
    orientation: NDArray[np.float64]
    rows: int
    columns: int
    row_spacing_mm: float
    column_spacing_mm: float
    step_mm: float | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.positions_mm), self.rows, self.columns

    def slice_at(self, position_mm: Sequence[float]) -> int | None:
        """The index of the image whose first pixel lies at `position_mm`; None if there is none."""
        distances = np.linalg.norm(self.positions_mm - np.asarray(position_mm, dtype=np.float64), axis=1)
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= self._tolerance_mm else None

    @property
    def _tolerance_mm(self) -> float:
        if len(self.positions_mm) < 2:
            return _NEAR
        return _NEAR * float(np.diff(np.sort(_offsets(self.positions_mm, self.orientation))).min())

    def same_orientation(self, orientation: Sequence[float]) -> bool:
        """Whether the direction cosines equal those of the grid."""
        given = np.asarray(orientation, dtype=np.float64)
        return given.shape == (6,) and bool(np.allclose(given, self.orientation, atol=_SAME))


def _offsets(positions: NDArray[np.float64], orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    offsets: NDArray[np.float64] = positions @ np.cross(orientation[:3], orientation[3:])
    return offsets


def _geometry_faults(index: int, source: Dataset) -> list[Fault]:
    faults = []
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        found = numbers(source, keyword, count)
        if found is None or (keyword == "PixelSpacing" and min(found) <= 0):
            faults.append(Fault(f"sources[{index}].{keyword}", f"must hold {count} usable numbers"))
    for keyword in ("Rows", "Columns"):
        if not 0 < (whole_number(source, keyword) or 0) <= 65535:
            faults.append(Fault(f"sources[{index}].{keyword}", "must be a size in pixels"))
    if (whole_number(source, "NumberOfFrames") or 1) > 1:
        faults.append(Fault(f"sources[{index}].NumberOfFrames", "only single-frame images form a grid"))
    return faults


def grid_of(sources: Sequence[Dataset]) -> Grid:
    """The grid of single-frame images in the order given.

    Parameters
    ----------
    sources
        Headers of images of one stack; pixel data is not looked at.

    Raises
    ------
    ResultError
        If an image lacks geometry, sizes or orientations differ, or two images lie in one place.

    References
    ----------
    PS3.3 C.7.6.2 Image Plane Module.
    """
    faults = [fault for i, source in enumerate(sources) for fault in _geometry_faults(i, source)]
    if not sources:
        faults.append(Fault("sources", "at least one image is needed"))
    if faults:
        raise ResultError(faults)
    first = sources[0]
    size = [whole_number(first, keyword) or 0 for keyword in ("Rows", "Columns")]
    orientation = np.array(numbers(first, "ImageOrientationPatient", 6))
    spacing = np.array(numbers(first, "PixelSpacing", 2))
    if not np.allclose([np.linalg.norm(orientation[:3]), np.linalg.norm(orientation[3:])], 1, atol=1e-3):
        faults.append(Fault("sources[0].ImageOrientationPatient", "must hold two unit vectors"))
    for i, source in enumerate(sources[1:], start=1):
        if [whole_number(source, keyword) for keyword in ("Rows", "Columns")] != size:
            faults.append(Fault(f"sources[{i}].Rows", "must be as in the first image"))
        for keyword, expected in (("ImageOrientationPatient", orientation), ("PixelSpacing", spacing)):
            found = np.array(numbers(source, keyword, len(expected)))
            if not np.allclose(found, expected, rtol=0, atol=_SAME):
                faults.append(Fault(f"sources[{i}].{keyword}", "must be as in the first image"))
    positions = np.array([numbers(source, "ImagePositionPatient", 3) for source in sources])
    gaps = np.diff(np.sort(_offsets(positions, orientation)))
    if gaps.size and gaps.min() < 1e-3:
        faults.append(Fault("sources.ImagePositionPatient", "two images lie in one place along the normal"))
    if faults:
        raise ResultError(faults)
    even = gaps.size > 0 and bool(np.allclose(gaps, np.median(gaps), rtol=0.01))
    return Grid(
        positions_mm=positions,
        orientation=orientation,
        rows=size[0],
        columns=size[1],
        row_spacing_mm=float(spacing[0]),
        column_spacing_mm=float(spacing[1]),
        step_mm=float(np.mean(gaps)) if even else None,
    )
