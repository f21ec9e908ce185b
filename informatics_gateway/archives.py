# SPDX-License-Identifier: Apache-2.0
"""From configured archives to objects that studies are fetched from: questions one way, retrieval another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from informatics_gateway.dicomweb.outbound import DicomWebService
from informatics_gateway.dicomweb.study_archive import WadoRetrieval, WebStudyQuery
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.retrieve_scu import GetRetrieval, MoveRetrieval
from informatics_gateway.dimse.study_query import DimseStudyQuery
from informatics_gateway.dimse.tls import client_context
from informatics_gateway.fetch_settings import FetchArchive, Retrieve
from informatics_gateway.settings import Settings
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.errors import ConfigurationError
from task_manager.fetching.archives import Piece, Receiver, RemoteSeries, RemoteStudy, StudyQuestion
from task_manager.fetching.performing import FetchLimits


class _Query(Protocol):
    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]: ...

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]: ...

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]: ...

    def close(self) -> None: ...


class _Retrieval(Protocol):
    def retrieve(self, piece: Piece, receiver: Receiver) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredArchive:
    """One archive; implements :class:`task_manager.fetching.archives.StudyArchive`."""

    name: str
    most_at_once: int
    actor: Actor
    query: _Query
    retrieval: _Retrieval
    issuer: str = ""

    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]:
        """Its studies that may match, at most `limit`, with its issuer of patient ids where it tells none."""
        found = self.query.find_studies(question, limit=limit)
        return [replace(one, issuer=one.issuer or self.issuer) for one in found]

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]:
        """The series of a study without their instances."""
        return self.query.find_series(study_instance_uid)

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]:
        """The series of a study with all their instances."""
        return self.query.find_instances(study_instance_uid, limit=limit)

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        """Have a piece sent to us."""
        self.retrieval.retrieve(piece, receiver)

    def close(self) -> None:
        """Close what is open to it."""
        self.query.close()
        self.retrieval.close()


def make_study_archives(settings: Settings) -> tuple[ConfiguredArchive, ...]:
    """The archives that studies are fetched from, in their order.

    Raises
    ------
    ConfigurationError
        If a name is used twice, an address is not safe to use, a certificate cannot be read, or an AE title
        is no configured peer or our own.
    """
    archives = settings.fetch.archives
    names = [archive.name for archive in archives]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(*(Fault("fetch.archives", f"name {name!r} is used twice") for name in twice))
    return tuple(
        _archive(f"fetch.archives[{number}]", archive, settings) for number, archive in enumerate(archives)
    )


def fetch_limits(settings: Settings) -> FetchLimits:
    """What is borne of archives."""
    wanted = settings.fetch
    return FetchLimits(
        most_at_once=wanted.most_at_once,
        most_instances=wanted.most_instances,
        most_studies=wanted.most_studies,
        most_tries=wanted.most_tries,
        give_up=timedelta(hours=wanted.give_up_h),
        priors_run_rules=wanted.priors_run_rules,
    )


def _archive(key: str, archive: FetchArchive, settings: Settings) -> ConfiguredArchive:
    own = settings.gateway.dicom.ae_title
    address = _address(key, archive, settings) if archive.ae_title else None
    web = _service(key, archive) if archive.url else None
    query: _Query
    if web is not None:
        query = WebStudyQuery(archive.name, web)
    else:
        assert address is not None
        query = DimseStudyQuery(archive.name, address, timeout_s=archive.timeout_s)
    sent_by = Actor(door="dicom", name=archive.ae_title or "", called=own)
    retrieval: _Retrieval
    if archive.retrieve is Retrieve.WADO:
        sent_by = Actor(door="dicomweb", name=archive.name)
        # connections of its own: a series is awaited longer than an answer
        retrieval = WadoRetrieval(_service(key, archive, timeout_s=archive.silence_s))
    elif archive.retrieve is Retrieve.GET:
        assert address is not None
        retrieval = GetRetrieval(address, sent_by, timeout_s=archive.timeout_s, silence_s=archive.silence_s)
    else:
        assert address is not None
        retrieval = MoveRetrieval(
            address, destination=own, timeout_s=archive.timeout_s, silence_s=archive.silence_s
        )
    return ConfiguredArchive(
        name=archive.name,
        most_at_once=archive.most_at_once,
        actor=sent_by,
        query=query,
        retrieval=retrieval,
        issuer=archive.issuer,
    )


def _address(key: str, archive: FetchArchive, settings: Settings) -> DicomAddress:
    gateway = settings.gateway
    peer = next((one for one in gateway.peers if one.ae_title == archive.ae_title), None)
    if peer is None:
        raise ConfigurationError(Fault(f"{key}.ae_title", "is no peer of gateway.peers"))
    if (peer.host, peer.port) == (gateway.dicom.host, gateway.dicom.port):
        raise ConfigurationError(Fault(f"{key}.ae_title", "is our own door: nothing is fetched from there"))
    tls = archive.tls
    context = None
    if tls is not None:
        context = client_context(
            f"{key}.tls",
            ca_file=tls.ca_file,
            certificate_file=tls.certificate_file,
            key_file=tls.key_file,
            profile=tls.profile,
        )
    return DicomAddress(
        host=peer.host,
        port=peer.port,
        called_ae_title=peer.ae_title,
        calling_ae_title=gateway.dicom.ae_title,
        tls=context,
        server_name=(tls.server_name if tls else "") or peer.host,
    )


def _service(key: str, archive: FetchArchive, *, timeout_s: float | None = None) -> DicomWebService:
    try:
        return DicomWebService(
            archive.url,
            token_file=archive.token_file,
            ca_file=archive.ca_file,
            timeout_s=timeout_s or archive.timeout_s,
        )
    except ConfigurationError as error:
        faults = (Fault(f"{key}.{fault.path}", fault.message) for fault in error.faults)
        raise ConfigurationError(*faults) from error
