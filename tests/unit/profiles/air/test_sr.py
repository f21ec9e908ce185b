# SPDX-License-Identifier: Apache-2.0
"""Reports: content, references, absences, failures, and what validators say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from conformance.validators.dicom import check_iod, check_structured_report
from profiles import codes
from profiles.air.grid import ResultError
from profiles.air.model import Measurement, Region, ResultContext
from profiles.air.seg import encode_segmentation
from profiles.air.sr import encode_report
from profiles.codes import Code
from tests.unit.profiles.air.stacks import (
    ALGORITHM,
    BARE_CONTEXT,
    CONTEXT,
    SHAPE,
    as_bytes,
    make_analysis,
    make_region,
    make_sources,
    random_mask,
    stored,
    two_lungs,
)

NOTHING = np.zeros(SHAPE, dtype=bool)
FAILED = Measurement(
    name=codes.EMPHYSEMA_INDEX, value=None, unit=codes.PERCENT, failure=codes.CALCULATION_FAILURE
)


def encoded(
    regions: tuple[Region, ...] | None = None,
    context: ResultContext = CONTEXT,
    sources: list[Dataset] | None = None,
) -> Dataset:
    sources = make_sources() if sources is None else sources
    analysis = make_analysis(sources, regions)
    return stored(encode_report(analysis, context, sources, encode_segmentation(analysis, context, sources)))


def walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def named(item: Dataset, name: Code) -> list[Dataset]:
    """The items one level down with this name."""
    return [
        child
        for child in item.get("ContentSequence", ())
        if "ConceptNameCodeSequence" in child and child.ConceptNameCodeSequence[0].CodeValue == name.value
    ]


def value_of(item: Dataset, name: Code) -> str:
    (found,) = named(item, name)
    if found.ValueType == "CODE":
        return str(found.ConceptCodeSequence[0].CodeValue)
    return str(found.TextValue if found.ValueType == "TEXT" else found.UID)


def groups_of(report: Dataset) -> list[Dataset]:
    (container,) = named(report, codes.IMAGING_MEASUREMENTS)
    return named(container, codes.MEASUREMENT_GROUP)


def test_it_is_a_complete_preliminary_comprehensive_3d_report_of_tid_1500() -> None:
    report = encoded()
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert report.ContinuityOfContent == "SEPARATE"
    assert report.ConceptNameCodeSequence[0].CodeValue == codes.IMAGING_MEASUREMENT_REPORT.value
    assert report.SeriesDescription == "AI lung-ct SR 1.2.0"
    assert report.ObservationDateTime == "20260302091011.250000+0000"
    assert "PredecessorDocumentsSequence" not in report
    assert len(report.ReferencedPerformedProcedureStepSequence) == 0


def test_the_observer_is_the_model() -> None:
    report = encoded()
    assert value_of(report, Code("121005", "DCM", "Observer Type")) == "121007"
    assert value_of(report, codes.DEVICE_OBSERVER_UID) == ALGORITHM.device_uid
    assert value_of(report, codes.DEVICE_OBSERVER_MANUFACTURER) == ALGORITHM.manufacturer
    assert value_of(report, codes.DEVICE_OBSERVER_MODEL_NAME) == ALGORITHM.name
    assert value_of(report, Code("121049", "DCM", "Language")) == "en"


def test_the_procedure_is_told_as_ordered() -> None:
    report = encoded()
    assert value_of(report, codes.PROCEDURE_STUDY_INSTANCE_UID) == report.StudyInstanceUID
    assert value_of(report, codes.PROCEDURE_PLACER_NUMBER) == "PLACER-1"
    assert value_of(report, codes.PROCEDURE_FILLER_NUMBER) == "FILLER-1"
    assert value_of(report, codes.PROCEDURE_ACCESSION_NUMBER) == "ACC-9"
    assert value_of(report, codes.PROCEDURE_CODE) == "CTTHX"
    request = report.ReferencedRequestSequence[0]
    assert request.StudyInstanceUID == report.StudyInstanceUID
    assert request.PlacerOrderNumberImagingServiceRequest == "PLACER-1"
    assert request.FillerOrderNumberImagingServiceRequest == "FILLER-1"
    assert request.RequestedProcedureID == "RP-1"
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "CTTHX"


def test_without_an_order_there_is_no_request() -> None:
    report = encoded(context=BARE_CONTEXT)
    assert "ReferencedRequestSequence" not in report
    assert named(report, codes.PROCEDURE_CODE) == []
    assert value_of(report, codes.PROCEDURE_ACCESSION_NUMBER) == "ACC-OF-SOURCE"


@pytest.mark.parametrize(
    ("ordered", "modality", "reported"),
    [
        pytest.param(None, "CT", "25045-6", id="by modality"),
        pytest.param(None, "MR", "25056-3", id="by modality MR"),
        pytest.param(None, "XX", codes.IMAGING_PROCEDURE.value, id="unknown modality"),
        pytest.param(Code("CTTHX", "99HOSP", "CT thorax"), "CT", "25045-6", id="the hospital's own code"),
        pytest.param(Code("44136-0", "LN", "PET unspecified"), "PT", "44136-0", id="in CID 100"),
    ],
)
def test_the_procedure_reported_is_the_imaging_analysed(
    ordered: Code | None, modality: str, reported: str
) -> None:
    sources = make_sources()
    for source in sources:
        source.Modality = modality
    report = encoded(context=replace(CONTEXT, requested_procedure_code=ordered), sources=sources)
    assert value_of(report, codes.PROCEDURE_REPORTED) == reported


def test_the_library_lists_every_source_once_without_names() -> None:
    report = encoded()
    (library,) = named(report, codes.IMAGE_LIBRARY)
    (group,) = named(library, codes.IMAGE_LIBRARY_GROUP)
    assert value_of(group, codes.MODALITY) == "CT"
    assert value_of(group, codes.FRAME_OF_REFERENCE_UID) == "1.2.826.4"
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    assert [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images] == [
        source.SOPInstanceUID for source in make_sources()
    ]
    assert not any("ConceptNameCodeSequence" in image for image in images)


def test_the_evidence_lists_sources_and_segmentation() -> None:
    report = encoded()
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        series.SeriesInstanceUID: [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
        for series in study.ReferencedSeriesSequence
    }
    segments = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in groups_of(report)
        for item in named(group, codes.REFERENCED_SEGMENT)
    }
    assert listed.pop("1.2.826.3") == [source.SOPInstanceUID for source in make_sources()]
    assert [set(instances) for instances in listed.values()] == [segments]


def test_a_group_says_what_where_and_which_segment() -> None:
    report = encoded()
    left, right = groups_of(report)
    assert left.ContentTemplateSequence[0].TemplateIdentifier == "1411"
    assert value_of(right, codes.TRACKING_IDENTIFIER) == "Right lung tracked"
    assert value_of(right, codes.FINDING) == codes.LUNG.value
    assert value_of(right, codes.FINDING_CATEGORY) == codes.ANATOMICAL_STRUCTURE.value
    (site,) = named(right, codes.FINDING_SITE)
    assert site.ConceptCodeSequence[0].CodeValue == codes.LUNG.value
    assert value_of(site, codes.LATERALITY) == codes.RIGHT.value
    (segment,) = named(right, codes.REFERENCED_SEGMENT)
    assert segment.ReferencedSOPSequence[0].ReferencedSegmentNumber == 2
    assert "ReferencedFrameNumber" not in segment.ReferencedSOPSequence[0]
    assert value_of(right, Code("121232", "DCM", "Source series")) == "1.2.826.3"


def test_the_tracking_of_group_and_segment_is_one() -> None:
    sources = make_sources()
    analysis = make_analysis(sources)
    segmentation = encode_segmentation(analysis, CONTEXT, sources)
    assert segmentation is not None
    report = encode_report(analysis, CONTEXT, sources, segmentation)
    for segment, group in zip(segmentation.SegmentSequence, groups_of(report), strict=True):
        assert value_of(group, codes.TRACKING_UNIQUE_IDENTIFIER) == segment.TrackingUID
        assert value_of(group, codes.TRACKING_IDENTIFIER) == segment.TrackingID


def test_the_algorithm_is_identified_for_all_groups() -> None:
    (container,) = named(encoded(), codes.IMAGING_MEASUREMENTS)
    assert value_of(container, codes.ALGORITHM_NAME) == ALGORITHM.name
    assert value_of(container, codes.ALGORITHM_VERSION) == ALGORITHM.version
    parameters = [item.TextValue for item in named(container, codes.ALGORITHM_PARAMETERS)]
    assert parameters == ["emphysema_hu=-950", "threshold=0.5"]


def test_numbers_have_unit_derivation_method_and_full_precision() -> None:
    method = Code("126030", "DCM", "Sum of segmented voxel volumes")
    volume = Measurement(name=codes.VOLUME, value=1 / 3, unit=codes.MILLILITRE, method=method)
    (group,) = groups_of(encoded((make_region(random_mask(1), "R", measurements=(volume,)),)))
    (number,) = named(group, codes.VOLUME)
    measured = number.MeasuredValueSequence[0]
    assert len(str(measured["NumericValue"].value)) <= 16
    assert measured.FloatingPointValue == 1 / 3
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mL"
    assert value_of(number, codes.MEASUREMENT_METHOD) == method.value
    mean = named(groups_of(encoded())[0], codes.MEAN_ATTENUATION)[0]
    assert value_of(mean, codes.DERIVATION) == codes.MEAN.value


def test_every_observation_has_its_own_uid() -> None:
    report = encoded((*two_lungs(), make_region(NOTHING, "Lobe")))
    uids = [item.ObservationUID for item in walk(report) if "ObservationUID" in item]
    # Two groups of a container, a finding and three numbers, and one absence.
    assert len(uids) == 2 * 5 + 1
    assert len(set(uids)) == len(uids)
    for item in walk(report):
        if item.ValueType == "NUM" and item.RelationshipType == "CONTAINS":
            assert "ObservationUID" in item


def test_a_failed_number_has_a_reason_and_no_value() -> None:
    region = make_region(random_mask(1), "R", measurements=(FAILED,))
    (group,) = groups_of(encoded((region,)))
    (number,) = named(group, codes.EMPHYSEMA_INDEX)
    assert len(number.MeasuredValueSequence) == 0
    assert number.NumericValueQualifierCodeSequence[0].CodeValue == codes.CALCULATION_FAILURE.value


@pytest.mark.parametrize(
    ("regions", "found"),
    [
        pytest.param((make_region(NOTHING, "L", laterality=codes.LEFT),), 0, id="nothing found"),
        pytest.param((*two_lungs(), make_region(NOTHING, "L", laterality=codes.LEFT)), 2, id="one absent"),
    ],
)
def test_an_empty_region_is_stated_as_absent(regions: tuple[Region, ...], found: int) -> None:
    report = encoded(regions)
    (container,) = named(report, codes.QUALITATIVE_EVALUATIONS)
    (statement,) = container.ContentSequence
    assert statement.ConceptNameCodeSequence[0].CodeValue == codes.LUNG.value
    assert statement.ConceptCodeSequence[0].CodeValue == codes.ABSENT.value
    assert value_of(statement, codes.LATERALITY) == codes.LEFT.value
    assert len(named(report, codes.IMAGING_MEASUREMENTS)) == bool(found)
    assert len(groups_of(report) if found else []) == found


def test_equal_inputs_give_equal_bytes() -> None:
    assert as_bytes(encoded()) == as_bytes(encoded())


def test_the_transfer_keeps_every_byte() -> None:
    report = encoded()
    assert as_bytes(stored(report)) == as_bytes(report)


@pytest.mark.parametrize(
    ("measurement", "path"),
    [
        pytest.param(replace(FAILED, failure=None), "regions[0].measurements[0].failure", id="no reason"),
        pytest.param(replace(FAILED, value=1.0), "regions[0].measurements[0].value", id="value and failure"),
        pytest.param(
            replace(FAILED, value=float("nan"), failure=None), "regions[0].measurements[0].value", id="nan"
        ),
    ],
)
def test_numbers_that_say_nothing_are_refused(measurement: Measurement, path: str) -> None:
    with pytest.raises(ResultError) as caught:
        encoded((make_region(random_mask(1), "R", measurements=(measurement,)),))
    assert [fault.path for fault in caught.value.faults] == [path]


def test_a_region_without_its_segment_is_refused() -> None:
    sources = make_sources()
    analysis = make_analysis(sources)
    with pytest.raises(ResultError, match=r"regions\[0\].*regions\[1\]"):
        encode_report(analysis, CONTEXT, sources, None)


def test_images_in_differing_frames_of_reference_are_listed_without_one() -> None:
    sources = make_sources()
    sources[0].FrameOfReferenceUID = "1.2.826.5"
    analysis = make_analysis(sources)
    segmentation = encode_segmentation(analysis, CONTEXT, sources, unify_frame_of_reference=True)
    report = encode_report(analysis, CONTEXT, sources, segmentation)
    (library,) = named(report, codes.IMAGE_LIBRARY)
    (group,) = named(library, codes.IMAGE_LIBRARY_GROUP)
    assert named(group, codes.FRAME_OF_REFERENCE_UID) == []


NODULE = make_region(
    random_mask(1),
    "Nodule",
    category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    type=Code("27925004", "SCT", "Nodule"),
    measurements=(FAILED,),
)
ABSENT = make_region(NOTHING, "Absent", laterality=codes.LEFT)


@pytest.mark.peers
@pytest.mark.parametrize("context", [CONTEXT, BARE_CONTEXT], ids=["ordered", "without order"])
@pytest.mark.parametrize(
    "regions",
    [two_lungs(), (*two_lungs(), ABSENT), (ABSENT,), (NODULE,)],
    ids=["two lungs", "one absent", "nothing found", "a nodule whose number failed"],
)
def test_dciodvfy_finds_no_error(regions: tuple[Region, ...], context: ResultContext, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(as_bytes(encoded(regions, context)))
    report = check_iod(path)
    assert (report.recognised, report.errors) == ("Comprehensive3DSR", ())


@pytest.mark.peers
@pytest.mark.parametrize(
    ("regions", "context"),
    [
        pytest.param((*two_lungs(), ABSENT), CONTEXT, id="groups and an absence, ordered"),
        pytest.param((ABSENT,), BARE_CONTEXT, id="nothing found, without order"),
    ],
)
def test_the_template_validator_finds_no_error(
    regions: tuple[Region, ...], context: ResultContext, tmp_path: Path
) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(as_bytes(encoded(regions, context)))
    assert check_structured_report(path).errors == ()


@pytest.mark.peers
def test_the_template_validator_finds_only_the_missing_value_of_a_failed_number(tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(as_bytes(encoded((NODULE,))))
    # PixelMed's rules know no qualifier in place of a value, which PS3.3 C.18.1 provides for.
    (only,) = check_structured_report(path).errors
    assert only.endswith("Missing value")


def test_200_images_take_seconds() -> None:
    shape = (200, 512, 512)
    sources = make_sources(shape=shape)
    mask = np.zeros(shape, dtype=bool)
    mask[50:150, 100:400, 100:400] = True
    analysis = make_analysis(sources, [make_region(mask, "R")])
    segmentation = encode_segmentation(analysis, CONTEXT, sources)
    start = time.process_time()
    encode_report(analysis, CONTEXT, sources, segmentation)
    # About 0.5 s on an idle core; the limit leaves room for a machine that does other things.
    assert time.process_time() - start < 20
