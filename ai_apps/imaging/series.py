# SPDX-License-Identifier: Apache-2.0
"""From files in no order to the slices of one stack, in order along the normal, or a reason why not.

Headers only, no pixels. Everything that makes a geometry doubtful is refused here, so that whoever has an
:class:`ImageSeries` may compute millilitres from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ai_apps.contract import AppError
from profiles.codes import OBJECT_SET_INCOMPLETE, OBJECT_TYPES_NOT_SUPPORTED
from profiles.uids import is_uid

_HEADER_LIMIT_BYTES = 64 * 1024 * 1024
_FILES_LIMIT = 20_000
_SIDE_LIMIT = 8192
_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
)
_DIRECTION_TOLERANCE = 1e-3
"""Greatest difference of a direction cosine; orientations are often written with few digits."""
_SPACING_TOLERANCE = 1e-3
"""Greatest relative difference of pixel spacings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRules:
    """What a stack must be like.

    Attributes
    ----------
    modalities, sop_class_uids
        Accepted ones; empty accepts all.
    minimum_slices
        Fewest slices.
    maximum_step_mm
        Greatest distance of neighbouring slices.
    step_tolerance
        Greatest deviation of a slice from its place on the even stack, as a share of the step.
    allow_mixed_frame_of_reference
        Accept slices whose Frame of Reference UIDs differ, as some de-identified series have, when all
        positions fit one even stack all the same.
    """

    modalities: tuple[str, ...] = ()
    sop_class_uids: tuple[str, ...] = ()
    minimum_slices: int = 3
    maximum_step_mm: float = 12.5
    step_tolerance: float = 0.1
    allow_mixed_frame_of_reference: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSeries:
    """Slices of one stack in ascending order along the slice normal.

    Attributes
    ----------
    headers
        Data sets without pixel data.
    paths
        Their files.
    affine
        4x4 float64, (slice, row, column, 1) to LPS millimetres at voxel centres.
    shape
        Slices, rows, columns.
    """

    headers: tuple[Dataset, ...]
    paths: tuple[Path, ...]
    affine: NDArray[np.float64]
    shape: tuple[int, int, int]

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs in slice order."""
        return tuple(str(header.SOPInstanceUID) for header in self.headers)


def read_series(paths: Sequence[Path], rules: SeriesRules) -> ImageSeries:
    """The stack that the files make.

    Parameters
    ----------
    paths
        DICOM files of one series in any order.
    rules
        What is asked of it.

    Raises
    ------
    AppError
        If a file cannot be read, or the files are not one even stack that keeps the rules; the message says
        why and names no patient.

    References
    ----------
    PS3.3 C.7.6.2 Image Plane Module (2025c).
    """
    if len(paths) > _FILES_LIMIT:
        raise AppError(f"more than {_FILES_LIMIT} files")
    read = [(_header(path), path) for path in paths]
    for header, _ in read:
        _require_image(header, rules)
    if len(read) < rules.minimum_slices:
        raise AppError(
            f"{len(read)} slices; at least {rules.minimum_slices} are needed", OBJECT_SET_INCOMPLETE
        )
    headers = [header for header, _ in read]
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise AppError("the same SOP instance comes twice")
    _require_one(headers, "StudyInstanceUID", "studies")
    _require_one(headers, "SeriesInstanceUID", "series")
    if not rules.allow_mixed_frame_of_reference:
        _require_one(headers, "FrameOfReferenceUID", "frames of reference")
    orientation = _same(headers, "ImageOrientationPatient", 6, "orientations", _close_cosines)
    spacing = _same(headers, "PixelSpacing", 2, "pixel spacings", _close_spacings)
    if len({(int(header.Rows), int(header.Columns)) for header in headers}) > 1:
        raise AppError("slices of different rows or columns")
    along_row, along_column = _directions(orientation)
    if min(spacing) <= 0:
        raise AppError("the pixel spacing is not positive")
    positions = np.array([_numbers(header, "ImagePositionPatient", 3) for header in headers])
    normal = np.cross(along_row, along_column)
    order = np.argsort(positions @ normal, kind="stable")
    step = _even_step(positions[order], normal, rules)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = along_row * spacing[1]
    # The mean offset, so that rounding of one position does not move the stack.
    affine[:3, 3] = (positions[order] - np.arange(len(order))[:, None] * step).mean(axis=0)
    first = headers[0]
    return ImageSeries(
        headers=tuple(headers[i] for i in order),
        paths=tuple(read[i][1] for i in order),
        affine=affine,
        shape=(len(headers), int(first.Rows), int(first.Columns)),
    )


def _header(path: Path) -> Dataset:
    """The data set of `path` without pixels, with all that is used here parsed now."""
    try:
        # pydicom warns of values it repairs; what is used is checked below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, defer_size=_HEADER_LIMIT_BYTES)
            for keyword in _KEYWORDS:
                header.get(keyword)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise AppError("an input cannot be read as a DICOM file") from error
    except Exception as error:  # pydicom raises anything on broken data sets
        raise AppError("an input is a broken DICOM data set") from error
    return header


def _require_image(header: Dataset, rules: SeriesRules) -> None:
    """Refuse what is no single-frame image of the accepted kinds."""
    try:
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if not is_uid(str(header.get(keyword, ""))):
                raise AppError(f"{keyword} is missing or malformed")
        if rules.modalities and str(header.get("Modality", "")) not in rules.modalities:
            raise AppError(f"modality is not {' or '.join(rules.modalities)}", OBJECT_TYPES_NOT_SUPPORTED)
        if rules.sop_class_uids and str(header.SOPClassUID) not in rules.sop_class_uids:
            raise AppError("the SOP class is not one this app takes", OBJECT_TYPES_NOT_SUPPORTED)
        image_type = header.get("ImageType") or []
        if "LOCALIZER" in ([image_type] if isinstance(image_type, str) else list(image_type)):
            raise AppError("a localizer is among the images", OBJECT_TYPES_NOT_SUPPORTED)
        if int(header.get("NumberOfFrames") or 1) != 1:
            raise AppError("a multi-frame image is among the images", OBJECT_TYPES_NOT_SUPPORTED)
        if int(header.get("SamplesPerPixel") or 1) != 1:
            raise AppError("a colour image is among the images", OBJECT_TYPES_NOT_SUPPORTED)
        for keyword in ("Rows", "Columns"):
            if not 1 <= int(header.get(keyword) or 0) <= _SIDE_LIMIT:
                raise AppError(f"{keyword} is missing or not within 1 to {_SIDE_LIMIT}")
    except (TypeError, ValueError) as error:
        raise AppError("an image attribute is malformed") from error


def _require_one(headers: Sequence[Dataset], keyword: str, what: str) -> None:
    """Refuse when `keyword` differs between slices; that it is absent everywhere is no difference."""
    if len({str(header.get(keyword, "")) for header in headers}) > 1:
        raise AppError(f"slices of different {what}")


def _numbers(header: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    value = header.get(keyword)
    try:
        found = np.array([float(v) for v in value], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AppError(f"{keyword} is missing or malformed") from error
    if found.shape != (count,) or not np.all(np.isfinite(found)) or np.abs(found).max() > 1e6:
        raise AppError(f"{keyword} is missing or malformed")
    return found


def _same(
    headers: Sequence[Dataset],
    keyword: str,
    count: int,
    what: str,
    close: Callable[[NDArray[np.float64], NDArray[np.float64]], bool],
) -> NDArray[np.float64]:
    """The common value of `keyword`: that of the first slice, when all are close to it."""
    values = [_numbers(header, keyword, count) for header in headers]
    if not all(close(values[0], value) for value in values[1:]):
        raise AppError(f"slices of different {what}")
    return values[0]


def _close_cosines(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.abs(one - other).max() <= _DIRECTION_TOLERANCE)


def _close_spacings(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.all(np.abs(one - other) <= _SPACING_TOLERANCE * np.abs(one)))


def _directions(orientation: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row and along a column."""
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(along_row @ along_column) > 0.01:
        raise AppError("ImageOrientationPatient is not two perpendicular unit vectors")
    return along_row / lengths[0], along_column / lengths[1]


def _even_step(
    positions: NDArray[np.float64], normal: NDArray[np.float64], rules: SeriesRules
) -> NDArray[np.float64]:
    """The vector from slice to slice. It may lean (gantry tilt), but every slice must lie where it leads."""
    along = positions @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    if usual <= 1e-3 or steps.min() <= 0.01 * usual:
        raise AppError("two slices have the same position")
    if np.any(steps > (1.5 + rules.step_tolerance) * usual):
        missing = int(np.rint(steps / usual - 1).sum())
        raise AppError(f"gaps in the stack: about {missing} slices are missing", OBJECT_SET_INCOMPLETE)
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    places = positions[0] + np.arange(len(positions))[:, None] * step
    # Half the tolerance at either end of the line through the first and last slice.
    if np.abs(positions - places).max() > rules.step_tolerance * usual:
        raise AppError("the slices are not evenly spaced")
    if usual > rules.maximum_step_mm:
        raise AppError(
            f"slices are {usual:.1f} mm apart; at most {rules.maximum_step_mm:g} mm is accepted",
            OBJECT_SET_INCOMPLETE,
        )
    if abs(step @ normal) < 0.7 * np.linalg.norm(step):
        raise AppError("the stack leans by more than 45 degrees")
    return step
