# SPDX-License-Identifier: Apache-2.0
"""A backup while things come and go: what it copies, what it copies again, and who may read it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from informatics_gateway.commands.backup import backup

STUDY = Path("store/objects/ab/1.2.3")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / STUDY).mkdir(parents=True)
    (folder / STUDY / "1.2.3.4.dcm").write_bytes(b"first")
    with closing(sqlite3.connect(folder / "airway.db")) as database:
        database.execute("CREATE TABLE one (two)")
    return folder


@pytest.fixture
def dumping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a configuration with PostgreSQL, whose `pg_dump` lets something happen meanwhile."""

    def configured(meanwhile: str) -> Path:
        tool = tmp_path / "bin" / "pg_dump"
        tool.parent.mkdir()
        write = 'for one; do case "$one" in --file=*) echo dumped > "${one#--file=}";; esac; done'
        tool.write_text(f"#!/bin/sh\n{meanwhile}\n{write}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
        config = tmp_path / "airway.yaml"
        config.write_text("database: {url: 'postgresql+psycopg://127.0.0.1/airway'}\n")
        return config

    return configured


def test_what_a_policy_removes_and_what_comes_meanwhile_is_there(
    data: Path, tmp_path: Path, dumping: Callable[[str], Path]
) -> None:
    copy, folder = tmp_path / "copy", data / STUDY
    config = dumping(f"rm {folder}/1.2.3.4.dcm; echo second > {folder}/1.2.3.5.dcm")
    backup(data, config, copy)
    assert (copy / STUDY / "1.2.3.4.dcm").read_bytes() == b"first"
    assert (copy / STUDY / "1.2.3.5.dcm").read_bytes() == b"second\n"
    manifest = orjson.loads((copy / "backup.json").read_bytes())
    assert (manifest["database"], manifest["objects"], manifest["bytes"]) == ("airway.pgdump", 1, 7)
    assert manifest["database_sha256"] == hashlib.sha256(b"dumped\n").hexdigest()


def test_only_what_is_new_or_took_the_name_of_another_is_copied_again(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (data / STUDY / "1.2.3.5.dcm").write_bytes(b"stays")
    backup(data, None, copy)
    kept = (copy / STUDY / "1.2.3.5.dcm").stat().st_ino
    again = data / STUDY / "1.2.3.4.dcm"
    again.unlink()
    again.write_bytes(b"other")
    os.utime(again, (2e9, 2e9))
    backup(data, None, copy)
    assert (copy / STUDY / "1.2.3.4.dcm").read_bytes() == b"other"
    assert (copy / STUDY / "1.2.3.5.dcm").stat().st_ino == kept


def test_others_cannot_read_it_in_a_folder_that_they_may_enter(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o755)
    (data / "commitments").mkdir()
    (data / "commitments" / "1.json").write_text("{}")
    before = os.umask(0o022)
    os.umask(before)
    backup(data, None, copy)
    made = (copy / "store", copy / "airway.db", copy / "backup.json")
    assert [path.stat().st_mode & 0o077 for path in made] == [0, 0, 0]
    assert (copy / "commitments" / "1.json").read_text() == "{}"
    assert os.umask(before) == before


def test_two_backups_do_not_share_a_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "backup.json").write_text("{}")
    with (copy / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as refused:
            backup(data, None, copy)
    assert refused.value.code == 1
    assert "Another backup" in capsys.readouterr().err
    assert (copy / "backup.json").read_text() == "{}"


def test_objects_that_are_not_where_they_should_be_are_no_empty_store(
    data: Path, tmp_path: Path, dumping: Callable[[str], Path]
) -> None:
    config = dumping("true")
    (data / "store").rename(data / "elsewhere")
    with pytest.raises(SystemExit) as refused:
        backup(data, config, tmp_path / "copy")
    assert refused.value.code == 1
    assert not (tmp_path / "copy" / "backup.json").exists()


def test_a_backup_in_the_data_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        backup(tmp_path / "data", None, tmp_path / "data" / "copy")
    assert refused.value.code == 2
    assert "must not be in the data folder" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_backup_that_cannot_be_whole_has_no_manifest(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "backup.json").write_text("{}")
    (data / "airway.db").unlink()
    with pytest.raises(SystemExit) as refused:
        backup(data, None, copy)
    assert refused.value.code == 1
    assert "not whole" in capsys.readouterr().err
    assert not (copy / "backup.json").exists()
