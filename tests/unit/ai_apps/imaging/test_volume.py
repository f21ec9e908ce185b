# SPDX-License-Identifier: Apache-2.0
"""Voxels and affine of a volume against the phantom they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from ai_apps.contract import AppError
from ai_apps.imaging.series import SeriesRules, read_series
from ai_apps.imaging.volume import Volume, read_volume, require_affine
from conformance.phantoms import ChestPhantom, Plane, datasets, make_ct_chest, write_series

RULES = SeriesRules(maximum_step_mm=50)


@pytest.mark.parametrize("plane", list(Plane))
@pytest.mark.parametrize("reversed_order", [False, True], ids=["forward", "reversed"])
def test_every_voxel_is_where_the_phantom_has_it(plane: Plane, reversed_order: bool, tmp_path: Path) -> None:
    made = make_ct_chest(ChestPhantom(seed=2, shape=(10, 40, 44), plane=plane, reversed_order=reversed_order))
    steps: list[int] = []
    volume = read_volume(
        read_series(write_series(made, tmp_path), RULES), lambda done, of: steps.append(done)
    )
    assert np.array_equal(volume.voxels, made.hu[::-1] if reversed_order else made.hu)
    assert volume.voxel_ml == pytest.approx(made.voxel_ml, rel=1e-6)
    assert steps == list(range(1, 11))
    # The brightest region of the left lung in space, whatever the order.
    lung = made.left[::-1] if reversed_order else made.left
    here = (volume.affine @ np.append(np.argwhere(lung).mean(axis=0), 1))[:3]
    there = (made.affine @ np.append(np.argwhere(made.left).mean(axis=0), 1))[:3]
    assert here == pytest.approx(there, abs=1e-3)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
def test_compressed_slices_give_the_same_voxels(syntax: str, tmp_path: Path) -> None:
    made = make_ct_chest(ChestPhantom(seed=2, shape=(4, 32, 32)))
    paths = []
    for image in datasets(made):
        image.compress(syntax, generate_instance_uid=False)
        paths.append(tmp_path / str(image.InstanceNumber))
        image.save_as(paths[-1], enforce_file_format=True)
    volume = read_volume(read_series(paths, SeriesRules(maximum_step_mm=100)))
    assert np.array_equal(volume.voxels, made.hu)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RescaleSlope": "0"}, "rescale"),
        ({"RescaleIntercept": None}, "rescale"),
        ({"RescaleType": "OD"}, "not Hounsfield"),
        ({"PixelData": b"\x00" * 100}, "cannot be decoded"),
    ],
    ids=["slope", "intercept", "type", "short"],
)
def test_slices_without_hounsfield_units_are_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    images = list(datasets(make_ct_chest(ChestPhantom(seed=2, shape=(4, 32, 32)))))
    for keyword, value in change.items():
        setattr(images[2], keyword, value)
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / str(number))
        image.save_as(paths[-1], enforce_file_format=True)
    series = read_series(paths, SeriesRules(maximum_step_mm=100))
    with pytest.raises(AppError, match=message):
        read_volume(series)


def test_padding_and_metal_stay_within_the_range(tmp_path: Path) -> None:
    images = list(datasets(make_ct_chest(ChestPhantom(seed=2, shape=(4, 32, 32)))))
    paths = []
    for number, image in enumerate(images):
        image.RescaleSlope, image.RescaleIntercept = "3", "-4000"
        paths.append(tmp_path / str(number))
        image.save_as(paths[-1], enforce_file_format=True)
    voxels = read_volume(read_series(paths, SeriesRules(maximum_step_mm=100))).voxels
    assert voxels.min() == -1024


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), np.zeros((4, 4)), np.diag([1.0, 1, np.nan, 1]), np.diag([1.0, 1, 0, 1])],
    ids=["3x3", "zero", "nan", "flat"],
)
def test_matrices_that_place_nothing_are_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        require_affine(affine)


def test_a_volume_needs_a_uid_per_slice() -> None:
    with pytest.raises(ValueError, match="per slice"):
        Volume(voxels=np.zeros((2, 3, 3), np.float32), affine=np.eye(4), sop_instance_uids=("1.2",))
