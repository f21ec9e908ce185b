# SPDX-License-Identifier: Apache-2.0
"""Which stacks are accepted and which are refused, and for what reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ai_apps.contract import AppError
from ai_apps.imaging.series import SeriesRules, read_series
from conformance.phantoms import ChestPhantom, Plane, datasets, make_ct_chest, sop_instance_uids
from profiles.codes import (
    OBJECT_SET_INCOMPLETE,
    OBJECT_TYPES_NOT_SUPPORTED,
    OBJECTS_INCORRECTLY_FORMATTED,
    Code,
)

SPEC = ChestPhantom(seed=1, shape=(14, 16, 18), spacing_mm=(21.0, 26.0, 25.0))
RULES = SeriesRules(
    modalities=("CT",),
    sop_class_uids=("1.2.840.10008.5.1.4.1.1.2",),
    minimum_slices=12,
    maximum_step_mm=50,
)


def written(images: list[Dataset], folder: Path) -> list[Path]:
    """The files of `images`, named against their order."""
    paths = []
    for index, image in enumerate(images):
        path = folder / f"{len(images) - index:03d}"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return sorted(paths)


@pytest.mark.parametrize("plane", list(Plane))
@pytest.mark.parametrize("reversed_order", [False, True], ids=["forward", "reversed"])
def test_slices_are_sorted_along_the_normal_and_keep_their_place(
    plane: Plane, reversed_order: bool, tmp_path: Path
) -> None:
    spec = ChestPhantom(seed=1, shape=(14, 16, 18), plane=plane, reversed_order=reversed_order)
    made = make_ct_chest(spec)
    series = read_series(written(list(datasets(made)), tmp_path), RULES)
    uids = sop_instance_uids(made)
    assert series.sop_instance_uids == (tuple(reversed(uids)) if reversed_order else uids)
    assert series.shape == spec.shape
    for slice_, row, column in [(0, 0, 0), (13, 0, 0), (5, 15, 17)]:
        in_file = 13 - slice_ if reversed_order else slice_
        expected = made.affine @ [in_file, row, column, 1]
        assert series.affine @ [slice_, row, column, 1] == pytest.approx(expected, abs=1e-4)
    normal = np.cross(series.affine[:3, 2], series.affine[:3, 1])
    assert series.affine[:3, 0] @ normal > 0


def test_a_tilted_gantry_leans_the_stack(tmp_path: Path) -> None:
    made = make_ct_chest(ChestPhantom(seed=1, shape=(14, 16, 18), gantry_tilt_deg=18))
    series = read_series(written(list(datasets(made)), tmp_path), RULES)
    assert series.affine == pytest.approx(made.affine, abs=1e-4)
    assert abs(np.linalg.det(series.affine[:3, :3])) == pytest.approx(made.voxel_ml * 1000, rel=1e-6)


def _set(index: int, **attributes: object) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        for keyword, value in attributes.items():
            setattr(images[index], keyword, value)

    return change


def _set_all(**attributes: object) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        for image in images:
            for keyword, value in attributes.items():
                setattr(image, keyword, value)

    return change


def _drop(*indices: int) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        for index in sorted(indices, reverse=True):
            del images[index]

    return change


def _delete(keyword: str) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        delattr(images[4], keyword)

    return change


def _same_place(images: list[Dataset]) -> None:
    images[5].ImagePositionPatient = images[4].ImagePositionPatient


def _shift(index: int, *by: float) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        place = [float(p) + d for p, d in zip(images[index].ImagePositionPatient, by, strict=True)]
        images[index].ImagePositionPatient = place

    return change


def _lean(images: list[Dataset]) -> None:
    for number, image in enumerate(images):
        image.ImagePositionPatient = [40.0 * number, 0.0, 21.0 * number]


def _twice(images: list[Dataset]) -> None:
    images[6].SOPInstanceUID = images[5].SOPInstanceUID
    images[6].file_meta.MediaStorageSOPInstanceUID = images[5].SOPInstanceUID


FORMAT = OBJECTS_INCORRECTLY_FORMATTED
TYPES = OBJECT_TYPES_NOT_SUPPORTED
REFUSED = [
    ("orientation", _set(3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "different orientations", FORMAT),
    ("skewed", _set_all(ImageOrientationPatient=[1, 0, 0, 0.5, 0.87, 0]), "perpendicular", FORMAT),
    ("zero-directions", _set_all(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "perpendicular", FORMAT),
    ("spacing", _set(3, PixelSpacing=[26.0, 24.0]), "different pixel spacings", FORMAT),
    ("no-spacing", _delete("PixelSpacing"), "PixelSpacing is missing", FORMAT),
    ("negative-spacing", _set_all(PixelSpacing=[-26.0, 25.0]), "not positive", FORMAT),
    ("no-position", _delete("ImagePositionPatient"), "ImagePositionPatient is missing", FORMAT),
    ("far-position", _set(2, ImagePositionPatient=[1e9, 0, 0]), "ImagePositionPatient is missing", FORMAT),
    ("rows", _set(3, Rows=15), "different rows or columns", FORMAT),
    ("huge-rows", _set_all(Rows=60000), "Rows is missing or not within", FORMAT),
    ("same-position", _same_place, "same position", FORMAT),
    ("twice", _twice, "comes twice", FORMAT),
    ("one-missing", _drop(6), "about 1 slices are missing", OBJECT_SET_INCOMPLETE),
    ("uneven", _shift(6, 0, 0, 6.0), "not evenly spaced", FORMAT),
    ("slid-aside", _shift(6, 9.0, 0, 0), "not evenly spaced", FORMAT),
    ("leaning", _lean, "leans", FORMAT),
    ("few", _drop(0, 1, 2), "11 slices; at least 12", OBJECT_SET_INCOMPLETE),
    ("frames", _set(3, FrameOfReferenceUID="1.2.3"), "different frames of reference", FORMAT),
    ("series", _set(3, SeriesInstanceUID="1.2.3"), "different series", FORMAT),
    ("studies", _set(3, StudyInstanceUID="1.2.3"), "different studies", FORMAT),
    ("no-uid", _delete("SeriesInstanceUID"), "SeriesInstanceUID is missing", FORMAT),
    ("localizer", _set(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer", TYPES),
    ("frames-in-one", _set(0, NumberOfFrames=3), "multi-frame", TYPES),
    ("colour", _set(0, SamplesPerPixel=3), "colour", TYPES),
    ("modality", _set_all(Modality="MR"), "modality is not CT", TYPES),
    ("class", _set(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), "SOP class", TYPES),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message", "reason"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_doubtful_stacks_are_refused(
    change: Callable[[list[Dataset]], None], message: str, reason: Code, tmp_path: Path
) -> None:
    images: list[Dataset] = list(datasets(make_ct_chest(SPEC)))
    change(images)
    with pytest.raises(AppError, match=message) as refused:
        read_series(written(images, tmp_path), RULES)
    assert refused.value.reason == reason


def test_a_step_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    paths = written(list(datasets(make_ct_chest(SPEC))), tmp_path)
    with pytest.raises(AppError, match=r"21\.0 mm apart; at most 20 mm"):
        read_series(paths, replace(RULES, maximum_step_mm=20))


def test_mixed_frames_of_reference_are_accepted_when_allowed(tmp_path: Path) -> None:
    images = list(datasets(make_ct_chest(SPEC)))
    for number, image in enumerate(images):
        image.FrameOfReferenceUID = f"1.2.{number}"
    series = read_series(written(images, tmp_path), replace(RULES, allow_mixed_frame_of_reference=True))
    assert len(series.headers) == 14


def test_rounded_positions_are_accepted(tmp_path: Path) -> None:
    images = list(datasets(make_ct_chest(replace(SPEC, plane=Plane.OBLIQUE, spacing_mm=None))))
    for image in images:
        image.ImagePositionPatient = [f"{float(p):.1f}" for p in image.ImagePositionPatient]
        image.ImageOrientationPatient = [f"{float(p):.4f}" for p in image.ImageOrientationPatient]
    series = read_series(written(images, tmp_path), RULES)
    assert abs(np.linalg.det(series.affine[:3, :3])) / 1000 == pytest.approx(
        make_ct_chest(replace(SPEC, plane=Plane.OBLIQUE, spacing_mm=None)).voxel_ml, rel=2e-3
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"not DICOM at all", b"\x00" * 128 + b"DICM" + b"\xff" * 64],
    ids=["empty", "text", "torn"],
)
def test_files_that_are_no_images_are_refused(content: bytes, tmp_path: Path) -> None:
    paths = written(list(datasets(make_ct_chest(SPEC))), tmp_path)
    paths[3].write_bytes(content)
    with pytest.raises(AppError, match=r"cannot be read|broken|missing"):
        read_series(paths, RULES)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AppError, match="cannot be read"):
        read_series([tmp_path / "gone"], RULES)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    paths = written(list(datasets(make_ct_chest(SPEC))), tmp_path)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[: len(whole) // 3])
    with pytest.raises(AppError):
        read_series(paths, RULES)
    assert pydicom.dcmread(paths[4], stop_before_pixels=True).Modality == "CT"
