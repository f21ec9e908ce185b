# SPDX-License-Identifier: Apache-2.0
"""What order controls ask for, and what a message makes of the order known before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiles.order import (
    WHOLE,
    Order,
    OrderAction,
    OrderControl,
    Priority,
    action_of,
    changed_fields,
    updated_order,
)

ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="P1",
    filler_order_number="",
    accession_number="A1",
    patient_id="1",
    patient_name="Roe^Jane",
    reason="Cough",
    priority=Priority.HIGH,
)


@pytest.mark.parametrize(
    ("control", "status", "action"),
    [
        ("NW", "SC", OrderAction.PLACE),
        ("NW", "IP", OrderAction.PLACE),
        ("RO", "", OrderAction.PLACE),
        ("SN", "", OrderAction.PLACE),
        ("CH", "", OrderAction.PLACE),
        ("XO", "SC", OrderAction.CHANGE),
        ("XO", "CM", OrderAction.CHANGE),
        ("XO", "CA", OrderAction.CANCEL),
        ("XX", "", OrderAction.CHANGE),
        ("NA", "", OrderAction.CHANGE),
        ("CA", "CA", OrderAction.CANCEL),
        ("DC", "CA", OrderAction.CANCEL),
        ("OC", "", OrderAction.CANCEL),
        ("OD", "", OrderAction.CANCEL),
        ("CR", "", OrderAction.CANCEL),
        ("RP", "", OrderAction.CANCEL),
        ("HD", "", OrderAction.HOLD),
        ("OH", "", OrderAction.HOLD),
        ("RL", "", OrderAction.RELEASE),
        ("OE", "", OrderAction.RELEASE),
        ("SC", "IP", OrderAction.STATUS),
        ("SC", "CM", OrderAction.STATUS),
        ("SC", "DC", OrderAction.CANCEL),
        ("SC", "ER", OrderAction.CANCEL),
        ("SC", "HD", OrderAction.HOLD),
        ("SR", "A", OrderAction.STATUS),
        ("SS", "", OrderAction.NOTHING),
        ("UC", "", OrderAction.NOTHING),
        ("PA", "", OrderAction.NOTHING),
        ("OK", "", OrderAction.NOTHING),
    ],
)
def test_actions(control: str, status: str, action: OrderAction) -> None:
    """HL7 tables 0119 and 0038."""
    assert action_of(OrderControl(control), status) is action


def test_whole_orders_are_placed_or_changed() -> None:
    assert {action_of(control) for control in WHOLE} == {OrderAction.PLACE, OrderAction.CHANGE}


def test_what_is_not_told_stays_and_what_is_deleted_goes() -> None:
    told = replace(
        ORDER,
        control=OrderControl.CHANGE,
        patient_name="",
        reason="",
        filler_order_number="F1",
        priority=Priority.LOW,
        cleared=("reason",),
    )
    after = updated_order(ORDER, told)
    assert after == replace(
        ORDER,
        control=OrderControl.CHANGE,
        filler_order_number="F1",
        reason="",
        priority=Priority.LOW,
    )
    assert changed_fields(ORDER, after) == ("filler_order_number", "priority", "reason")


def test_a_number_or_a_status_leaves_the_priority() -> None:
    told = replace(ORDER, control=OrderControl.STATUS_CHANGED, order_status="IP", priority=Priority.MEDIUM)
    after = updated_order(ORDER, told)
    assert (after.priority, after.order_status) == (Priority.HIGH, "IP")
    assert changed_fields(ORDER, after) == ()
