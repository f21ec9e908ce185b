# SPDX-License-Identifier: Apache-2.0
"""From the settings of the HL7 v2 door to the values it works with; decides nothing, opens nothing."""

from __future__ import annotations

import ssl
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from informatics_gateway.hl7.listener import ListenerLimits
from informatics_gateway.hl7_settings import Hl7Door, Hl7Sender, Hl7Tls
from profiles.faults import Fault
from profiles.hl7.characters import CODECS
from profiles.hl7.message import UNDECLARED, FieldPath
from profiles.hl7.options import Reading, ReadingOptions, Sender
from task_manager.errors import ConfigurationError

_MIB = 1024 * 1024


def reading_of(door: Hl7Door, site_zone: str) -> Reading:
    """How the messages of every sender are read; `site_zone` is empty where none is configured."""
    zone = _zone(site_zone)
    default = ReadingOptions(
        routine_priority=door.routine_priority,
        patient_id_authority=door.patient_id_authority,
        time_zone=zone,
    )
    senders = tuple(
        Sender(
            application=sender.application, facility=sender.facility, options=_options(sender, default, zone)
        )
        for sender in door.senders
    )
    return Reading(default=default, senders=senders)


def limits_of(door: Hl7Door, *, drain_timeout_s: float) -> ListenerLimits:
    """What one peer may take."""
    return ListenerLimits(
        max_message_bytes=door.max_message_mib * _MIB,
        max_connections=door.max_connections,
        idle_timeout_s=door.idle_timeout_s,
        message_timeout_s=door.message_timeout_s,
        drain_timeout_s=drain_timeout_s,
    )


def mllp_tls_context(tls: Hl7Tls | None) -> ssl.SSLContext | None:
    """The context that connections are accepted with; None for plain TCP.

    Raises
    ------
    ConfigurationError
        If a file cannot be read or does not hold what it should.
    """
    if tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        if tls.client_ca_file is not None:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            Fault("gateway.hl7.tls", f"certificate or key cannot be used ({type(error).__name__})")
        ) from error
    return context


def _options(sender: Hl7Sender, default: ReadingOptions, zone: tzinfo) -> ReadingOptions:
    authority, routine = sender.patient_id_authority, sender.routine_priority
    return ReadingOptions(
        routine_priority=default.routine_priority if routine is None else routine,
        patient_id_authority=default.patient_id_authority if authority is None else authority,
        time_zone=_zone(sender.time_zone) if sender.time_zone else zone,
        undeclared_codecs=(CODECS[sender.character_set.upper()],) if sender.character_set else UNDECLARED,
        processing_ids=frozenset(sender.processing_ids),
        fields={
            name: tuple(FieldPath.parsed(place) for place in places) for name, places in sender.fields.items()
        },
        accept_unknown_orders=sender.unknown_orders == "accept",
        both_acknowledgements=sender.acknowledgements == "both",
    )


def _zone(name: str) -> tzinfo:
    return ZoneInfo(name) if name else UTC
