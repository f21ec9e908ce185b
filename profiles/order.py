# SPDX-License-Identifier: Apache-2.0
"""An imaging order as a value, whatever door it came through (HL7 v2, FHIR ServiceRequest).

What an order control asks for is decided here, once, by :func:`action_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

from profiles.codes import Code


class OrderControl(StrEnum):
    """HL7 table 0119, the values of orders; those of prescriptions are not taken."""

    NEW = "NW"
    CHANGE = "XO"
    CANCEL = "CA"
    DISCONTINUE = "DC"
    HOLD = "HD"
    RELEASE = "RL"
    REPLACE = "RP"
    REPLACEMENT = "RO"
    STATUS_CHANGED = "SC"
    CANCELED = "OC"
    DISCONTINUED = "OD"
    HELD = "OH"
    RELEASED = "OE"
    CHANGED = "XX"
    REPLACED = "RU"
    SEND_NUMBER = "SN"
    NUMBER_ASSIGNED = "NA"
    SEND_STATUS = "SS"
    STATUS = "SR"
    RESULTS_FOLLOW = "RE"
    PARENT = "PA"
    CHILD = "CH"
    ACCEPTED = "OK"
    CANCELED_AS_REQUESTED = "CR"
    DISCONTINUED_AS_REQUESTED = "DR"
    HELD_AS_REQUESTED = "HR"
    RELEASED_AS_REQUESTED = "OR"
    REPLACED_AS_REQUESTED = "RQ"
    CHANGED_AS_REQUESTED = "XR"
    UNABLE_TO_ACCEPT = "UA"
    UNABLE_TO_CANCEL = "UC"
    UNABLE_TO_DISCONTINUE = "UD"
    UNABLE_TO_HOLD = "UH"
    UNABLE_TO_REPLACE = "UM"
    UNABLE_TO_RELEASE = "UR"
    UNABLE_TO_CHANGE = "UX"


class OrderAction(StrEnum):
    """What is done about an order."""

    PLACE = "placed"
    CHANGE = "changed"
    CANCEL = "canceled"
    HOLD = "held"
    RELEASE = "released"
    STATUS = "status told"
    NOTHING = "noted"


_C = OrderControl
_ACTIONS: Mapping[OrderControl, OrderAction] = {
    **dict.fromkeys((_C.NEW, _C.REPLACEMENT, _C.SEND_NUMBER, _C.CHILD), OrderAction.PLACE),
    **dict.fromkeys((_C.CHANGE, _C.CHANGED, _C.CHANGED_AS_REQUESTED, _C.NUMBER_ASSIGNED), OrderAction.CHANGE),
    **dict.fromkeys(
        (
            *(_C.CANCEL, _C.CANCELED, _C.CANCELED_AS_REQUESTED),
            *(_C.DISCONTINUE, _C.DISCONTINUED, _C.DISCONTINUED_AS_REQUESTED),
            *(_C.REPLACE, _C.REPLACED, _C.REPLACED_AS_REQUESTED),
        ),
        OrderAction.CANCEL,
    ),
    **dict.fromkeys((_C.HOLD, _C.HELD, _C.HELD_AS_REQUESTED), OrderAction.HOLD),
    **dict.fromkeys((_C.RELEASE, _C.RELEASED, _C.RELEASED_AS_REQUESTED), OrderAction.RELEASE),
    **dict.fromkeys((_C.STATUS_CHANGED, _C.STATUS, _C.RESULTS_FOLLOW), OrderAction.STATUS),
}
WHOLE = frozenset({_C.NEW, _C.REPLACEMENT, _C.SEND_NUMBER, _C.CHILD, _C.CHANGE, _C.CHANGED})
"""Controls that come with the whole order; with the others its number is enough."""

ENDED_STATUSES = frozenset({"CA", "DC", "RP", "ER"})
"""Values of HL7 table 0038 that end an order before it was done."""

GOING_STATUSES = frozenset({"SC", "IP", "A"})
"""Values of table 0038 of an order that is being done: one on hold goes on."""


def action_of(control: OrderControl, order_status: str = "") -> OrderAction:
    """What a message asks for by ORC-1 and, where it tells or changes a status, ORC-5.

    References
    ----------
    HL7 v2.5.1 tables 0119 and 0038; IHE RAD TF-2 4.13 (the pair of ORC-1 and ORC-5).
    """
    action = _ACTIONS.get(control, OrderAction.NOTHING)
    if action in (OrderAction.CHANGE, OrderAction.STATUS):
        if order_status in ENDED_STATUSES:
            return OrderAction.CANCEL
        if order_status == "HD":
            return OrderAction.HOLD
    return action


class Priority(StrEnum):
    """Scheduled Procedure Step Priority (0074,1200), PS3.3 C.30.2."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierExamination:
    """What was examined before, and the day of it (DICOM DA; empty if unknown)."""

    procedure: Code | None
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order (ORC/OBR group of HL7 v2, or a ServiceRequest).

    Names are in DICOM form (``family^given^middle^prefix^suffix``); dates are DICOM DA; empty text means the
    sender gave no value. Issuers are a namespace or a universal id.

    Attributes
    ----------
    order_status
        ORC-5 as told last (HL7 table 0038).
    protocol_code
        What is scheduled, where it differs from what is requested.
    details
        (name, value) of what the site maps beside; a name may repeat.
    extra_segments
        Z segments of the order, as sent.
    cleared
        Fields the sender deletes (``""``): what was known of them goes.
    earlier
        What is known of earlier examinations of the patient; put in when the order is read, never kept.
    """

    control: OrderControl
    placer_order_number: str
    filler_order_number: str
    accession_number: str
    patient_id: str
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    requested_procedure_code: Code | None = None
    study_instance_uid: str = ""
    modality: str = ""
    priority: Priority = Priority.MEDIUM
    reason: str = ""
    referring_physician_name: str = ""
    requesting_physician_name: str = ""
    admission_id: str = ""
    scheduled_at: datetime | None = None
    order_status: str = ""
    placer_issuer: str = ""
    filler_issuer: str = ""
    issuer_of_accession_number: str = ""
    scheduled_procedure_step_id: str = ""
    protocol_code: Code | None = None
    station_name: str = ""
    expected_at: datetime | None = None
    comments: str = ""
    details: tuple[tuple[str, str], ...] = ()
    extra_segments: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    earlier: tuple[EarlierExamination, ...] = ()

    @property
    def action(self) -> OrderAction:
        """What is asked for."""
        return action_of(self.control, self.order_status)


_NO_CONTENT = frozenset({"control", "order_status", "cleared", "extra_segments", "earlier"})
_CONTENT = tuple(field.name for field in fields(Order) if field.name not in _NO_CONTENT)


def order_digest(order: Order | None) -> str:
    """What tells whether an order asks for the same as before; empty without an order.

    How far the order has come is no part of it.
    """
    if order is None:
        return ""
    return hashlib.sha256(repr([getattr(order, name) for name in _CONTENT]).encode()).hexdigest()


def changed_fields(before: Order, after: Order) -> tuple[str, ...]:
    """Names of the fields that differ, but for those that say only how far the order has come."""
    return tuple(name for name in _CONTENT if getattr(before, name) != getattr(after, name))


def updated_order(before: Order, told: Order) -> Order:
    """`before` after a message: what was told counts, what was deleted goes, the rest stays.

    The priority is always told: a sender that says nothing means the usual one, except where only a number
    was told.
    """
    changes = {
        name: getattr(told, name)
        for name in (*_CONTENT, "order_status", "extra_segments")
        if getattr(told, name) or name in told.cleared
    }
    if told.control not in WHOLE:
        changes["priority"] = before.priority
    return replace(before, control=told.control, cleared=(), **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """Identity of an HL7 message: a second one with the same key changes nothing (MSH-3, MSH-4, MSH-10)."""

    sending_application: str
    sending_facility: str
    control_id: str
