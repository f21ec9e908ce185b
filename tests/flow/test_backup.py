# SPDX-License-Identifier: Apache-2.0
"""A running Airway is backed up, its machine is lost, and the copy has everything that it answered for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from conformance.peers.installed import postgresql_program
from conformance.peers.postgresql import Postgresql
from tests.flow.airway import RunningAirway
from tests.flow.studies import SentStudy, make_study

pytestmark = pytest.mark.peers


def airway_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "informatics_gateway", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def analysed(story: dict[str, Any]) -> bool:
    return any(workitem["state"] == "COMPLETED" for workitem in story["workitems"])


def instances(airway: RunningAirway, study: SentStudy) -> dict[str, str]:
    """SOP Instance UID to digest of the data set of each instance of a study, as WADO-RS gives it."""
    base = f"{airway.http}/dicom-web/studies/{study.study_instance_uid}"
    found = httpx.get(f"{base}/instances", timeout=10).raise_for_status().json()
    digests = {}
    for one in found:
        uid, series = one["00080018"]["Value"][0], one["0020000E"]["Value"][0]
        address = f"{base}/series/{series}/instances/{uid}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = httpx.get(address, headers={"Accept": accept}, timeout=10).raise_for_status()
        digests[uid] = hashlib.sha256(answer.content.split(b"DICM", 1)[1].rsplit(b"\r\n--", 1)[0]).hexdigest()
    return digests


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_backed_up_is_there_after_a_restore(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copy, config = tmp_path / "copy", {}
    database = ""
    server: Postgresql | None = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = server.create_database()
        (tmp_path / "url").write_text(server.sqlalchemy_url(database))
        config = {"database": {"url_file": str(tmp_path / "url")}}
    first, second = make_study(tmp_path / "1", "BK1"), make_study(tmp_path / "2", "BK2")
    airway = RunningAirway(tmp_path, config)
    airway.start()
    try:
        assert "MSA|AA" in airway.send_order(first.order, "M1")
        assert airway.send_images(first.folder).succeeded
        before = airway.wait_story(first.study_instance_uid, analysed)
        held = instances(airway, first)
        took = [airway_command("backup", copy, "--data", airway.data, "--config", tmp_path / "airway.yaml")]
        assert airway.send_images(second.folder).succeeded
        took.append(
            airway_command("backup", copy, "--data", airway.data, "--config", tmp_path / "airway.yaml")
        )
        assert [(one.returncode, one.stderr) for one in took] == [(0, ""), (0, "")]
    finally:
        airway.kill()

    shutil.rmtree(airway.data)
    manifest = orjson.loads((copy / "backup.json").read_bytes())
    content = (copy / manifest["database"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["database_sha256"]
    airway.data.mkdir()
    shutil.copytree(copy / "store", airway.data / "store")
    if server is None:
        shutil.copyfile(copy / "airway.db", airway.data / "airway.db")
    else:
        restored = server.create_database()
        (tmp_path / "url").write_text(server.sqlalchemy_url(restored))
        command = [str(postgresql_program("pg_restore")), "--no-owner", "--exit-on-error"]
        command += [f"--dbname={server.dsn(restored)}", str(copy / "airway.pgdump")]
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=dict(os.environ))
    looked = airway_command(
        "doctor", "--verify", "--data", airway.data, "--config", tmp_path / "airway.yaml", "--json"
    )
    assert looked.returncode == 0, looked.stdout + looked.stderr

    airway.start()
    try:
        after = airway.story(first.study_instance_uid)
        assert after["order"]["accession_number"] == first.accession_number
        assert [one["uid"] for one in after["workitems"]] == [one["uid"] for one in before["workitems"]]
        assert analysed(after)
        assert instances(airway, first) == held
        assert set(first.files) < set(held)
        if server is None:  # one of the two is enough to show that work goes on
            airway.wait_story(second.study_instance_uid, analysed)
        assert set(second.files) < set(instances(airway, second))
        assert airway.send_images(first.folder).succeeded  # the same bytes again: nothing new begins
        assert len(airway.story(first.study_instance_uid)["workitems"]) == len(before["workitems"])
    finally:
        airway.stop()


def test_a_backup_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    done = airway_command("backup", tmp_path / "data" / "copy", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "must not be in the data folder" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_backup_that_cannot_be_whole_has_no_manifest(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "backup.json").write_text("{}")
    done = airway_command("backup", copy, "--data", tmp_path / "nothing")
    assert done.returncode == 1
    assert "not whole" in done.stderr
    assert not (copy / "backup.json").exists()
