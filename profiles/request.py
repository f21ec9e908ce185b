# SPDX-License-Identifier: Apache-2.0
"""What asks for the analysis of a study, as one value whatever door it came through.

HL7 orders, FHIR ServiceRequests and Tasks, availability notifications, performed procedure steps, requesting
workitems and people all become a :class:`Request`; rules see them as :class:`Trigger`. Pure values only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from profiles.order import Order, OrderControl, Priority, order_digest

REQUEST_ORDER = "request:"
"""What keys of orders begin with that stand for a request of somebody who places no orders."""

_URGENCY = (Priority.HIGH, Priority.MEDIUM, Priority.LOW)


class RequestKind(StrEnum):
    """How it was asked for; rules know it as ``trigger.kind``."""

    IMAGES = "images"
    HL7 = "hl7"
    SERVICE_REQUEST = "service-request"
    TASK = "task"
    AVAILABILITY = "availability"
    PERFORMED = "performed-step"
    WORKITEM = "workitem"
    PERSON = "person"

    @property
    def places_order(self) -> bool:
        """Whether it is an order with numbers of its own: it counts before what others ask."""
        return self in (RequestKind.HL7, RequestKind.SERVICE_REQUEST)

    @property
    def tells_order(self) -> bool:
        """Whether it says anything that an order says; an availability notification names a study only."""
        return self not in (RequestKind.AVAILABILITY, RequestKind.IMAGES)

    @property
    def wants_now(self) -> bool:
        """Whether it is about a study that was made: one that is not here is fetched."""
        return self in (RequestKind.TASK, RequestKind.WORKITEM, RequestKind.PERSON)

    @property
    def is_canceled_by_key(self) -> bool:
        """Whether anybody who knows its key takes it back; all else is taken back the way it came."""
        return self in (RequestKind.TASK, RequestKind.PERSON)

    @property
    def may_change(self) -> bool:
        """Whether a second one under the same key tells something newer; else it is another request."""
        return self is not RequestKind.PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What rules can ask of one request.

    Attributes
    ----------
    source
        The system that asked: sending application, AE title, user or host.
    requester
        Who stands behind it, as the system told: a person or an organization.
    app
        Name of the app that was asked for; empty leaves it to the rules.
    priority
        How urgent; None if nothing was said.
    """

    kind: RequestKind
    source: str = ""
    requester: str = ""
    app: str = ""
    priority: Priority | None = None


IMAGES_CAME = Trigger(kind=RequestKind.IMAGES)
"""What every study that is looked at has: its images came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes
    ----------
    name
        With the kind its identity: a second one with the same name is the same request.
    trigger
        What asked, and who.
    asked
        For which study, accession number and patient, with which procedure, priority and reason; its control
        says whether it is placed, changed, held or canceled. Unknown values are empty.
    document
        What is read back by the door it came through; empty if nothing is.
    tokens
        Business identifiers it can be found by (``system|value``).
    """

    name: str
    trigger: Trigger
    asked: Order
    document: str = ""
    tokens: tuple[str, ...] = ()

    @property
    def kind(self) -> RequestKind:
        """How it was asked for."""
        return self.trigger.kind

    @property
    def key(self) -> str:
        """Its identity among all requests."""
        return f"{self.kind.value}:{self.name}"

    @property
    def digest(self) -> str:
        """What tells whether it asks for the same as before; a person may ask again from elsewhere."""
        trigger = self.trigger if self.kind.may_change else replace(self.trigger, source="")
        told = (trigger, self.asked.control, self.asked.order_status, self.document, self.tokens)
        return hashlib.sha256(f"{told!r}{order_digest(self.asked)}".encode()).hexdigest()


def blank_order(
    *,
    control: OrderControl = OrderControl.NEW,
    study_instance_uid: str = "",
    accession_number: str = "",
    patient_id: str = "",
    priority: Priority | None = None,
) -> Order:
    """An order that says no more than this; ``dataclasses.replace`` adds to it."""
    return Order(
        control=control,
        placer_order_number="",
        filler_order_number="",
        accession_number=accession_number,
        patient_id=patient_id,
        study_instance_uid=study_instance_uid,
        priority=priority or Priority.MEDIUM,
    )


def most_urgent(order: Order | None, triggers: Iterable[Trigger]) -> Order | None:
    """`order` with the highest priority that it or anybody who asked wants."""
    if order is None:
        return None
    wanted = [order.priority, *(one.priority for one in triggers if one.priority is not None)]
    highest = min(wanted, key=_URGENCY.index)
    return order if highest is order.priority else replace(order, priority=highest)
