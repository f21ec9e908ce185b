# SPDX-License-Identifier: Apache-2.0
"""Reading ``airway.yaml`` and what lies beside it; every fault is told with file, line and key.

Nothing of the configuration is used before all of it was found good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from informatics_gateway.completeness_settings import completeness_faults, rule_faults
from informatics_gateway.dicom_settings import DicomTls
from informatics_gateway.hl7_settings import Hl7Tls
from informatics_gateway.settings import Role, Settings, is_loopback
from profiles.faults import Fault
from task_manager.errors import ConfigurationError
from task_manager.rules.conditions import ConditionReader
from task_manager.rules.model import RuleSet
from task_manager.rules.nodes import Entry, FaultList, read_document
from task_manager.rules.parse import load_rules

_UNION_MEMBERS = ("dicom", "dicomweb", "fhir", "hl7", "folder", "webhook", "file", "tls", "udp")


def load_settings(config: Path | None) -> Settings:
    """The settings of `config`, joined by ``destinations.yaml`` beside it; without a file, all defaults.

    Raises
    ------
    ConfigurationError
        With every fault of both files.
    """
    if config is None:
        return Settings()
    faults = FaultList()
    root = _read(config, faults)
    content = _plain(root, faults) if root is not None else {}
    beside = config.parent / "destinations.yaml"
    places = [] if root is None else _destination_entries(root)
    if beside.exists():
        other = _read(beside, faults)
        found = _destinations_beside(other, faults) if other is not None else []
        if isinstance(content, dict) and found:
            own = content.get("destinations", [])
            content["destinations"] = [*own, *found] if isinstance(own, list) else own
            places += _destination_entries(other) if other is not None else []
    for place in places:
        _check_filter(place, faults)
    if faults.found:
        raise ConfigurationError(*faults.found)
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(*(_fault(root, config, one, places) for one in error.errors())) from error
    _refuse(_cross_faults(settings, config))
    return settings


def configured_rules(settings: Settings, config: Path | None, apps: Collection[str]) -> RuleSet:
    """The rules of the configured folder, else those that ship.

    Raises
    ------
    ConfigurationError
        With every fault of every rule.
    """
    destinations = [destination.name for destination in settings.destinations]
    folder = rules_folder(settings, config)
    if settings.rules is not None and not folder.is_dir():
        raise ConfigurationError(Fault(f"{config} rules", "no such folder"))
    archives = [archive.name for archive in settings.fetch.archives]
    rules = load_rules(folder, apps=apps, destinations=destinations, archives=archives)
    _refuse(rule_faults(rules.rules, [archive.name for archive in settings.manager.readiness.archives]))
    return rules


def rules_folder(settings: Settings, config: Path | None) -> Path:
    """Where the rules are: as configured, ``rules/`` beside the configuration, else those that ship."""
    base = config.parent if config else Path()
    if settings.rules is not None:
        return base / settings.rules
    if config is not None and (base / "rules").is_dir():
        return base / "rules"
    return Path(str(files("informatics_gateway") / "defaults" / "rules"))


def database_url(settings: Settings, data: Path) -> str:
    """The URL of the database; a secret one is read from its file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read.
    """
    if settings.database.url_file is not None:
        try:
            return settings.database.url_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                Fault("database.url_file", f"cannot be read: {error.strerror}")
            ) from error
    return settings.database.url or f"sqlite:///{data / 'airway.db'}"


def _cross_faults(settings: Settings, config: Path) -> list[Fault]:
    faults: list[Fault] = []
    gateway = settings.gateway
    for door, host, guarded in (
        ("gateway.http.host", gateway.http.host, False),
        ("gateway.dicom.host", gateway.dicom.host, is_guarded(gateway.dicom.tls)),
        ("gateway.hl7.host", gateway.hl7.host, is_guarded(gateway.hl7.tls)),
    ):
        if not guarded:
            faults.extend(unsafe_address(f"{config} {door}", host))
    for what, names in (
        ("destinations", [destination.name for destination in settings.destinations]),
        ("events", [sink.name for sink in settings.events]),
    ):
        faults.extend(
            Fault(f"{config} {what}", f"name {name!r} is used twice")
            for name in sorted({n for n in names if names.count(n) > 1})
        )
    study, archives = settings.study, [one.name for one in settings.manager.readiness.archives]
    faults.extend(
        Fault(f"{config} {fault.path}", fault.message)
        for fault in completeness_faults(study.completeness, study.sources, archives)
    )
    if not settings.roles:
        faults.append(Fault(f"{config} roles", f"name at least one of {', '.join(Role)}"))
    if (
        Role.GATEWAY not in settings.roles
        and Role.PERFORMER in settings.roles
        and not settings.performer.manager_url
    ):
        faults.append(Fault(f"{config} performer.manager_url", "needed where the gateway is another process"))
    return faults


def is_guarded(tls: Hl7Tls | DicomTls | None) -> bool:
    """Whether only senders with a certificate of ours to trust may connect."""
    return tls is not None and tls.client_ca_file is not None


def unsafe_address(path: str, host: str) -> list[Fault]:
    """A fault if a door would listen beyond this machine; TLS with authentication is not configured."""
    if is_loopback(host):
        return []
    return [
        Fault(
            path,
            f"{host} is not a loopback address; without TLS and authentication Airway listens here "
            "only. Use 127.0.0.1 and put a mutual-TLS proxy before it (deploy/nginx.conf shows one)",
        )
    ]


def _read(path: Path, faults: FaultList) -> Entry | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.found.append(Fault(f"{path}:1", f"cannot be read as UTF-8 text ({type(error).__name__})"))
        return None
    return read_document(text, str(path), faults)


def _plain(entry: Entry, faults: FaultList) -> Any:
    if entry.is_mapping:
        return {key: _plain(value, faults) for key, value in entry.mapping(faults).items()}
    if entry.is_sequence:
        return [_plain(value, faults) for value in entry.sequence(faults)]
    return entry.text(faults)


def _destination_entries(root: Entry) -> list[Entry]:
    """Each destination of a file with its place, as far as they are well formed."""
    listed = root.mapping(FaultList()).get("destinations") if root.is_mapping else None
    return listed.sequence(FaultList()) if listed is not None and listed.is_sequence else []


def _destinations_beside(root: Entry, faults: FaultList) -> list[Any]:
    """The destinations of ``destinations.yaml``, which holds nothing else."""
    keys = root.mapping(faults, ("destinations",))
    listed = keys.get("destinations")
    return [] if listed is None else [_plain(one, faults) for one in listed.sequence(faults)]


def _check_filter(destination: Entry, faults: FaultList) -> None:
    """Find what is wrong in the conditions of a filter, each fault at its own line."""
    given = destination.mapping(FaultList()).get("filter") if destination.is_mapping else None
    asked = given.mapping(FaultList()) if given is not None and given.is_mapping else {}
    for key in ("when", "objects"):
        if key in asked:
            ConditionReader(faults).condition(asked[key])


def _fault(root: Entry | None, config: Path, error: Any, places: Sequence[Entry]) -> Fault:
    said = list(error["loc"])
    # The member of a discriminated union is not a key: it follows the index of a list.
    location = [
        part for before, part in zip([None, *said], said, strict=False) if not _is_member(before, part)
    ]
    entry, rest = root, location
    number = location[1] if len(location) > 1 and location[0] == "destinations" else None
    if isinstance(number, int) and number < len(places):  # of either file
        entry, rest = places[number], location[2:]
    ignored = FaultList()
    for part in rest:
        if entry is None:
            break
        if entry.is_mapping:
            entry = entry.mapping(ignored).get(str(part), entry)
        elif entry.is_sequence and isinstance(part, int):
            members = entry.sequence(ignored)
            entry = members[part] if part < len(members) else entry
    line = entry.line if entry is not None else 1
    key = ".".join(str(part) for part in location)
    source = entry.source if entry is not None else config
    return Fault(f"{source}:{line} {key}", str(error["msg"]))


def _is_member(before: object, part: object) -> bool:
    return isinstance(before, int) and part in _UNION_MEMBERS


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise ConfigurationError(*faults)
