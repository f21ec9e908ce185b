# SPDX-License-Identifier: Apache-2.0
"""From the settings of HL7 v2, folder and webhook destinations to the objects that serve them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from informatics_gateway.events.http_post import Target
from informatics_gateway.events.webhook import Secret, Webhook, WebhookDeliverer
from informatics_gateway.events.webhook_message import EVENT_TYPES
from informatics_gateway.folder_delivery import FolderDeliverer, FolderPlace
from informatics_gateway.folder_layout import Layout
from informatics_gateway.hl7.result_deliverer import Hl7Deliverer, MllpAddress
from informatics_gateway.result_settings import FolderDestination, Hl7Destination, WebhookDestination
from profiles.faults import Fault
from profiles.hl7.result_options import ResultOptions, concept_key, concept_of
from profiles.sole.events import OWN_EVENTS, EventType
from task_manager.errors import ConfigurationError
from task_manager.ports import InstanceArchive

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What destinations need to know of the process they are in; a mere check of settings has none of it.

    Attributes
    ----------
    data
        Folder of the process.
    archive
        Where images are found.
    http_address
        Gives the address of the HTTP door, as others reach it.
    """

    data: Path | None = None
    archive: InstanceArchive | None = None
    http_address: Callable[[], str] = lambda: ""


NOWHERE = Surroundings()
"""Of settings that are only checked."""


def hl7_deliverer(destination: Hl7Destination, site_zone: str, clock: Clock) -> Hl7Deliverer:
    """What sends ORU^R01.

    Raises
    ------
    ConfigurationError
        If a certificate cannot be read.
    """
    tls = destination.tls
    context = None
    if tls is not None:
        where = f"destinations.{destination.name}.tls"
        context = client_tls_context(tls.ca_file, tls.certificate_file, tls.key_file, where=where)
    address = MllpAddress(
        host=destination.host,
        port=destination.port,
        tls=context,
        server_name=tls.server_name if tls is not None else "",
        timeout_s=destination.timeout_s,
    )
    return Hl7Deliverer(
        address, result_options(destination, site_zone), failed_runs=destination.failed_runs, clock=clock
    )


def result_options(destination: Hl7Destination, site_zone: str) -> ResultOptions:
    """How a receiver wants its results; `site_zone` is empty where none is configured."""
    zone = destination.time_zone or site_zone
    return ResultOptions(
        sending_application=destination.sending_application,
        sending_facility=destination.sending_facility,
        receiving_application=destination.receiving_application,
        receiving_facility=destination.receiving_facility,
        version=destination.version,
        character_set=destination.character_set,
        processing_id=destination.processing_id,
        acknowledgement=destination.acknowledgement,
        service=destination.service,
        correct_unverified=destination.correct_unverified,
        include_text=destination.text,
        code_systems=dict(destination.code_systems),
        concepts={concept_key(ours): concept_of(theirs) for ours, theirs in destination.concepts.items()},
        extra_segments=destination.extra_segments,
        time_zone=ZoneInfo(zone) if zone else None,
    )


def folder_deliverer(
    destination: FolderDestination, surroundings: Surroundings, clock: Clock
) -> FolderDeliverer:
    """What writes files.

    Raises
    ------
    ConfigurationError
        If the folder is the data folder or in it.
    """
    data = surroundings.data
    if data is not None and destination.path.resolve().is_relative_to(data.resolve()):
        raise ConfigurationError(
            Fault(f"destinations.{destination.name}.path", "must not be in the data folder")
        )
    place = FolderPlace(
        path=destination.path,
        layout=Layout(destination.layout, identifying=destination.identifying),
        sources=destination.sources,
        mode=int(destination.mode.replace("o", ""), 8),
    )
    return FolderDeliverer(place, archive=surroundings.archive, clock=clock)


def webhook_deliverer(
    destination: WebhookDestination, surroundings: Surroundings, clock: Clock
) -> WebhookDeliverer:
    """What posts to a webhook: results as they are delivered, and events as a repository is told them.

    Raises
    ------
    ConfigurationError
        If its keys or a certificate cannot be read.
    """
    where = f"destinations.{destination.name}"
    target = Target(
        url=destination.url,
        tls=client_tls_context(
            destination.ca_file, destination.certificate_file, destination.key_file, where=where
        ),
        reach=destination.reach,
        timeout_s=destination.timeout_s,
    )
    webhook = Webhook(
        name=destination.name,
        target=target,
        secret=Secret(file=destination.secret_file, variable=destination.secret_variable),
        patient=destination.patient,
        events=frozenset(destination.events),
    )
    try:
        return WebhookDeliverer(webhook, http_address=surroundings.http_address, clock=clock)
    except ConfigurationError as error:
        faults = (Fault(f"{where}.{fault.path}", fault.message) for fault in error.faults)
        raise ConfigurationError(*faults) from error


def webhook_sink_name(destination: WebhookDestination) -> str:
    """What the events of a webhook are kept under; no event repository is called so."""
    return f"webhook/{destination.name}"


def own_events(webhooks: list[WebhookDestination]) -> frozenset[EventType]:
    """The events of our own that have to be recorded, for somebody is told of them."""
    wanted = {event for webhook in webhooks for event in webhook.events}
    return frozenset(kind for event in wanted for kind in EVENT_TYPES.get(event, ())) & OWN_EVENTS


def client_tls_context(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None, *, where: str
) -> ssl.SSLContext:
    """The context that connections are made with.

    Raises
    ------
    ConfigurationError
        If a file cannot be read or does not hold what it should.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file is not None:
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        told = f"certificate or key cannot be used ({type(error).__name__})"
        raise ConfigurationError(Fault(where, told)) from error
    return context
