# SPDX-License-Identifier: Apache-2.0
"""ORU^R01 of stored reports, held against hl7apy's definitions and what FHIR says of the same report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message, parse_segment

from profiles import codes
from profiles.air.model import ReportedEvaluation
from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, merged
from profiles.fhir.bundle import result_bundle
from profiles.fhir.identifiers import FhirIdentity
from profiles.hl7.message import Message, Segment, read_message
from profiles.hl7.options import ReadingOptions
from profiles.hl7.prior_report import ParsedReportMessage, read_reports
from profiles.hl7.result import failure_message, result_message, result_status
from profiles.hl7.result_options import RESULT_VERSIONS, Acknowledgement, ResultOptions, Service
from tests.reported import (
    DENSITY,
    EMPHYSEMA,
    FAILED,
    SR_UID,
    STUDY_UID,
    VOLUME,
    content,
    group,
    request_item,
    workitem,
)

BERLIN = ZoneInfo("Europe/Berlin")
OPTIONS = ResultOptions(time_zone=BERLIN, include_text=False)
ORDERED = workitem(request_item())
KEY = "RIS:2.25.77"


def sent(
    told: Any = None, ordered: DicomJson = ORDERED, options: ResultOptions = OPTIONS
) -> tuple[Segment, ...]:
    message = read_message(result_message(told or content(), ordered, options, key=KEY).raw)
    assert isinstance(message, Message)
    return message.segments


def only(segments: tuple[Segment, ...], name: str) -> Segment:
    (found,) = (segment for segment in segments if segment.name == name)
    return found


def observation(segments: tuple[Segment, ...], code: str) -> Segment:
    (found,) = (segment for segment in segments if segment.name == "OBX" and segment.text(3) == code)
    return found


@pytest.mark.parametrize("version", [version for version in RESULT_VERSIONS if version != "2.8"])
def test_messages_meet_the_definitions_of_hl7apy(version: str) -> None:
    told = content(groups=(group(measurements=(VOLUME, DENSITY, FAILED)),))
    options = replace(OPTIONS, version=version, include_text=True)
    raw = result_message(told, ORDERED, options, key=KEY).raw.decode()
    assert parse_message(raw, validation_level=VALIDATION_LEVEL.STRICT).validate()


def test_segments_of_the_newest_version_meet_the_definitions_of_hl7apy() -> None:
    # its groups of ORU^R01 in 2.8 take no ORC before an OBR (hl7apy 1.3.5)
    options = replace(OPTIONS, version="2.8")
    raw = result_message(content(), ORDERED, options, key=KEY).raw.decode()
    segments = [
        parse_segment(line, version="2.8", validation_level=VALIDATION_LEVEL.STRICT)
        for line in raw.split("\r")
        if line
    ]
    assert [segment.name for segment in segments][:4] == ["MSH", "PID", "ORC", "OBR"]
    assert all(segment.validate() for segment in segments)


def test_header_patient_and_order() -> None:
    options = replace(
        OPTIONS,
        sending_facility="HOSP",
        receiving_application="RIS^1.2.3^ISO",
        receiving_facility="HOSP",
        processing_id="T",
    )
    told = content(issuer_of_patient_id="1.2.840.1", patient_name="Doe^Jane^Mary^Dr^Jr")
    segments = sent(told, options=options)
    header = segments[0]
    assert header.text_as_sent.split("|")[2:9] == [
        "AIRWAY",
        "HOSP",
        "RIS^1.2.3^ISO",
        "HOSP",
        "20260504091527+0000",
        "",
        "ORU^R01^ORU_R01",
    ]
    assert [header.text(n) for n in (11, 12, 15, 16, 18)] == ["T", "2.5.1", "", "", "UNICODE UTF-8"]
    patient = only(segments, "PID")
    assert patient.raw(3) == "PAT-0001^^^&1.2.840.1&ISO^MR"
    assert patient.raw(5) == "Doe^Jane^Mary^Jr^Dr^^L^A"
    assert [patient.text(7), patient.text(8)] == ["19610214", "F"]
    assert [only(segments, "ORC").text(n) for n in (1, 2, 3)] == ["RE", "PLC-1", "FIL-1"]
    order = only(segments, "OBR")
    assert [order.text(n) for n in (1, 2, 3, 18, 19, 24, 25)] == [
        "1",
        "PLC-1",
        "FIL-1",
        "ACC-77",
        "RP-1",
        "CT",
        "P",
    ]
    assert order.text(7) == "20260504091000+0200"
    assert order.text(22) == "20260504091527+0000"


def test_the_receiver_reads_what_airway_wrote() -> None:
    """Our own door reads the message as a report of an earlier examination."""
    message = read_message(result_message(content(), ORDERED, OPTIONS, key=KEY).raw)
    assert isinstance(message, Message)
    parsed = read_reports(message, ReadingOptions())
    assert isinstance(parsed, ParsedReportMessage)
    (report,) = parsed.reports
    assert (report.patient_id, report.filler_order_number) == ("PAT-0001", "FIL-1")
    assert (report.accession_number, report.study_instance_uid) == ("ACC-77", STUDY_UID)
    assert report.status == "P"
    assert ("Volume", "2310.25 mL") in report.findings


@pytest.mark.parametrize(
    ("verified", "predecessors", "always", "status"),
    [
        pytest.param(False, (), False, "P", id="nobody verified it"),
        pytest.param(True, (), False, "F", id="verified"),
        pytest.param(True, ("2.25.9",), False, "C", id="verified, takes the place of another"),
        pytest.param(False, ("2.25.9",), False, "P", id="not verified, takes the place of another"),
        pytest.param(False, ("2.25.9",), True, "C", id="so, where the site wants it"),
        pytest.param(False, (), True, "P", id="nothing to correct"),
    ],
)
def test_status_is_that_of_the_report(
    verified: bool, predecessors: tuple[str, ...], always: bool, status: str
) -> None:
    told = content(is_verified=verified, predecessors=predecessors)
    options = replace(OPTIONS, correct_unverified=always)
    assert result_status(told, options) == status
    segments = sent(told, options=options)
    assert only(segments, "OBR").text(25) == status
    assert {segment.text(11) for segment in segments if segment.name == "OBX"} == {status}


def test_what_could_not_be_measured_has_a_reason_and_no_value() -> None:
    segments = sent(content(groups=(group(measurements=(VOLUME, FAILED)),)))
    failed = observation(segments, "AW0001")
    assert [failed.text(n) for n in (2, 5, 6, 11)] == ["CWE", "114008", "", "X"]
    assert observation(segments, "118565006").text(11) == "P"


@pytest.mark.parametrize(
    ("value", "written"),
    [(2310.25, "2310.25"), (1e-7, "0.0000001"), (-812.4, "-812.4"), (1e22, "10000000000000000000000")],
)
def test_numbers_are_written_as_they_are_without_exponent(value: float, written: str) -> None:
    segments = sent(content(groups=(group(measurements=(replace(VOLUME, value=value),)),)))
    assert observation(segments, "118565006").raw(5) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_no_number_is_not_sent_as_one(value: float | None) -> None:
    segments = sent(content(groups=(group(measurements=(replace(VOLUME, value=value),)),)))
    volume = observation(segments, "118565006")
    assert [volume.raw(n) for n in (2, 5, 11)] == ["", "", "X"]


def test_a_number_has_unit_derivation_and_model() -> None:
    density = observation(sent(), "112031")
    assert density.raw(3) == "112031^Attenuation Coefficient (Mean)^DCM"
    assert density.raw(6) == "[hnsf'U]^Hounsfield unit^UCUM"
    assert density.raw(17) == "373098007^Mean^SCT"
    assert density.raw(18) == "lung-ct 0.1.0^Airway^2.25.5001^ISO"
    assert density.text(4) == "1"


def test_the_receivers_own_codes_take_the_place_of_those_of_the_report() -> None:
    own = {("118565006", "SCT"): Code("48635-9", "LN", "Lung volume")}
    options = replace(OPTIONS, concepts=own, code_systems={"SCT": "SNM3", "99AIRWAY": "99AI"})
    segments = sent(options=options)
    assert observation(segments, "48635-9").raw(3) == "48635-9^Lung volume^LN"
    assert observation(segments, "121071").raw(5) == "39607008^Lung^SNM3"
    assert observation(segments, "AW0001").text(3, 3) == "99AI"


def test_references_lead_to_study_and_report() -> None:
    segments = sent()
    assert observation(segments, "110180").text(5) == STUDY_UID
    assert observation(segments, "111040").text(5) == SR_UID


def test_text_says_that_nobody_verified_it() -> None:
    segments = sent(options=replace(OPTIONS, include_text=True))
    (said,) = (segment for segment in segments if segment.text(2) == "TX")
    lines = [repetition.text() for repetition in said.repetitions(5)]
    assert "Computed by an algorithm, not verified by a physician." in lines
    assert "Volume: 2310.25 mL" in lines


def test_every_order_gets_all_results() -> None:
    second = request_item(
        PlacerOrderNumberImagingServiceRequest="PLC-2", FillerOrderNumberImagingServiceRequest="FIL-2"
    )
    first = merged([request_item(AccessionNumber="ACC-77"), element("StudyInstanceUID", STUDY_UID)])
    other = merged([second, element("AccessionNumber", "")])
    segments = sent(ordered=workitem(first, other))
    assert [segment.text(3) for segment in segments if segment.name == "OBR"] == ["FIL-1", "FIL-2"]
    assert [segment.text(1) for segment in segments if segment.name == "OBR"] == ["1", "2"]
    volumes = [segment for segment in segments if segment.text(3) == "118565006"]
    assert len(volumes) == 2


@pytest.mark.parametrize(
    ("accession", "filler"),
    [pytest.param("ACC-77", "ACC-77", id="accession"), pytest.param("", STUDY_UID, id="study")],
)
def test_without_an_order_accession_number_or_study_takes_its_place(accession: str, filler: str) -> None:
    segments = sent(content(accession_number=accession), ordered={})
    order = only(segments, "OBR")
    assert [order.text(n) for n in (2, 3, 18)] == ["", filler, accession]


def test_an_order_of_another_accession_number_is_not_answered() -> None:
    segments = sent(ordered=workitem(request_item(AccessionNumber="OTHER")))
    assert only(segments, "OBR").text(3) == "ACC-77"


def test_issuers_of_order_numbers_are_told() -> None:
    item = merged(
        [
            request_item(),
            element(
                "OrderPlacerIdentifierSequence",
                merged([element("UniversalEntityID", "1.2.3"), element("UniversalEntityIDType", "ISO")]),
            ),
            element("OrderFillerIdentifierSequence", element("LocalNamespaceEntityID", "RIS")),
        ]
    )
    order = only(sent(ordered=workitem(item)), "OBR")
    assert (order.raw(2), order.raw(3)) == ("PLC-1^^1.2.3^ISO", "FIL-1^RIS")


@pytest.mark.parametrize(
    ("service", "code"),
    [(Service.ORDER, "CTCHEST^CT Thorax^99LOC"), (Service.APP, "AW1001^Lung CT quantification^99AIRWAY")],
)
def test_the_service_is_what_was_ordered_or_what_the_app_did(service: Service, code: str) -> None:
    procedure = element("RequestedProcedureCodeSequence", Code("CTCHEST", "99LOC", "CT chest").to_json())
    task = Code("AW1001", "99AIRWAY", "Lung CT quantification").to_json()
    ordered = merged(
        [
            workitem(merged([request_item(), procedure])),
            element("ScheduledWorkitemCodeSequence", task),
        ]
    )
    order = only(sent(ordered=ordered, options=replace(OPTIONS, service=service)), "OBR")
    assert order.raw(4) == code


@pytest.mark.parametrize(
    ("acknowledgement", "fields"),
    [
        (Acknowledgement.ORIGINAL, ("", "")),
        (Acknowledgement.ACCEPT, ("AL", "NE")),
        (Acknowledgement.APPLICATION, ("NE", "AL")),
    ],
)
def test_acknowledgements_are_asked_for(acknowledgement: Acknowledgement, fields: tuple[str, str]) -> None:
    header = sent(options=replace(OPTIONS, acknowledgement=acknowledgement))[0]
    assert (header.text(15), header.text(16)) == fields


def test_the_same_result_is_the_same_message() -> None:
    first = result_message(content(), ORDERED, OPTIONS, key=KEY)
    assert first == result_message(content(), ORDERED, OPTIONS, key=KEY)
    assert len(first.control_id) == 20
    assert first.control_id.isalnum()
    assert f"|{first.control_id}|" in first.raw.decode()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(result_message(content(), ORDERED, OPTIONS, key="RIS:2.25.78"), id="another delivery"),
        pytest.param(
            result_message(content(patient_id="P9"), ORDERED, OPTIONS, key=KEY), id="another patient by now"
        ),
        pytest.param(
            result_message(content(is_verified=True), ORDERED, OPTIONS, key=KEY), id="verified by now"
        ),
    ],
)
def test_what_differs_has_another_control_id(other: Any) -> None:
    assert other.control_id != result_message(content(), ORDERED, OPTIONS, key=KEY).control_id


def test_nothing_of_a_value_becomes_structure() -> None:
    hostile = "Doe|^~\\&\rOBX|9|NM|x"
    told = content(patient_name=hostile, accession_number="A|1\rZ", device_name="x\ry")
    segments = sent(told, ordered={})
    assert {segment.name for segment in segments} == {"MSH", "PID", "ORC", "OBR", "OBX"}
    assert only(segments, "PID").text(5) == "Doe|"
    assert only(segments, "OBR").text(18) == "A|1 Z"


def test_z_segments_come_last_as_they_are() -> None:
    raw = result_message(content(), ORDERED, replace(OPTIONS, extra_segments=("ZAI|1|a^b",)), key=KEY).raw
    assert raw.endswith(b"\rZAI|1|a^b\r")


@pytest.mark.parametrize("character", ["\u00a5", "\u203e"])  # yen and overline: backslash and tilde there
def test_a_character_that_would_become_a_separator_is_not_sent(character: str) -> None:
    options = replace(OPTIONS, character_set="ISO IR14")
    assert result_message(content(patient_name="ﾔﾏﾀﾞ^ﾀﾛｳ"), ORDERED, options, key=KEY).raw
    with pytest.raises(UnicodeEncodeError):
        result_message(content(patient_name=f"A{character}F{character}^B"), ORDERED, options, key=KEY)


def test_uids_of_others_that_are_none_add_no_field_and_no_segment() -> None:
    bad = "1.2|x^y\rZZZ|1"
    one = replace(group(measurements=(replace(VOLUME, observation_uid=bad),)), observation_uid=bad)
    segments = sent(content(groups=(one,), device_uid=bad), options=replace(OPTIONS, version="2.8"))
    assert "ZZZ" not in {segment.name for segment in segments}
    number = observation(segments, VOLUME.name.value)
    assert number.text(21, 3) == "1.2|x^y ZZZ|1"
    assert (number.text(18, 3), number.text(18, 4)) == ("1.2|x^y ZZZ|1", "ISO")


def test_a_character_that_the_set_lacks_is_no_question_mark() -> None:
    options = replace(OPTIONS, character_set="8859/1")
    assert (
        "Müller".encode("iso8859-1")
        in result_message(content(patient_name="Müller^Jörg"), ORDERED, options, key=KEY).raw
    )
    with pytest.raises(UnicodeEncodeError):
        result_message(content(patient_name="山田^太郎"), ORDERED, options, key=KEY)


def test_a_finding_that_is_absent_is_the_question_as_in_fhir() -> None:
    absent = ReportedEvaluation(
        observation_uid="2.25.2009", name=codes.PRESENCE_OF_PROPERTY, value=codes.ABSENT
    )
    told = content(groups=(group(measurements=(), evaluations=(absent,)),))
    segments = sent(told)
    assert observation(segments, "39607008").text(5) == "272519000"
    assert not [segment for segment in segments if segment.text(3) in ("121071", "121052")]


def test_hl7_and_fhir_say_the_same() -> None:
    told = content(groups=(group(measurements=(VOLUME, DENSITY, EMPHYSEMA, FAILED)),))
    bundle = result_bundle(told, ORDERED, settings=FhirIdentity())
    resources = [entry["resource"] for entry in bundle["entry"]]
    fhir = {
        resource["identifier"][0]["value"].removeprefix("urn:oid:"): resource["valueQuantity"]
        for resource in resources
        if "valueQuantity" in resource
    }
    segments = sent(told, options=replace(OPTIONS, version="2.6"))
    numbers = [segment for segment in segments if segment.text(2) == "NM"]
    assert {
        number.text(21, 3): (float(number.text(5)), number.text(6), number.text(6, 2)) for number in numbers
    } == {uid: (value["value"], value["code"], value["unit"]) for uid, value in fhir.items()}
    (report,) = (resource for resource in resources if resource["resourceType"] == "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["identifier"][0]["value"] == f"urn:oid:{observation(segments, '111040').text(5)}"


def test_a_failed_run_is_told_without_a_result() -> None:
    failed = merged(
        [
            ORDERED,
            element("PatientID", "PAT-0001"),
            element("PatientName", "Doe^Jane"),
            element("StudyInstanceUID", STUDY_UID),
            element("ProcedureStepLabel", "Lung CT"),
        ]
    )
    at = datetime(2026, 5, 4, 10, tzinfo=UTC)
    message = failure_message(failed, OPTIONS, key=KEY, reason="Out of memory", failed_at=at)
    read = read_message(message.raw)
    assert isinstance(read, Message)
    assert only(read.segments, "OBR").text(25) == "X"
    said = only(read.segments, "OBX")
    assert (said.text(5), said.text(11)) == ("Lung CT: no result. Out of memory", "X")
    assert only(read.segments, "PID").text(3) == "PAT-0001"
    assert parse_message(message.raw.decode(), validation_level=VALIDATION_LEVEL.STRICT).validate()


@pytest.mark.parametrize(
    ("date", "time", "zone", "written"),
    [
        ("20260504", "091000", BERLIN, "20260504091000+0200"),
        ("20260504", "0910", BERLIN, "20260504091000+0200"),
        ("20260504", "", BERLIN, "20260504"),
        ("20260504", "091000.123", None, "20260504091000"),
        ("", "091000", BERLIN, ""),
        ("2026", "", None, ""),
        ("20261304", "", None, ""),
    ],
)
def test_times_of_studies(date: str, time: str, zone: ZoneInfo | None, written: str) -> None:
    segments = sent(content(study_date=date, study_time=time), options=replace(OPTIONS, time_zone=zone))
    assert only(segments, "OBR").text(7) == written
