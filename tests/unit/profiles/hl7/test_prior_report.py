# SPDX-License-Identifier: Apache-2.0
"""ORU^R01 read into reports of other examinations."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.codes import Code
from profiles.hl7.inbound import parse_inbound
from profiles.hl7.options import Reading
from profiles.hl7.prior_report import MAX_REPORTS, MAX_TEXT, ParsedReportMessage
from profiles.hl7.reading import MessageRefusal
from profiles.patient import PriorReport
from tests.unit.profiles.hl7.messages import MSH, PID, changed, message

ORU = changed(changed(MSH, 9, "ORU^R01^ORU_R01"), 12, "2.5.1")
OBR = "OBR|1|P7^RIS|F7^RIS|24627-2^CT Chest^LN|||20250301101500|||||||||||ACC7||||20250301120000||CT|F"
OBX = (
    "OBX|1|TX|18782-3^Findings^LN||Lungs clear.~No effusion.||||||F",
    "OBX|2|FT|19005-8^Impression^LN||Normal \\T\\ stable\\.br\\Follow up||||||F",
    "OBX|3|NM|103339001^Long axis^SCT||8.2|mm^mm^UCUM|||||F",
    "OBX|4|CWE|121071^Finding^DCM||427359005^Solitary nodule^SCT||||||F",
    "OBX|5|SN|1^Ratio^L||<^3|||||||F",
    "OBX|6|ED|18748-4^Report^LN||^application^pdf^Base64^JVBERi0=||||||F",
    "OBX|7|ST|113014^DICOM Study^DCM||1.2.840.1.7||||||F",
    "OBX|8|TX|1^Wrong^L||of another patient||||||W",
)


def reports(raw: bytes) -> tuple[PriorReport, ...]:
    found = parse_inbound(raw, Reading())
    assert isinstance(found, ParsedReportMessage), found
    return found.reports


def test_a_report() -> None:
    (found,) = reports(message(ORU, PID, "ORC|RE|P7^RIS|F7^RIS", OBR, *OBX, "ZRP|x"))
    assert found == PriorReport(
        report_number="F7",
        patient_id="12345",
        issuer_of_patient_id="HOSP",
        placer_order_number="P7",
        filler_order_number="F7",
        accession_number="ACC7",
        study_instance_uid="1.2.840.1.7",
        procedure=Code("24627-2", "LN", "CT Chest"),
        description="CT Chest",
        status="F",
        observed_at=datetime(2025, 3, 1, 10, 15, tzinfo=UTC),
        reported_at=datetime(2025, 3, 1, 12, tzinfo=UTC),
        text="Lungs clear.\nNo effusion.\nNormal & stable\nFollow up",
        findings=(("Long axis", "8.2 mm"), ("Finding", "Solitary nodule"), ("Ratio", "< 3")),
        attachments=("application/pdf",),
        extra_segments=("ZRP|x",),
    )


def test_several_reports_of_two_patients() -> None:
    second = [changed(PID, 3, "2^^^HOSP"), changed(OBR, 3, "F8"), OBX[0], changed(OBR, 3, "F9")]
    found = reports(message(ORU, PID, OBR, OBX[0], *second))
    assert [(one.patient_id, one.report_number) for one in found] == [
        ("12345", "F7"),
        ("2", "F8"),
        ("2", "F9"),
    ]


@pytest.mark.parametrize(("fields", "number"), [({3: ""}, "P7"), ({2: "", 3: ""}, "ACC7"), ({2: ""}, "F7")])
def test_the_number_of_a_report(fields: dict[int, str], number: str) -> None:
    obr = OBR
    for field, value in fields.items():
        obr = changed(obr, field, value)
    assert reports(message(ORU, PID, obr))[0].report_number == number


def test_a_long_text_is_kept_to_a_bound() -> None:
    lines = [f"OBX|{n}|TX|1||{'x' * 4000}||||||F" for n in range(40)]
    (found,) = reports(message(ORU, PID, OBR, *lines))
    assert len(found.text) <= MAX_TEXT


def test_a_document_of_megabytes_is_named_only() -> None:
    (found,) = reports(message(ORU, PID, OBR, OBX[5].replace("JVBERi0=", "A" * 3_000_000)))
    assert found.attachments == ("application/pdf",)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(message(ORU, PID), [("OBR", "100")], id="no-obr"),
        pytest.param(message(ORU, OBR), [("PID-3", "101")], id="no-patient"),
        pytest.param(
            message(ORU, PID, changed(changed(changed(OBR, 2, ""), 3, ""), 18, "")),
            [("OBR-3", "101")],
            id="no-number",
        ),
        pytest.param(message(ORU, PID, changed(OBR, 18, "A" * 17)), [("OBR-18", "104")], id="accession"),
        pytest.param(message(ORU, PID, *[OBR] * (MAX_REPORTS + 1)), [("OBR", "198")], id="too-many"),
        pytest.param(message(changed(ORU, 9, "ORU^R30"), PID, OBR), [("MSH-9.2", "201")], id="event"),
    ],
)
def test_refusals(raw: bytes, expected: list[tuple[str, str]]) -> None:
    found = parse_inbound(raw, Reading())
    assert isinstance(found, MessageRefusal), found
    assert [(str(fault.location), fault.code.value) for fault in found.faults] == expected


@given(st.integers(0, 40), st.text(st.sampled_from('|^~\\&"\x00\n0aé山 .'), max_size=30))
def test_any_field_content_is_read_or_refused(number: int, value: str) -> None:
    raw = message(
        ORU, PID, changed(OBR, number + 1, value), *(changed(one, number % 14 + 1, value) for one in OBX)
    )
    assert isinstance(parse_inbound(raw, Reading()), MessageRefusal | ParsedReportMessage)
