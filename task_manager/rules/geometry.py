# SPDX-License-Identifier: Apache-2.0
"""How the images of a series lie in space, from positions and orientations in their headers.

Patient coordinates (LPS) in millimetres. Nothing here fails: images without a usable plane are counted and
left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from profiles.dicom_json import DicomJson, first, items, values

Vector = tuple[float, float, float]

_PARALLEL = math.cos(math.radians(2.5))
_SAME_POSITION_MM = 0.01
_REGULAR = 0.05
_MOST_MM = 1e6
_MOST_FRAMES = 100_000
_AXES = ("SAGITTAL", "CORONAL", "AXIAL")


@dataclass(frozen=True, slots=True)
class Plane:
    """One image: its position and its normal, of length 1."""

    position: Vector
    normal: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What the planes of a series make together; see ``facts.py`` for the meanings.

    Of images that are not parallel, and of one alone, only some can be told: the others are None.
    """

    orientation: str
    tilt_degrees: float | None = None
    slices: int | None = None
    spacing_mm: float | None = None
    regular: bool | None = None
    gaps: int | None = None
    coverage_mm: float | None = None
    images_per_slice: int | None = None


def planes_of(attributes: DicomJson) -> tuple[list[Plane], int]:
    """The planes of one object, and how many images it holds; frames count each.

    References
    ----------
    PS3.3 C.7.6.2, C.7.6.16.2.3, C.7.6.16.2.4.
    """
    number = first(attributes, "NumberOfFrames")
    frames = number if isinstance(number, int) and 1 <= number <= _MOST_FRAMES else 1
    groups = items(attributes, "PerFrameFunctionalGroupsSequence")
    if not groups:
        plane = _plane(
            values(attributes, "ImagePositionPatient"), values(attributes, "ImageOrientationPatient")
        )
        return ([plane] if plane is not None and frames == 1 else []), frames
    shared = _group_values(items(attributes, "SharedFunctionalGroupsSequence"), *_ORIENTATION)
    found = (
        _plane(_group_values([group], *_POSITION), _group_values([group], *_ORIENTATION) or shared)
        for group in groups[:_MOST_FRAMES]
    )
    return [plane for plane in found if plane is not None], max(frames, len(groups))


_POSITION = ("PlanePositionSequence", "ImagePositionPatient")
_ORIENTATION = ("PlaneOrientationSequence", "ImageOrientationPatient")


def _group_values(groups: Sequence[DicomJson], sequence: str, keyword: str) -> list[object]:
    inner = items(groups[0], sequence) if groups else []
    return values(inner[0], keyword) if inner else []


def _plane(position: Sequence[object], orientation: Sequence[object]) -> Plane | None:
    at, along = _numbers(position, 3), _numbers(orientation, 6)
    if at is None or along is None:
        return None
    (a, b, c), (d, e, f) = along[:3], along[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.sqrt(sum(part * part for part in normal))
    if not 0.9 < length < 1.1:  # two directions that are no unit vectors at a right angle
        return None
    x, y, z = (part / length for part in normal)
    return Plane((at[0], at[1], at[2]), (x, y, z))


def _numbers(content: Sequence[object], number: int) -> list[float] | None:
    if len(content) != number:
        return None
    found = [float(one) for one in content if isinstance(one, int | float) and abs(one) < _MOST_MM]
    return found if len(found) == number else None


def stack_of(planes: Sequence[Plane]) -> Stack | None:
    """What the planes make together; None if there is none."""
    if not planes:
        return None
    normal = planes[0].normal
    if any(abs(_dot(plane.normal, normal)) < _PARALLEL for plane in planes):
        return Stack(orientation="MIXED")
    largest = max(range(3), key=lambda axis: abs(normal[axis]))
    places = sorted(_dot(plane.position, normal) for plane in planes)
    distinct = [places[0]]
    sharing: Counter[int] = Counter()
    for place in places:
        if place - distinct[-1] > _SAME_POSITION_MM:
            distinct.append(place)
        sharing[len(distinct)] += 1
    told = Stack(
        orientation=_AXES[largest],
        tilt_degrees=round(math.degrees(math.acos(min(1.0, abs(normal[largest])))), 2),
        slices=len(distinct),
        images_per_slice=max(sharing.values()),
    )
    return told if len(distinct) == 1 else _spaced(told, distinct)


def _spaced(told: Stack, distinct: Sequence[float]) -> Stack:
    steps = [after - before for before, after in pairwise(distinct)]
    spacing = median(steps)
    tolerance = _REGULAR * spacing + _SAME_POSITION_MM
    return Stack(
        orientation=told.orientation,
        tilt_degrees=told.tilt_degrees,
        slices=told.slices,
        images_per_slice=told.images_per_slice,
        spacing_mm=round(spacing, 4),
        regular=all(abs(step - spacing) <= tolerance for step in steps),
        gaps=sum(max(0, round(step / spacing) - 1) for step in steps),
        coverage_mm=round(distinct[-1] - distinct[0] + spacing, 3),
    )


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
