# SPDX-License-Identifier: Apache-2.0
"""What every result object has in common: patient, study, characters, times, equipment."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from profiles import codes
from profiles.air.header import PATIENT_ATTRIBUTES, STUDY_ATTRIBUTES, series_number, zone_of
from profiles.air.model import ResultContext
from profiles.air.sr import encode_report
from tests.unit.profiles.air.stacks import (
    ALGORITHM,
    BARE_CONTEXT,
    CONTEXT,
    as_bytes,
    make_analysis,
    make_region,
    make_sources,
    random_mask,
    stored,
)


def report_of(sources: list[Dataset], context: ResultContext = CONTEXT) -> Dataset:
    region = make_region(random_mask(1) & False, "Nothing", laterality=codes.LEFT)
    return stored(encode_report(make_analysis(sources, [region]), context, sources, None))


def changed(**attributes: Any) -> list[Dataset]:
    sources = make_sources()
    for source in sources:
        for keyword, value in attributes.items():
            if value is None:
                delattr(source, keyword)
            else:
                setattr(source, keyword, value)
    return sources


def test_patient_and_study_are_the_sources() -> None:
    sources = changed(TimezoneOffsetFromUTC="+0100", PatientIdentityRemoved="NO", PatientWeight="70")
    report = report_of(sources)
    for keyword in (*PATIENT_ATTRIBUTES, *STUDY_ATTRIBUTES):
        assert report.get(keyword) == sources[0].get(keyword), keyword


def test_what_the_source_lacks_is_empty_or_absent_and_never_invented() -> None:
    report = report_of(
        changed(PatientBirthDate=None, PatientSex=None, StudyID=None, StudyDescription=None, PatientAge=None)
    )
    assert (report.PatientBirthDate, report.PatientSex, report.StudyID) == ("", "", "")
    assert "StudyDescription" not in report
    assert "PatientAge" not in report


def test_odd_values_of_the_source_are_kept() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the date
        report = report_of(changed(PatientSex="U", StudyDate="2026.03.02"))
        assert (report.PatientSex, report.StudyDate) == ("U", "2026.03.02")


def test_empty_sequences_of_the_source_are_left_out() -> None:
    assert "OtherPatientIDsSequence" not in report_of(changed(OtherPatientIDsSequence=[]))


def test_a_trial_is_copied_whole() -> None:
    report = report_of(changed(ClinicalTrialSponsorName="S", ClinicalTrialProtocolID="P"))
    assert report.ClinicalTrialProtocolID == "P"
    assert "ClinicalTrialSiteID" in report
    assert "ClinicalTrialSiteName" in report


@pytest.mark.parametrize(
    ("character_set", "name", "label", "written"),
    [
        pytest.param("ISO_IR 100", "Müller^Jörg", "Links", "ISO_IR 100", id="the source's"),
        pytest.param("ISO_IR 144", "Люкceмбypг", "Left", "ISO_IR 144", id="Cyrillic"),
        pytest.param(
            ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Left",
            ["", "ISO 2022 IR 87"], id="Japanese with code extensions",
        ),
        pytest.param("ISO_IR 192", "Wang^XiaoDong=王^小東", "Left", "ISO_IR 192", id="UTF-8"),
        pytest.param("GB18030", "Wang^XiaoDong=王^小东", "Left", "GB18030", id="GB18030"),
        pytest.param("ISO_IR 100", "Müller^Jörg", "左肺", "ISO_IR 192", id="our label does not fit"),
        pytest.param(None, "Plain^Name", "Left", None, id="none declared"),
        pytest.param("", "Plain^Name", "Left", None, id="declared empty"),
        pytest.param(None, "Plain^Name", "Ü", "ISO_IR 192", id="none declared, our label needs one"),
    ],
)  # fmt: skip
def test_names_survive_in_every_character_set(
    character_set: Any, name: str, label: str, written: Any
) -> None:
    sources = make_sources()
    for source in sources:
        if character_set is None:
            del source.SpecificCharacterSet
        else:
            source.SpecificCharacterSet = character_set
        source.PatientName = name
    report = report_of([stored_header(source) for source in sources], replace(CONTEXT, station_name=label))
    assert str(report.PatientName) == name
    assert report.get("SpecificCharacterSet") == written
    assert report.StationName == label


def stored_header(source: Dataset) -> Dataset:
    header = Dataset(source)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return stored(header)


def test_bytes_of_a_name_stay_the_sources() -> None:
    sources = make_sources()
    for source in sources:
        source.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        source.PatientName = "Yamada^Tarou=山田^太郎"
    headers = [stored_header(source) for source in sources]
    raw = headers[0].PatientName.original_string
    assert raw in as_bytes(report_of(headers))


@pytest.mark.parametrize(
    ("offset", "date", "time", "instant"),
    [
        pytest.param(None, "20260302", "233000", "20260302233000+0000", id="the context's zone"),
        pytest.param("+0100", "20260303", "003000", "20260303003000+0100", id="the source's zone"),
        pytest.param("-0530", "20260302", "180000", "20260302180000-0530", id="west, half an hour"),
        pytest.param("nonsense", "20260302", "233000", "20260302233000+0000", id="unreadable"),
    ],
)
def test_times_are_those_of_the_context_in_the_zone_of_the_source(
    offset: str | None, date: str, time: str, instant: str
) -> None:
    sources = changed(TimezoneOffsetFromUTC=offset) if offset else make_sources()
    context = replace(CONTEXT, performed_at=datetime(2026, 3, 2, 23, 30, tzinfo=UTC))
    report = report_of(sources, context)
    assert {str(report[f"{of}Date"].value) for of in ("Content", "Series", "InstanceCreation")} == {date}
    assert {str(report[f"{of}Time"].value) for of in ("Content", "Series", "InstanceCreation")} == {time}
    assert report.ContributingEquipmentSequence[-1].ContributionDateTime == instant
    assert report.get("TimezoneOffsetFromUTC") == offset


@pytest.mark.parametrize("written", ["", "+9900", "+0160", "0100", "+01:0"])
def test_a_malformed_offset_is_no_zone(written: str) -> None:
    source = Dataset()
    source.TimezoneOffsetFromUTC = written
    assert zone_of(source) is None


def test_the_model_contributes_and_the_performer_is_the_equipment() -> None:
    report = report_of(make_sources())
    scanner, model = report.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == codes.ACQUISITION_EQUIPMENT.value
    assert scanner.Manufacturer == "Scanner maker"
    assert model.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value
    assert (model.Manufacturer, model.ManufacturerModelName, model.SoftwareVersions, model.DeviceUID) == (
        ALGORITHM.manufacturer,
        ALGORITHM.name,
        ALGORITHM.version,
        ALGORITHM.device_uid,
    )
    assert report.ManufacturerModelName == "Airway"
    assert report.StationName == "performer-1"
    assert report.DeviceSerialNumber == "airway"


def test_a_source_without_maker_contributes_no_equipment() -> None:
    assert len(report_of(changed(Manufacturer=None)).ContributingEquipmentSequence) == 1


def test_private_code_schemes_are_identified() -> None:
    schemes = {
        item.CodingSchemeDesignator for item in report_of(make_sources()).CodingSchemeIdentificationSequence
    }
    assert schemes == {"99HOSP"}


def test_the_request_of_the_source_stands_in_for_a_workitem_without_one() -> None:
    request = Dataset()
    request.RequestedProcedureID = "RP-OF-SOURCE"
    report = report_of(changed(RequestAttributesSequence=[request]), BARE_CONTEXT)
    assert report.ReferencedRequestSequence[0].RequestedProcedureID == "RP-OF-SOURCE"
    assert report.AccessionNumber == "ACC-OF-SOURCE"
    assert str(report.ReferringPhysicianName) == "Source^Referrer"


def test_the_order_goes_before_the_source() -> None:
    report = report_of(make_sources())
    assert report.AccessionNumber == "ACC-9"
    assert str(report.ReferringPhysicianName) == "Doe^Jane"


def test_series_numbers_are_above_those_of_scanners_and_differ_by_kind() -> None:
    numbers = {series_number(CONTEXT, ALGORITHM, kind) for kind in range(3)}
    assert len(numbers) == 3
    assert min(numbers) >= 90_000
    assert len(str(max(numbers))) <= 12
