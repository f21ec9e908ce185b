# SPDX-License-Identifier: Apache-2.0
"""Every check is shown to find what it is for: an untouched result set has no fault, a tampered one has."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from conformance.validators.dicom import check_iod
from profiles import codes
from profiles.air.check import check_results
from profiles.air.model import Measurement
from profiles.air.seg import encode_segmentation
from profiles.air.segments import place_segments
from profiles.air.sr import encode_report
from profiles.codes import Code
from tests.unit.profiles.air.stacks import (
    BARE_CONTEXT,
    CONTEXT,
    SHAPE,
    STACKS,
    as_bytes,
    make_analysis,
    make_region,
    make_sources,
    random_mask,
    stored,
)


@dataclass(slots=True)
class ResultSet:
    sources: list[Dataset]
    seg: Dataset
    sr: Dataset


def result_set(stack: str = "axial") -> ResultSet:
    sources = make_sources(STACKS[stack])
    analysis = make_analysis(sources)
    seg = encode_segmentation(analysis, CONTEXT, sources)
    assert seg is not None
    return ResultSet(sources, stored(seg), stored(encode_report(analysis, CONTEXT, sources, seg)))


@pytest.mark.parametrize("stack", STACKS)
def test_what_the_encoders_make_has_no_fault(stack: str) -> None:
    made = result_set(stack)
    assert check_results(made.sources, made.seg, made.sr) == []
    assert check_results(made.sources[::-1], made.seg, made.sr) == []


def test_a_report_of_nothing_found_has_no_fault() -> None:
    sources = make_sources()
    analysis = make_analysis(sources, [make_region(np.zeros(SHAPE, dtype=bool), "Absent")])
    assert check_results(sources, None, stored(encode_report(analysis, BARE_CONTEXT, sources, None))) == []


def test_one_slice_has_the_volume_of_its_thickness() -> None:
    sources = make_sources()[:1]
    mask = random_mask(1)[:1]
    volume = mask.sum() * 0.7 * 0.8 * 2.0 / 1000
    number = Measurement(name=codes.VOLUME, value=float(volume), unit=codes.MILLILITRE)
    analysis = make_analysis(sources, [make_region(mask, "R", measurements=(number,))])
    seg = encode_segmentation(analysis, CONTEXT, sources)
    assert seg is not None
    assert check_results(sources, stored(seg), stored(encode_report(analysis, CONTEXT, sources, seg))) == []


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "unify"),
    [pytest.param("ct-head-phantom", False, id="head"), pytest.param("ct-chest-lidc", True, id="chest")],
)
@pytest.mark.filterwarnings("ignore")  # pydicom's, of values in the files
def test_results_of_real_series_have_no_fault(
    name: str, unify: bool, shared_data: Path, tmp_path: Path
) -> None:
    with tarfile.open(shared_data / name / "dicom.tar.xz") as archive:
        archive.extractall(tmp_path / "in", filter="data")
    headers = [dcmread(p, stop_before_pixels=True) for p in (tmp_path / "in").rglob("*") if p.is_file()]
    series = Counter(str(header.SeriesInstanceUID) for header in headers).most_common(1)[0][0]
    sources = [header for header in headers if header.SeriesInstanceUID == series]
    shape = (len(sources), int(sources[0].Rows), int(sources[0].Columns))
    region = make_region(random_mask(1, shape), "Region", measurements=())
    analysis = make_analysis(sources, [region])
    seg = encode_segmentation(analysis, CONTEXT, sources, unify_frame_of_reference=unify)
    assert seg is not None
    made = ResultSet(sources, stored(seg), stored(encode_report(analysis, CONTEXT, sources, seg)))
    assert check_results(made.sources, made.seg, made.sr) == []
    assert np.array_equal(place_segments(made.seg, sources)[1], region.mask)
    for kind, dataset in (("seg", made.seg), ("sr", made.sr)):
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(as_bytes(dataset))
        assert check_iod(path).errors == ()


def item(parent: Dataset, name: Code, position: int = 0) -> Dataset:
    found = [
        child
        for child in parent.ContentSequence
        if "ConceptNameCodeSequence" in child and child.ConceptNameCodeSequence[0].CodeValue == name.value
    ]
    return found[position]


def measurements(made: ResultSet) -> Dataset:
    return item(made.sr, codes.IMAGING_MEASUREMENTS)


def group(made: ResultSet) -> Dataset:
    return item(measurements(made), codes.MEASUREMENT_GROUP)


def volume(made: ResultSet) -> Dataset:
    return item(group(made), codes.VOLUME)


def first_series(made: ResultSet) -> Dataset:
    series: Dataset = made.sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    return series


def scale_volume(factor: float) -> Callable[[ResultSet], None]:
    def change(made: ResultSet) -> None:
        measured = volume(made).MeasuredValueSequence[0]
        measured.FloatingPointValue = measured.FloatingPointValue * factor

    return change


def set_unit(value: str) -> Callable[[ResultSet], None]:
    def change(made: ResultSet) -> None:
        volume(made).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = value

    return change


def set_on(which: str, keyword: str, value: object) -> Callable[[ResultSet], None]:
    return lambda made: setattr(getattr(made, which), keyword, value)


def drop_listed(made: ResultSet) -> None:
    del first_series(made).ReferencedSOPSequence[0]


def list_twice(made: ResultSet) -> None:
    first_series(made).ReferencedSOPSequence.append(deepcopy(first_series(made).ReferencedSOPSequence[0]))


def list_unknown(made: ResultSet) -> None:
    first_series(made).ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def list_in_other_series(made: ResultSet) -> None:
    first_series(made).SeriesInstanceUID = "1.2.3"


def library(made: ResultSet) -> Dataset:
    return item(item(made.sr, codes.IMAGE_LIBRARY), codes.IMAGE_LIBRARY_GROUP)


def drop_from_library(made: ResultSet) -> None:
    del library(made).ContentSequence[-1]


def unknown_in_library(made: ResultSet) -> None:
    library(made).ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def drop_segment_references(made: ResultSet) -> None:
    for each in measurements(made).ContentSequence:
        if each.ValueType == "CONTAINER":
            each.ContentSequence = [c for c in each.ContentSequence if c.ValueType != "IMAGE"]


def refer_to_other_series(made: ResultSet) -> None:
    item(group(made), Code("121232", "DCM", "")).UID = "1.2.3"


def refer_to_missing_segment(made: ResultSet) -> None:
    item(group(made), codes.REFERENCED_SEGMENT).ReferencedSOPSequence[0].ReferencedSegmentNumber = 9


def retrack(made: ResultSet) -> None:
    item(group(made), codes.TRACKING_UNIQUE_IDENTIFIER).UID = "1.2.3"


def rename_tracking(made: ResultSet) -> None:
    item(group(made), codes.TRACKING_IDENTIFIER).TextValue = "Other"


def swap_segments(made: ResultSet) -> None:
    first, second = made.seg.SegmentSequence
    first.TrackingUID, second.TrackingUID = second.TrackingUID, first.TrackingUID


def flip_voxels(made: ResultSet) -> None:
    """A segmentation whose pixels are another's: the numbers no longer agree."""
    made.seg.PixelData = bytes(~np.frombuffer(made.seg.PixelData, dtype=np.uint8))


def observer(name: Code, keyword: str) -> Callable[[ResultSet], None]:
    return lambda made: setattr(item(made.sr, name), keyword, "1.2.3")


def algorithm(name: Code) -> Callable[[ResultSet], None]:
    return lambda made: setattr(item(measurements(made), name), "TextValue", "Other")


def in_segment(keyword: str) -> Callable[[ResultSet], None]:
    return lambda made: setattr(made.seg.SegmentSequence[0], keyword, "Other")


def in_macro(keyword: str) -> Callable[[ResultSet], None]:
    def change(made: ResultSet) -> None:
        setattr(made.seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0], keyword, "Other")

    return change


def equipment(which: str, keyword: str) -> Callable[[ResultSet], None]:
    return lambda made: setattr(getattr(made, which).ContributingEquipmentSequence[-1], keyword, "1.2.3")


def drop_equipment(made: ResultSet) -> None:
    del made.sr.ContributingEquipmentSequence[-1]


def drop_observation_uid(made: ResultSet) -> None:
    del volume(made).ObservationUID


def drop_group_uid(made: ResultSet) -> None:
    del group(made).ObservationUID


def repeat_observation_uid(made: ResultSet) -> None:
    volume(made).ObservationUID = group(made).ObservationUID


def unknown_in_segmentation(made: ResultSet) -> None:
    series = made.seg.ReferencedSeriesSequence[0]
    series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def derive_from_unknown(made: ResultSet) -> None:
    frame = made.seg.PerFrameFunctionalGroupsSequence[0]
    frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def derive_from_nothing(made: ResultSet) -> None:
    del made.seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence


EVIDENCE = "sr.CurrentRequestedProcedureEvidenceSequence"


@pytest.mark.parametrize(
    ("tamper", "path"),
    [
        pytest.param(set_on("sr", "PatientID", "OTHER"), "sr.PatientID", id="patient of the report"),
        pytest.param(set_on("seg", "PatientID", "pat-0815"), "seg.PatientID", id="re-cased patient id"),
        pytest.param(set_on("seg", "PatientName", "Muller^Jorg"), "seg.PatientName", id="patient of the SEG"),
        pytest.param(set_on("sr", "IssuerOfPatientID", ""), "sr.IssuerOfPatientID", id="issuer dropped"),
        pytest.param(set_on("sr", "StudyInstanceUID", "1.2.3"), "sr.StudyInstanceUID", id="other study"),
        pytest.param(set_on("seg", "StudyDate", "20260303"), "seg.StudyDate", id="date of processing"),
        pytest.param(set_on("sr", "StudyDescription", "AI"), "sr.StudyDescription", id="other description"),
        pytest.param(set_on("seg", "FrameOfReferenceUID", "1.2.3"), "seg.FrameOfReferenceUID", id="frame"),
        pytest.param(set_on("sr", "AccessionNumber", "X"), "sr.AccessionNumber", id="accession differs"),
        pytest.param(drop_listed, EVIDENCE, id="source not in the evidence"),
        pytest.param(list_twice, EVIDENCE, id="source twice in the evidence"),
        pytest.param(list_unknown, EVIDENCE, id="unknown evidence"),
        pytest.param(list_in_other_series, EVIDENCE, id="evidence in another series"),
        pytest.param(drop_from_library, "sr.ContentSequence", id="source not in the library"),
        pytest.param(unknown_in_library, ".ReferencedSOPSequence", id="unknown image"),
        pytest.param(drop_segment_references, "sr.ContentSequence", id="SEG not reached"),
        pytest.param(refer_to_other_series, ".UID", id="source series"),
        pytest.param(refer_to_missing_segment, "sr.groups[0].segment_number", id="no such segment"),
        pytest.param(retrack, "sr.groups[0].tracking_uid", id="tracking uid"),
        pytest.param(rename_tracking, "sr.groups[0].tracking_uid", id="tracking identifier"),
        pytest.param(swap_segments, "sr.groups[1].tracking_uid", id="segments exchanged"),
        pytest.param(scale_volume(1.01), "sr.groups[0].measurements[0].value", id="volume one percent off"),
        pytest.param(set_unit("mm3"), "sr.groups[0].measurements[0].value", id="unit of another size"),
        pytest.param(set_unit("mm2"), "sr.groups[0].measurements[0].unit", id="no unit of volume"),
        pytest.param(flip_voxels, "sr.groups[0].measurements[0].value", id="other voxels"),
        pytest.param(
            observer(codes.DEVICE_OBSERVER_UID, "UID"), "sr.TID1004.DeviceObserverUID", id="observer uid"
        ),
        pytest.param(
            observer(codes.DEVICE_OBSERVER_MANUFACTURER, "TextValue"), "sr.TID1004.Manufacturer",
            id="observer maker",
        ),
        pytest.param(
            observer(codes.DEVICE_OBSERVER_MODEL_NAME, "TextValue"), "sr.TID1004.ModelName", id="observed by"
        ),
        pytest.param(algorithm(codes.ALGORITHM_NAME), "sr.TID4019.Name", id="algorithm name"),
        pytest.param(algorithm(codes.ALGORITHM_VERSION), "sr.TID4019.Version", id="algorithm version"),
        pytest.param(
            in_segment("SegmentAlgorithmName"), "seg.SegmentSequence[0].SegmentAlgorithmName", id="SEG name"
        ),
        pytest.param(in_macro("AlgorithmName"), "seg.SegmentSequence[0].AlgorithmName", id="macro name"),
        pytest.param(in_macro("AlgorithmVersion"), ".AlgorithmVersion", id="macro version"),
        pytest.param(in_macro("AlgorithmSource"), ".AlgorithmSource", id="macro source"),
        pytest.param(
            equipment("seg", "DeviceUID"), "seg.ContributingEquipmentSequence", id="SEG device"
        ),
        pytest.param(equipment("sr", "DeviceUID"), "sr.TID1004.DeviceObserverUID", id="report device"),
        pytest.param(drop_equipment, "sr.ContributingEquipmentSequence", id="no algorithm"),
        pytest.param(drop_observation_uid, ".ObservationUID", id="number without observation uid"),
        pytest.param(drop_group_uid, ".ObservationUID", id="group without observation uid"),
        pytest.param(repeat_observation_uid, ".ObservationUID", id="observation uid twice"),
        pytest.param(unknown_in_segmentation, "seg.ReferencedSeriesSequence[0]", id="SEG names unknown"),
        pytest.param(
            set_on("seg", "ReferencedSeriesSequence", []), "seg.ReferencedSeriesSequence", id="SEG names none"
        ),
        pytest.param(derive_from_unknown, ".DerivationImageSequence", id="frame of an unknown"),
        pytest.param(derive_from_nothing, ".DerivationImageSequence", id="frame of nothing"),
        pytest.param(
            set_on("sr", "SeriesDescription", "AI of Müller, Jörg"), "sr.SeriesDescription", id="name told"
        ),
        pytest.param(in_segment("SegmentLabel"), None, id="another label is no fault"),
        pytest.param(
            lambda made: setattr(made.seg.SegmentSequence[0], "SegmentLabel", "Lung of 0815"),
            "seg.SegmentLabel", id="patient id told",
        ),
        pytest.param(set_on("seg", "SegmentationType", "FRACTIONAL"), "SegmentationType", id="not decodable"),
        pytest.param(set_on("sr", "ContentTemplateSequence", []), None, id="title in place of a template"),
        pytest.param(set_on("sr", "ContentSequence", []), "ContentSequence", id="not readable"),
    ],
)  # fmt: skip
def test_a_tampered_result_is_found(tamper: Callable[[ResultSet], None], path: str | None) -> None:
    made = result_set()
    tamper(made)
    found = check_results(made.sources, made.seg, made.sr)
    if path is None:
        assert found == []
    else:
        assert any(fault.path.endswith(path) for fault in found), [str(fault) for fault in found]
    assert "Müller" not in " ".join(map(str, found))
