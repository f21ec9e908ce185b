# SPDX-License-Identifier: Apache-2.0
"""ORM^O01 read into orders: every field, every requirement, all faults at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.codes import Code
from profiles.hl7.message import FieldPath
from profiles.hl7.options import ReadingOptions
from profiles.hl7.order import MAX_ORDERS, ParsedOrderMessage, parse_order_message
from profiles.hl7.reading import MessageRefusal
from profiles.order import MessageKey, Order, OrderControl, Priority
from tests.unit.profiles.hl7.messages import MSH, OBR, ORC, PID, PV1, ZDS, changed, message, with_field

START = datetime(2026, 5, 4, 9, 10, tzinfo=UTC)


def parsed(raw: bytes, options: ReadingOptions | None = None) -> ParsedOrderMessage:
    found = parse_order_message(raw, options)
    assert isinstance(found, ParsedOrderMessage), found
    return found


def only(raw: bytes, options: ReadingOptions | None = None) -> Order:
    (order,) = parsed(raw, options).orders
    return order


def faults(raw: bytes, options: ReadingOptions | None = None) -> list[tuple[str, str]]:
    found = parse_order_message(raw, options)
    assert isinstance(found, MessageRefusal), found
    return [(str(fault.location), fault.code.value) for fault in found.faults]


def test_the_sample_order() -> None:
    found = parsed(message())
    assert found.key == MessageKey(sending_application="RIS", sending_facility="HOSP", control_id="RIS0002")
    assert found.orders == (
        Order(
            control=OrderControl.NEW,
            placer_order_number="P100",
            filler_order_number="F100",
            accession_number="ACC100",
            patient_id="12345",
            issuer_of_patient_id="HOSP",
            patient_name="Roe^Jane",
            patient_birth_date="19700101",
            patient_sex="F",
            requested_procedure_id="RP100",
            requested_procedure_description="CT chest",
            requested_procedure_code=Code("CTCHEST", "99LOC", "CT chest"),
            study_instance_uid="1.2.840.99999.1",
            modality="CT",
            priority=Priority.HIGH,
            reason="Cough",
            referring_physician_name="Ref^Anna^B^Dr^Jr",
            requesting_physician_name="Smith^Anna",
            admission_id="V123",
            scheduled_at=datetime(2026, 5, 4, 9, 10, tzinfo=UTC),
            order_status="SC",
            placer_issuer="RIS",
            filler_issuer="RIS",
            scheduled_procedure_step_id="SPS100",
        ),
    )


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5", "2.5.1", "2.5.1^DEU"])
def test_versions(version: str) -> None:
    assert only(with_field("MSH", 12, version)).accession_number == "ACC100"


@pytest.mark.parametrize("control", list(OrderControl))
def test_order_controls(control: OrderControl) -> None:
    assert only(with_field("ORC", 1, control.value)).control is control


@pytest.mark.parametrize(
    ("name", "number", "value", "attribute", "expected"),
    [
        pytest.param("PID", 3, "7", "issuer_of_patient_id", "", id="no-authority"),
        pytest.param("PID", 3, "7^^^&1.2.3&ISO", "issuer_of_patient_id", "1.2.3", id="universal-id"),
        pytest.param("PID", 3, "8^^^X^PI~7^^^Y^MR", "patient_id", "7", id="type-MR-before-PI"),
        pytest.param("PID", 3, "8^^^X^SS~7^^^Y^PI", "patient_id", "7", id="type-PI-before-others"),
        pytest.param("PID", 3, "8^^^X^SS~7", "patient_id", "8", id="first-otherwise"),
        pytest.param("PID", 3, "^^^X~7", "patient_id", "7", id="repetition-without-id"),
        pytest.param("PID", 3, r"A\T\B\F\1", "patient_id", "A&B|1", id="escapes-in-id"),
        pytest.param("PID", 7, "1970", "patient_birth_date", "", id="birth-year-only"),
        pytest.param("PID", 7, '""', "patient_birth_date", "", id="birth-date-deleted"),
        pytest.param("PID", 8, "U", "patient_sex", "", id="sex-unknown"),
        pytest.param("PID", 8, "A", "patient_sex", "O", id="sex-ambiguous"),
        pytest.param("PID", 8, "x", "patient_sex", "", id="sex-of-a-site"),
        pytest.param("PV1", 19, "", "admission_id", "", id="no-admission"),
        pytest.param("ORC", 2, "", "placer_order_number", "P100", id="placer-from-OBR-2"),
        pytest.param("OBR", 3, "", "filler_order_number", "F100", id="filler-from-ORC-3"),
        pytest.param("ORC", 12, "", "requesting_physician_name", "Smith^Anna", id="orderer-from-OBR-16"),
        pytest.param("OBR", 44, "P9^Low^L", "requested_procedure_code", Code("P9", "L", "Low"), id="OBR-44"),
        pytest.param("OBR", 44, "P9^Low^L", "requested_procedure_description", "Low", id="OBR-44-text"),
        pytest.param("OBR", 4, "^CT chest", "requested_procedure_code", None, id="text-only-procedure"),
        pytest.param("OBR", 24, "ct", "modality", "CT", id="modality-case"),
        pytest.param("OBR", 24, "Diagn. Rad.", "modality", "", id="modality-no-code-string"),
        pytest.param("OBR", 31, "^line\\.br\\two", "reason", "line two", id="reason-line-break"),
        pytest.param("OBR", 31, "^" + "x" * 90, "reason", "x" * 64, id="reason-cut"),
        pytest.param("ORC", 7, "1^^^20260504^^R", "priority", Priority.MEDIUM, id="routine-by-default"),
        pytest.param("ORC", 7, "1^^^20260504^^Z", "priority", Priority.MEDIUM, id="priority-unknown"),
        pytest.param("ORC", 7, "", "priority", Priority.HIGH, id="priority-from-OBR-27"),
        pytest.param("ORC", 7, "", "scheduled_at", START, id="start-from-OBR-27"),
        pytest.param("ZDS", 1, "1.2.3", "study_instance_uid", "1.2.3", id="uid-alone"),
        pytest.param("MSH", 11, "", "accession_number", "ACC100", id="processing-id-empty"),
    ],
)  # fmt: skip
def test_fields(name: str, number: int, value: str, attribute: str, expected: object) -> None:
    assert getattr(only(with_field(name, number, value)), attribute) == expected


def test_options_decide_what_sites_decide() -> None:
    options = ReadingOptions(
        routine_priority=Priority.LOW,
        time_zone=timezone(timedelta(hours=-5)),
        patient_id_authority="1.2.9",
    )
    orc = changed(ORC, 7, "1^^^20260504091000^^R")
    pid = changed(PID, 3, "7^^^HOSP^MR~8^^^&1.2.9&ISO^SS")
    order = only(message(MSH, pid, PV1, orc, OBR, ZDS), options)
    assert (order.priority, order.patient_id, order.issuer_of_patient_id) == (Priority.LOW, "8", "1.2.9")
    assert order.scheduled_at == datetime(2026, 5, 4, 14, 10, tzinfo=UTC)


def test_timing_segment_comes_first() -> None:
    order = only(message(MSH, PID, ORC, "TQ1|1||||||20260505080000+0200||R^Routine", OBR, ZDS))
    assert order.priority is Priority.MEDIUM
    assert order.scheduled_at == datetime(2026, 5, 5, 6, tzinfo=UTC)


def test_several_orders_keep_their_own_segments() -> None:
    second = [changed(ORC, 2, "P200"), changed(changed(OBR, 18, "ACC200"), 2, "P200"), "ZDS|1.2.4"]
    found = parsed(message(MSH, PID, PV1, ORC, OBR, "NTE|1||x", ZDS, *second)).orders
    assert [(o.placer_order_number, o.accession_number, o.study_instance_uid) for o in found] == [
        ("P100", "ACC100", "1.2.840.99999.1"),
        ("P200", "ACC200", "1.2.4"),
    ]
    assert {o.patient_id for o in found} == {"12345"}


def test_an_order_without_zds_is_matched_by_accession_number() -> None:
    assert only(message(MSH, PID, ORC, OBR)).study_instance_uid == ""


OMI = changed(changed(MSH, 9, "OMI^O23^OMI_O23"), 12, "2.5.1")
OMI_OBR = "OBR|1|P100^RIS|F100^RIS|CTCHEST^CT chest^99LOC||||||||||||1234^Smith^Anna"
IPC = (
    "IPC|ACC100^RIS^1.2.3.4^ISO|RP100^RIS|1.2.840.99999.1^^1.2.840.99999.1^ISO|SPS100^RIS|CT^^DCM"
    "|LUNGAI^Lung nodule AI^99LOC||CT1|CT1AE"
)


def omi(*segments: str) -> bytes:
    return message(OMI, PID, "ORC|NW|P100^RIS|F100^RIS||SC", *segments)


def test_an_imaging_order_has_its_identifiers_in_IPC() -> None:
    order = only(
        omi("TQ1|1||||||20260504091000|20260504120000|S^Stat^HL70485", OMI_OBR, "NTE|1||contrast", IPC)
    )
    assert order == Order(
        control=OrderControl.NEW,
        placer_order_number="P100",
        filler_order_number="F100",
        accession_number="ACC100",
        issuer_of_accession_number="1.2.3.4",
        patient_id="12345",
        issuer_of_patient_id="HOSP",
        patient_name="Roe^Jane",
        patient_birth_date="19700101",
        patient_sex="F",
        requested_procedure_id="RP100",
        requested_procedure_description="CT chest",
        requested_procedure_code=Code("CTCHEST", "99LOC", "CT chest"),
        scheduled_procedure_step_id="SPS100",
        protocol_code=Code("LUNGAI", "99LOC", "Lung nodule AI"),
        study_instance_uid="1.2.840.99999.1",
        modality="CT",
        station_name="CT1AE",
        priority=Priority.HIGH,
        requesting_physician_name="Smith^Anna",
        scheduled_at=START,
        expected_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
        order_status="SC",
        placer_issuer="RIS",
        filler_issuer="RIS",
        comments="contrast",
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(omi(OMI_OBR), [("IPC-1", "101")], id="no-ipc"),
        pytest.param(omi(OMI_OBR, "IPC|" + "A" * 17), [("IPC-1.1", "104")], id="accession-too-long"),
        pytest.param(omi(OMI_OBR, "IPC|A1||no.uid"), [("IPC-3.1", "102")], id="no-uid"),
        pytest.param(omi(OMI_OBR, IPC, "IPC|A1||1.2.9"), [("IPC-3.1", "198")], id="steps-of-two-studies"),
    ],
)
def test_refusals_of_imaging_orders(raw: bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(raw) == expected


def test_an_imaging_order_may_have_several_steps_of_one_study() -> None:
    assert only(omi(OMI_OBR, IPC, IPC.replace("SPS100", "SPS101"))).scheduled_procedure_step_id == "SPS100"


def test_a_general_order_is_read_as_ORM_is() -> None:
    raw = with_field("MSH", 9, "OMG^O19^OMG_O19")
    assert only(raw) == only(message())


def test_a_site_has_fields_elsewhere() -> None:
    places = {
        "accession_number": "ZAC-2 OBR-18",
        "study_instance_uid": "ZAC-3.2",
        "priority": "ZAC-4",
        "details.ward": "PV1-3.1",
        "details.allergy": "AL1-3.2",
    }
    options = ReadingOptions(
        fields={name: tuple(FieldPath.parsed(one) for one in text.split()) for name, text in places.items()}
    )
    segments = ["AL1|1||1^Iodine~2^Nuts", "AL1|2||3^Latex"]
    own = "ZAC|x|ACC7|y^1.2.777|S"
    first = only(
        message(MSH, PID, changed(PV1, 3, "W12^3"), *segments, changed(ORC, 7, ""), OBR, own), options
    )
    assert (first.accession_number, first.study_instance_uid) == ("ACC7", "1.2.777")
    assert first.priority is Priority.HIGH
    assert first.details == (
        *(("ward", "W12"), ("allergy", "Iodine")),
        *(("allergy", "Nuts"), ("allergy", "Latex")),
    )
    assert only(message(MSH, PID, PV1, ORC, OBR, "ZAC|x||^1.2.3"), options).accession_number == "ACC100"


def test_segments_of_a_site_are_kept_as_sent() -> None:
    found = parsed(message(MSH, PID, "ZPA|of all", ORC, OBR, ZDS, "ZOR|1|a\\T\\b", ORC, OBR, "ZOR|2")).orders
    assert [order.extra_segments for order in found] == [
        ("ZPA|of all", "ZOR|1|a\\T\\b"),
        ("ZPA|of all", "ZOR|2"),
    ]


def test_what_is_deleted_is_told_apart_from_what_is_not_said() -> None:
    pid = changed(changed(PID, 5, '""'), 8, "")
    order = only(message(MSH, pid, ORC, changed(changed(OBR, 31, '""'), 27, ""), ZDS))
    assert order.cleared == ("patient_name", "reason")


@pytest.mark.parametrize("control", ["CA", "SC", "HD", "RL", "NA", "OC", "SS"])
def test_controls_that_need_no_more_than_a_number(control: str) -> None:
    assert only(message(MSH, f"ORC|{control}||F100")).filler_order_number == "F100"


def test_a_cancel_needs_no_more_than_its_number() -> None:
    order = only(message(MSH, "ORC|CA|P100"))
    assert (order.control, order.placer_order_number, order.patient_id) == (OrderControl.CANCEL, "P100", "")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(with_field("MSH", 9, "ADT^A08"), [("MSH-9.1", "200")], id="other-type"),
        pytest.param(with_field("MSH", 9, "OML^O21"), [("MSH-9.1", "200")], id="laboratory"),
        pytest.param(with_field("MSH", 9, "OMI^O19"), [("MSH-9.2", "201")], id="trigger-of-another-type"),
        pytest.param(with_field("MSH", 9, ""), [("MSH-9.1", "200")], id="no-type"),
        pytest.param(with_field("MSH", 9, "ORM^O02"), [("MSH-9.2", "201")], id="other-trigger"),
        pytest.param(with_field("MSH", 9, "ORM"), [("MSH-9.2", "201")], id="no-trigger"),
        pytest.param(with_field("MSH", 12, "2.7"), [("MSH-12", "203")], id="other-version"),
        pytest.param(with_field("MSH", 12, ""), [("MSH-12", "203")], id="no-version"),
        pytest.param(with_field("MSH", 11, "X"), [("MSH-11", "202")], id="processing-id"),
        pytest.param(with_field("MSH", 10, ""), [("MSH-10", "101")], id="no-control-id"),
        pytest.param(with_field("MSH", 10, "C" * 200), [("MSH-10", "104")], id="control-id-too-long"),
        pytest.param(with_field("MSH", 10, "A\x00"), [("MSH-10", "102")], id="control-id-with-NUL"),
        pytest.param(with_field("MSH", 4, r"A\X00\B"), [("MSH-4", "102")], id="facility-with-NUL"),
        pytest.param(with_field("MSH", 3, "A" * 300), [("MSH-3", "104")], id="application-too-long"),
        pytest.param(with_field("ORC", 1, ""), [("ORC-1", "101")], id="no-control"),
        pytest.param(with_field("ORC", 1, "RF"), [("ORC-1", "103")], id="control-not-acted-on"),
        pytest.param(with_field("PID", 3, ""), [("PID-3", "101")], id="no-patient-id"),
        pytest.param(with_field("PID", 3, "^^^HOSP"), [("PID-3", "101")], id="authority-without-id"),
        pytest.param(with_field("PID", 3, '""'), [("PID-3", "101")], id="patient-id-deleted"),
        pytest.param(with_field("PID", 3, "1" * 65), [("PID-3.1", "104")], id="patient-id-too-long"),
        pytest.param(with_field("PID", 3, r"1\E\2"), [("PID-3.1", "102")], id="patient-id-with-backslash"),
        pytest.param(with_field("PID", 3, r"1\X0D\2"), [("PID-3.1", "102")], id="patient-id-with-control"),
        pytest.param(with_field("PID", 5, "N" * 65), [("PID-5", "104")], id="name-too-long"),
        pytest.param(with_field("PID", 7, "01.01.1970"), [("PID-7", "102")], id="birth-date"),
        pytest.param(with_field("OBR", 4, ""), [("OBR-4", "101")], id="no-procedure"),
        pytest.param(with_field("OBR", 18, "A" * 17), [("OBR-18.1", "104")], id="accession-too-long"),
        pytest.param(with_field("OBR", 19, "A" * 17), [("OBR-19.1", "104")], id="procedure-id-too-long"),
        pytest.param(with_field("ORC", 7, "1^^^soon"), [("ORC-7.4", "102")], id="start"),
        pytest.param(with_field("ZDS", 1, "1.02.3"), [("ZDS-1.1", "102")], id="uid"),
        pytest.param(with_field("ZDS", 1, ""), [("ZDS-1", "101")], id="empty-zds"),
        pytest.param(message(MSH, PID), [("ORC", "100")], id="no-orc"),
        pytest.param(message(MSH, PID, ORC), [("OBR", "101")], id="no-obr"),
        pytest.param(message(MSH, ORC, OBR), [("PID-3", "101")], id="no-pid"),
        pytest.param(message(MSH, PID, OBR), [("OBR", "100"), ("ORC", "100")], id="obr-before-orc"),
        pytest.param(message(MSH, PID, ORC, OBR, OBR), [("OBR[2]", "100")], id="two-obr"),
        pytest.param(message(MSH, PID, PID, ORC, OBR), [("PID[2]", "100")], id="two-patients"),
        pytest.param(message(MSH, PID, ORC, OBR, PID), [("PID[2]", "100")], id="patient-after-orders"),
        pytest.param(
            message(MSH, PID, ORC, changed(OBR, 18, "")), [("OBR-18", "101")], id="nothing-to-match-images-by"
        ),
        pytest.param(
            message(MSH, PID, changed(changed(ORC, 2, ""), 3, ""), changed(changed(OBR, 2, ""), 3, "")),
            [("ORC-2", "101")],
            id="no-order-number",
        ),
        pytest.param(
            message(MSH, PID, *["ORC|CA|P1"] * (MAX_ORDERS + 1)), [("ORC", "198")], id="too-many-orders"
        ),
    ],
)
def test_refusals(raw: bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(raw) == expected


def test_all_faults_are_told_at_once_with_their_places() -> None:
    second = [changed(ORC, 1, "RF"), changed(OBR, 18, "A" * 20), "ZDS|x"]
    raw = message(MSH, changed(PID, 7, "yesterday"), PV1, ORC, changed(OBR, 4, ""), ZDS, *second)
    assert faults(raw) == [
        ("ORC[2]-1", "103"),
        ("PID-7", "102"),
        ("OBR-4", "101"),
        ("OBR[2]-18.1", "104"),
        ("ZDS[2]-1.1", "102"),
    ]


def test_no_fault_repeats_a_value() -> None:
    pid = changed(changed(PID, 3, "SECRET" * 20), 5, "SECRET" * 20)
    raw = message(MSH, pid, changed(ORC, 1, "SECRET"), OBR, "ZDS|SECRET")
    found = parse_order_message(raw)
    assert isinstance(found, MessageRefusal)
    assert len(found.faults) == 4
    assert "SECRET" not in " ".join(str(fault) for fault in found.faults)


_SEGMENTS = [MSH, PID, PV1, ORC, OBR, ZDS]


@settings(max_examples=300)
@given(
    st.integers(0, 5),
    st.integers(1, 45),
    st.text(st.sampled_from('|^~\\&."\x00\n0129ACTXé山 -+'), max_size=30),
)
def test_any_field_content_is_an_order_or_a_refusal(segment: int, number: int, value: str) -> None:
    segments = list(_SEGMENTS)
    segments[segment] = changed(segments[segment], number + 1, value)
    found = parse_order_message(message(*segments))
    if isinstance(found, MessageRefusal):
        assert found.faults
    else:
        assert all(len(order.accession_number) <= 16 for order in found.orders)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_messages_are_an_order_or_a_refusal(junk: bytes, at: int) -> None:
    raw = message()
    found = parse_order_message(raw[:at] + junk + raw[at + len(junk) :])
    assert isinstance(found, MessageRefusal | ParsedOrderMessage)
