# SPDX-License-Identifier: Apache-2.0
"""The Segmentation of one run: every region found, as one BINARY segment on the grid of the source images.

A region with an empty mask is no segment; the report states its absence. Frames carry the position of their
source image, so nothing depends on the order of slices.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.grid import Grid, grid_of
from profiles.air.header import (
    MANUFACTURER,
    MODEL_NAME,
    SOFTWARE_VERSION,
    complete,
    concept,
    request_item,
    result_uid,
    series_number,
    tracking_uid,
)
from profiles.air.inputs import check_inputs
from profiles.air.model import AlgorithmIdentity, Analysis, Region, ResultContext

UNIFIED_FRAME_OF_REFERENCE = "Frame of reference of the first slice used; the slices differed"
"""Content Description of a segmentation made with one frame of reference for images that had several."""

_SERIES_KIND = 1
_EMPTY_FOR_LIBRARY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_NEEDED_BY_LIBRARY = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "Modality", "Rows", "Columns", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


def encode_segmentation(
    analysis: Analysis,
    context: ResultContext,
    sources: Sequence[Dataset],
    *,
    unify_frame_of_reference: bool = False,
) -> Dataset | None:
    """The Segmentation of an analysis; None if no region was found.

    Equal inputs give equal bytes.

    Parameters
    ----------
    analysis
        Regions with their masks on the grid of `sources`.
    context
        What the workitem says; seeds every UID.
    sources
        Headers of the images analysed, in the order of ``analysis.sop_instance_uids``; single-frame, one
        stack, in any plane and any order.
    unify_frame_of_reference
        Accept images that each carry another Frame of Reference UID though their positions form one stack:
        all are treated as lying in the first one's, and Content Description says so.

    Raises
    ------
    ResultError
        If the inputs cannot be encoded truthfully.

    References
    ----------
    PS3.3 A.51, C.8.20; IHE RAD TF-3 6.5.3.5 (AIR).
    """
    check_inputs(analysis, context, sources, mixed_frames_of_reference=unify_frame_of_reference)
    grid = grid_of(sources)
    found = [region for region in analysis.regions if region.mask.any()]
    if not found:
        return None
    algorithm = analysis.algorithm
    instance_uid = result_uid(context, algorithm, "segmentation")
    mixed = len({str(source.FrameOfReferenceUID) for source in sources}) > 1
    built = Segmentation(
        source_images=library_sources(sources),
        pixel_array=_pixels([region.mask for region in found]),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(number, region, algorithm, context) for number, region in enumerate(found, start=1)
        ],
        series_instance_uid=result_uid(context, algorithm, "segmentation-series"),
        series_number=series_number(context, algorithm, _SERIES_KIND),
        sop_instance_uid=instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=SOFTWARE_VERSION,
        device_serial_number=context.device_serial_number,
        content_label=_content_label(algorithm),
        content_description=(UNIFIED_FRAME_OF_REFERENCE if mixed else f"Regions found by {algorithm.name}")[
            :64
        ],
        pixel_measures=_pixel_measures(grid, sources[0]),
    )
    result = complete(built, analysis, context, sources[0], kind="SEG", purpose=codes.SEGMENTATION)
    _use_one_dimension_organization(result, result_uid(context, algorithm, "segmentation-dimensions"))
    result.ContentCreatorName = None
    if sources[0].get("BodyPartExamined"):
        result.BodyPartExamined = sources[0].BodyPartExamined
    request = request_item(context, sources[0])
    if request is not None:
        if context.scheduled_workitem_code is not None:
            request.ScheduledProtocolCodeSequence = [concept(context.scheduled_workitem_code)]
        for keyword in ("RequestedProcedureID", "RequestedProcedureDescription"):
            if not request[keyword].value:
                del request[keyword]
        result.RequestAttributesSequence = [request]
    return result


def library_sources(sources: Sequence[Dataset]) -> list[Dataset]:
    """Copies that hold what highdicom reads and no more, all in the first one's frame of reference.

    highdicom checks and copies patient attributes in its own way (it refuses an empty character set and a sex
    outside its list), so those are empty here and written by :mod:`profiles.air.header`.
    """
    carriers = []
    for source in sources:
        carrier = Dataset()
        for keyword in _NEEDED_BY_LIBRARY:
            if keyword in source:
                carrier.add(copy.copy(source[keyword]))
        for keyword in _EMPTY_FOR_LIBRARY:
            setattr(carrier, keyword, None)
        if not carrier.get("SliceThickness"):
            carrier.SliceThickness = 1  # read, then overruled by the pixel measures given
        carrier.FrameOfReferenceUID = str(sources[0].FrameOfReferenceUID)
        carriers.append(carrier)
    return carriers


def _pixels(masks: list[NDArray[np.bool_]]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A label map, which highdicom encodes fastest; segments on a last axis if they overlap."""
    labels = np.zeros(masks[0].shape, dtype=np.uint8 if len(masks) < 256 else np.uint16)
    for number, mask in enumerate(masks, start=1):
        if number > 1 and labels[mask].any():
            return np.moveaxis(np.stack(masks).view(np.uint8), 0, -1)
        labels[mask] = number
    return labels


def _segment(
    number: int, region: Region, algorithm: AlgorithmIdentity, context: ResultContext
) -> SegmentDescription:
    is_anatomy = region.category.same_concept(codes.ANATOMICAL_STRUCTURE)
    description = SegmentDescription(
        segment_number=number,
        segment_label=region.label,
        segmented_property_category=concept(region.category),
        segmented_property_type=concept(region.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=concept(codes.ARTIFICIAL_INTELLIGENCE),
            version=algorithm.version,
            source=algorithm.manufacturer,
            parameters=dict(algorithm.parameters) or None,
        ),
        tracking_uid=tracking_uid(context, algorithm, region.label),
        tracking_id=region.tracking_identifier or region.label,
        anatomic_regions=[concept(region.type)] if is_anatomy else None,
        display_color=CIELabColor.from_rgb(*region.colour_rgb),
    )
    if region.laterality is not None:
        side = concept(region.laterality)
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
        if is_anatomy:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [copy.deepcopy(side)]
    return description


def _pixel_measures(grid: Grid, source: Dataset) -> PixelMeasuresSequence:
    thickness = source.get("SliceThickness")
    return PixelMeasuresSequence(
        pixel_spacing=(grid.row_spacing_mm, grid.column_spacing_mm),
        slice_thickness=float(thickness) if thickness else grid.step_mm,
        spacing_between_slices=grid.step_mm,
    )


def _content_label(algorithm: AlgorithmIdentity) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", algorithm.name.upper()).strip("_")[:16] or "AI_REGIONS"


def _use_one_dimension_organization(result: Dataset, uid: str) -> None:
    """Replace the random UID of the dimension organization wherever it stands (PS3.3 C.7.6.17)."""
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
