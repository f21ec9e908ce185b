# SPDX-License-Identifier: Apache-2.0
"""How series lie in space: orientation, spacing, gaps, coverage, and what cannot be told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.dicom_json import DicomJson, element, merged
from task_manager.rules.geometry import Plane, Stack, planes_of, stack_of
from tests.unit.task_manager.rules.headers import AXIAL, CORONAL, SAGITTAL, stack


def planes(*args: Any, **named: Any) -> list[Plane]:
    return [plane for one in stack(1, *args, **named) for plane in planes_of(one.attributes)[0]]


def told(found: list[Plane]) -> Stack:
    stacked = stack_of(found)
    assert stacked is not None
    return stacked


@pytest.mark.parametrize(
    ("orientation", "name"), [(AXIAL, "AXIAL"), (CORONAL, "CORONAL"), (SAGITTAL, "SAGITTAL")]
)
def test_orientation_and_spacing(orientation: tuple[float, ...], name: str) -> None:
    assert told(planes(20, 2.5, orientation=orientation)) == Stack(
        orientation=name,
        tilt_degrees=0.0,
        slices=20,
        spacing_mm=2.5,
        regular=True,
        gaps=0,
        coverage_mm=50.0,
        images_per_slice=1,
    )


def test_a_tilted_stack_is_that_of_the_nearest_plane() -> None:
    along, angle = (1.0, 0.0, 0.0), math.radians(20)
    down = (0.0, math.cos(angle), math.sin(angle))
    normal = (0.0, -math.sin(angle), math.cos(angle))
    found = [
        planes_of(
            merged(
                [
                    element("ImageOrientationPatient", *along, *down),
                    element("ImagePositionPatient", *(number * 3 * part for part in normal)),
                ]
            )
        )[0][0]
        for number in range(5)
    ]
    stacked = told(found)
    assert (stacked.orientation, stacked.tilt_degrees, stacked.spacing_mm) == ("AXIAL", 20.0, 3.0)


def test_missing_slices_are_gaps() -> None:
    stacked = told(planes(30, 1.0, without=(7, 15, 16)))
    assert (stacked.gaps, stacked.regular, stacked.slices, stacked.coverage_mm) == (3, False, 27, 30.0)


@pytest.mark.parametrize(("step", "regular"), [(1.04, True), (1.08, False)], ids=["within 5 %", "beyond"])
def test_regular_allows_five_percent(step: float, regular: bool) -> None:
    places = [0.0, 1.0, 2.0, 3.0, 3.0 + step]
    found = [Plane((0.0, 0.0, place), (0.0, 0.0, 1.0)) for place in places]
    assert told(found).regular is regular


def test_several_images_at_a_position_are_no_gap() -> None:
    found = planes(10, 2.0) * 3
    stacked = told(found)
    assert (stacked.slices, stacked.images_per_slice, stacked.gaps) == (10, 3, 0)


def test_images_that_are_not_parallel_have_no_spacing() -> None:
    assert told([*planes(3, 5.0), *planes(3, 5.0, orientation=CORONAL)]) == Stack(orientation="MIXED")


def test_one_position_has_no_spacing() -> None:
    stacked = told(planes(1, 5.0))
    assert (stacked.slices, stacked.spacing_mm, stacked.coverage_mm) == (1, None, None)
    assert stack_of([]) is None


def _frames(count: int, shared: bool) -> DicomJson:
    orientation = element("PlaneOrientationSequence", element("ImageOrientationPatient", *AXIAL))
    groups = [
        merged(
            [
                element("PlanePositionSequence", element("ImagePositionPatient", 0.0, 0.0, 2.0 * number)),
                *([] if shared else [orientation]),
            ]
        )
        for number in range(count)
    ]
    parts = [element("NumberOfFrames", count), element("PerFrameFunctionalGroupsSequence", *groups)]
    if shared:
        parts.append(element("SharedFunctionalGroupsSequence", orientation))
    return merged(parts)


@pytest.mark.parametrize("shared", [True, False], ids=["shared orientation", "per frame"])
def test_frames_are_images(shared: bool) -> None:
    found, images = planes_of(_frames(6, shared))
    stacked = told(found)
    assert (images, stacked.slices, stacked.spacing_mm) == (6, 6, 2.0)


@pytest.mark.parametrize(
    ("attributes", "images"),
    [
        ({}, 1),
        (element("NumberOfFrames", 40), 40),
        (element("NumberOfFrames", -3), 1),
        (element("NumberOfFrames", 10**9), 1),
        (merged([element("ImageOrientationPatient", *AXIAL), element("ImagePositionPatient", 0.0, 0.0)]), 1),
        (
            merged(
                [element("ImageOrientationPatient", *AXIAL[:5]), element("ImagePositionPatient", 0, 0, 0)]
            ),
            1,
        ),
        (
            merged(
                [
                    element("ImageOrientationPatient", 0, 0, 0, 0, 0, 0),
                    element("ImagePositionPatient", 0, 0, 0),
                ]
            ),
            1,
        ),
        (merged([element("ImageOrientationPatient", *AXIAL), element("ImagePositionPatient", "a", 0, 0)]), 1),
        (
            merged([element("ImageOrientationPatient", *AXIAL), element("ImagePositionPatient", 1e30, 0, 0)]),
            1,
        ),
    ],
    ids=["none", "frames unknown", "negative", "absurd", "two numbers", "five", "zero", "text", "far away"],
)
def test_what_is_no_plane_is_counted(attributes: DicomJson, images: int) -> None:
    assert planes_of(attributes) == ([], images)


_NUMBER = st.one_of(st.floats(allow_nan=False), st.integers(), st.none(), st.text(max_size=3))


@given(
    st.lists(
        st.tuples(st.lists(_NUMBER, max_size=4), st.lists(_NUMBER, max_size=7)),
        max_size=8,
    )
)
def test_any_header_has_a_geometry_or_none(content: list[tuple[list[object], list[object]]]) -> None:
    found = []
    for position, orientation in content:
        attributes = {
            "00200032": {"vr": "DS", "Value": position},
            "00200037": {"vr": "DS", "Value": orientation},
        }
        found += planes_of(attributes)[0]
    stacked = stack_of(found)
    assert (stacked is None) == (not found)
    if stacked is not None and stacked.spacing_mm is not None:
        assert stacked.spacing_mm >= 0
        assert stacked.gaps is not None
        assert stacked.gaps >= 0
