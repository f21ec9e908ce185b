# SPDX-License-Identifier: Apache-2.0
"""Fields of an order that a site maps, and earlier reports, as rules ask for them."""

from __future__ import annotations

import pytest

from profiles.codes import Code
from profiles.order import EarlierExamination, Order, OrderControl
from task_manager.rules.attributes import Seen, UnknownAttributeError, order_value, parse_reference

CHEST, HEAD = Code("24627-2", "LN", "CT Chest"), Code("24725-4", "LN", "CT Head")
ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="P1",
    filler_order_number="",
    accession_number="A1",
    patient_id="1",
    order_status="IP",
    protocol_code=CHEST,
    details=(("ward", "W12"), ("allergy", "Iodine"), ("allergy", "Latex"), ("allergy", "Iodine")),
    earlier=(
        EarlierExamination(procedure=CHEST, date="20250301"),
        EarlierExamination(procedure=HEAD, date=""),
        EarlierExamination(procedure=None, date="20240301"),
    ),
)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("details.ward", Seen(("W12",), "LO")),
        ("details.allergy", Seen(("Iodine", "Latex"), "LO")),
        ("details.other", Seen((), "LO")),
        ("OrderStatus", Seen(("IP",), "CS")),
        ("ProtocolCode", Seen((CHEST,), "SQ")),
        ("StationName", Seen((), "SH")),
        ("PriorReportCount", Seen(("3",), "IS")),
        ("PriorReportDate", Seen(("20250301", "20240301"), "DA")),
        ("PriorReportProcedure", Seen((CHEST, HEAD), "SQ")),
    ],
)
def test_values(name: str, seen: Seen) -> None:
    assert order_value(ORDER, name) == seen
    assert order_value(None, name).values == ()


def test_what_a_site_maps_is_not_shown() -> None:
    reference = parse_reference("order.details.ward")
    assert (reference.order_field, reference.is_about_patient) == ("details.ward", True)
    assert not parse_reference("order.PriorReportCount").is_about_patient


@pytest.mark.parametrize("text", ["order.details.", "order.details.a b", "order.details", "order.Details.x"])
def test_names_of_no_field(text: str) -> None:
    with pytest.raises(UnknownAttributeError):
        parse_reference(text)
