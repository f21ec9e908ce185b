# SPDX-License-Identifier: Apache-2.0
"""Placing frames by position, and refusing what cannot be placed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless

from profiles.air.grid import ResultError
from profiles.air.seg import encode_segmentation
from profiles.air.segments import place_segments
from tests.unit.profiles.air.stacks import (
    CONTEXT,
    SHAPE,
    STACKS,
    make_analysis,
    make_sources,
    stored,
    two_lungs,
)


def segmentation() -> Dataset:
    sources = make_sources()
    made = encode_segmentation(make_analysis(sources), CONTEXT, sources)
    assert made is not None
    return stored(made)


def test_masks_follow_the_order_of_the_images() -> None:
    sources = make_sources()
    order = [3, 0, 5, 1, 4, 2]
    masks = place_segments(segmentation(), [sources[i] for i in order])
    assert np.array_equal(masks[1], two_lungs()[0].mask[order])


def test_the_order_of_frames_does_not_matter() -> None:
    made = segmentation()
    size = SHAPE[1] * SHAPE[2]
    frames = list(made.PerFrameFunctionalGroupsSequence)
    bits = np.unpackbits(np.frombuffer(made.PixelData, dtype=np.uint8), bitorder="little")[
        : size * len(frames)
    ]
    order = np.random.default_rng(0).permutation(len(frames))
    made.PerFrameFunctionalGroupsSequence = [frames[i] for i in order]
    shuffled = bits.reshape(len(frames), size)[order].ravel()
    made.PixelData = np.packbits(shuffled, bitorder="little").tobytes()
    assert np.array_equal(place_segments(made, make_sources())[2], two_lungs()[1].mask)


def test_a_segment_number_shared_by_all_frames_is_found() -> None:
    sources = make_sources()
    region = two_lungs()[0]
    made = encode_segmentation(make_analysis(sources, [region]), CONTEXT, sources)
    assert made is not None
    assert "SegmentIdentificationSequence" in made.SharedFunctionalGroupsSequence[0]
    assert np.array_equal(place_segments(made, sources)[1], region.mask)


def test_more_images_than_frames_have_empty_slices() -> None:
    sources = make_sources()
    region = two_lungs()[0]
    few = make_analysis(sources[2:4], [replace(region, mask=region.mask[2:4])])
    made = encode_segmentation(few, CONTEXT, sources[2:4])
    assert made is not None
    mask = place_segments(made, sources)[1]
    assert np.array_equal(mask[2:4], region.mask[2:4])
    assert not mask[[0, 1, 4, 5]].any()


def first_frame(seg: Dataset) -> Dataset:
    frame: Dataset = seg.PerFrameFunctionalGroupsSequence[0]
    return frame


def move(seg: Dataset) -> None:
    first_frame(seg).PlanePositionSequence[0].ImagePositionPatient = [0, 0, 999]


def unplace(seg: Dataset) -> None:
    del first_frame(seg).PlanePositionSequence


def turn(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
        0,
        1,
        0,
        0,
        0,
        -1,
    ]


def rename(seg: Dataset) -> None:
    first_frame(seg).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7


def double(seg: Dataset) -> None:
    frames = seg.PerFrameFunctionalGroupsSequence
    frames[1] = deepcopy(frames[0])


def describe_twice(seg: Dataset) -> None:
    seg.SegmentSequence[1].SegmentNumber = 1


def setting(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda seg: setattr(seg, keyword, value)


def compress(seg: Dataset) -> None:
    seg.file_meta.TransferSyntaxUID = JPEG2000Lossless


@pytest.mark.parametrize(
    ("tamper", "path"),
    [
        pytest.param(move, "PerFrameFunctionalGroupsSequence[0].PlanePositionSequence", id="moved away"),
        pytest.param(unplace, "PerFrameFunctionalGroupsSequence[0].PlanePositionSequence", id="no position"),
        pytest.param(turn, "PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence", id="turned"),
        pytest.param(rename, "PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence", id="new"),
        pytest.param(double, "PerFrameFunctionalGroupsSequence[1]", id="two frames in one place"),
        pytest.param(describe_twice, "SegmentSequence", id="two segments of one number"),
        pytest.param(setting("SegmentSequence", []), "SegmentSequence", id="no segment"),
        pytest.param(setting("SegmentationType", "FRACTIONAL"), "SegmentationType", id="fractional"),
        pytest.param(setting("SOPClassUID", "1.2"), "SOPClassUID", id="no segmentation"),
        pytest.param(setting("Rows", 21), "Rows", id="other size"),
        pytest.param(setting("NumberOfFrames", "3"), "NumberOfFrames", id="other number of frames"),
        pytest.param(setting("NumberOfFrames", "99999999"), "PixelData", id="absurd number of frames"),
        pytest.param(setting("PixelData", b"\0"), "PixelData", id="truncated"),
        pytest.param(compress, "TransferSyntaxUID", id="compressed"),
    ],
)
def test_what_cannot_be_placed_is_refused(tamper: Callable[[Dataset], None], path: str) -> None:
    made = segmentation()
    tamper(made)
    with pytest.raises(ResultError) as caught:
        place_segments(made, make_sources())
    assert path in [fault.path for fault in caught.value.faults]


def test_images_of_another_stack_are_refused() -> None:
    with pytest.raises(ResultError):
        place_segments(segmentation(), make_sources(STACKS["coronal"]))


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")  # pydicom's, of values in the files
@pytest.mark.parametrize(
    ("name", "voxels"),
    [("liver.dcm", {1}), ("partial_overlaps.dcm", {1, 2, 3, 4, 5})],
    ids=["one", "overlapping"],
)
def test_segmentations_of_others_are_placed(name: str, voxels: set[int], shared_data: Path) -> None:
    folder = shared_data / "seg-sr-rt-from-others" / "dcmqi" / "segmentations"
    sources = [
        dcmread(path, stop_before_pixels=True) for path in sorted((folder / "ct-3slice").glob("*.dcm"))
    ]
    seg = dcmread(folder / name)
    masks = place_segments(seg, sources)
    assert set(masks) == voxels
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    assert sum(int(mask.sum()) for mask in masks.values()) == int(frames.sum())
