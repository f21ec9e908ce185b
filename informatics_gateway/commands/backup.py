# SPDX-License-Identifier: Apache-2.0
"""`airway backup`: a copy of all that a restart needs, taken while Airway runs.

The database is copied first, then the objects: an object is on disk before its row is committed, so every row
of the copy finds its object. The manifest is written last; a copy without one is not whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import orjson
from sqlalchemy.engine import URL, make_url

from informatics_gateway.app import utc_now
from informatics_gateway.commands.console import OUT, fail, program
from informatics_gateway.configuration import database_url, load_settings, rules_folder
from informatics_gateway.disk import COMMITMENTS
from informatics_gateway.settings import Settings

MANIFEST = "backup.json"
SCHEMA = "airway-backup/1"
_OBJECTS = Path("store") / "objects"
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds, as its manifest tells."""

    schema: str
    taken_at: datetime
    database: str
    database_sha256: str
    objects: int
    bytes: int


def backup(data: Path, config: Path | None, to: Path) -> None:
    """Copy database, objects and configuration of `data` to `to`; objects that are there already stay."""
    settings = load_settings(config)
    url = make_url(database_url(settings, data))
    if to.resolve().is_relative_to(data.resolve()) or data.resolve().is_relative_to(to.resolve()):
        fail("The backup must not be in the data folder, nor the data folder in it.")
    try:
        made = _backup(data, config, to, settings, url)
    except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        fail(f"The backup is not whole: {type(error).__name__}: {error}", status=1)
    OUT.print(f"Whole: {made.database}, {made.objects} objects, {made.bytes >> 20} MiB in {to}", markup=False)
    OUT.print(f"Next, after a restore: {program()} doctor --verify --data FOLDER", markup=False)


def _backup(data: Path, config: Path | None, to: Path, settings: Settings, url: URL) -> Backup:
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    manifest = to / MANIFEST
    manifest.unlink(missing_ok=True)
    taken_at = utc_now()
    database = _copied_database(url, to)
    objects, size = _copied_objects(data / _OBJECTS, to / _OBJECTS)
    _replaced_folder(data / COMMITMENTS, to / COMMITMENTS)
    if config is not None:
        _copied_configuration(config, rules_folder(settings, config), to / "config")
    os.sync()
    made = Backup(
        schema=SCHEMA,
        taken_at=taken_at,
        database=database.name,
        database_sha256=_digest(database),
        objects=objects,
        bytes=size,
    )
    partial = manifest.with_suffix(".part")
    partial.write_bytes(orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2))
    partial.replace(manifest)
    os.sync()
    return made


def _copied_database(url: URL, to: Path) -> Path:
    if url.get_backend_name() == "sqlite":
        return _copied_sqlite(Path(url.database or ""), to / "airway.db")
    return _dumped_postgresql(url, to / "airway.pgdump")


def _copied_sqlite(source: Path, target: Path) -> Path:
    """One state of the database in one file, whatever is written meanwhile."""
    partial = target.with_suffix(".part")
    partial.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=60)) as original,
        closing(sqlite3.connect(partial)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        said = copy.execute("PRAGMA quick_check").fetchone()[0]
        if said != "ok":
            raise sqlite3.DatabaseError("the copy does not pass its check")
    partial.replace(target)
    return target


def _dumped_postgresql(url: URL, target: Path) -> Path:
    """One state of the database as `pg_dump` writes it."""
    tool = shutil.which("pg_dump")
    if tool is None:
        fail("pg_dump is not installed here; it comes with the client tools of PostgreSQL.", status=1)
    partial = target.with_suffix(".part")
    address = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    environment = dict(os.environ)
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    command = [tool, "--format=custom", "--no-owner", f"--file={partial}", f"--dbname={address}"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)  # noqa: S603 - a fixed program, no shell
    if done.returncode:
        fail("pg_dump could not copy the database:", *done.stderr.strip().splitlines()[:5], status=1)
    partial.replace(target)
    return target


def _copied_objects(source: Path, target: Path) -> tuple[int, int]:
    """How many objects the copy has, and their bytes; an object never changes, so what is there stays."""
    found, size = 0, 0
    for path in _files(source):
        copy = target / path.relative_to(source)
        try:
            length = path.stat().st_size
            if not copy.exists() or copy.stat().st_size != length:
                copy.parent.mkdir(parents=True, exist_ok=True)
                partial = copy.with_suffix(".part")
                shutil.copyfile(path, partial)
                partial.replace(copy)
        except FileNotFoundError:
            continue  # a policy removed it meanwhile
        found, size = found + 1, size + length
    return found, size


def _files(folder: Path) -> Iterator[Path]:
    for inner, _, names in os.walk(folder):
        for name in sorted(names):
            yield Path(inner) / name


def _replaced_folder(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, target)


def _copied_configuration(config: Path, rules: Path, to: Path) -> None:
    """The configuration and its rules; keys and certificates are not copied."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(mode=0o700)
    for path in (config, config.parent / "destinations.yaml"):
        if path.is_file():
            shutil.copyfile(path, to / path.name)
    if rules.is_dir():
        shutil.copytree(rules, to / "rules")


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
