# SPDX-License-Identifier: Apache-2.0
"""Order messages to orders: ORM^O01, OMI^O23 and OMG^O19 grouped, checked, and every fault told at once.

Reading is pure: bytes in, a value out, never an exception. What each field means lives in
``order_fields.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiles.hl7.message import ErrorCode, Header, Location, Message, Segment, Unreadable, read_message
from profiles.hl7.options import ReadingOptions
from profiles.hl7.order_fields import Group, read_order
from profiles.hl7.reading import (
    Faults,
    MessageRefusal,
    check_type,
    extra_segments,
    message_key,
    patient_identity,
)
from profiles.order import WHOLE, MessageKey, Order, OrderControl

MAX_ORDERS = 500
EVENTS: Mapping[str, frozenset[str]] = {
    "ORM": frozenset({"O01"}),
    "OMI": frozenset({"O23"}),
    "OMG": frozenset({"O19"}),
}
"""Message types with orders and their events."""

_ONCE = frozenset({"OBR", "TQ1", "ZDS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOrderMessage:
    """A message that asks for something: its identity, its orders and the basis of its answer."""

    header: Header
    key: MessageKey
    orders: tuple[Order, ...]
    accept_unknown_orders: bool = False


def parse_order_message(
    raw: bytes, options: ReadingOptions | None = None
) -> ParsedOrderMessage | MessageRefusal:
    """The orders of one message (without MLLP frame), or all that keeps it from being taken."""
    options = options or ReadingOptions()
    message = read_message(raw, undeclared=options.undeclared_codecs)
    if isinstance(message, Unreadable):
        return MessageRefusal(header=message.header, faults=message.faults)
    faults = Faults()
    check_type(message.header, EVENTS, options, faults)
    if faults.found:
        return faults.refusal(message.header)
    return read_orders(message, options)


def read_orders(message: Message, options: ReadingOptions) -> ParsedOrderMessage | MessageRefusal:
    """The orders of a message whose type was checked.

    References
    ----------
    HL7 v2.5.1 chapter 4.4.1, 4.4.6 (OMI), 4.5.1 (ORC), 4.5.3 (OBR), 4.5.6 (IPC); IHE RAD TF-2 4.4 and 4.13
    (ZDS, OBR-18 to OBR-20).
    """
    faults = Faults()
    key = message_key(message, faults)
    shared, groups = _grouped(message, faults)
    controls = [_control(group["ORC"][0], faults) for group in groups]
    whole = any(control is None or control in WHOLE for control in controls)
    patient = patient_identity(_first(shared, "PID"), options, faults, required=whole and bool(groups))
    orders = tuple(
        read_order(
            Group(
                control=control or OrderControl.NEW,
                segments={**shared, **group},
                extra=extra_segments([one for found in (*shared.values(), *group.values()) for one in found]),
                patient=patient,
                steps_expected=message.header.message_type == "OMI",
            ),
            options,
            faults,
        )
        for control, group in zip(controls, groups, strict=True)
    )
    if faults.found:
        return faults.refusal(message.header)
    return ParsedOrderMessage(
        header=message.header,
        key=key,
        orders=orders,
        accept_unknown_orders=options.accept_unknown_orders,
    )


Segments = dict[str, list[Segment]]


def _first(segments: Segments, name: str) -> Segment | None:
    return segments[name][0] if name in segments else None


def _grouped(message: Message, faults: Faults) -> tuple[Segments, Sequence[Segments]]:
    """What stands before the first ORC, and one group per ORC, in the order of the message structures."""
    shared: Segments = {}
    groups: list[Segments] = []
    for segment in message.segments:
        name = segment.name
        if name == "ORC":
            groups.append({name: [segment]})
        elif name in ("PID", "PV1"):
            if groups or name in shared:
                faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "one before the first ORC is allowed")
            shared.setdefault(name, [segment])
        elif not groups:
            if name in _ONCE or name == "IPC":
                faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "an ORC has to come first")
            shared.setdefault(name, []).append(segment)
        elif name == "OBR" and name in groups[-1]:
            faults.add(ErrorCode.SEGMENT_SEQUENCE, segment.at(0), "each OBR needs its own ORC")
        elif name not in _ONCE or name not in groups[-1]:
            groups[-1].setdefault(name, []).append(segment)
    if not groups:
        faults.add(ErrorCode.SEGMENT_SEQUENCE, Location("ORC"), "at least one ORC is required")
    if len(groups) > MAX_ORDERS:
        faults.add(ErrorCode.CARDINALITY, Location("ORC"), f"more than {MAX_ORDERS} orders in one message")
        groups = []
    shared.pop("NTE", None)  # a note before the first order is not the order's
    return shared, groups


def _control(orc: Segment, faults: Faults) -> OrderControl | None:
    text = orc.text(1)
    if not text:
        faults.add(ErrorCode.REQUIRED_FIELD_MISSING, orc.at(1), "an order control is required")
        return None
    try:
        return OrderControl(text)
    except ValueError:
        known = ", ".join(control.value for control in OrderControl)
        faults.add(ErrorCode.TABLE_VALUE, orc.at(1), f"order controls taken here: {known}")
        return None
