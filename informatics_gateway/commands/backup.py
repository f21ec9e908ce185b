# SPDX-License-Identifier: Apache-2.0
"""`airway backup`: a copy of all that a restart needs, taken while Airway runs.

Objects are copied before the database and after it: an object is on disk before its row is committed, and its
row tells of its removal before a policy takes it away, so each row of the copy finds its object. The manifest
is last; a copy without one is not whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson
from sqlalchemy.engine import URL, make_url

from informatics_gateway.app import utc_now
from informatics_gateway.commands.console import OUT, fail, program
from informatics_gateway.configuration import database_url, load_settings, rules_folder
from informatics_gateway.disk import COMMITMENTS
from informatics_gateway.settings import Settings

MANIFEST = "backup.json"
SCHEMA = "airway-backup/1"
_LOCK = ".lock"
_OBJECTS = Path("store") / "objects"
_COARSEST_TIME_NS = 2_000_000_000
"""What the file systems that backups are on round times to, at worst."""
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
    umask = os.umask(0o077)  # patients' data, also in a folder that others may enter
    try:
        with _alone(to):
            made = _backup(data, config, to, settings, url)
    except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        fail(f"The backup is not whole: {type(error).__name__}: {error}", status=1)
    finally:
        os.umask(umask)
    OUT.print(f"Whole: {made.database}, {made.objects} objects, {made.bytes >> 20} MiB in {to}", markup=False)
    OUT.print(f"Next, after a restore: {program()} doctor --verify --data FOLDER", markup=False)


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    """Only one backup at a time writes into a folder: two would mix what one manifest tells of."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (to / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail("Another backup is being written to this folder.", status=1)
        yield


def _backup(data: Path, config: Path | None, to: Path, settings: Settings, url: URL) -> Backup:
    manifest = to / MANIFEST
    manifest.unlink(missing_ok=True)
    _copied_objects(data / _OBJECTS, to / _OBJECTS)
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
    """How many objects the folder has, and their bytes; what the copy has already is not copied again.

    An object never changes, but its name may be taken by another once a policy removed it, so the time is
    compared too.
    """
    found, size = 0, 0
    for path in _files(source):
        try:
            original = path.open("rb")
        except FileNotFoundError:
            continue  # a policy removed it meanwhile
        with original:
            known = os.fstat(original.fileno())
            _copy_object(original, known, target / path.relative_to(source))
        found, size = found + 1, size + known.st_size
    return found, size


def _copy_object(original: BinaryIO, known: os.stat_result, copy: Path) -> None:
    if copy.exists():
        there = copy.stat()
        late = abs(there.st_mtime_ns - known.st_mtime_ns)
        if there.st_size == known.st_size and late <= _COARSEST_TIME_NS:
            return
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_suffix(".part")
    with partial.open("wb") as out:
        shutil.copyfileobj(original, out, _CHUNK_BYTES)
    os.utime(partial, ns=(known.st_atime_ns, known.st_mtime_ns))
    partial.replace(copy)


def _files(folder: Path) -> Iterator[Path]:
    """Files below `folder`, which has to be there; a folder that cannot be read is not passed over."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
            continue
        with suppress(FileNotFoundError):  # a policy removed the last of it meanwhile
            yield from _files(path)


def _replaced_folder(source: Path, target: Path) -> None:
    """A copy of the files of a folder, in which some may come and go meanwhile."""
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        target.mkdir()
        for path in source.glob("*.json"):
            with suppress(FileNotFoundError):
                shutil.copy2(path, target / path.name)


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
