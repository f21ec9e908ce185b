# SPDX-License-Identifier: Apache-2.0
"""From the configuration of the worklist to the values and objects of the task manager."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from informatics_gateway.dicomweb.push_client import PushClient
from informatics_gateway.dicomweb.query_client import DicomWebArchive
from informatics_gateway.dimse.query_scu import DicomArchive
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.request_doors import requesting_kinds
from informatics_gateway.settings import Archive, LeaseSettings, PerformerPeer, Settings
from profiles.codes import Code
from profiles.faults import Fault
from task_manager.dispatch.model import (
    LeaseLimits,
    PerformerOffer,
    RetentionLimits,
    Style,
    Verification,
)
from task_manager.dispatch.readiness import ArchiveQuery
from task_manager.dispatching import DispatchSettings
from task_manager.errors import ConfigurationError
from task_manager.service import WatchingSettings

_LONGEST_HEARTBEAT_S = 60.0
_HEARD_WITHIN_SILENCE = 3


def make_offers(settings: Settings) -> tuple[PerformerOffer, ...]:
    """The configured performers, in their order."""
    return tuple(
        PerformerOffer(
            ae_title=peer.ae_title,
            style=peer.style,
            apps=peer.apps,
            by_name=peer.by_name,
            station_class=peer.station_class,
            organization=peer.organization,
            url=peer.url,
            capacity=peer.capacity,
        )
        for peer in settings.manager.performers
    )


def make_verifications(settings: Settings) -> dict[str, Verification]:
    """App to how its results are verified, for those that are."""
    return {
        name: Verification(
            code=Code(wanted.code.value, wanted.code.scheme, wanted.code.meaning),
            station=wanted.station,
            station_class=wanted.station_class,
            organization=wanted.organization,
        )
        for name, app in settings.apps.items()
        if (wanted := app.verification) is not None
    }


def dispatch_settings(settings: Settings, manifests: Mapping[str, LeaseLimits]) -> DispatchSettings:
    """Who performs what, for how long: what the site sets for an app counts more than its manifest."""
    manager = settings.manager
    own = {name: app.leases for name, app in settings.apps.items() if app.leases is not None}
    return DispatchSettings(
        station=settings.gateway.dicom.ae_title,
        performers=make_offers(settings),
        verifications=make_verifications(settings),
        leases=lease_limits(manager.leases),
        leases_by_app={**manifests, **{name: lease_limits(leases) for name, leases in own.items()}},
        readiness_poll=timedelta(seconds=manager.readiness.poll_s),
        readiness_give_up=timedelta(hours=manager.readiness.give_up_h),
        requesting=requesting_kinds(manager.requests),
    )


def heartbeat_s(settings: Settings) -> float:
    """Longest silence of the local performer, seconds: a third of the shortest that the site allows.

    What the manifest of an app allows is known to the performer itself.
    """
    own = [app.leases for app in settings.apps.values() if app.leases is not None]
    silences = [leases.silence_s for leases in (settings.manager.leases, *own)]
    return min(_LONGEST_HEARTBEAT_S, min(silences) / _HEARD_WITHIN_SILENCE)


def retention_limits(settings: Settings) -> RetentionLimits:
    """How long what is finished is kept."""
    wanted = settings.manager.retention
    return RetentionLimits(
        workitems=timedelta(hours=wanted.workitems_h),
        reports=timedelta(hours=wanted.reports_h),
        jobs=timedelta(hours=wanted.jobs_h),
        messages=timedelta(days=wanted.messages_d),
        histories=timedelta(days=wanted.histories_d),
        prior_reports=timedelta(days=wanted.prior_reports_d),
        explanations=timedelta(days=wanted.explanations_d),
        events=timedelta(days=wanted.events_d),
    )


def watching_settings(settings: Settings) -> WatchingSettings:
    """What watchers may ask for."""
    wanted = settings.manager.subscriptions
    return WatchingSettings(
        deletion_locks=wanted.deletion_locks,
        most_pending=wanted.most_pending,
        fallback=wanted.fallback,
        callable_aes=frozenset(peer.ae_title for peer in settings.gateway.peers),
    )


def peer_addresses(settings: Settings) -> dict[str, DicomAddress]:
    """Where each known DICOM application listens, by AE title."""
    return {
        peer.ae_title: DicomAddress(
            host=peer.host,
            port=peer.port,
            called_ae_title=peer.ae_title,
            calling_ae_title=settings.gateway.dicom.ae_title,
        )
        for peer in settings.gateway.peers
    }


def lease_limits(leases: LeaseSettings) -> LeaseLimits:
    """The limits as dispatch knows them."""
    return LeaseLimits(
        silence=timedelta(seconds=leases.silence_s),
        run=timedelta(seconds=leases.run_s),
        tries=leases.tries,
    )


def make_push_clients(settings: Settings) -> Mapping[str, PushClient]:
    """One client per push performer, by AE title.

    Raises
    ------
    ConfigurationError
        If an address is missing or not safe to use, or certificates cannot be read.
    """
    pushed = [
        (number, peer) for number, peer in enumerate(settings.manager.performers) if peer.style is Style.PUSH
    ]
    return {peer.ae_title: _push_client(f"manager.performers[{n}]", peer, settings) for n, peer in pushed}


def make_archives(settings: Settings) -> tuple[ArchiveQuery, ...]:
    """The archives that are asked for inputs, in their order.

    Raises
    ------
    ConfigurationError
        If an address is not safe to use, or an AE title is no configured peer.
    """
    return tuple(
        _archive(f"manager.readiness.archives[{number}]", archive, settings)
        for number, archive in enumerate(settings.manager.readiness.archives)
    )


def _push_client(key: str, peer: PerformerPeer, settings: Settings) -> PushClient:
    if not peer.url:
        raise ConfigurationError(Fault(f"{key}.url", "is needed: work is pushed to it"))
    try:
        return PushClient(
            peer.url,
            receiving_ae=settings.gateway.dicom.ae_title,
            token_file=peer.token_file,
            ca_file=peer.ca_file,
        )
    except ConfigurationError as error:
        raise ConfigurationError(*(_under(key, fault) for fault in error.faults)) from error


def _archive(key: str, archive: Archive, settings: Settings) -> ArchiveQuery:
    if archive.url:
        try:
            return DicomWebArchive(
                archive.name, archive.url, ae_title=archive.ae_title, token_file=archive.token_file
            )
        except ConfigurationError as error:
            raise ConfigurationError(*(_under(key, fault) for fault in error.faults)) from error
    peer = next((one for one in settings.gateway.peers if one.ae_title == archive.ae_title), None)
    if peer is None:
        raise ConfigurationError(Fault(f"{key}.ae_title", "is no peer of gateway.peers, and no url is given"))
    address = DicomAddress(
        host=peer.host,
        port=peer.port,
        called_ae_title=peer.ae_title,
        calling_ae_title=settings.gateway.dicom.ae_title,
    )
    return DicomArchive(archive.name, address)


def _under(key: str, fault: Fault) -> Fault:
    return Fault(f"{key}.{fault.path}", fault.message)
