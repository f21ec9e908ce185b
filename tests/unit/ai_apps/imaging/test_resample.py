# SPDX-License-Identifier: Apache-2.0
"""Grids: a linear ramp in space must come out as the same ramp, whichever way voxels are ordered."""

from __future__ import annotations

import numpy as np
import pytest

from ai_apps.contract import AppError
from ai_apps.imaging.resample import Grid, axial_grid, interpolated, on_grid
from ai_apps.imaging.volume import Volume
from conformance.phantoms.chest import ChestPhantom, Plane, grid_affine

PLANES = [
    *[pytest.param(ChestPhantom(shape=(30, 40, 44), plane=p), id=p.value) for p in Plane],
    pytest.param(ChestPhantom(shape=(30, 40, 44), reversed_order=True), id="reversed"),
    pytest.param(ChestPhantom(shape=(30, 40, 44), gantry_tilt_deg=14), id="tilted"),
]


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """2x - 3y + z at every voxel centre."""
    index = np.stack([*np.indices(shape), np.ones(shape)])
    place = np.tensordot(affine, index, axes=1)
    return (2 * place[0] - 3 * place[1] + place[2]).astype(np.float32)


def of(spec: ChestPhantom) -> Volume:
    """A ramp on the grid of `spec`, its slices in the order of the patient."""
    affine = grid_affine(spec)
    return Volume(voxels=ramp(affine, spec.shape), affine=affine, sop_instance_uids=("1",) * spec.shape[0])


@pytest.mark.parametrize("spec", PLANES)
def test_a_ramp_stays_a_ramp_on_the_axial_grid(spec: ChestPhantom) -> None:
    volume = of(spec)
    grid = axial_grid(volume, 5.0)
    assert np.allclose(grid.affine[:3, :3], [[0, 0, 5], [0, 5, 0], [5, 0, 0]])
    found = on_grid(volume, grid, outside=np.nan)
    known = ~np.isnan(found)
    # Outermost half voxels repeat the border; compare a voxel inside.
    inner = interpolated(
        np.pad(np.ones(np.array(spec.shape) - 4, np.float32), 2), volume.affine, grid, outside=0
    )
    assert known.sum() > 1000
    here = known & (inner == 1)
    assert here.any()
    assert found[here] == pytest.approx(ramp(grid.affine, grid.shape)[here], abs=0.05)


@pytest.mark.parametrize("spec", PLANES[:3] + PLANES[4:5])
def test_a_mask_of_an_aligned_grid_comes_back_exactly(spec: ChestPhantom) -> None:
    volume = of(spec)
    mask = np.random.default_rng(3).random(spec.shape) > 0.5
    masked = Volume(
        voxels=mask.astype(np.float32), affine=volume.affine, sop_instance_uids=volume.sop_instance_uids
    )
    grid = axial_grid(masked, None)
    there = on_grid(masked, grid, outside=0)
    assert there.size == mask.size
    back = interpolated(there, grid.affine, Grid(affine=volume.affine, shape=spec.shape))
    assert np.array_equal(back, mask.astype(np.float32))


def test_an_axial_source_is_its_own_grid() -> None:
    volume = of(ChestPhantom(shape=(30, 40, 44)))
    grid = axial_grid(volume, None)
    assert grid.shape == volume.voxels.shape
    assert grid.affine == pytest.approx(volume.affine, abs=1e-9)
    assert np.array_equal(on_grid(volume, grid, outside=0), volume.voxels)


def test_fine_voxels_are_averaged() -> None:
    noise = np.random.default_rng(1).standard_normal((40, 40, 40)).astype(np.float32)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])[[2, 1, 0, 3]]
    volume = Volume(voxels=noise, affine=affine, sop_instance_uids=("1",) * 40)
    found = on_grid(volume, axial_grid(volume, 2.0), outside=0)
    # Means of 64 voxels: an eighth of the noise, and some scatter of that estimate.
    assert found.std() < 0.15


def test_outside_is_filled() -> None:
    volume = of(ChestPhantom(shape=(30, 40, 44)))
    grid = Grid(affine=volume.affine + np.array([[0, 0, 0, 5000.0]] + [[0] * 4] * 3), shape=(4, 4, 4))
    assert np.all(on_grid(volume, grid, outside=-1000) == -1000)


def test_a_grid_too_large_is_refused() -> None:
    affine = np.diag([1000.0, 1000.0, 1000.0, 1.0])
    volume = Volume(voxels=np.zeros((9, 9, 9), np.float32), affine=affine, sop_instance_uids=("1",) * 9)
    with pytest.raises(AppError, match="more space"):
        axial_grid(volume, 1.0)
