# SPDX-License-Identifier: Apache-2.0
"""`airway fetch` against a real archive, with a SIGKILL in the middle: it goes on where it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import wait_until
from informatics_gateway.dimse.send import send_folder
from tests.flow.airway import RunningAirway
from tests.instances import STUDY, ct, data_set_bytes

pytestmark = pytest.mark.peers

SERIES, IMAGES, PIXELS = 6, 10, 256 * 1024
FINISH_S = 60.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An archive with one study of several series."""
    folder = tmp_path_factory.mktemp("sent")
    for series in range(1, SERIES + 1):
        for number in range(1, IMAGES + 1):
            uid = f"{STUDY}.{series}"
            content = ct(
                number,
                pixels=PIXELS,
                SeriesInstanceUID=uid,
                SOPInstanceUID=f"{uid}.{number}",
                SeriesNumber=series,
            )
            (folder / f"{series}-{number}.dcm").write_bytes(content)
    with run_orthanc() as peer:
        send_folder([folder], host=peer.host, port=peer.dicom_port, called_ae_title=peer.ae_title)
        yield peer


@pytest.fixture(scope="module")
def airway(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningAirway]:
    site = RunningAirway(
        tmp_path_factory.mktemp("site"),
        {
            "roles": ["gateway", "task_manager"],
            "fetch": {"archives": [{"name": "vna", "url": archive.dicom_web_url, "retrieve": "wado"}]},
        },
    )
    site.start()
    try:
        yield site
    finally:
        site.stop()


def fetch_command(airway: RunningAirway, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "informatics_gateway", "fetch", *arguments, "--data", str(airway.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=FINISH_S, check=False)


def listed(airway: RunningAirway) -> dict[str, Any]:
    (found,) = httpx.get(f"{airway.http}/api/fetches", timeout=30).json()["fetches"][-1:]
    return dict(found)


def test_a_fetch_survives_a_kill(airway: RunningAirway, archive: Orthanc) -> None:
    asked = fetch_command(airway, "A1")
    assert (asked.returncode, asked.stderr) == (0, "")
    wait_until(lambda: listed(airway)["here"] >= IMAGES, FINISH_S)
    airway.kill()
    airway.start()
    waited = fetch_command(airway, "A1", "--wait")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    last = waited.stdout.splitlines()[-1]
    assert last == f"accession:A1: DONE from vna, {SERIES * IMAGES} instances here, 1 studies"
    story = airway.wait_story(STUDY, lambda one: one["state"] == "COMPLETE", FINISH_S)
    assert sum(one["instances"] for one in story["series"]) == SERIES * IMAGES
    assert {one["state"] for one in story["fetches"]} == {"DONE"}
    path = f"/dicom-web/studies/{STUDY}/series/{STUDY}.3/instances/{STUDY}.3.4"
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    kept = httpx.get(f"{airway.http}{path}", headers=accept, timeout=30)
    (identifier,) = archive.find("Instance", SOPInstanceUID=f"{STUDY}.3.4")
    assert data_set_bytes(kept.content) == data_set_bytes(archive.file(identifier))
    explained = subprocess.run(
        [sys.executable, "-m", "informatics_gateway", "explain", STUDY, "--data", str(airway.data)],
        capture_output=True,
        text=True,
        timeout=FINISH_S,
        check=True,
    )
    assert f"request, DONE from vna, {SERIES * IMAGES} instances there" in explained.stdout


def test_what_cannot_be_fetched_is_said(airway: RunningAirway) -> None:
    nobody = fetch_command(airway, "1.2.3.4", "--wait")
    assert (nobody.returncode, nobody.stdout.splitlines()[-1]) == (
        1,
        "study:1.2.3.4: NOT_FOUND, 0 instances here",
    )
    elsewhere = fetch_command(airway, "A1", "--from", "elsewhere")
    assert elsewhere.returncode == 1
    assert "none of the configured ones (vna)" in elsewhere.stderr
    answer = httpx.get(f"{airway.http}/api/fetches/study:9.9", timeout=30)
    assert answer.status_code == 404
    for name in ("retry", "accept"):
        held = httpx.post(f"{airway.http}/api/fetches/study:9.9/{name}", timeout=30)
        assert held.status_code == 404
    empty = httpx.post(f"{airway.http}/api/fetches", json={"accession_number": "*"}, timeout=30)
    assert empty.status_code == 422
