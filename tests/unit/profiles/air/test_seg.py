# SPDX-License-Identifier: Apache-2.0
"""Segmentations: decoded by position they are the masks, in every plane."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from conformance.validators.dicom import check_iod
from profiles import codes
from profiles.air.model import Analysis
from profiles.air.seg import UNIFIED_FRAME_OF_REFERENCE, encode_segmentation
from profiles.air.segments import place_segments
from tests.unit.profiles.air.stacks import (
    ALGORITHM,
    BARE_CONTEXT,
    CONTEXT,
    SHAPE,
    STACKS,
    STEP,
    as_bytes,
    make_analysis,
    make_region,
    make_sources,
    random_mask,
    stored,
)


def encoded(analysis: Analysis, sources: list[Dataset]) -> Dataset:
    segmentation = encode_segmentation(analysis, CONTEXT, sources)
    assert segmentation is not None
    return stored(segmentation)


@pytest.mark.parametrize("name", STACKS)
def test_decoded_by_position_it_is_the_mask_voxel_by_voxel(name: str) -> None:
    sources = make_sources(STACKS[name])
    analysis = make_analysis(sources)
    masks = place_segments(encoded(analysis, sources), sources)
    assert sorted(masks) == [1, 2]
    for number, region in enumerate(analysis.regions, start=1):
        assert np.array_equal(masks[number], region.mask)


@pytest.mark.parametrize("name", STACKS)
def test_another_reader_decodes_the_same_mask(name: str) -> None:
    sources = make_sources(STACKS[name])
    analysis = make_analysis(sources)
    other = highdicom.seg.Segmentation.from_dataset(encoded(analysis, sources))
    pixels = other.get_pixels_by_source_instance(
        source_sop_instance_uids=list(analysis.sop_instance_uids), assert_missing_frames_are_empty=True
    )
    for number, region in enumerate(analysis.regions):
        assert np.array_equal(pixels[..., number].astype(bool), region.mask)


def test_overlapping_regions_keep_their_voxels() -> None:
    sources = make_sources()
    regions = [make_region(random_mask(seed), f"Region {seed}") for seed in (1, 2, 3)]
    segmentation = encoded(make_analysis(sources, regions), sources)
    masks = place_segments(segmentation, sources)
    assert (regions[0].mask & regions[1].mask).any()
    assert segmentation.SegmentsOverlap == "YES"
    for number, region in enumerate(regions, start=1):
        assert np.array_equal(masks[number], region.mask)


def test_a_region_on_few_slices_has_frames_on_those_only() -> None:
    sources = make_sources()
    mask = random_mask(4)
    mask[[0, 1, 3, 5]] = False
    segmentation = encoded(make_analysis(sources, [make_region(mask, "Small")]), sources)
    assert int(segmentation.NumberOfFrames) == 2
    assert np.array_equal(place_segments(segmentation, sources)[1], mask)


def test_empty_regions_are_no_segments_and_numbers_stay_consecutive() -> None:
    sources = make_sources()
    empty = np.zeros(SHAPE, dtype=bool)
    regions = [make_region(empty, "None"), make_region(random_mask(1), "A"), make_region(empty, "No"),
               make_region(random_mask(2), "B")]  # fmt: skip
    segmentation = encoded(make_analysis(sources, regions), sources)
    assert [(int(s.SegmentNumber), s.SegmentLabel) for s in segmentation.SegmentSequence] == [
        (1, "A"),
        (2, "B"),
    ]


def test_nothing_found_makes_no_segmentation() -> None:
    sources = make_sources()
    regions = [make_region(np.zeros(SHAPE, dtype=bool), "None")]
    assert encode_segmentation(make_analysis(sources, regions), CONTEXT, sources) is None


def test_equal_inputs_give_equal_bytes() -> None:
    def encode() -> bytes:
        sources = make_sources()
        segmentation = encode_segmentation(make_analysis(sources), CONTEXT, sources)
        assert segmentation is not None
        return as_bytes(segmentation)

    assert encode() == encode()


def test_another_workitem_or_model_gives_other_identifiers_and_equal_pixels() -> None:
    sources = make_sources()
    analysis = make_analysis(sources)
    retrained = replace(analysis, algorithm=replace(ALGORITHM, weights_sha256="cd" * 32))
    made = [
        encode_segmentation(a, c, sources)
        for a, c in (
            (analysis, CONTEXT),
            (retrained, CONTEXT),
            (analysis, replace(CONTEXT, workitem_uid="1.2.826.77.3")),
        )
    ]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber"):
        assert len({str(each[keyword].value) for each in made if each is not None}) == 3
    assert len({each.PixelData for each in made if each is not None}) == 1


def test_a_segment_says_what_and_who() -> None:
    sources = make_sources()
    segment = encoded(make_analysis(sources), sources).SegmentSequence[1]
    assert segment.SegmentLabel == "Right lung"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == ALGORITHM.name
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.ANATOMICAL_STRUCTURE.value
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeValue == codes.LUNG.value
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == codes.RIGHT.value
    region = segment.AnatomicRegionSequence[0]
    assert region.AnatomicRegionModifierSequence[0].CodeValue == codes.RIGHT.value
    assert segment.TrackingID == "Right lung tracked"
    assert segment.TrackingUID.startswith("2.25.")
    identification = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert identification.AlgorithmFamilyCodeSequence[0].CodeValue == codes.ARTIFICIAL_INTELLIGENCE.value
    assert (
        identification.AlgorithmName,
        identification.AlgorithmVersion,
        identification.AlgorithmSource,
    ) == (
        ALGORITHM.name,
        ALGORITHM.version,
        ALGORITHM.manufacturer,
    )
    assert "threshold=0.5" in identification.AlgorithmParameters


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        pytest.param((255, 255, 255), (65535, 32896, 32896), id="white"),
        pytest.param((0, 0, 0), (0, 32896, 32896), id="black"),
        pytest.param((255, 0, 0), (34898, 53485, 50171), id="red: L 53.2, a 80.1, b 67.2"),
    ],
)
def test_the_colour_is_cielab_in_16_bits(rgb: tuple[int, int, int], lab: tuple[int, int, int]) -> None:
    sources = make_sources()
    region = make_region(random_mask(1), "R", colour_rgb=rgb)
    segment = encoded(make_analysis(sources, [region]), sources).SegmentSequence[0]
    assert segment.RecommendedDisplayCIELabValue == pytest.approx(lab, abs=60)


def test_the_object_is_a_binary_segmentation_in_the_frame_of_reference_of_its_sources() -> None:
    sources = make_sources()
    segmentation = encoded(make_analysis(sources), sources)
    assert segmentation.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert segmentation.file_meta.MediaStorageSOPInstanceUID == segmentation.SOPInstanceUID
    assert segmentation.SegmentationType == "BINARY"
    assert list(segmentation.ImageType) == ["DERIVED", "PRIMARY"]
    assert segmentation.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert segmentation.ContentLabel == "LUNG_CT"
    assert segmentation.SeriesDescription == "AI lung-ct SEG 1.2.0"
    assert segmentation.SeriesDescriptionCodeSequence[0].CodeValue == codes.SEGMENTATION.value
    assert segmentation.BodyPartExamined == "CHEST"
    assert int(segmentation.SeriesNumber) >= 90_000
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(STEP)
    assert float(measures.SliceThickness) == 2.0
    referenced = segmentation.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == sources[0].SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == len(sources)


def test_every_frame_names_its_source_image() -> None:
    sources = make_sources(STACKS["reversed"])
    by_position = {tuple(source.ImagePositionPatient): source.SOPInstanceUID for source in sources}
    for frame in encoded(make_analysis(sources), sources).PerFrameFunctionalGroupsSequence:
        derivation = frame.DerivationImageSequence[0]
        position = tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        assert derivation.SourceImageSequence[0].ReferencedSOPInstanceUID == by_position[position]


def test_the_request_is_told() -> None:
    sources = make_sources()
    request = encoded(make_analysis(sources), sources).RequestAttributesSequence[0]
    assert request.RequestedProcedureID == "RP-1"
    assert request.RequestedProcedureDescription == "CT thorax"
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "CTTHX"
    assert request.ReasonForTheRequestedProcedure == "cough"
    assert request.ScheduledProtocolCodeSequence[0].CodeValue == codes.WORKITEM_LUNG_CT.value
    assert request.AccessionNumber == "ACC-9"


def test_without_an_order_there_is_no_request() -> None:
    sources = make_sources()
    segmentation = encode_segmentation(make_analysis(sources), BARE_CONTEXT, sources)
    assert segmentation is not None
    assert "RequestAttributesSequence" not in segmentation
    assert segmentation.AccessionNumber == "ACC-OF-SOURCE"


def test_differing_frames_of_reference_are_refused_unless_asked_for() -> None:
    sources = make_sources()
    for i, source in enumerate(sources):
        source.FrameOfReferenceUID = f"1.2.826.4.{i}"
    analysis = make_analysis(sources)
    with pytest.raises(ValueError, match="FrameOfReferenceUID"):
        encode_segmentation(analysis, CONTEXT, sources)
    segmentation = encode_segmentation(analysis, CONTEXT, sources, unify_frame_of_reference=True)
    assert segmentation is not None
    assert segmentation.FrameOfReferenceUID == "1.2.826.4.0"
    assert segmentation.ContentDescription == UNIFIED_FRAME_OF_REFERENCE
    assert np.array_equal(place_segments(stored(segmentation), sources)[1], analysis.regions[0].mask)
    assert sources[3].FrameOfReferenceUID == "1.2.826.4.3"


def test_one_image_is_enough() -> None:
    sources = make_sources()[:1]
    del sources[0].SliceThickness
    region = make_region(random_mask(1)[:1], "One")
    segmentation = encoded(make_analysis(sources, [region]), sources)
    assert np.array_equal(place_segments(segmentation, sources)[1], region.mask)


def test_lossy_sources_make_a_lossy_segmentation() -> None:
    sources = make_sources()
    for source in sources:
        source.LossyImageCompression = "01"
        source.LossyImageCompressionRatio = "10"
        source.LossyImageCompressionMethod = "ISO_10918_1"
    segmentation = encoded(make_analysis(sources), sources)
    assert segmentation.LossyImageCompression == "01"
    assert segmentation.LossyImageCompressionMethod == "ISO_10918_1"


@pytest.mark.peers
@pytest.mark.parametrize("name", ["axial", "sagittal", "double oblique", "reversed"])
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    sources = make_sources(STACKS[name])
    path = tmp_path / "seg.dcm"
    path.write_bytes(as_bytes(encoded(make_analysis(sources), sources)))
    report = check_iod(path)
    assert report.recognised == "Segmentation"
    assert report.errors == ()


def test_200_slices_of_512_take_seconds() -> None:
    shape = (200, 512, 512)
    sources = make_sources(shape=shape)
    regions = []
    for seed in range(3):
        mask = np.zeros(shape, dtype=bool)
        mask[20:180, 100:400, 20 + 160 * seed : 160 + 160 * seed] = True
        regions.append(make_region(mask, f"Region {seed}"))
    analysis = make_analysis(sources, regions)
    start = time.process_time()
    assert encode_segmentation(analysis, CONTEXT, sources) is not None
    # About 1 s on an idle core; the limit leaves room for a machine that does other things.
    assert time.process_time() - start < 20
