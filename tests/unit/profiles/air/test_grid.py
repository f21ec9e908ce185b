# SPDX-License-Identifier: Apache-2.0
"""The grid spanned by images: where it lies, and what is no grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from profiles.air.grid import ResultError, grid_of
from tests.unit.profiles.air.stacks import COLUMN_SPACING, ROW_SPACING, SHAPE, STACKS, STEP, make_sources


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_has_its_shape_spacing_and_positions(name: str) -> None:
    sources = make_sources(STACKS[name])
    grid = grid_of(sources)
    assert grid.shape == SHAPE
    assert (grid.row_spacing_mm, grid.column_spacing_mm) == (ROW_SPACING, COLUMN_SPACING)
    assert grid.step_mm == pytest.approx(STEP, rel=1e-4)
    assert [grid.slice_at(source.ImagePositionPatient) for source in sources] == list(range(SHAPE[0]))
    assert grid.same_orientation(sources[0].ImageOrientationPatient)


def test_a_position_between_slices_is_on_none() -> None:
    sources = make_sources()
    between = np.mean([source.ImagePositionPatient for source in sources[:2]], axis=0)
    assert grid_of(sources).slice_at(between.tolist()) is None


def test_a_position_beside_a_slice_in_its_plane_is_on_none() -> None:
    sources = make_sources()
    x, y, z = sources[0].ImagePositionPatient
    assert grid_of(sources).slice_at([x + ROW_SPACING, y, z]) is None


def test_uneven_slices_have_no_step() -> None:
    sources = make_sources()
    del sources[2]
    assert grid_of(sources).step_mm is None


def test_one_slice_has_no_step() -> None:
    sources = make_sources()[:1]
    assert grid_of(sources).step_mm is None
    assert grid_of(sources).slice_at(sources[0].ImagePositionPatient) == 0


@pytest.mark.parametrize(
    ("keyword", "value", "path"),
    [
        pytest.param("ImagePositionPatient", None, "sources[3].ImagePositionPatient", id="no position"),
        pytest.param(
            "ImagePositionPatient", [1.0, 2.0], "sources[3].ImagePositionPatient", id="short position"
        ),
        pytest.param(
            "ImageOrientationPatient", None, "sources[3].ImageOrientationPatient", id="no orientation"
        ),
        pytest.param(
            "ImageOrientationPatient", [0, 1, 0, 0, 0, -1], "sources[3].ImageOrientationPatient", id="turned"
        ),
        pytest.param("PixelSpacing", [0.0, 0.8], "sources[3].PixelSpacing", id="no spacing"),
        pytest.param("PixelSpacing", [0.9, 0.8], "sources[3].PixelSpacing", id="other spacing"),
        pytest.param("Rows", 23, "sources[3].Rows", id="other size"),
        pytest.param("Rows", None, "sources[3].Rows", id="no size"),
        pytest.param("NumberOfFrames", "2", "sources[3].NumberOfFrames", id="multi-frame"),
        pytest.param(
            "ImagePositionPatient", [-80.0, -90.0, 30.0], "sources.ImagePositionPatient", id="same place"
        ),
    ],
)
def test_images_that_form_no_grid_are_refused(keyword: str, value: Any, path: str) -> None:
    sources = make_sources()
    setattr(sources[3], keyword, value)
    with pytest.raises(ResultError) as caught:
        grid_of(sources)
    assert path in [fault.path for fault in caught.value.faults]


def test_numbers_that_are_none_are_refused_without_a_crash() -> None:
    sources = make_sources()
    for text in ("nan", "inf"):
        sources[1].ImagePositionPatient[2] = float(text)
        with pytest.raises(ResultError, match=r"sources\[1\].ImagePositionPatient"):
            grid_of(sources)


def test_directions_that_are_no_unit_vectors_are_refused() -> None:
    sources = make_sources()
    for source in sources:
        source.ImageOrientationPatient = [2, 0, 0, 0, 1, 0]
    with pytest.raises(ResultError, match="unit vectors"):
        grid_of(sources)


@pytest.mark.parametrize("sources", [[], [Dataset()]], ids=["none", "empty header"])
def test_nothing_is_no_grid(sources: list[Dataset]) -> None:
    with pytest.raises(ResultError):
        grid_of(sources)
