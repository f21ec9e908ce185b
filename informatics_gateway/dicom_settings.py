# SPDX-License-Identifier: Apache-2.0
"""The settings of the DICOM door: names, who may come, what is taken, TLS; and what they make of a server."""

from __future__ import annotations

import ssl
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from informatics_gateway.dimse.admission import Admission, Caller
from informatics_gateway.dimse.tls import TlsFiles, TlsProfile, server_context
from informatics_gateway.setting_types import AeTitle, Port

Network = IPv4Network | IPv6Network
Uid = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$", max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DicomCaller(_Part):
    """What is set for peers of one calling AE title."""

    ae_title: AeTitle
    """What it calls itself."""
    sources: tuple[Network, ...] = ()
    """Addresses or networks that it may come from; none allows any."""
    most_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    """At a time; 0 takes `most_of_one`."""
    stores: bool = True
    """Whether it may send instances."""


class DicomTls(_Part):
    """DICOM over TLS (PS3.15 Annex B)."""

    certificate_file: Path
    """Our certificate with its chain, PEM."""
    key_file: Path
    """Its key, PEM."""
    client_ca_file: Path | None = None
    """Certificates that peers' are checked against: mutual TLS; none asks peers for none."""
    profile: TlsProfile = TlsProfile.BCP195
    """Versions and cipher suites: `bcp195`, or `bcp195-extended` with 256 bit keys only."""


class DicomDoor(_Part):
    """Where DICOM listens."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback only, unless `tls` asks peers for certificates."""
    port: Port = 11112
    """0 takes any free one."""
    ae_title: AeTitle = "AIRWAY"
    """What we are called, and call ourselves."""
    more_ae_titles: tuple[AeTitle, ...] = ()
    """What we are called too; rules know the title that was called."""
    any_called_ae_title: bool = True
    """Whether associations that call yet another title are taken."""
    callers: tuple[DicomCaller, ...] = ()
    """Peers for which something is set."""
    only_callers: bool = False
    """Whether peers that are not in `callers` are rejected."""
    sources: tuple[Network, ...] = ()
    """Addresses or networks that connections may come from; none allows any."""
    sop_classes: tuple[Uid, ...] = ()
    """Storage SOP classes that are taken besides those of the standard: private or newer ones."""
    most_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """At a time; more are rejected for now."""
    most_of_one: Annotated[int, Field(ge=0, le=1000)] = 0
    """Associations of one calling AE title at a time; 0 sets no bound."""
    silence_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """How long a peer may be silent before its association is ended, seconds."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """That receive C-STORE; with more than one, each is one beside the gateway itself. Not for `tls`."""
    tls: DicomTls | None = None
    """Speaks TLS only; none speaks in the clear."""


def door_admission(door: DicomDoor) -> Admission:
    """Who may have an association."""
    return Admission(
        called=frozenset() if door.any_called_ae_title else frozenset((door.ae_title, *door.more_ae_titles)),
        callers={
            one.ae_title: Caller(
                sources=one.sources, most_associations=one.most_associations, stores=one.stores
            )
            for one in door.callers
        },
        only_callers=door.only_callers,
        sources=door.sources,
        most_of_one=door.most_of_one,
    )


def door_tls(door: DicomDoor) -> ssl.SSLContext | None:
    """What connections are secured with; None speaks in the clear.

    Raises
    ------
    ConfigurationError
        If certificate or key cannot be used.
    """
    if door.tls is None:
        return None
    return server_context(
        TlsFiles(
            certificate_file=door.tls.certificate_file,
            key_file=door.tls.key_file,
            client_ca_file=door.tls.client_ca_file,
            profile=door.tls.profile,
        )
    )
