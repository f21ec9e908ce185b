# SPDX-License-Identifier: Apache-2.0
"""The settings of destinations that do not speak DICOM or FHIR: HL7 v2, folders, webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from informatics_gateway.destination_settings import DestinationSettings
from informatics_gateway.events.http_post import Reach, may_be_reached, url_faults
from informatics_gateway.events.webhook_message import WebhookEvent
from informatics_gateway.folder_delivery import Sources
from informatics_gateway.folder_layout import DEFAULT_LAYOUT, Layout
from informatics_gateway.setting_types import Port, ZoneName
from profiles.hl7.result_options import (
    RESULT_CHARACTER_SETS,
    Acknowledgement,
    Service,
    concept_key,
    concept_of,
    is_header_field,
    is_z_segment,
)

_FILE_MODE = r"^0?o?[0-7]{3}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClientTls(_Part):
    """TLS (1.2 or later) towards a receiver."""

    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    certificate_file: Path | None = None
    """Our certificate with its chain, PEM, for mutual TLS."""
    key_file: Path | None = None
    """Its key, PEM."""
    server_name: str = ""
    """Name its certificate must have; empty takes `host`."""

    @model_validator(mode="after")
    def _whole(self) -> ClientTls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


class Hl7Destination(DestinationSettings):
    """Results as ORU^R01 over MLLP."""

    kind: Literal["hl7"]
    """Results as HL7 v2."""
    host: str
    """Where it listens."""
    port: Port
    """Where it listens."""
    tls: ClientTls | None = None
    """MLLP over TLS; none takes plain TCP."""
    sending_application: str = "AIRWAY"
    """MSH-3."""
    sending_facility: str = ""
    """MSH-4."""
    receiving_application: str = ""
    """MSH-5."""
    receiving_facility: str = ""
    """MSH-6."""
    version: Literal["2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8"] = "2.5.1"
    """MSH-12, and the form of the message."""
    character_set: str = "UNICODE UTF-8"
    """MSH-18 (HL7 table 0211)."""
    processing_id: Literal["P", "T", "D"] = "P"
    """MSH-11."""
    acknowledgement: Acknowledgement = Acknowledgement.ORIGINAL
    """`original`, or of enhanced mode the `accept` or the `application` acknowledgement (MSH-15, MSH-16)."""
    service: Service = Service.ORDER
    """What OBR-4 names: the procedure of the `order`, or what the `app` does."""
    correct_unverified: bool = False
    """Whether a result that nobody verified is told as correction (C) when it takes the place of another."""
    failed_runs: bool = False
    """Whether it is told (OBR-25 X) that a run failed."""
    text: bool = True
    """Whether the results are also told as plain text."""
    concepts: dict[str, str] = Field(default_factory=dict)
    """Code of the results, `VALUE^SCHEME`, to the receiver's, `VALUE^MEANING^SCHEME`."""
    code_systems: dict[str, str] = Field(default_factory=dict)
    """Coding scheme designator to its name here (HL7 table 0396)."""
    extra_segments: tuple[str, ...] = ()
    """Z segments at the end of every message, as they go out: `ZAI|1|lung`."""
    time_zone: ZoneName = ""
    """Zone of study times; empty takes the site's."""

    @field_validator("sending_application", "sending_facility", "receiving_application", "receiving_facility")
    @classmethod
    def _header_field(cls, value: str) -> str:
        if not is_header_field(value):
            raise ValueError("has at most 227 characters and none of | ~ \\ & (components: ^)")
        return value

    @field_validator("character_set")
    @classmethod
    def _known_set(cls, value: str) -> str:
        if value.upper() not in RESULT_CHARACTER_SETS:
            known = ", ".join(RESULT_CHARACTER_SETS)
            raise ValueError(f"is no character set written here; these are: {known}")
        return value.upper()

    @field_validator("concepts")
    @classmethod
    def _codes(cls, value: dict[str, str]) -> dict[str, str]:
        for ours, theirs in value.items():
            for part, read in ((ours, concept_key), (theirs, concept_of)):
                try:
                    read(part)
                except ValueError as error:
                    raise ValueError(f"{part!r} {error}") from None
        return value

    @field_validator("extra_segments")
    @classmethod
    def _z_segments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for segment in value:
            if not is_z_segment(segment):
                raise ValueError(f"{segment[:20]!r} is no Z segment, such as ZAI|1|lung")
        return value


class FolderDestination(DestinationSettings):
    """Results as Part 10 files in a folder."""

    kind: Literal["folder"]
    """Results as files."""
    path: Path
    """The folder, absolute; it has to exist, and must not be in the data folder."""
    identifying: bool = False
    """Whether names of files may tell who the patient is."""
    layout: str = DEFAULT_LAYOUT
    """Names of the files, with `{field}` for values."""
    sources: Sources = Sources.NONE
    """What is written beside the results: `none`, the `inputs` that were analysed, their whole `study`."""
    mode: Annotated[str, Field(pattern=_FILE_MODE)] = "640"
    """Permissions of the files, octal."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("has to be absolute")
        return value

    @field_validator("layout")
    @classmethod
    def _safe(cls, value: str, info: ValidationInfo) -> str:
        Layout(value, identifying=bool(info.data.get("identifying")))
        return value


class WebhookDestination(DestinationSettings):
    """Results and events as signed JSON by HTTP POST."""

    kind: Literal["webhook"]
    """Results and events as JSON."""
    url: str
    """Where to post."""
    secret_file: Path | None = None
    """File with the keys that sign, one a line (`whsec_` and base64, or text of at least 24 bytes)."""
    secret_variable: str = ""
    """Environment variable that holds them, instead of a file."""
    events: tuple[WebhookEvent, ...] = ()
    """What it is told of beside results."""
    patient: bool = False
    """Whether it is told who the patient is; https only."""
    reach: Reach = Reach.PRIVATE
    """Where the address may lead: `public`, also `private` networks, or `any`, this machine too."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    certificate_file: Path | None = None
    """Our certificate with its chain, PEM, for mutual TLS."""
    key_file: Path | None = None
    """Its key, PEM."""

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if faults := url_faults(value):
            raise ValueError("; ".join(fault.message for fault in faults))
        return value

    @model_validator(mode="after")
    def _fits(self) -> WebhookDestination:
        if (self.secret_file is None) == (not self.secret_variable):
            raise ValueError("needs one of secret_file and secret_variable")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        if self.patient and not _is_guarded(self.url):
            raise ValueError("patient needs an https url")
        if not _is_reachable(self.url, self.reach):
            raise ValueError(f"url leads where reach {self.reach.value} does not go")
        return self


def _is_guarded(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.hostname or "") in ("127.0.0.1", "::1", "localhost")


def _is_reachable(url: str, reach: Reach) -> bool:
    """Whether an address given by number may be reached; a name is looked at when it is used."""
    try:
        return may_be_reached(urlsplit(url).hostname or "", reach)
    except ValueError:
        return True
