# SPDX-License-Identifier: Apache-2.0
"""From configured performers and archives to the values and objects of dispatch."""

from __future__ import annotations

from collections.abc import Mapping

from informatics_gateway.dicomweb.push_client import PushClient
from informatics_gateway.dicomweb.query_client import DicomWebArchive
from informatics_gateway.dimse.query_scu import ArchiveQuery as DicomQuery
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.settings import Archive, PerformerPeer, Settings
from profiles.codes import Code
from profiles.faults import Fault
from task_manager.dispatch.model import PerformerOffer, Style, Verification
from task_manager.dispatch.readiness import ArchiveQuery
from task_manager.errors import ConfigurationError

_RETRIEVABLE = ("", "ONLINE", "NEARLINE")


class DicomArchive:
    """An archive that is asked by C-FIND; see :class:`task_manager.dispatch.readiness.ArchiveQuery`."""

    def __init__(self, name: str, address: DicomAddress) -> None:
        self.name = name
        self.url = ""
        self.ae_title = address.called_ae_title
        self._address = address
        self._query = DicomQuery()

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a study that can be retrieved from it."""
        found = self._query.available_instances(self._address, study_instance_uid)
        return frozenset(uid for uid, availability in found.items() if availability in _RETRIEVABLE)


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
