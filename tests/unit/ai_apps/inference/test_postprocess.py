# SPDX-License-Identifier: Apache-2.0
"""Components, holes and sides on drawn masks."""

from __future__ import annotations

import numpy as np
import pytest

from ai_apps.inference.postprocess import ball, box_of, filled, largest_components, split_left_right

AXIAL = np.array([[0.0, 0, 2, -60], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
"""Columns run towards the left (x from -60 mm), rows towards the back, slices towards the head."""


def drawn(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((20, 30, 60), dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


RIGHT = (slice(2, 18), slice(5, 25), slice(5, 25))
LEFT = (slice(2, 18), slice(5, 25), slice(35, 55))
SPECK = (slice(0, 2), slice(0, 2), slice(58, 60))
BRIDGE = (slice(8, 10), slice(8, 10), slice(25, 35))


def test_only_the_largest_components_stay() -> None:
    assert np.array_equal(largest_components(drawn(LEFT, RIGHT, SPECK), 2), drawn(LEFT, RIGHT))
    assert np.array_equal(largest_components(drawn(LEFT, SPECK), 2), drawn(LEFT, SPECK))
    assert np.array_equal(largest_components(drawn(LEFT, SPECK), 2, minimum_share=0.1), drawn(LEFT))
    assert not largest_components(drawn(), 2).any()


def test_cavities_are_filled_and_bays_are_not() -> None:
    mask = drawn(LEFT)
    mask[8:10, 10:12, 40:42] = False
    mask[2:6, 5:8, 35:38] = False
    found = filled(mask)
    assert found[9, 11, 41]
    assert not found[3, 6, 36]
    assert not filled(drawn()).any()


@pytest.mark.parametrize(("radius", "voxels"), [(1.0, 7), (1.5, 19), (2.0, 33)])
def test_ball(radius: float, voxels: int) -> None:
    assert ball(radius).sum() == voxels


def test_box_of() -> None:
    assert box_of(drawn(SPECK), margin=1) == (slice(0, 3), slice(0, 3), slice(57, 60))
    assert box_of(drawn()) == (slice(0, 0),) * 3


FLIPPED = AXIAL * np.array([1, 1, -1, 1]) + np.array([[0, 0, 0, 118.0], [0] * 4, [0] * 4, [0] * 4])


@pytest.mark.parametrize(
    ("affine", "swap"), [(AXIAL, False), (FLIPPED, True)], ids=["columns-left", "columns-right"]
)
def test_sides_are_told_by_place_not_by_column(affine: np.ndarray, swap: bool) -> None:
    left, right = split_left_right(drawn(LEFT, RIGHT), affine, 0.0)
    expected = (drawn(RIGHT), drawn(LEFT)) if swap else (drawn(LEFT), drawn(RIGHT))
    assert np.array_equal(left, expected[0])
    assert np.array_equal(right, expected[1])


def test_a_patient_off_centre_still_has_two_sides() -> None:
    left, right = split_left_right(drawn(LEFT, RIGHT), AXIAL, 500.0)
    assert np.array_equal(left, drawn(LEFT))
    assert np.array_equal(right, drawn(RIGHT))


def test_lungs_that_touch_are_parted_where_they_are_thin() -> None:
    left, right = split_left_right(drawn(LEFT, RIGHT, BRIDGE), AXIAL, 0.0)
    assert not np.any(left & right)
    assert np.array_equal(left | right, drawn(LEFT, RIGHT, BRIDGE))
    assert np.all(left[LEFT])
    assert np.all(right[RIGHT])


@pytest.mark.parametrize(("box", "on_left"), [(LEFT, True), (RIGHT, False)], ids=["left", "right"])
def test_one_lung_alone_is_on_its_side_of_the_body(box: tuple[slice, slice, slice], on_left: bool) -> None:
    left, right = split_left_right(drawn(box), AXIAL, 0.0)
    assert left.any() == on_left
    assert right.any() != on_left


def test_no_lung_has_no_sides() -> None:
    left, right = split_left_right(drawn(), AXIAL, 0.0)
    assert not left.any()
    assert not right.any()
