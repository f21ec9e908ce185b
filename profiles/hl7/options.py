# SPDX-License-Identifier: Apache-2.0
"""How the messages of one sender are read: what sites and products do differently, as values.

A sender is known by MSH-3 and MSH-4; who is not listed is read with the options of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from profiles.hl7.message import FieldPath, Header
from profiles.order import Priority

ORDER_FIELDS = frozenset(
    {
        *("placer_order_number", "filler_order_number", "accession_number", "study_instance_uid"),
        *("requested_procedure_id", "scheduled_procedure_step_id", "modality", "admission_id"),
        *("requested_procedure_code", "requested_procedure_description", "protocol_code", "reason"),
        *("comments", "priority", "scheduled_at", "expected_at", "station_name", "order_status"),
        *("patient_id", "issuer_of_patient_id"),
    }
)
"""Fields of an order that a site may take from elsewhere."""

DETAIL = "details."
"""What begins the name of a field of the site's own."""

FieldPlaces = Mapping[str, tuple[FieldPath, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How one sender's messages are read.

    Attributes
    ----------
    routine_priority
        What R (routine) becomes: LOW by the letter of PS3.3 C.30.2, MEDIUM where LOW is for batch work.
    time_zone
        Zone of times that name none.
    patient_id_authority
        Namespace or universal id (CX.4.1, CX.4.2) of the PID-3 repetition to take.
    undeclared_codecs
        Codecs tried in turn when MSH-18 is empty.
    processing_ids
        Accepted MSH-11 values (table 0103); an empty field is read as production.
    fields
        Name of an order field (one of :data:`ORDER_FIELDS`, or ``details.`` and a name) to the places it is
        read from instead: the first that holds anything counts. Of a detail all repetitions are taken.
    accept_unknown_orders
        Whether a change of an unknown order makes it, and a cancel of one is answered as done.
    both_acknowledgements
        Whether a sender that asks for both acknowledgements gets both on its connection, else the first.
    """

    routine_priority: Priority = Priority.MEDIUM
    time_zone: tzinfo = UTC
    patient_id_authority: str = ""
    undeclared_codecs: tuple[str, ...] = ("utf-8", "iso8859-1")
    processing_ids: frozenset[str] = frozenset({"P", "T", "D"})
    fields: FieldPlaces = field(default_factory=dict)
    accept_unknown_orders: bool = False
    both_acknowledgements: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A sender by MSH-3 and MSH-4 (first component); an empty one stands for any."""

    application: str
    facility: str = ""
    options: ReadingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The options of every sender: the first listed that fits, else those of all."""

    default: ReadingOptions = field(default_factory=ReadingOptions)
    senders: tuple[Sender, ...] = ()

    def options_for(self, header: Header) -> ReadingOptions:
        """The options of the sender of a message."""
        application = header.first_component(header.sending_application)
        facility = header.first_component(header.sending_facility)
        for sender in self.senders:
            if sender.application in ("", application) and sender.facility in ("", facility):
                return sender.options
        return self.default
