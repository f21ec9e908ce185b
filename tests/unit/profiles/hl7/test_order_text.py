# SPDX-License-Identifier: Apache-2.0
"""Orders written as ORM^O01, read back by three readers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hl7
import pytest
from hl7apy.exceptions import HL7apyException
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.codes import Code
from profiles.hl7.order import ParsedOrderMessage, parse_order_message
from profiles.hl7.order_text import order_message
from profiles.order import Order, OrderControl, Priority

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="P1",
    filler_order_number="F1",
    accession_number="ACC1",
    patient_id="12345",
    issuer_of_patient_id="HOSP",
    patient_name="Müller^Jörg^^Dr^III=山田^太郎",
    patient_birth_date="19700101",
    patient_sex="M",
    requested_procedure_id="RP1",
    requested_procedure_description="CT chest",
    requested_procedure_code=Code("CTCHEST", "99LOC", "CT chest"),
    study_instance_uid="1.2.3",
    modality="CT",
    priority=Priority.HIGH,
    reason="Cough",
    referring_physician_name="Ref^Anna",
    requesting_physician_name="Smith^Anna^^Dr",
    admission_id="V1",
    scheduled_at=datetime(2026, 5, 4, 10, 0, tzinfo=timezone(timedelta(hours=2))),
)


def test_what_is_written_is_read_back() -> None:
    found = parse_order_message(order_message(ORDER, control_id="C1", sent_at=NOW))
    assert isinstance(found, ParsedOrderMessage)
    assert found.orders == (ORDER,)
    assert found.key.control_id == "C1"


def test_equal_arguments_give_equal_bytes() -> None:
    assert order_message(ORDER, control_id="C1", sent_at=NOW) == order_message(
        ORDER, control_id="C1", sent_at=NOW
    )


def test_an_independent_reader_finds_the_same_fields() -> None:
    found = hl7.parse(order_message(ORDER, control_id="C1", sent_at=NOW).decode())
    assert str(found["MSH.F9.R1.C1"]) == "ORM"
    assert str(found["PID.F3.R1.C1"]) == "12345"
    assert str(found["PID.F5.R1.C1"]) == "Müller"
    assert str(found["OBR.F18"]) == "ACC1"
    assert str(found["ZDS.F1.R1.C1"]) == "1.2.3"


def test_a_value_that_breaks_its_field_is_not_sent() -> None:
    broken = Order(
        control=OrderControl.NEW,
        placer_order_number="P1",
        filler_order_number="",
        accession_number="A" * 5000,
        patient_id="1",
        modality="X" * 5000,
    )
    with pytest.raises(HL7apyException):
        order_message(broken, control_id="C1", sent_at=NOW)


_TEXT = st.text(st.sampled_from("Aé山|^~\\&#-"), min_size=1, max_size=12).map(str.strip)


@settings(max_examples=40, deadline=None)
@given(number=_TEXT, patient=_TEXT, accession=_TEXT)
def test_separators_in_values_survive(number: str, patient: str, accession: str) -> None:
    values = [text.replace("\\", "/") for text in (number, patient, accession)]
    order = Order(
        control=OrderControl.NEW,
        placer_order_number=values[0],
        filler_order_number="",
        accession_number=values[2],
        patient_id=values[1],
        requested_procedure_code=Code("X", "L", "X"),
        requested_procedure_description="X",
    )
    found = parse_order_message(order_message(order, control_id="C1", sent_at=NOW))
    assert isinstance(found, ParsedOrderMessage)
    assert found.orders == (order,)
