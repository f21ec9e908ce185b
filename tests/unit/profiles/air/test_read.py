# SPDX-License-Identifier: Apache-2.0
"""Reading stored reports: our own, damaged ones, and others'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.model import Measurement, ReportedGroup
from profiles.air.read import ReportError, algorithm_equipment, read_report
from profiles.air.seg import encode_segmentation
from profiles.air.sr import encode_report
from profiles.codes import Code
from tests.unit.profiles.air.stacks import (
    ALGORITHM,
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

FAILED = Measurement(
    name=codes.EMPHYSEMA_INDEX, value=None, unit=codes.PERCENT, failure=codes.CALCULATION_FAILURE
)


def report() -> Dataset:
    sources = make_sources()
    regions = (
        *two_lungs(),
        make_region(random_mask(3), "Failed", measurements=(FAILED,)),
        make_region(np.zeros(SHAPE, dtype=bool), "Lobe", laterality=codes.LEFT),
    )
    analysis = make_analysis(sources, regions)
    return stored(encode_report(analysis, CONTEXT, sources, encode_segmentation(analysis, CONTEXT, sources)))


def test_what_was_encoded_is_read() -> None:
    written = report()
    content = read_report(written)
    assert content.sop_instance_uid == written.SOPInstanceUID
    assert content.study_instance_uid == "1.2.826.2"
    assert (content.patient_id, content.issuer_of_patient_id, content.patient_name) == (
        "PAT-0815",
        "HOSPITAL",
        "Müller^Jörg",
    )
    assert (content.patient_birth_date, content.patient_sex) == ("19500101", "M")
    assert content.accession_number == "ACC-9"
    assert (content.study_date, content.study_time) == ("20260302", "083000")
    assert content.study_description == "Thorax nativ"
    assert content.modality_of_sources == "CT"
    assert content.performed_at == CONTEXT.performed_at
    assert content.title == codes.IMAGING_MEASUREMENT_REPORT
    assert content.procedure_reported == codes.PROCEDURE_BY_MODALITY["CT"]
    assert (
        content.device_uid,
        content.device_manufacturer,
        content.device_name,
        content.device_version,
    ) == (ALGORITHM.device_uid, ALGORITHM.manufacturer, ALGORITHM.name, ALGORITHM.version)
    assert content.algorithm_parameters == ("emphysema_hu=-950", "threshold=0.5")
    assert len(content.referenced_instances) == SHAPE[0] + 1


@pytest.mark.parametrize(
    ("completion", "verification", "preliminary", "verified"),
    [
        ("COMPLETE", "VERIFIED", None, True),
        ("COMPLETE", "VERIFIED", "FINAL", True),
        ("COMPLETE", "VERIFIED", "PRELIMINARY", False),
        ("PARTIAL", "VERIFIED", "FINAL", False),
        ("COMPLETE", "UNVERIFIED", "FINAL", False),
    ],
)
def test_verified_is_what_a_person_stands_for(
    completion: str, verification: str, preliminary: str | None, verified: bool
) -> None:
    written = report()
    written.CompletionFlag, written.VerificationFlag = completion, verification
    written.PreliminaryFlag = preliminary
    if preliminary is None:
        del written.PreliminaryFlag
    assert read_report(written).is_verified is verified


def test_reports_whose_place_it_takes_are_read() -> None:
    written = report()
    assert read_report(written).predecessors == ()
    earlier, series, study = Dataset(), Dataset(), Dataset()
    earlier.ReferencedSOPInstanceUID = "2.25.7"
    series.ReferencedSOPSequence = [earlier]
    study.ReferencedSeriesSequence = [series]
    written.PredecessorDocumentsSequence = [study]
    assert read_report(written).predecessors == ("2.25.7",)


def test_groups_are_read_with_their_numbers() -> None:
    left, right, failed = read_report(report()).groups[:3]
    assert left.finding == codes.LUNG
    assert left.finding_category == codes.ANATOMICAL_STRUCTURE
    assert left.finding_site == codes.LUNG
    assert (left.laterality, right.laterality) == (codes.LEFT, codes.RIGHT)
    assert right.tracking_identifier == "Right lung tracked"
    assert right.tracking_uid.startswith("2.25.")
    assert right.segment_number == 2
    assert right.segmentation_sop_instance_uid == left.segmentation_sop_instance_uid != ""
    expected = two_lungs()[1].measurements
    assert [(m.name, m.value, m.unit, m.derivation) for m in right.measurements] == [
        (m.name, m.value, m.unit, m.derivation) for m in expected
    ]
    assert all(m.observation_uid for m in right.measurements)
    assert failed.evaluations == ()


def test_a_failed_number_is_read_with_its_reason() -> None:
    (number,) = read_report(report()).groups[2].measurements
    assert (number.value, number.failure, number.unit) == (None, codes.CALCULATION_FAILURE, codes.NO_UNITS)


def test_an_absence_is_read_as_a_group_with_an_evaluation() -> None:
    absent = read_report(report()).groups[3]
    assert (absent.finding, absent.laterality, absent.segment_number) == (codes.LUNG, codes.LEFT, None)
    (evaluation,) = absent.evaluations
    assert (evaluation.name, evaluation.value) == (codes.PRESENCE_OF_PROPERTY, codes.ABSENT)
    assert evaluation.observation_uid != ""


def container(dataset: Dataset, name: Code) -> Dataset:
    found: Dataset = next(
        item
        for item in dataset.ContentSequence
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == name.value
    )
    return found


def numbers(dataset: Dataset) -> Iterator[Dataset]:
    for group in container(dataset, codes.IMAGING_MEASUREMENTS).ContentSequence:
        yield from (item for item in group.get("ContentSequence", ()) if item.ValueType == "NUM")


def without(*keywords: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return change


def number_without(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(next(numbers(dataset)), keyword)


def unitless(dataset: Dataset) -> None:
    del next(numbers(dataset)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence


def not_a_number(dataset: Dataset) -> None:
    measured = next(numbers(dataset)).MeasuredValueSequence[0]
    measured.FloatingPointValue = float("nan")
    del measured.NumericValue


def retemplate(dataset: Dataset) -> None:
    dataset.ContentTemplateSequence[0].TemplateIdentifier = "2000"


def undecided(dataset: Dataset) -> None:
    del container(dataset, codes.QUALITATIVE_EVALUATIONS).ContentSequence[0].ConceptCodeSequence


@pytest.mark.parametrize(
    ("tamper", "path"),
    [
        pytest.param(without("SOPInstanceUID"), "SOPInstanceUID", id="no instance"),
        pytest.param(without("StudyInstanceUID"), "StudyInstanceUID", id="no study"),
        pytest.param(
            lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "SOPClassUID", id="an image"
        ),
        pytest.param(retemplate, "ContentTemplateSequence[0].TemplateIdentifier", id="other template"),
        pytest.param(without("ContentSequence"), "ContentSequence", id="no content"),
        pytest.param(without("ContentDate", "ObservationDateTime"), "ContentDate", id="no time"),
        pytest.param(number_without("ConceptNameCodeSequence"), "ConceptNameCodeSequence", id="no name"),
        pytest.param(number_without("MeasuredValueSequence"), "MeasuredValueSequence", id="no value"),
        pytest.param(not_a_number, "MeasuredValueSequence", id="not a number"),
        pytest.param(unitless, "MeasuredValueSequence[0]", id="no unit"),
        pytest.param(undecided, "", id="an evaluation without value"),
    ],
)
def test_what_results_are_made_of_is_demanded(tamper: Callable[[Dataset], None], path: str) -> None:
    dataset = report()
    tamper(dataset)
    with pytest.raises(ReportError) as caught:
        read_report(dataset)
    (fault,) = caught.value.faults
    assert fault.path.endswith(path)


def test_all_faults_come_at_once_and_hold_no_patient_data() -> None:
    dataset = report()
    retemplate(dataset)
    unitless(dataset)
    with pytest.raises(ReportError) as caught:
        read_report(dataset)
    assert len(caught.value.faults) == 2
    assert "Müller" not in str(caught.value)


def test_an_empty_dataset_is_no_report() -> None:
    with pytest.raises(ReportError) as caught:
        read_report(Dataset())
    assert {"SOPClassUID", "SOPInstanceUID", "ContentSequence", "ContentDate"} <= {
        fault.path for fault in caught.value.faults
    }


def test_the_title_stands_in_for_a_missing_template() -> None:
    dataset = report()
    del dataset.ContentTemplateSequence
    assert len(read_report(dataset).groups) == 4


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param({}, datetime(2026, 3, 2, 9, 10, 11, 250000, tzinfo=UTC), id="none given"),
        pytest.param(
            {"TimezoneOffsetFromUTC": "+0100"},
            datetime(2026, 3, 2, 9, 10, 11, 250000, tzinfo=timezone(timedelta(hours=1))), id="of the header",
        ),
    ],
)  # fmt: skip
def test_content_time_without_zone(attributes: dict[str, str], expected: datetime) -> None:
    dataset = report()
    del dataset.ObservationDateTime
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    assert read_report(dataset).performed_at == expected


def test_the_zone_of_the_site_may_be_given() -> None:
    dataset = report()
    del dataset.ObservationDateTime
    zone = timezone(timedelta(hours=9))
    assert read_report(dataset, zone).performed_at == datetime(2026, 3, 2, 9, 10, 11, 250000, tzinfo=zone)


def test_without_algorithm_identification_the_equipment_tells() -> None:
    dataset = report()
    groups = container(dataset, codes.IMAGING_MEASUREMENTS)
    groups.ContentSequence = [item for item in groups.ContentSequence if item.ValueType == "CONTAINER"]
    content = read_report(dataset)
    assert (content.device_name, content.device_version) == (ALGORITHM.name, ALGORITHM.version)
    assert content.algorithm_parameters == ()


def test_without_any_algorithm_the_observer_and_the_header_tell() -> None:
    dataset = report()
    del dataset.ContributingEquipmentSequence
    groups = container(dataset, codes.IMAGING_MEASUREMENTS)
    groups.ContentSequence = [item for item in groups.ContentSequence if item.ValueType == "CONTAINER"]
    content = read_report(dataset)
    assert (content.device_uid, content.device_name) == (ALGORITHM.device_uid, ALGORITHM.name)
    assert content.device_version == dataset.SoftwareVersions


def test_a_library_that_wrote_the_object_is_not_the_algorithm() -> None:
    dataset = report()
    library = Dataset()
    library.Manufacturer = "Library"
    library.PurposeOfReferenceCodeSequence = [coded(codes.PROCESSING_EQUIPMENT)]
    dataset.ContributingEquipmentSequence.insert(0, library)
    assert [item.DeviceUID for item in algorithm_equipment(dataset)] == [ALGORITHM.device_uid]
    assert read_report(dataset).device_manufacturer == ALGORITHM.manufacturer


def test_the_provisional_purpose_of_earlier_editions_is_understood() -> None:
    dataset = report()
    purpose = dataset.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence[0]
    purpose.CodeValue, purpose.CodingSchemeDesignator = "Newcode1", "99IHE"
    assert read_report(dataset).device_uid == ALGORITHM.device_uid


def test_the_modality_may_follow_from_the_evidence() -> None:
    dataset = report()
    dataset.ContentSequence = [
        item for item in dataset.ContentSequence if item is not container(dataset, codes.IMAGE_LIBRARY)
    ]
    assert read_report(dataset).modality_of_sources == "CT"


def test_derived_measurements_are_read_as_groups_of_one_number() -> None:
    dataset = report()
    derived = Dataset()
    derived.ValueType, derived.RelationshipType = "CONTAINER", "CONTAINS"
    derived.ConceptNameCodeSequence = [coded(codes.DERIVED_IMAGING_MEASUREMENTS)]
    derived.ContentSequence = [next(numbers(dataset))]
    dataset.ContentSequence.append(derived)
    last = read_report(dataset).groups[-1]
    assert [number.name for number in last.measurements] == [codes.VOLUME]


def coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


OTHERS = {
    "dcmqi/sr-example/sr.dcm": (1, 22, "PT"),
    "highdicom/sr_document.dcm": (1, 1, "CT"),
    "highdicom/sr_document_with_multiple_groups.dcm": (4, 4, "CT"),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", OTHERS)
def test_reports_of_others_are_read(name: str, shared_data: Path) -> None:
    content = read_report(dcmread(shared_data / "seg-sr-rt-from-others" / name))
    groups, measurements, modality = OTHERS[name]
    assert len(content.groups) == groups
    assert sum(len(group.measurements) for group in content.groups) == measurements
    assert content.modality_of_sources == modality
    assert all(group.tracking_uid for group in content.groups)
    assert content.procedure_reported is not None


@pytest.mark.real_data
def test_retired_codes_of_others_are_translated(shared_data: Path) -> None:
    path = shared_data / "seg-sr-rt-from-others" / "dcmqi" / "sr-example" / "sr.dcm"
    (group,) = read_report(dcmread(path)).groups
    assert group.finding == Code("86049000", "SCT", "Neoplasm, Primary")
    assert group.segment_number == 1
    volume = next(m for m in group.measurements if m.name.same_concept(codes.VOLUME))
    assert (volume.value, volume.unit.value) == (33.5824, "ml")
    assert volume.method == Code("126030", "DCM", "Sum of segmented voxel volumes")


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    ["siemens-sr/75739343", "pydicom/test-SR.dcm", "pydicom/reportsi.dcm", "highdicom/ct_image.dcm"],
    ids=["a scanner's report", "a demonstration", "a basic text", "an image"],
)
def test_other_objects_are_no_results(name: str, shared_data: Path) -> None:
    with pytest.raises(ReportError, match="1500"):
        read_report(dcmread(shared_data / "seg-sr-rt-from-others" / name))


KEYWORDS = (
    "ValueType", "ConceptNameCodeSequence", "MeasuredValueSequence", "ContentSequence", "ObservationUID",
    "ConceptCodeSequence", "ReferencedSOPSequence", "TextValue", "UID", "RelationshipType",
)  # fmt: skip
DAMAGE = st.tuples(st.integers(0, 200), st.sampled_from(KEYWORDS), st.booleans())
WHOLE = as_bytes(report())


@settings(max_examples=40, deadline=None)
@given(st.lists(DAMAGE, min_size=1, max_size=6))
def test_a_damaged_report_is_read_or_refused_and_never_more(damage: list[tuple[int, str, bool]]) -> None:
    dataset = dcmread(BytesIO(WHOLE))
    found = list(every(dataset))
    for index, keyword, empty in damage:
        item = found[index % len(found)]
        if keyword in item and empty:
            item[keyword].value = None
        elif keyword in item:
            del item[keyword]
    assert all(
        number.value is not None or number.failure is not None
        for group in groups_or_none(dataset)
        for number in group.measurements
    )


def groups_or_none(dataset: Dataset) -> tuple[ReportedGroup, ...]:
    try:
        return read_report(dataset).groups
    except ReportError:
        return ()


def every(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence") or ():
        yield from every(child)
