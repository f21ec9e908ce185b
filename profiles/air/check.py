# SPDX-License-Identifier: Apache-2.0
"""Checks of a result set against its source images that no validator of single objects makes.

What is checked: references resolve, tracking agrees, one algorithm is named everywhere, patient, study and
frame of reference are the source's, observation UIDs are unique, volumes agree with the voxels, and labels do
not name the patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.grid import Grid, ResultError, grid_of
from profiles.air.header import PATIENT_ATTRIBUTES, STUDY_ATTRIBUTES
from profiles.air.items import child_text, child_uid, items, number, text
from profiles.air.model import ReportContent, ReportedGroup
from profiles.air.read import ReportError, algorithm_equipment, read_report
from profiles.air.segments import place_segments
from profiles.faults import Fault

VOLUME_TOLERANCE = 0.005
"""Relative; numbers are rounded to 16 characters and an app may measure spacing slice by slice."""

_CUBIC_MM = {"mm3": 1.0, "mL": 1e3, "ml": 1e3, "cm3": 1e3, "L": 1e6, "l": 1e6}
_LABELS = ("SeriesDescription", "ContentLabel", "ContentDescription", "SegmentLabel", "TrackingID")


def check_results(sources: Sequence[Dataset], seg: Dataset | None, sr: Dataset) -> list[Fault]:
    """Everything wrong with a result set; empty if all is well.

    Parameters
    ----------
    sources
        Headers of the images analysed, in any order.
    seg
        The segmentation with its pixel data; None if the run made none.
    sr
        The report.

    Returns
    -------
    list of Fault
        Paths begin with ``seg`` or ``sr``; no message holds a patient's data.

    References
    ----------
    IHE RAD TF-3 6.5.3 (AIR), table 6.5.3.1-1; PS3.3 C.7.1, C.7.2, C.7.4.1.
    """
    try:
        content = read_report(sr)
        grid = grid_of(sources)
        masks = {} if seg is None else place_segments(seg, sources)
    except (ReportError, ResultError) as error:
        return list(error.faults)
    faults = [*_header_faults("sr", sr, sources), *_reference_faults(sources, seg, sr, content)]
    faults += _observation_faults(sr)
    if seg is not None:
        faults += _header_faults("seg", seg, sources)
        faults += _segmentation_faults(seg, sources)
        faults += _tracking_faults(seg, content)
        voxels = {segment: int(np.count_nonzero(mask)) for segment, mask in masks.items()}
        faults += _volume_faults(voxels, _voxel_mm3(seg, grid), content)
        if text(seg, "AccessionNumber") != text(sr, "AccessionNumber"):
            faults.append(Fault("sr.AccessionNumber", "must be that of the segmentation"))
    faults += _algorithm_faults(seg, sr, content)
    return faults


def _header_faults(name: str, result: Dataset, sources: Sequence[Dataset]) -> Iterator[Fault]:
    source = sources[0]
    for keyword in (*PATIENT_ATTRIBUTES, *STUDY_ATTRIBUTES):
        if keyword.endswith("Sequence"):
            same = len(items(result, keyword)) == len(items(source, keyword))
        else:
            same = str(result.get(keyword) or "") == str(source.get(keyword) or "")
        if not same:
            yield Fault(f"{name}.{keyword}", "must be that of the source images")
    name_words = _words(text(source, "PatientName"))
    for holder in (result, *items(result, "SegmentSequence")):
        for keyword in _LABELS:
            label = _words(text(holder, keyword))
            if (name_words and name_words <= label) or _words(text(source, "PatientID")) & label:
                yield Fault(f"{name}.{keyword}", "must not name the patient")


def _words(label: str) -> set[str]:
    return {word for word in re.findall(r"\w+", label.casefold()) if len(word) > 3}


def _reference_faults(
    sources: Sequence[Dataset], seg: Dataset | None, sr: Dataset, content: ReportContent
) -> Iterator[Fault]:
    known = {
        text(instance, "SOPInstanceUID"): (text(instance, "SeriesInstanceUID"), text(instance, "SOPClassUID"))
        for instance in (*sources, *([] if seg is None else [seg]))
    }
    listed = Counter(instance for _, _, instance in content.referenced_instances)
    for series, sop_class, instance in content.referenced_instances:
        if known.get(instance) != (series, sop_class):
            yield Fault(
                "sr.CurrentRequestedProcedureEvidenceSequence", "must name only the sources and results"
            )
    for instance in known:
        if listed[instance] != 1:
            yield Fault(
                "sr.CurrentRequestedProcedureEvidenceSequence", "must list every source and result once"
            )
    named: Counter[str] = Counter()
    for path, item in _walk(sr, "sr"):
        if text(item, "ValueType") in ("IMAGE", "COMPOSITE"):
            reference = next(iter(items(item, "ReferencedSOPSequence")), Dataset())
            instance = text(reference, "ReferencedSOPInstanceUID")
            named[instance] += 1
            if known.get(instance, ("", ""))[1] != text(reference, "ReferencedSOPClassUID"):
                yield Fault(f"{path}.ReferencedSOPSequence", "must name a source or result")
        if text(item, "ValueType") == "UIDREF" and _is(item, "121232") and not _in_series(item, sources):
            yield Fault(f"{path}.UID", "must be the series of the sources")
    if any(named[text(source, "SOPInstanceUID")] == 0 for source in sources):
        yield Fault("sr.ContentSequence", "must list every source in its image library")
    if seg is not None and named[text(seg, "SOPInstanceUID")] == 0:
        yield Fault("sr.ContentSequence", "must refer to the segmentation")


def _walk(item: Dataset, path: str) -> Iterator[tuple[str, Dataset]]:
    waiting = [(path, item)]
    while waiting:
        where, current = waiting.pop()
        yield where, current
        waiting.extend(
            (f"{where}.ContentSequence[{i}]", child)
            for i, child in enumerate(items(current, "ContentSequence"))
        )


def _is(item: Dataset, code_value: str) -> bool:
    return [text(name, "CodeValue") for name in items(item, "ConceptNameCodeSequence")] == [code_value]


def _in_series(item: Dataset, sources: Sequence[Dataset]) -> bool:
    return text(item, "UID") in {text(source, "SeriesInstanceUID") for source in sources}


def _segmentation_faults(seg: Dataset, sources: Sequence[Dataset]) -> Iterator[Fault]:
    frames_of_reference = {text(source, "FrameOfReferenceUID") for source in sources}
    if text(seg, "FrameOfReferenceUID") not in frames_of_reference:
        yield Fault("seg.FrameOfReferenceUID", "must be that of the source images")
    instances = {text(source, "SOPInstanceUID") for source in sources}
    for i, series in enumerate(items(seg, "ReferencedSeriesSequence")):
        named = {
            text(item, "ReferencedSOPInstanceUID") for item in items(series, "ReferencedInstanceSequence")
        }
        if not _in_series_uid(series, sources) or not named <= instances:
            yield Fault(f"seg.ReferencedSeriesSequence[{i}]", "must name the source images")
    if not items(seg, "ReferencedSeriesSequence"):
        yield Fault("seg.ReferencedSeriesSequence", "is needed")
    for i, frame in enumerate(items(seg, "PerFrameFunctionalGroupsSequence")):
        derived_from = [
            text(image, "ReferencedSOPInstanceUID")
            for derivation in items(frame, "DerivationImageSequence")
            for image in items(derivation, "SourceImageSequence")
        ]
        if not derived_from or not set(derived_from) <= instances:
            yield Fault(
                f"seg.PerFrameFunctionalGroupsSequence[{i}].DerivationImageSequence", "must name a source"
            )


def _in_series_uid(series: Dataset, sources: Sequence[Dataset]) -> bool:
    return text(series, "SeriesInstanceUID") in {text(source, "SeriesInstanceUID") for source in sources}


def _observation_faults(sr: Dataset) -> Iterator[Fault]:
    seen: Counter[str] = Counter()
    for path, item in _walk(sr, "sr"):
        uid = text(item, "ObservationUID")
        seen[uid] += 1
        is_group = text(item, "ValueType") == "CONTAINER" and _is(item, codes.MEASUREMENT_GROUP.value)
        is_number = text(item, "ValueType") == "NUM" and text(item, "RelationshipType") == "CONTAINS"
        if (is_group or is_number) and not uid:
            yield Fault(f"{path}.ObservationUID", "is needed")
        if uid and seen[uid] > 1:
            yield Fault(f"{path}.ObservationUID", "must be unique")


def _tracking_faults(seg: Dataset, content: ReportContent) -> Iterator[Fault]:
    segments = {int(text(item, "SegmentNumber")): item for item in items(seg, "SegmentSequence")}
    for i, group in enumerate(content.groups):
        if group.segment_number is None:
            continue
        segment = segments.get(group.segment_number)
        if segment is None or group.segmentation_sop_instance_uid != text(seg, "SOPInstanceUID"):
            yield Fault(f"sr.groups[{i}].segment_number", "must be a segment of the segmentation")
        elif (group.tracking_uid, group.tracking_identifier) != (
            text(segment, "TrackingUID"),
            text(segment, "TrackingID"),
        ):
            yield Fault(f"sr.groups[{i}].tracking_uid", "must be that of the segment, as must the identifier")


def _voxel_mm3(seg: Dataset, grid: Grid) -> float | None:
    depth = grid.step_mm
    if depth is None and grid.shape[0] == 1:
        shared = next(iter(items(seg, "SharedFunctionalGroupsSequence")), Dataset())
        measures = next(iter(items(shared, "PixelMeasuresSequence")), Dataset())
        depth = number(measures, "SliceThickness")
    return None if depth is None else grid.row_spacing_mm * grid.column_spacing_mm * depth


def _volume_faults(
    voxels: dict[int, int], voxel_mm3: float | None, content: ReportContent
) -> Iterator[Fault]:
    """Volumes that differ from the voxels; none can be told where slices are unevenly spaced."""
    for i, group in enumerate(content.groups):
        for j, measurement in enumerate(group.measurements):
            if measurement.value is None or not measurement.name.same_concept(codes.VOLUME):
                continue
            path = f"sr.groups[{i}].measurements[{j}]"
            scale = _CUBIC_MM.get(measurement.unit.value) if measurement.unit.scheme == "UCUM" else None
            if scale is None:
                yield Fault(f"{path}.unit", "must be a unit of volume")
            elif voxel_mm3 is not None and _differs(measurement.value * scale, group, voxels, voxel_mm3):
                yield Fault(f"{path}.value", "must agree with the voxels of the segment")


def _differs(stated_mm3: float, group: ReportedGroup, voxels: dict[int, int], voxel_mm3: float) -> bool:
    counted = voxels.get(group.segment_number or 0)
    return (
        counted is not None and abs(stated_mm3 - counted * voxel_mm3) > VOLUME_TOLERANCE * counted * voxel_mm3
    )


def _algorithm_faults(seg: Dataset | None, sr: Dataset, content: ReportContent) -> Iterator[Fault]:
    """Where the algorithm is not named as in the report's Contributing Equipment (table 6.5.3.1-1)."""
    contributors = algorithm_equipment(sr)
    if len(contributors) != 1 or not text(contributors[0], "DeviceUID"):
        yield Fault("sr.ContributingEquipmentSequence", "must have one algorithm with its device UID")
        return
    named = _equipment(contributors[0])
    maker, name, version, uid = named
    told = {
        "sr.TID1004.DeviceObserverUID": (child_uid(sr, codes.DEVICE_OBSERVER_UID), uid),
        "sr.TID1004.Manufacturer": (child_text(sr, codes.DEVICE_OBSERVER_MANUFACTURER), maker),
        "sr.TID1004.ModelName": (child_text(sr, codes.DEVICE_OBSERVER_MODEL_NAME), name),
        "sr.TID4019.Name": (content.device_name, name),
        "sr.TID4019.Version": (content.device_version, version),
    }
    for i, segment in enumerate([] if seg is None else items(seg, "SegmentSequence")):
        macro = next(iter(items(segment, "SegmentationAlgorithmIdentificationSequence")), Dataset())
        path = f"seg.SegmentSequence[{i}]"
        told |= {
            f"{path}.SegmentAlgorithmName": (text(segment, "SegmentAlgorithmName"), name),
            f"{path}.AlgorithmName": (text(macro, "AlgorithmName"), name),
            f"{path}.AlgorithmVersion": (text(macro, "AlgorithmVersion"), version),
            f"{path}.AlgorithmSource": (text(macro, "AlgorithmSource"), maker),
        }
    for path, (found, expected) in told.items():
        if found != expected:
            yield Fault(path, "must agree with the report's Contributing Equipment")
    if seg is not None and [_equipment(item) for item in algorithm_equipment(seg)] != [named]:
        yield Fault("seg.ContributingEquipmentSequence", "must agree with that of the report")


def _equipment(item: Dataset) -> tuple[str, str, str, str]:
    return (
        text(item, "Manufacturer"),
        text(item, "ManufacturerModelName"),
        text(item, "SoftwareVersions"),
        text(item, "DeviceUID"),
    )
