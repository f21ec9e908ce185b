# SPDX-License-Identifier: Apache-2.0
"""From configured destinations and event repositories to the objects that serve them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from informatics_gateway.destination_settings import (
    DicomDestination,
    DicomWebDestination,
    FhirDestination,
)
from informatics_gateway.dicomweb.client import DicomWebDeliverer
from informatics_gateway.dimse.commitment_scu import CommittingDeliverer
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.events.syslog_sender import EventReporter, FileSink, SyslogSink
from informatics_gateway.events.transports import TlsTransport, UdpTransport
from informatics_gateway.fhir.client import FhirDeliverer, FhirEndpoint
from informatics_gateway.result_destinations import (
    NOWHERE,
    Surroundings,
    folder_deliverer,
    hl7_deliverer,
    own_events,
    webhook_deliverer,
    webhook_sink_name,
)
from informatics_gateway.result_settings import FolderDestination, Hl7Destination, WebhookDestination
from informatics_gateway.settings import (
    Destination,
    FileEvents,
    Settings,
    TlsEvents,
    UdpEvents,
)
from profiles.fhir.identifiers import FhirIdentity
from profiles.sole.events import EventType
from task_manager.ports import Deliverer, EventSink

Clock = Callable[[], datetime]


def make_deliverers(
    settings: Settings, clock: Clock, surroundings: Surroundings = NOWHERE
) -> Mapping[str, Deliverer]:
    """One deliverer per destination, by name.

    Raises
    ------
    ConfigurationError
        If an address or folder is not safe to use, or a certificate or key cannot be read.
    """
    return {
        destination.name: _deliverer(destination, settings, clock, surroundings)
        for destination in settings.destinations
    }


def event_sink_names(settings: Settings) -> tuple[str, ...]:
    """Who is told of events: the repositories, and the webhooks that are told of more than results."""
    webhooks = (webhook_sink_name(webhook) for webhook in _told_webhooks(settings))
    return (*(sink.name for sink in settings.events), *webhooks)


def told_own_events(settings: Settings) -> frozenset[EventType]:
    """The events of our own that have to be recorded: a webhook is told of them."""
    return own_events(_told_webhooks(settings))


def failure_destinations(settings: Settings) -> frozenset[str]:
    """The destinations that are told of runs that brought no result."""
    return frozenset(
        one.name for one in settings.destinations if isinstance(one, Hl7Destination) and one.failed_runs
    )


def make_sinks(
    settings: Settings, data: Path, clock: Clock, surroundings: Surroundings = NOWHERE
) -> Mapping[str, EventSink]:
    """One sink for each of :func:`event_sink_names`.

    Raises
    ------
    ConfigurationError
        If a certificate or key cannot be read.
    """
    reporter = EventReporter(
        source_id=settings.audit_source_id,
        enterprise_site_id=settings.audit_enterprise_site_id,
        hostname=socket.getfqdn(),
        process_id=str(os.getpid()),
    )
    repositories: dict[str, EventSink] = {
        sink.name: _sink(sink, data, reporter, clock) for sink in settings.events
    }
    webhooks = {
        webhook_sink_name(webhook): webhook_deliverer(webhook, surroundings, clock)
        for webhook in _told_webhooks(settings)
    }
    return repositories | webhooks


def _told_webhooks(settings: Settings) -> list[WebhookDestination]:
    return [one for one in settings.destinations if isinstance(one, WebhookDestination) and one.events]


def _deliverer(
    destination: Destination, settings: Settings, clock: Clock, surroundings: Surroundings
) -> Deliverer:
    match destination:
        case DicomDestination():
            return CommittingDeliverer(
                DicomAddress(
                    host=destination.host,
                    port=destination.port,
                    called_ae_title=destination.ae_title,
                    calling_ae_title=settings.gateway.dicom.ae_title,
                ),
                timeout_s=destination.timeout_s,
                wait_s=destination.commitment.wait_s,
            )
        case DicomWebDestination():
            return DicomWebDeliverer(
                destination.url,
                token_file=destination.token_file,
                ca_file=destination.ca_file,
                timeout_s=destination.timeout_s,
            )
        case FhirDestination():
            zone = ZoneInfo(settings.time_zone) if settings.time_zone else None
            identity = FhirIdentity(**settings.fhir.model_dump(), time_zone=zone)
            endpoint = FhirEndpoint(
                base_url=destination.url,
                timeout_s=destination.timeout_s,
                token_file=destination.token_file,
                ca_file=destination.ca_file,
            )
            return FhirDeliverer(endpoint, identity, clock=clock)
        case Hl7Destination():
            return hl7_deliverer(destination, settings.time_zone, clock)
        case FolderDestination():
            return folder_deliverer(destination, surroundings, clock)
        case WebhookDestination():
            return webhook_deliverer(destination, surroundings, clock)


def _sink(
    sink: FileEvents | TlsEvents | UdpEvents, data: Path, reporter: EventReporter, clock: Clock
) -> EventSink:
    match sink:
        case FileEvents():
            return FileSink(data / sink.path, reporter, clock=clock)
        case TlsEvents():
            transport = TlsTransport(
                sink.host,
                sink.port,
                server_name=sink.server_name,
                ca_file=sink.ca_file,
                certificate_file=sink.certificate_file,
                key_file=sink.key_file,
            )
            return SyslogSink(transport, reporter, clock=clock)
        case UdpEvents():
            return SyslogSink(UdpTransport(sink.host, sink.port), reporter, clock=clock)
