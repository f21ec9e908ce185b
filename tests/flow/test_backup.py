# SPDX-License-Identifier: Apache-2.0
"""A running Airway is backed up, its machine is lost, and the copy has everything that it answered for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from conformance.peers.installed import postgresql_program
from conformance.peers.postgresql import Postgresql
from conformance.peers.process import wait_until
from informatics_gateway.hl7.sender import send_message
from profiles.codes import Code
from profiles.hl7.order_text import order_message
from profiles.order import Order, OrderControl, Priority
from tests.flow.airway import SENT_AT
from tests.flow.forking import ForkedAirway, Forker, forker
from tests.instances import ct_data_set, data_set_bytes, part10
from tests.service import RULES

pytestmark = pytest.mark.peers

INSTANCES = 3
FIRST, SECOND = "1.2.826.0.1.3680043.8.498.71", "1.2.826.0.1.3680043.8.498.72"


@pytest.fixture(scope="module")
def forking() -> Iterator[Forker]:
    with forker() as running:
        yield running


def files(study: str) -> dict[str, bytes]:
    """SOP Instance UID to Part 10 file."""
    images = [ct_data_set(number, study=study, AccessionNumber="BK1") for number in range(1, INSTANCES + 1)]
    return {str(image.SOPInstanceUID): part10(image) for image in images}


def digests(study: str) -> dict[str, str]:
    return {uid: hashlib.sha256(data_set_bytes(file)).hexdigest() for uid, file in files(study).items()}


class Site:
    """A forked Airway with one rule, as its senders and readers see it."""

    def __init__(self, forking: Forker, folder: Path, config: dict[str, Any]) -> None:
        self._forking, self._folder = forking, folder
        (folder / "rules").mkdir()
        (folder / "rules" / "every-ct.yaml").write_text(RULES)
        self.airway = ForkedAirway(forking, folder, {"study": {"quiet_period_s": 0.5}, **config})
        self._http = f"http://127.0.0.1:{self.airway.ports['http']}"

    def command(self, *arguments: object) -> str:
        """What a command said; it has ended."""
        log = self._folder / f"{arguments[0]}.log"
        log.unlink(missing_ok=True)
        whole = [*arguments, "--data", self.airway.data, "--config", self._folder / "airway.yaml"]
        pid = self._forking.start([*map(str, whole)], log)
        wait_until(lambda: not is_there(pid), f"{arguments[0]} has ended", 60)
        return log.read_text()

    def order(self) -> str:
        asked = Order(
            control=OrderControl.NEW,
            placer_order_number="PL1",
            filler_order_number="FI1",
            accession_number="BK1",
            patient_id="P1",
            patient_name="Müller^Jörg",
            requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
            study_instance_uid=FIRST,
            priority=Priority.MEDIUM,
        )
        raw = order_message(asked, control_id="M1", sent_at=SENT_AT)
        return send_message("127.0.0.1", self.airway.ports["hl7"], raw).decode()

    def send(self, study: str) -> None:
        parts = b"".join(
            b"--B\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n"
            for file in files(study).values()
        )
        kind = 'multipart/related; type="application/dicom"; boundary=B'
        answer = httpx.post(
            f"{self._http}/dicom-web/studies",
            content=parts + b"--B--\r\n",
            headers={"content-type": kind},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text

    def claim(self, workitem_uid: str) -> None:
        """Begin to work as a performer does."""
        body = {
            "00081195": {"vr": "UI", "Value": ["2.25.7"]},
            "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
        }
        answer = httpx.put(
            f"{self._http}/dicom-web/workitems/{workitem_uid}/state/PERFORMER",
            json=[body],
            headers={"content-type": "application/dicom+json"},
        )
        assert answer.status_code == 200, answer.text

    def story(self, study: str) -> dict[str, Any]:
        answer = httpx.get(f"{self._http}/api/studies/{study}", timeout=10)
        return dict(answer.json()) if answer.status_code == 200 else {}

    def wait(self, study: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        wait_until(lambda: until(self.story(study)), "the study is so far", 30)
        return self.story(study)

    def held(self, study: str) -> dict[str, str]:
        """SOP Instance UID to digest of the data set of each instance of a study, as WADO-RS gives it."""
        base = f"{self._http}/dicom-web/studies/{study}"
        found = httpx.get(f"{base}/instances", timeout=10).raise_for_status().json()
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        digests = {}
        for one in found:
            uid, series = one["00080018"]["Value"][0], one["0020000E"]["Value"][0]
            address = f"{base}/series/{series}/instances/{uid}"
            content = httpx.get(address, headers={"Accept": accept}, timeout=10).raise_for_status().content
            file = bytes(128) + b"DICM" + content.split(b"DICM", 1)[1].rsplit(b"\r\n--", 1)[0]
            digests[uid] = hashlib.sha256(data_set_bytes(file)).hexdigest()
        return digests


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_work(story: dict[str, Any]) -> bool:
    return bool(story.get("workitems"))


def is_begun(story: dict[str, Any]) -> bool:
    return [one["state"] for one in story["workitems"]] == ["IN PROGRESS"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_backed_up_is_there_after_a_restore(
    kind: str, tmp_path: Path, forking: Forker, request: pytest.FixtureRequest
) -> None:
    copy, config = tmp_path / "copy", {}
    database = ""
    server: Postgresql | None = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = server.create_database()
        (tmp_path / "url").write_text(server.sqlalchemy_url(database))
        config = {"database": {"url_file": str(tmp_path / "url")}}
    site = Site(forking, tmp_path, config)
    airway = site.airway
    airway.start()
    try:
        assert "MSA|AA" in site.order()
        site.send(FIRST)
        before = site.wait(FIRST, has_work)
        site.claim(before["workitems"][0]["uid"])
        before = site.wait(FIRST, is_begun)
        assert site.command("backup", copy).startswith("Whole: ")
        site.send(SECOND)
        assert site.command("backup", copy).startswith("Whole: ")
    finally:
        airway.kill()

    shutil.rmtree(airway.data)
    manifest = orjson.loads((copy / "backup.json").read_bytes())
    content = (copy / manifest["database"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["database_sha256"]
    assert (manifest["objects"], (copy / "config" / "rules" / "every-ct.yaml").read_text()) == (6, RULES)
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
    looked = orjson.loads(site.command("doctor", "--verify", "--json"))["objects"]
    assert (looked["good"] + looked["unsummed"], looked["damaged"]) == (6, [])

    airway.start()
    try:
        after = site.story(FIRST)
        assert after["order"]["accession_number"] == "BK1"
        assert [one["uid"] for one in after["workitems"]] == [one["uid"] for one in before["workitems"]]
        assert is_begun(after)
        assert site.held(FIRST) == digests(FIRST)
        site.wait(SECOND, has_work)  # work goes on: it may not have been complete when it was copied
        assert site.held(SECOND) == digests(SECOND)
        site.send(FIRST)  # the same bytes again: nothing new begins
        assert len(site.story(FIRST)["workitems"]) == len(before["workitems"])
    finally:
        airway.stop()
