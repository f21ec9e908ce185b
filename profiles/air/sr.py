# SPDX-License-Identifier: Apache-2.0
"""The report of one run: a Comprehensive 3D SR of TID 1500, from which all its other objects are reached.

It is always written, also when nothing was found, and stored last. Its content is built in
:mod:`profiles.air.content_tree`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.content_tree import measurement_report
from profiles.air.grid import ResultError, grid_of
from profiles.air.header import (
    MANUFACTURER,
    complete,
    concept,
    dicom_datetime,
    request_item,
    result_uid,
    series_number,
    tracking_uid,
    zone_of,
)
from profiles.air.inputs import check_inputs
from profiles.air.model import Analysis, ResultContext
from profiles.air.seg import library_sources
from profiles.faults import Fault

_SERIES_KIND = 2


def encode_report(
    analysis: Analysis,
    context: ResultContext,
    sources: Sequence[Dataset],
    segmentation: Dataset | None,
) -> Dataset:
    """The report of an analysis.

    Equal inputs give equal bytes.

    Parameters
    ----------
    analysis
        Regions with their measurements; those of an empty mask are stated as absent, without numbers.
    context
        What the workitem says; seeds every UID.
    sources
        Headers of the images analysed, in the order of ``analysis.sop_instance_uids``.
    segmentation
        What :func:`profiles.air.seg.encode_segmentation` made of the same inputs.

    Raises
    ------
    ResultError
        If the inputs cannot be encoded truthfully: also a region without its segment, a number that is not
        finite, or a missing number without its reason.

    References
    ----------
    PS3.16 TID 1500, 1411, 1419, 4019, 1600; PS3.3 A.35.13; IHE RAD TF-3 6.5.3 (AIR).
    """
    check_inputs(analysis, context, sources, mixed_frames_of_reference=True)
    grid_of(sources)
    segments = _segment_numbers(segmentation)
    _check(analysis, context, segments)
    root = measurement_report(analysis, context, sources, segmentation, segments)
    evidence = library_sources(sources)
    if segmentation is not None:
        evidence.append(_as_evidence(segmentation, sources[0]))
    algorithm = analysis.algorithm
    built = Comprehensive3DSR(
        evidence=evidence,
        content=root,
        series_instance_uid=result_uid(context, algorithm, "report-series"),
        series_number=series_number(context, algorithm, _SERIES_KIND),
        sop_instance_uid=result_uid(context, algorithm, "report"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,  # PRELIMINARY until a person verifies it, as FHIR says too
        is_verified=False,
    )
    _remove_placeholders(built)
    result = complete(
        built, analysis, context, sources[0], kind="SR", purpose=codes.IMAGING_MEASUREMENT_REPORT
    )
    moment = context.performed_at.astimezone(zone_of(sources[0]) or context.performed_at.tzinfo)
    result.ObservationDateTime = dicom_datetime(moment)
    request = request_item(context, sources[0])
    if request is not None:
        request.StudyInstanceUID = result.StudyInstanceUID
        request.ReferencedStudySequence = []
        request.PlacerOrderNumberImagingServiceRequest = context.placer_order_number or None
        request.FillerOrderNumberImagingServiceRequest = context.filler_order_number or None
        if "RequestedProcedureCodeSequence" not in request:
            request.RequestedProcedureCodeSequence = []
        result.ReferencedRequestSequence = [request]
    return result


def _check(analysis: Analysis, context: ResultContext, segments: dict[str, int]) -> None:
    faults = []
    for i, region in enumerate(analysis.regions):
        uid = tracking_uid(context, analysis.algorithm, region.label)
        if bool(region.mask.any()) != (uid in segments):
            faults.append(Fault(f"regions[{i}]", "must be a segment exactly if its mask is not empty"))
        for j, number in enumerate(region.measurements):
            path = f"regions[{i}].measurements[{j}]"
            if number.value is None and number.failure is None:
                faults.append(Fault(f"{path}.failure", "a missing number needs its reason"))
            if number.value is not None and (number.failure is not None or not math.isfinite(number.value)):
                faults.append(Fault(f"{path}.value", "must be finite, and None where there is a failure"))
    if faults:
        raise ResultError(faults)


def _segment_numbers(segmentation: Dataset | None) -> dict[str, int]:
    items = [] if segmentation is None else segmentation.SegmentSequence
    return {str(item.TrackingUID): int(item.SegmentNumber) for item in items}


def _as_evidence(segmentation: Dataset, source: Dataset) -> Dataset:
    carrier = library_sources([source])[0]
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        setattr(carrier, keyword, str(segmentation[keyword].value))
    return carrier


def _remove_placeholders(report: Dataset) -> None:
    """Remove what highdicom 0.28 demands and the templates do not have.

    A NUM that failed has an empty measured value, the images of a library have no concept name (TID 1601).
    """
    for container in report.ContentSequence:
        for group in container.get("ContentSequence", ()):
            for item in group.get("ContentSequence", ()):
                if item.ValueType == "NUM" and "NumericValueQualifierCodeSequence" in item:
                    item.MeasuredValueSequence = []
                if item.ValueType == "IMAGE" and item.name == concept(codes.IMAGE_LIBRARY):
                    del item.ConceptNameCodeSequence
