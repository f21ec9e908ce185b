# SPDX-License-Identifier: Apache-2.0
"""A stack of slices as one array of Hounsfield units that knows where it is in the patient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from ai_apps.contract import AppError
from ai_apps.imaging.intensity import hounsfield
from ai_apps.imaging.series import ImageSeries

_VOXEL_LIMIT = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Voxels and their place.

    Attributes
    ----------
    voxels
        float32 Hounsfield units, [slice, row, column].
    affine
        4x4 float64, (slice, row, column, 1) to LPS millimetres at voxel centres; invertible.
    sop_instance_uids
        One per slice, in the order of axis 0.

    Raises
    ------
    ValueError
        If shapes do not fit together or the affine is singular.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    sop_instance_uids: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or len(self.sop_instance_uids) != self.voxels.shape[0]:
            raise ValueError("voxels need three axes and one SOP Instance UID per slice")
        require_affine(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL; right for leaning stacks too."""
        return voxel_ml(self.affine)


def require_affine(affine: NDArray[np.float64]) -> None:
    """Check that `affine` places voxels in space.

    Raises
    ------
    ValueError
        If it is not a finite, invertible 4x4 matrix with the last row 0 0 0 1.
    """
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise ValueError("the affine is not a finite 4x4 matrix")
    if not np.array_equal(affine[3], [0, 0, 0, 1]) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("the affine does not place voxels in space")


def voxel_ml(affine: NDArray[np.float64]) -> float:
    """Volume of one voxel of `affine`, mL."""
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000


def read_volume(series: ImageSeries, on_slice: Callable[[int, int], None] | None = None) -> Volume:
    """Decode the pixels of `series`.

    Parameters
    ----------
    series
        The sorted stack.
    on_slice
        Called with slices done and slices in all.

    Raises
    ------
    AppError
        If the stack is too large, or a slice cannot be decoded or rescaled.
    """
    if int(np.prod(series.shape, dtype=np.int64)) > _VOXEL_LIMIT:
        raise AppError(f"the stack has more than {_VOXEL_LIMIT} voxels")
    voxels = np.empty(series.shape, dtype=np.float32)
    for index, path in enumerate(series.paths):
        try:
            # Decoders warn of padding and excess bytes; what counts is checked on the array.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = dcmread(path)
                stored = image.pixel_array
        except Exception as error:  # codecs raise anything on broken pixel data
            raise AppError("the pixel data of a slice cannot be decoded") from error
        if stored.shape != series.shape[1:] or not np.issubdtype(stored.dtype, np.integer):
            raise AppError("the pixel data of a slice do not fit its header")
        voxels[index] = hounsfield(stored, image)
        if on_slice is not None:
            on_slice(index + 1, series.shape[0])
    return Volume(voxels=voxels, affine=series.affine, sop_instance_uids=series.sop_instance_uids)
