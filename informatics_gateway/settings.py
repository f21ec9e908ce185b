# SPDX-License-Identifier: Apache-2.0
"""The configuration as one frozen tree, with every default.

Built once in the composition root and passed down in pieces. Unknown keys are refused; durations and sizes
carry their unit in the name; secrets come from files, never from the YAML. ``configuration.py`` reads it.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from profiles.order import Priority


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


AeTitle = Annotated[
    str, Field(pattern=r"^[\x21-\x5B\x5D-\x7E]([\x20-\x5B\x5D-\x7E]{0,14}[\x21-\x5B\x5D-\x7E])?$")
]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


def _known_zone(name: str) -> str:
    if name and name not in available_timezones():
        raise ValueError("is not a time zone of the IANA database, such as Europe/Berlin")
    return name


ZoneName = Annotated[str, AfterValidator(_known_zone)]


class Role(StrEnum):
    """What one `airway serve` process does."""

    GATEWAY = "gateway"
    TASK_MANAGER = "task_manager"
    PERFORMER = "performer"


class Peer(_Part):
    """A DICOM application that may be called."""

    ae_title: AeTitle
    host: str
    port: Port


class HttpDoor(_Part):
    """Where HTTP listens; port 0 means any free one."""

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = ""
    """How performers reach this door; empty derives it from host and port."""


class DicomDoor(_Part):
    """Where DICOM listens."""

    host: str = "127.0.0.1"
    port: Port = 11112
    ae_title: AeTitle = "AIRWAY"


class Hl7Door(_Part):
    """Where MLLP listens."""

    host: str = "127.0.0.1"
    port: Port = 2575
    routine_priority: Priority = Priority.MEDIUM
    """What HL7 priority R becomes (PS3.3 C.30.2 by the letter: LOW)."""
    patient_id_authority: str = ""
    """Assigning authority whose patient id is taken where PID-3 repeats; empty takes the first."""


class GatewaySettings(_Part):
    """The doors."""

    http: HttpDoor = HttpDoor()
    dicom: DicomDoor = DicomDoor()
    hl7: Hl7Door = Hl7Door()
    peers: tuple[Peer, ...] = ()


class DatabaseSettings(_Part):
    """SQLite in the data folder unless a URL is given; one with a password only by file."""

    url: str = ""
    url_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _no_secret(cls, value: str) -> str:
        if "@" in value and ":" in value.split("://", 1)[-1].split("@", 1)[0]:
            raise ValueError("holds a password; put the URL into a file and name it with url_file")
        return value


class StudySettings(_Part):
    """When a study counts as complete."""

    quiet_period_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0


class PerformerSettings(_Part):
    """The performer that `serve` starts beside the doors."""

    manager_url: str = ""
    """DICOMweb base of the task manager; empty means this process."""
    station: AeTitle = "AIRWAY-PERF"
    apps: tuple[Name, ...] = ()
    """Apps it runs; empty means all installed."""
    poll_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0


class DicomDestination(_Part):
    """Results by C-STORE."""

    name: Name
    kind: Literal["dicom"]
    host: str
    port: Port
    ae_title: AeTitle


class DicomWebDestination(_Part):
    """Results by STOW-RS; `url` is the DICOMweb base."""

    name: Name
    kind: Literal["dicomweb"]
    url: str
    token_file: Path | None = None


class FhirDestination(_Part):
    """Results as a FHIR R4 transaction; `url` is the FHIR base."""

    name: Name
    kind: Literal["fhir"]
    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""


Destination = Annotated[DicomDestination | DicomWebDestination | FhirDestination, Field(discriminator="kind")]


class FileEvents(_Part):
    """Operational events appended to a file; a relative path is inside the data folder."""

    name: Name
    kind: Literal["file"]
    path: Path = Path("events.log")


class TlsEvents(_Part):
    """Operational events by syslog over TLS (RFC 5425)."""

    name: Name
    kind: Literal["tls"]
    host: str
    port: Port = 6514
    server_name: str = ""
    """Name its certificate must have; empty takes `host`."""
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class UdpEvents(_Part):
    """Operational events by syslog over UDP (RFC 5426); large ones may be cut on the way."""

    name: Name
    kind: Literal["udp"]
    host: str
    port: Port = 514


Events = Annotated[FileEvents | TlsEvents | UdpEvents, Field(discriminator="kind")]


class FhirSettings(_Part):
    """Identifier systems of this site in what is sent to FHIR destinations.

    Systems left empty are formed under `sid_base`, an absolute URI of the site without a trailing slash.
    """

    sid_base: str = "https://airway.invalid/sid"
    patient_id_system: str = ""
    patient_id_systems: dict[str, str] = {}
    accession_system: str = ""
    placer_system: str = ""
    filler_system: str = ""
    code_systems: dict[str, str] = {}
    """Coding scheme designator to FHIR system, added to the known ones."""
    organization_name: str = ""
    assembler_name: str = "Airway"


class LogSettings(_Part):
    """The operators' log on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "json"


class Settings(_Part):
    """The whole configuration.

    Attributes
    ----------
    rules
        Folder of ``*.yaml`` rules, relative to the configuration file; none given takes the rules that ship.
    time_zone
        The site's zone, such as ``Europe/Berlin``, for DICOM and HL7 times without one; empty takes UTC for
        orders and sends only dates of studies to FHIR.
    audit_source_id, audit_enterprise_site_id
        Audit Source Identification of every event (PS3.15 A.5).
    """

    roles: tuple[Role, ...] = (Role.GATEWAY, Role.TASK_MANAGER, Role.PERFORMER)
    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    study: StudySettings = StudySettings()
    performer: PerformerSettings = PerformerSettings()
    destinations: tuple[Destination, ...] = ()
    events: tuple[Events, ...] = (FileEvents(name="file", kind="file"),)
    time_zone: ZoneName = ""
    fhir: FhirSettings = FhirSettings()
    rules: Path | None = None
    audit_source_id: str = "airway"
    audit_enterprise_site_id: str = ""
    log: LogSettings = LogSettings()


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
