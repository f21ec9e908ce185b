# SPDX-License-Identifier: Apache-2.0
"""The chest phantom against its own truth, on every kind of grid."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.phantoms.anatomy import ChestAnatomy
from conformance.phantoms.chest import ChestPhantom, Plane, grid_affine, make_ct_chest

SMALL = (40, 96, 96)

GRIDS = [
    pytest.param(ChestPhantom(seed=1, shape=SMALL), id="axial"),
    pytest.param(ChestPhantom(seed=2, shape=SMALL, reversed_order=True), id="axial-reversed"),
    pytest.param(ChestPhantom(seed=3, shape=SMALL, plane=Plane.SAGITTAL), id="sagittal"),
    pytest.param(ChestPhantom(seed=4, shape=SMALL, plane=Plane.CORONAL), id="coronal"),
    pytest.param(ChestPhantom(seed=5, shape=SMALL, plane=Plane.OBLIQUE), id="oblique"),
    pytest.param(ChestPhantom(seed=6, shape=SMALL, gantry_tilt_deg=15), id="tilted"),
]


@pytest.mark.parametrize("spec", GRIDS)
def test_voxels_agree_with_the_continuous_truth(spec: ChestPhantom) -> None:
    made = make_ct_chest(spec)
    # Point sampling at about 4 mm leaves well under one percent.
    assert made.left_voxel_ml == pytest.approx(made.left_ml, rel=0.01)
    assert made.right_voxel_ml == pytest.approx(made.right_ml, rel=0.01)
    assert made.emphysema_voxel_percent == pytest.approx(made.emphysema_percent, abs=0.4)
    assert -875 < made.mean_hu < -850
    assert not np.any(made.left & made.right)
    for axis in range(3):
        covered = np.any(made.left | made.right, axis=tuple(a for a in range(3) if a != axis))
        assert not covered[0]
        assert not covered[-1]


@pytest.mark.parametrize("spec", GRIDS)
def test_left_lung_lies_at_greater_x(spec: ChestPhantom) -> None:
    made = make_ct_chest(spec)
    centres = []
    for mask in (made.left, made.right):
        index = np.append(np.argwhere(mask).mean(axis=0), 1)
        centres.append((made.affine @ index)[0])
    assert centres[0] > 50 > -50 > centres[1]


def test_no_voxel_of_lung_is_soft_tissue_and_the_airway_is_apart() -> None:
    made = make_ct_chest(ChestPhantom(seed=9, shape=SMALL))
    lungs = made.left | made.right
    assert made.hu[lungs].max() < -350
    dark_inside = (made.hu < -940) & ~lungs
    x = (made.affine[0, 2] * np.arange(SMALL[2]) + made.affine[0, 3])[None, None, :]
    y = (made.affine[1, 1] * np.arange(SMALL[1]) + made.affine[1, 3])[None, :, None]
    trachea = dark_inside & (np.abs(x) < 20) & (np.abs(y) < 40)
    assert trachea.sum() > 50


def test_equal_seeds_give_equal_voxels_and_others_do_not() -> None:
    one = make_ct_chest(ChestPhantom(seed=7, shape=(8, 96, 96)))
    same = make_ct_chest(ChestPhantom(seed=7, shape=(8, 96, 96)))
    other = make_ct_chest(ChestPhantom(seed=8, shape=(8, 96, 96)))
    assert np.array_equal(one.hu, same.hu)
    assert not np.array_equal(one.hu, other.hu)


@pytest.mark.parametrize("percent", [0.0, 15.0, 20.0])
def test_emphysema_is_what_was_asked_for(percent: float) -> None:
    made = make_ct_chest(ChestPhantom(seed=11, shape=(48, 128, 128), emphysema_percent=percent))
    assert made.emphysema_percent == pytest.approx(percent, abs=1e-3)
    assert made.emphysema_voxel_percent == pytest.approx(percent, abs=0.4)
    usual = make_ct_chest(ChestPhantom(seed=11, shape=(48, 128, 128)))
    assert np.array_equal(made.left, usual.left)
    assert np.array_equal(made.right, usual.right)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ChestPhantom(shape=(1, 96, 96)), id="one-slice"),
        pytest.param(ChestPhantom(spacing_mm=(1.0, 1.0, 1.0)), id="too-small"),
        pytest.param(ChestPhantom(spacing_mm=(-5.0, 3.0, 3.0)), id="negative-spacing"),
        pytest.param(ChestPhantom(gantry_tilt_deg=45), id="steep-tilt"),
        pytest.param(ChestPhantom(gantry_tilt_deg=5, plane=Plane.CORONAL), id="tilted-coronal"),
    ],
)
def test_impossible_grids_are_refused(spec: ChestPhantom) -> None:
    with pytest.raises(ValueError, match=r"shape|grid|tilt"):
        grid_affine(spec)


def test_impossible_emphysema_is_refused() -> None:
    with pytest.raises(ValueError, match="emphysema_percent"):
        ChestAnatomy(1, emphysema_percent=50)
