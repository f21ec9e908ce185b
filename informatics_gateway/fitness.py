# SPDX-License-Identifier: Apache-2.0
"""Whether this machine and data folder are fit to serve: one check after the other, each with what to do.

Looks and changes nothing, but for a file it writes and removes to see that writing works.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson
from sqlalchemy import text

from ai_apps.catalog import catalog
from ai_apps.inference.onnx_session import ModelError, OnnxSession
from informatics_gateway.configuration import configured_rules, database_url
from informatics_gateway.disk_settings import space_limits
from informatics_gateway.settings import Settings
from task_manager.errors import AirwayError
from task_manager.space import SPACE_TEXT, SpaceState
from task_manager.store import checksums
from task_manager.store.counting import last_count
from task_manager.store.database import Database
from task_manager.store.room import DiskRoom

_CONNECT_S = 2.0
_MOST_CLOCK_S = 5.0


class Grade(StrEnum):
    """How a check came out; only UNFIT keeps Airway from serving well."""

    OK = "ok"
    WARN = "warn"
    UNFIT = "UNFIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check.

    Attributes
    ----------
    advice
        What to do about it; empty where nothing is to be done.
    """

    name: str
    grade: Grade
    text: str
    advice: str = ""


Check = Callable[[], tuple[Grade, str, str]]


def findings(settings: Settings, data: Path, config: Path | None) -> Iterator[Finding]:
    """All checks, in the order in which what fails is best mended."""
    url = database_url(settings, data)
    checks: list[tuple[str, Check]] = [
        ("Python", lambda: (Grade.OK, sys.version.split()[0], "")),
        ("data folder", lambda: _folder(data)),
        ("permissions", lambda: _permissions(data)),
        ("disk", lambda: _disk(settings, data)),
        ("database", lambda: _database(url, data)),
        ("objects", lambda: _objects(url, data)),
        ("clock", lambda: _clock(url, data)),
        ("rules", lambda: _rules(settings, config)),
        ("inference", _inference),
        *((f"port {door}", _port_check(settings, data, door)) for door in ("http", "dicom", "hl7")),
        *((f"peer {peer.ae_title}", _peer_check(peer.host, peer.port)) for peer in settings.gateway.peers),
    ]
    for name, look in checks:
        try:
            grade, found, advice = look()
        except (AirwayError, ModelError, OSError) as error:
            grade, found, advice = Grade.UNFIT, str(error), "mend this first"
        yield Finding(name=name, grade=grade, text=found, advice=advice)


def is_absent(url: str, data: Path) -> bool:
    """Whether the embedded database was never made: looking must not make it."""
    return url == f"sqlite:///{data / 'airway.db'}" and not (data / "airway.db").exists()


def _folder(data: Path) -> tuple[Grade, str, str]:
    data.mkdir(parents=True, exist_ok=True)
    probe = data / f".doctor-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"fit")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Grade.UNFIT, f"{data} cannot be written: {error.strerror}", "give this user the folder"
    finally:
        with suppress(OSError):
            probe.unlink()
    return Grade.OK, str(data.resolve()), ""


def _permissions(data: Path) -> tuple[Grade, str, str]:
    """Images and identifiers of patients lie there."""
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & 0o002:
        return Grade.UNFIT, f"anybody may write ({mode:o})", f"chmod 700 {data}"
    if mode & 0o004:
        return Grade.WARN, f"anybody on this machine may read ({mode:o})", f"chmod 700 {data}"
    return Grade.OK, f"{mode:o}", ""


def _disk(settings: Settings, data: Path) -> tuple[Grade, str, str]:
    room = DiskRoom(data, space_limits(settings.disk), used_bytes=last_count(data))
    found = room.report()
    told = f"{found.free_bytes >> 20} MiB free, {max(0, found.left_bytes) >> 20} MiB may be used"
    if settings.disk.most_gib:
        told += f", {found.used_bytes >> 20} MiB of {settings.disk.most_gib:g} GiB used when last counted"
    if found.state is SpaceState.OK:
        return Grade.OK, told, ""
    advice = "make room, add a policy under disk.retention, or change disk.least_free_mib"
    return Grade.UNFIT, f"{found.state.value}: {SPACE_TEXT[found.state]} ({told})", advice


def _database(url: str, data: Path) -> tuple[Grade, str, str]:
    if is_absent(url, data):
        return Grade.OK, "none yet; the first start makes it", ""
    database = Database(url)
    try:
        current, newest = database.revision()
    finally:
        database.close()
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    if current == newest:
        return Grade.OK, f"{kind}, revision {current}", ""
    if not current:
        return Grade.OK, f"{kind}, empty; the first start makes its tables", ""
    if current > newest:
        return Grade.UNFIT, f"{kind} of a later release, revision {current}", "run that release"
    return Grade.WARN, f"{kind}, revision {current}, this release has {newest}", "airway migrate"


def _objects(url: str, data: Path) -> tuple[Grade, str, str]:
    if is_absent(url, data):
        return Grade.OK, "none yet", ""
    database = Database(url)
    try:
        current, newest = database.revision()
        if current != newest:
            return Grade.OK, "not looked at: the database is of another release", ""
        with database.read() as connection:
            damaged = checksums.count_damage(connection)
    finally:
        database.close()
    if not damaged:
        return Grade.OK, "no damage is known", ""
    told = ", ".join(f"{number} {kind.value}" for kind, number in sorted(damaged.items()))
    return Grade.WARN, told, "airway doctor --verify names them"


def _clock(url: str, data: Path) -> tuple[Grade, str, str]:
    """Against the file system's clock and, where it is another machine's, the database server's."""
    probe = data / f".doctor-{os.getpid()}"
    probe.touch()
    try:
        offset_s = probe.stat().st_mtime - time.time()
    finally:
        probe.unlink()
    whose = "file system"
    if not url.startswith("sqlite"):
        database = Database(url)
        try:
            with database.read() as connection:
                server: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        finally:
            database.close()
        apart_s = (server - datetime.now(UTC)).total_seconds()
        if abs(apart_s) > abs(offset_s):
            offset_s, whose = apart_s, "database"
    if abs(offset_s) > _MOST_CLOCK_S:
        return (
            Grade.UNFIT,
            f"{offset_s:+.0f} s apart from the {whose}",
            "let both use one NTP server",
        )
    return Grade.OK, f"{abs(offset_s):.1f} s apart from the {whose}", ""


def _rules(settings: Settings, config: Path | None) -> tuple[Grade, str, str]:
    rules = configured_rules(settings, config, list(catalog()))
    return Grade.OK, f"{len(rules.rules)} rules, version {rules.version}", ""


def _inference() -> tuple[Grade, str, str]:
    """Where the models of the installed apps really run: asked of a session, not of what is built in."""
    devices = []
    for name, manifest in catalog().items():
        if manifest.model is not None:
            devices.append(f"{name} on {OnnxSession(manifest.model).device}")
    return Grade.OK, ", ".join(devices) or "no app has a model", ""


def _port_check(settings: Settings, data: Path, door: str) -> Check:
    def look() -> tuple[Grade, str, str]:
        wanted = getattr(settings.gateway, door)
        if wanted.port == 0:
            return Grade.OK, "any free one", ""
        family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((wanted.host, wanted.port))
            except OSError as error:
                pid = _serving(data)
                if pid:
                    return Grade.OK, f"{wanted.host}:{wanted.port}, taken while process {pid} serves", ""
                advice = "stop what uses it, or choose another"
                return Grade.UNFIT, f"{wanted.host}:{wanted.port}: {error.strerror}", advice
        return Grade.OK, f"{wanted.host}:{wanted.port} is free", ""

    return look


def _peer_check(host: str, port: int) -> Check:
    def look() -> tuple[Grade, str, str]:
        try:
            with socket.create_connection((host, port), _CONNECT_S):
                return Grade.OK, f"{host}:{port} answers", ""
        except OSError as error:
            told = error.strerror or type(error).__name__
            return Grade.WARN, f"{host}:{port}: {told}", "start it, or look at address and firewall"

    return look


def _serving(data: Path) -> int:
    """The process that serves this data folder; 0 if none does."""
    try:
        pid = int(orjson.loads((data / "endpoints.json").read_bytes())["pid"])
        os.kill(pid, 0)
    except PermissionError:
        return pid
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return pid
