# SPDX-License-Identifier: Apache-2.0
"""Moving voxels between the grid of the scanner and the grid a network works on.

Working grids are axial in LPS: slices towards the head, rows towards the back, columns towards the left.
Grids whose axes are parallel are resampled axis by axis, which is exact where voxel centres coincide; others
(oblique, tilted) by trilinear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_apps.contract import AppError
from ai_apps.imaging.volume import Volume

_VOXEL_LIMIT = 2**29
_PARALLEL = 1e-4
"""Share of a voxel that an axis may drift over one voxel of another and still count as parallel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Places of voxels: 4x4 `affine` from (slice, row, column, 1) to LPS millimetres, and `shape`."""

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]


def axial_grid(volume: Volume, spacing_mm: float | None) -> Grid:
    """The axial LPS grid that covers `volume`.

    Parameters
    ----------
    volume
        Any plane.
    spacing_mm
        Distance of voxels in all directions; None keeps that of the source, so that an axial source is its
        own grid.

    Raises
    ------
    AppError
        If the grid would have too many voxels.
    """
    shape = np.array(volume.voxels.shape)
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    )
    places = (volume.affine @ corners.T)[:3]
    low, high = places.min(axis=1), places.max(axis=1)
    if spacing_mm is None:
        # Spacing of the source axis that runs most along x, along y, along z.
        matrix = volume.affine[:3, :3]
        along = [int(np.argmax(np.abs(matrix[k]) / np.linalg.norm(matrix, axis=0))) for k in range(3)]
        spacing = np.linalg.norm(matrix, axis=0)[along]
    else:
        spacing = np.full(3, spacing_mm)
    count = np.floor((high - low) / spacing + 1 + 1e-6).astype(int)
    if int(np.prod(count, dtype=np.int64)) > _VOXEL_LIMIT:
        raise AppError("the images cover more space than can be worked on")
    start = (low + high) / 2 - (count - 1) / 2 * spacing
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing[2], spacing[1], spacing[0]
    affine[:3, 3] = start
    affine[3, 3] = 1
    return Grid(affine=affine, shape=(int(count[2]), int(count[1]), int(count[0])))


def on_grid(volume: Volume, grid: Grid, *, outside: float) -> NDArray[np.float32]:
    """`volume` on `grid`, float32; fine voxels are averaged first, so that noise does not become texture."""
    values, affine = volume.voxels, volume.affine
    coarse = np.linalg.norm(grid.affine[:3, :3], axis=0).min()
    blocks = [max(1, int(coarse / s + 1e-6)) for s in np.linalg.norm(affine[:3, :3], axis=0)]
    if any(block > 1 for block in blocks):
        values, affine = _averaged(values, affine, blocks)
    return interpolated(values, affine, grid, outside=outside)


def _averaged(
    values: NDArray[np.float32], affine: NDArray[np.float64], blocks: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Means over blocks of voxels; a remainder at the end of an axis is cut off."""
    for axis, block in enumerate(blocks):
        if block > 1:
            end = values.shape[axis] // block * block
            before = (slice(None),) * axis
            # sums of strided views: many times faster than a mean over an axis of length `block`
            total = values[(*before, slice(0, end, block))].copy()
            for start in range(1, block):
                total += values[(*before, slice(start, end, block))]
            total /= np.float32(block)
            values = total
    scale = np.diag([*blocks, 1]).astype(np.float64)
    scale[:3, 3] = (np.array(blocks) - 1) / 2
    return values, affine @ scale


def interpolated(
    values: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid, *, outside: float = 0.0
) -> NDArray[np.float32]:
    """`values`, which lie on `affine`, at the voxel centres of `grid`.

    Up to half a voxel beyond the outermost centres the nearest value counts; farther out `outside` does.
    """
    matrix = np.linalg.inv(affine) @ grid.affine
    axes = _parallel_axes(matrix)
    if axes is None:
        return _trilinear(values, matrix, grid.shape, outside)
    # Axis `a` of the grid runs along axis axes[a] of the values: bring the values into the grid's order.
    moved = values.transpose(axes)
    # The shortest result first: axes that shrink before axes that grow.
    for a in sorted(range(3), key=lambda n: grid.shape[n] / moved.shape[n]):
        at = matrix[axes[a], a] * np.arange(grid.shape[a]) + matrix[axes[a], 3]
        moved = _along_axis(moved, a, at, np.float32(outside))
    return np.ascontiguousarray(moved)


def _parallel_axes(matrix: NDArray[np.float64]) -> tuple[int, int, int] | None:
    """For each axis of the target the parallel one of the source, or None when some is not parallel."""
    linear = np.abs(matrix[:3, :3])
    axes = linear.argmax(axis=0)
    if len(set(axes.tolist())) < 3:
        return None
    rest = linear.copy()
    rest[axes, range(3)] = 0
    if np.any(rest > _PARALLEL * linear[axes, range(3)]):
        return None
    return int(axes[0]), int(axes[1]), int(axes[2])


def _along_axis(
    values: NDArray[np.float32], axis: int, at: NDArray[np.float64], outside: np.float32
) -> NDArray[np.float32]:
    """Linear interpolation at the indices `at` of one axis."""
    last = values.shape[axis] - 1
    # Rounding of an inverted matrix must not turn a copy into a blend.
    at = np.where(np.abs(at - np.rint(at)) < 1e-6, np.rint(at), at)
    inside = (at >= -0.5 - 1e-6) & (at <= last + 0.5 + 1e-6)
    at = np.clip(at, 0, last)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, last)
    weight = (at - below).astype(np.float32)
    shape = [1, 1, 1]
    shape[axis] = len(at)
    found: NDArray[np.float32] = np.take(values, below, axis=axis)
    if np.any(weight):
        found += (np.take(values, above, axis=axis) - found) * weight.reshape(shape)
    if not inside.all():
        np.copyto(found, outside, where=~inside.reshape(shape))
    return found


def _trilinear(
    values: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int, int], outside: float
) -> NDArray[np.float32]:
    # One voxel of margin by repetition gives the half voxel beyond the outermost centres.
    padded = np.pad(values, 1, mode="edge")
    found = np.empty(shape, dtype=np.float32)
    ndimage.affine_transform(
        padded,
        matrix[:3, :3],
        offset=matrix[:3, 3] + 1,
        output_shape=shape,
        output=found,
        order=1,
        mode="constant",
        cval=outside,
    )
    return found
