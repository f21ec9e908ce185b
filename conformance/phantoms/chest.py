# SPDX-License-Identifier: Apache-2.0
"""CT chest phantoms on any grid: the continuous chest of `anatomy`, sampled, with its truth beside it.

Whatever the plane, spacing or order of the slices, the true lung volumes are those of the continuous object.
No DICOM here; `ct_files` writes the files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from conformance.phantoms.anatomy import LUNG_EXTENT_MM, ChestAnatomy


class Plane(StrEnum):
    """Orientation of the slices."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    OBLIQUE = "oblique"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestPhantom:
    """What phantom to make.

    Attributes
    ----------
    seed
        Decides anatomy and noise.
    shape
        Slices, rows, columns.
    spacing_mm
        Between slices, between rows, between columns; None spreads the grid over the whole chest.
    plane, reversed_order
        Orientation, and whether instance numbers run against the slice normal.
    gantry_tilt_deg
        Tilt of axial slices: they lean about the left-right axis and still step along the table.
    emphysema_percent, noise_hu
        See :class:`conformance.phantoms.anatomy.ChestAnatomy`.
    patient_name, patient_id, issuer_of_patient_id, patient_birth_date, patient_sex
        Patient module; any characters (the files are UTF-8).
    accession_number, study_id, study_description, study_date, study_time, referring_physician_name
        Study module.
    study_instance_uid, series_instance_uid
        Given, or derived from all the rest when empty.
    series_number, series_description, station_name
        Series and equipment.
    """

    seed: int = 1
    shape: tuple[int, int, int] = (64, 192, 192)
    spacing_mm: tuple[float, float, float] | None = None
    plane: Plane = Plane.AXIAL
    reversed_order: bool = False
    gantry_tilt_deg: float = 0.0
    emphysema_percent: float = 6.0
    noise_hu: float = 12.0
    patient_name: str = "Phantom^Chest"
    patient_id: str = "PHANTOM-1"
    issuer_of_patient_id: str = ""
    patient_birth_date: str = "19700101"
    patient_sex: str = "O"
    accession_number: str = ""
    study_id: str = "1"
    study_description: str = "CT chest without contrast"
    study_date: str = "20260302"
    study_time: str = "083000"
    referring_physician_name: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    series_number: int = 2
    series_description: str = "Chest 3.0 lung"
    station_name: str = "PHANTOMCT"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSeries:
    """A sampled phantom and its truth.

    Attributes
    ----------
    spec
        What was asked for.
    hu
        int16 Hounsfield units, [slice, row, column], slices in the order of their instance numbers.
    left, right
        bool lungs on the same grid.
    affine
        4x4, (slice, row, column, 1) to LPS millimetres.
    left_ml, right_ml
        Volumes of the continuous lungs.
    emphysema_percent
        Share of the continuous lungs below -950 HU.
    """

    spec: ChestPhantom
    hu: NDArray[np.int16]
    left: NDArray[np.bool_]
    right: NDArray[np.bool_]
    affine: NDArray[np.float64]
    left_ml: float
    right_ml: float
    emphysema_percent: float

    @property
    def total_ml(self) -> float:
        """Volume of both continuous lungs, mL."""
        return self.left_ml + self.right_ml

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def left_voxel_ml(self) -> float:
        """Volume of the left lung as voxels times voxel volume, mL."""
        return int(self.left.sum()) * self.voxel_ml

    @property
    def right_voxel_ml(self) -> float:
        """Volume of the right lung as voxels times voxel volume, mL."""
        return int(self.right.sum()) * self.voxel_ml

    @property
    def mean_hu(self) -> float:
        """Mean over the voxels of both lungs, HU."""
        return float(self.hu[self.left | self.right].mean(dtype=np.float64))

    @property
    def emphysema_voxel_percent(self) -> float:
        """Voxels of both lungs below -950 HU, percent."""
        return float((self.hu[self.left | self.right] < -950).mean() * 100)


# Row direction (of growing column index) and column direction (of growing row index), LPS; PS3.3 C.7.6.2.1.1
_IN_PLANE = {
    Plane.AXIAL: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    Plane.SAGITTAL: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    Plane.CORONAL: ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
}


def _directions(spec: ChestPhantom) -> NDArray[np.float64]:
    """Unit vectors of slice step, growing row and growing column, as the columns of a 3x3 matrix."""
    if spec.plane is Plane.OBLIQUE:
        about_x, about_z = math.radians(20), math.radians(15)
        tip = np.array(
            [
                [1, 0, 0],
                [0, math.cos(about_x), -math.sin(about_x)],
                [0, math.sin(about_x), math.cos(about_x)],
            ]
        )
        turn = np.array(
            [
                [math.cos(about_z), -math.sin(about_z), 0],
                [math.sin(about_z), math.cos(about_z), 0],
                [0, 0, 1],
            ]
        )
        rotation = turn @ tip
        along_row, along_column = rotation[:, 0], rotation[:, 1]
    else:
        along_row, along_column = (np.array(v) for v in _IN_PLANE[spec.plane])
    step = np.cross(along_row, along_column)
    if spec.gantry_tilt_deg:
        tilt = math.radians(spec.gantry_tilt_deg)
        along_column = np.array([0.0, math.cos(tilt), math.sin(tilt)])
    if spec.reversed_order:
        step = -step
    return np.stack([step, along_column, along_row], axis=1)


def grid_affine(spec: ChestPhantom) -> NDArray[np.float64]:
    """The 4x4 affine of the grid, (slice, row, column, 1) to LPS mm, centred between the lungs.

    Raises
    ------
    ValueError
        If the shape is not positive, a tilt is asked for other than axial slices, or the lungs may leave
        the grid.
    """
    if min(spec.shape) < 2:
        raise ValueError("shape needs at least two slices, rows and columns")
    if spec.gantry_tilt_deg and (spec.plane is not Plane.AXIAL or abs(spec.gantry_tilt_deg) > 30):
        raise ValueError("a gantry tilt of at most 30 degrees, on axial slices only")
    directions = _directions(spec)
    # Half widths of the lungs' box along each grid axis; a tilted grid is not orthogonal, hence the inverse.
    needed = np.abs(np.linalg.inv(directions)) @ np.array(LUNG_EXTENT_MM)
    count = np.array(spec.shape)
    if spec.spacing_mm is None:
        spacing = np.array([2 * needed[0], *np.maximum(2 * needed[1:], 400.0)]) / count
    else:
        spacing = np.array(spec.spacing_mm)
    if np.any(spacing <= 0) or np.any(spacing * count + 1e-6 < 2 * needed):
        raise ValueError("the grid does not hold the lungs")
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((count - 1) / 2)
    # Positions are written with limited digits; the truth keeps the same ones.
    affine[:3, 3] = np.round(affine[:3, 3], 6)
    return affine


def _coordinates(
    affine: NDArray[np.float64], shape: tuple[int, int, int], index: int
) -> list[NDArray[np.float32]]:
    """x, y and z of one slice; an axis that does not change stays of length one."""
    rows = np.arange(shape[1], dtype=np.float64)[:, None]
    columns = np.arange(shape[2], dtype=np.float64)[None, :]
    found = []
    for k in range(3):
        value = np.full((1, 1), affine[k, 3] + index * affine[k, 0])
        if affine[k, 1]:
            value = value + rows * affine[k, 1]
        if affine[k, 2]:
            value = value + columns * affine[k, 2]
        found.append(value.astype(np.float32))
    return found


def make_ct_chest(spec: ChestPhantom) -> PhantomSeries:
    """The phantom of `spec`; equal specifications give equal voxels.

    Raises
    ------
    ValueError
        See :func:`grid_affine`.
    """
    anatomy = ChestAnatomy(spec.seed, emphysema_percent=spec.emphysema_percent, noise_hu=spec.noise_hu)
    affine = grid_affine(spec)
    hu = np.empty(spec.shape, dtype=np.int16)
    left = np.empty(spec.shape, dtype=np.bool_)
    right = np.empty(spec.shape, dtype=np.bool_)
    rng = np.random.default_rng((spec.seed, 1))
    for index in range(spec.shape[0]):
        x, y, z = _coordinates(affine, spec.shape, index)
        values, left[index], right[index] = anatomy.section(x, y, z, rng)
        hu[index] = np.clip(np.rint(values), -1024, 3071)
    total = anatomy.left.volume_ml + anatomy.right.volume_ml
    return PhantomSeries(
        spec=spec,
        hu=hu,
        left=left,
        right=right,
        affine=affine,
        left_ml=anatomy.left.volume_ml,
        right_ml=anatomy.right.volume_ml,
        emphysema_percent=(anatomy.left.emphysema_ml + anatomy.right.emphysema_ml) / total * 100,
    )
