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

from pydantic import BaseModel, ConfigDict, Field, field_validator

from informatics_gateway.completeness_settings import CompletenessSettings, SourceSettings
from informatics_gateway.destination_settings import (
    DicomDestination,
    DicomWebDestination,
    FhirDestination,
)
from informatics_gateway.dicom_settings import DicomDoor
from informatics_gateway.disk_settings import DiskSettings
from informatics_gateway.fetch_settings import FetchSettings
from informatics_gateway.hl7_settings import Hl7Door
from informatics_gateway.request_settings import FhirDoorSettings, RequestingWorkitem
from informatics_gateway.result_settings import FolderDestination, Hl7Destination, WebhookDestination
from informatics_gateway.setting_types import AeTitle, Name, Port, ZoneName
from task_manager.dispatch.model import Style


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """What one `airway serve` process does."""

    GATEWAY = "gateway"
    TASK_MANAGER = "task_manager"
    PERFORMER = "performer"


class Peer(_Part):
    """A DICOM application that may be called."""

    ae_title: AeTitle
    """What it is called."""
    host: str
    """Where it listens."""
    port: Port
    """Where it listens."""


class HttpDoor(_Part):
    """Where HTTP listens; port 0 means any free one."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback only."""
    port: Port = 8080
    """0 takes any free one."""
    public_url: str = ""
    """How performers reach this door; empty derives it from host and port."""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...] = ()
    """Origins whose pages may ask, such as a web viewer's `https://viewer.example`; `*` means any."""


class GatewaySettings(_Part):
    """The doors."""

    http: HttpDoor = HttpDoor()
    """HTTP: DICOMweb, UPS-RS, API."""
    dicom: DicomDoor = DicomDoor()
    """DICOM."""
    hl7: Hl7Door = Hl7Door()
    """HL7 v2 over MLLP."""
    fhir: FhirDoorSettings = FhirDoorSettings()
    """FHIR R4: ServiceRequest and Task."""
    peers: tuple[Peer, ...] = ()
    """Known DICOM applications."""


class DatabaseSettings(_Part):
    """SQLite in the data folder unless a URL is given; one with a password only by file."""

    url: str = ""
    """SQLAlchemy URL; none means `airway.db` in the data folder."""
    url_file: Path | None = None
    """File that holds the URL."""

    @field_validator("url")
    @classmethod
    def _no_secret(cls, value: str) -> str:
        if "@" in value and ":" in value.split("://", 1)[-1].split("@", 1)[0]:
            raise ValueError("holds a password; put the URL into a file and name it with url_file")
        return value


class StudySettings(_Part):
    """When a study counts as complete."""

    quiet_period_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """How long no image must arrive where no evidence says more, seconds."""
    completeness: CompletenessSettings = CompletenessSettings()
    """What else completes a study."""
    sources: tuple[SourceSettings, ...] = ()
    """Senders whose studies are completed otherwise; the first that fits counts."""


class PerformerSettings(_Part):
    """The performer that `serve` starts beside the doors."""

    manager_url: str = ""
    """DICOMweb base of the task manager; empty means this process."""
    station: AeTitle = "AIRWAY-PERF"
    """Its name: Performed Station Name of the results."""
    style: Literal[Style.PULL, Style.TRIGGERED_PULL] = Style.TRIGGERED_PULL
    """Whether it listens for events besides looking at the worklist."""
    station_class: Annotated[str, Field(max_length=16)] = ""
    """Class of stations it belongs to: takes what is assigned to it."""
    organization: Annotated[str, Field(max_length=64)] = ""
    """Organization it belongs to."""
    apps: tuple[Name, ...] = ()
    """Apps it runs; empty means all installed."""
    poll_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Pause between two looks at the worklist, seconds."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """How long an app may run, seconds."""


class PerformerPeer(_Part):
    """A performer that workitems are assigned to: ours or anybody's (IHE AIW-I)."""

    ae_title: AeTitle
    """Its station name; assigned by Scheduled Station Name."""
    style: Style = Style.PULL
    """How it gets work: `pull`, `triggered_pull` or `push`."""
    apps: tuple[Name, ...] = ()
    """Apps whose workitems it performs; empty means all."""
    by_name: bool = True
    """Whether its station name is assigned; else only its class or organization."""
    station_class: Annotated[str, Field(max_length=16)] = ""
    """Assigned as Scheduled Station Class."""
    organization: Annotated[str, Field(max_length=64)] = ""
    """Assigned as Human Performer Organization."""
    url: str = ""
    """DICOMweb base of its own worklist; needed for push."""
    token_file: Path | None = None
    """File with a bearer token; https only."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    capacity: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Workitems assigned to it at a time; 0 sets no bound."""
    poll_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Pause between two looks at a pushed workitem when no event comes, seconds."""


class LeaseSettings(_Part):
    """When a performer counts as lost, and how often its work is tried again."""

    silence_s: Annotated[float, Field(gt=0, le=604_800)] = 900.0
    """How long the holder of a workitem may be silent, seconds."""
    run_s: Annotated[float, Field(gt=0, le=604_800)] = 7200.0
    """How long it may work in all, seconds."""
    tries: Annotated[int, Field(ge=1, le=100)] = 3
    """How often work is tried before it waits for a person."""


class RetentionSettings(_Part):
    """How long what is finished is kept."""

    workitems_h: Annotated[float, Field(ge=24, le=87_600)] = 720.0
    """Final workitems, hours; at least 24 (IHE RAD TF-2 4.85.4.1.3), and longer while locked."""
    reports_h: Annotated[float, Field(ge=1, le=8760)] = 168.0
    """Event reports for watchers that are away, hours."""
    jobs_h: Annotated[float, Field(ge=1, le=87_600)] = 720.0
    """Finished deliveries, hours."""
    messages_d: Annotated[float, Field(ge=1, le=36_500)] = 90.0
    """HL7 messages as they came, days; a repeated one is recognised as long."""
    histories_d: Annotated[float, Field(ge=1, le=36_500)] = 1095.0
    """What messages changed about orders and patients, performed procedure steps, and evidence, days."""
    prior_reports_d: Annotated[float, Field(ge=1, le=36_500)] = 1095.0
    """Reports of earlier examinations that a RIS sent, days."""
    explanations_d: Annotated[float, Field(ge=1, le=36_500)] = 1825.0
    """Why rules ran or did not, days."""
    events_d: Annotated[float, Field(ge=1, le=36_500)] = 3650.0
    """Operational events that are told, days."""


class SubscriptionSettings(_Part):
    """Watchers of workitems."""

    most_pending: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Event reports kept for one watcher that is away; beyond it is told to look at the worklist."""
    deletion_locks: bool = True
    """Whether watchers may keep final workitems from being deleted."""
    fallback: tuple[AeTitle, ...] = ()
    """Peers that are told of restarts without any subscription (PS3.4 CC.2.4.3)."""


class Archive(_Part):
    """Where to ask whether inputs are available: a DICOMweb base, or a peer by AE title."""

    name: Name
    """What it is called in logs and explanations."""
    url: str = ""
    """DICOMweb base to be asked by QIDO-RS."""
    ae_title: str = ""
    """A peer of `gateway.peers` to be asked by C-FIND."""
    token_file: Path | None = None
    """File with a bearer token; https only."""


class ReadinessSettings(_Part):
    """How inputs of workitems that are not yet available become so."""

    archives: tuple[Archive, ...] = ()
    """Asked in this order."""
    poll_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Pause between two questions, seconds."""
    give_up_h: Annotated[float, Field(gt=0, le=8760)] = 72.0
    """When a workitem whose inputs never came is canceled, hours after its create."""


class ManagerSettings(_Part):
    """How the task manager runs the worklist."""

    performers: tuple[PerformerPeer, ...] = ()
    """Performers that work is assigned to; none leaves all workitems open to all."""
    leases: LeaseSettings = LeaseSettings()
    """Lost performers."""
    retention: RetentionSettings = RetentionSettings()
    """How long things are kept."""
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    """Watchers."""
    readiness: ReadinessSettings = ReadinessSettings()
    """Inputs that are not yet there."""
    requests: tuple[RequestingWorkitem, ...] = ()
    """Workitems of others that ask for what the rules give; none leaves every workitem to performers."""


class CodeSettings(_Part):
    """A coded concept."""

    value: Annotated[str, Field(min_length=1, max_length=16)]
    """Code Value."""
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    """Coding Scheme Designator."""
    meaning: Annotated[str, Field(min_length=1, max_length=64)]
    """Code Meaning."""


class VerificationSettings(_Part):
    """Results go to a reviewer first (IHE AIW-I 50.4.2.6)."""

    code: CodeSettings = CodeSettings(value="110007", scheme="DCM", meaning="Report Verification")
    """Scheduled Workitem Code of the review."""
    station: str = ""
    """Station name it is assigned to."""
    station_class: str = ""
    """Station class it is assigned to."""
    organization: str = ""
    """Organization it is assigned to."""


class AppSettings(_Part):
    """What this site sets for one app, over its manifest."""

    leases: LeaseSettings | None = None
    """Its own limits."""
    verification: VerificationSettings | None = None
    """Review its results before they are delivered."""


Destination = Annotated[
    DicomDestination
    | DicomWebDestination
    | FhirDestination
    | Hl7Destination
    | FolderDestination
    | WebhookDestination,
    Field(discriminator="kind"),
]


class FileEvents(_Part):
    """Operational events appended to a file; a relative path is inside the data folder."""

    name: Name
    """Name of the repository."""
    kind: Literal["file"]
    """A file."""
    path: Path = Path("events.log")
    """Where; inside the data folder unless absolute."""


class TlsEvents(_Part):
    """Operational events by syslog over TLS (RFC 5425)."""

    name: Name
    """Name of the repository."""
    kind: Literal["tls"]
    """Syslog over TLS."""
    host: str
    """Where it listens."""
    port: Port = 6514
    """Where it listens."""
    server_name: str = ""
    """Name its certificate must have; empty takes `host`."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    certificate_file: Path | None = None
    """Our certificate, for mutual TLS."""
    key_file: Path | None = None
    """Its key."""


class UdpEvents(_Part):
    """Operational events by syslog over UDP (RFC 5426); large ones may be cut on the way."""

    name: Name
    """Name of the repository."""
    kind: Literal["udp"]
    """Syslog over UDP."""
    host: str
    """Where it listens."""
    port: Port = 514
    """Where it listens."""


Events = Annotated[FileEvents | TlsEvents | UdpEvents, Field(discriminator="kind")]


class FhirSettings(_Part):
    """Identifier systems of this site towards FHIR destinations; empty ones are formed under `sid_base`."""

    sid_base: str = "https://airway.invalid/sid"
    """Absolute URI of the site, no trailing slash."""
    patient_id_system: str = ""
    """System of patient ids without an issuer."""
    patient_id_systems: dict[str, str] = {}
    """Issuer of Patient ID to system."""
    accession_system: str = ""
    """System of accession numbers."""
    placer_system: str = ""
    """System of placer order numbers."""
    filler_system: str = ""
    """System of filler order numbers."""
    code_systems: dict[str, str] = {}
    """Coding scheme designator to FHIR system, added to the known ones."""
    organization_name: str = ""
    """Who answers for the results; none states no performer."""
    assembler_name: str = "Airway"
    """The system that brings the results (Provenance)."""


class LogSettings(_Part):
    """The operators' log on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level logged."""
    format: Literal["json", "text"] = "json"
    """JSON lines, or text for people."""


class Settings(_Part):
    """The whole configuration."""

    roles: tuple[Role, ...] = (Role.GATEWAY, Role.TASK_MANAGER, Role.PERFORMER)
    """What this process does."""
    database: DatabaseSettings = DatabaseSettings()
    """Where state is kept."""
    gateway: GatewaySettings = GatewaySettings()
    """The doors."""
    disk: DiskSettings = DiskSettings()
    """How full the disk may get."""
    study: StudySettings = StudySettings()
    """When a study is complete."""
    manager: ManagerSettings = ManagerSettings()
    """The worklist."""
    fetch: FetchSettings = FetchSettings()
    """Studies from archives."""
    apps: dict[Name, AppSettings] = {}
    """App to what this site sets for it."""
    performer: PerformerSettings = PerformerSettings()
    """The local performer."""
    destinations: tuple[Destination, ...] = ()
    """Where results go; a rule may name some, else all."""
    events: tuple[Events, ...] = (FileEvents(name="file", kind="file"),)
    """Where operational events go."""
    time_zone: ZoneName = ""
    """The site's zone, such as `Europe/Berlin`, for times without one; none takes UTC for orders and sends
    only dates of studies to FHIR."""
    fhir: FhirSettings = FhirSettings()
    """Identifier systems of the site."""
    rules: Path | None = None
    """Folder of `*.yaml` rules, relative to this file; none takes `rules/` beside it, else the rules that
    ship."""
    audit_source_id: str = "airway"
    """AuditSourceID of every event (PS3.15 A.5)."""
    audit_enterprise_site_id: str = ""
    """AuditEnterpriseSiteID of every event."""
    log: LogSettings = LogSettings()
    """The operators' log."""


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
