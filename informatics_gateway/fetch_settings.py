# SPDX-License-Identifier: Apache-2.0
"""The settings of what is fetched from archives, and what they make of archives."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from informatics_gateway.dimse.tls import TlsProfile
from informatics_gateway.setting_types import AeTitle, Name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retrieve(StrEnum):
    """How an archive hands over instances."""

    MOVE = "move"
    GET = "get"
    WADO = "wado"


class CallingTls(_Part):
    """DICOM over TLS towards an archive (PS3.15 Annex B)."""

    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    certificate_file: Path | None = None
    """Our certificate with its chain, PEM, for mutual TLS."""
    key_file: Path | None = None
    """Its key, PEM."""
    server_name: str = ""
    """Name its certificate must have; empty takes the peer's `host`."""
    profile: TlsProfile = TlsProfile.BCP195
    """Versions and cipher suites: `bcp195`, or `bcp195-extended` with 256 bit keys only."""


class FetchArchive(_Part):
    """An archive that studies are fetched from: a DICOM peer, a DICOMweb service, or both."""

    name: Name
    """What it is called in rules, commands and logs."""
    ae_title: AeTitle | None = None
    """A peer of `gateway.peers`; needed for `move` and `get`, and asked by C-FIND if there is no `url`."""
    url: str = ""
    """DICOMweb base; asked by QIDO-RS, and needed for `wado`."""
    retrieve: Retrieve = Retrieve.MOVE
    """`move` (C-MOVE to our own AE title), `get` (C-GET) or `wado` (WADO-RS)."""
    token_file: Path | None = None
    """File with a bearer token for `url`; https only."""
    ca_file: Path | None = None
    """Certificates to trust for `url` instead of the system's."""
    tls: CallingTls | None = None
    """DICOM over TLS; none speaks in the clear."""
    issuer: Annotated[str, Field(max_length=64)] = ""
    """Issuer of the patient ids of its studies where it tells none."""
    most_at_once: Annotated[int, Field(ge=1, le=32)] = 2
    """Studies fetched from it at a time."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """For connecting and for each answer to a question, seconds."""
    silence_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """How long it may be silent while it sends a series, seconds."""

    @model_validator(mode="after")
    def _has_addresses(self) -> FetchArchive:
        if self.retrieve is Retrieve.WADO and not self.url:
            raise ValueError("retrieve: wado needs url")
        if self.retrieve is not Retrieve.WADO and not self.ae_title:
            raise ValueError(f"retrieve: {self.retrieve.value} needs ae_title")
        if self.tls is not None and not self.ae_title:
            raise ValueError("tls is of a DICOM peer: ae_title is needed")
        return self


class FetchSettings(_Part):
    """Fetching studies, on request and as priors."""

    archives: tuple[FetchArchive, ...] = ()
    """Asked in this order."""
    most_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Studies fetched at a time, over all archives."""
    most_instances: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Instances of one study; an archive that names more is not believed."""
    most_studies: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Studies of one accession number or patient that are looked at."""
    most_tries: Annotated[int, Field(ge=1, le=1000)] = 5
    """Tries in which nothing new came before a person has to look."""
    give_up_h: Annotated[float, Field(gt=0, le=8760)] = 24.0
    """How long an archive that does not answer is tried, hours."""
    priors_run_rules: bool = False
    """Whether rules look at a study that was fetched as a prior."""
