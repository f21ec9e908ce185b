# SPDX-License-Identifier: Apache-2.0
"""The stand-in archive answers independent clients as an archive does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from conformance.peers.archive import Archive, run_archive
from conformance.peers.dcmtk import echoscu, storescu
from conformance.peers.process import wait_until
from tests.loopback.peers.conftest import STUDY_INSTANCE_UID


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with run_archive(folder=tmp_path / "archive") as archive:
        yield archive


@pytest.mark.peers
def test_stored_by_dimse_and_read_by_dicomweb(archive: Archive, scanned: list[Path]) -> None:
    assert echoscu(archive.host, archive.dicom_port, called_ae_title="ARCHIVE").succeeded
    for _ in range(2):
        sent = storescu(archive.host, archive.dicom_port, scanned, called_ae_title="ARCHIVE")
        assert list(sent.responses) == ["Success"] * 3
    client = DICOMwebClient(archive.dicom_web_url)
    images = sorted(client.retrieve_study(STUDY_INSTANCE_UID), key=lambda image: image.InstanceNumber)
    assert images == [dcmread(path) for path in scanned]
    client._session.close()


def test_stored_and_searched_by_dicomweb(archive: Archive, scanned: list[Path]) -> None:
    client = DICOMwebClient(archive.dicom_web_url)
    assert client.search_for_studies() == []
    answer = client.store_instances([dcmread(path) for path in scanned])
    assert len(answer.ReferencedSOPSequence) == 3
    (study,) = client.search_for_studies(search_filters={"PatientID": "PEER*"})
    assert study["00201208"]["Value"] == [3]
    assert client.search_for_studies(search_filters={"PatientID": "NOBODY"}) == []
    (series,) = client.search_for_series(STUDY_INSTANCE_UID)
    uid = series["0020000E"]["Value"][0]
    assert len(client.search_for_instances(STUDY_INSTANCE_UID, uid, limit=2)) == 2
    assert client.retrieve_instance(STUDY_INSTANCE_UID, uid, f"{uid}.2") == dcmread(scanned[1])
    client._session.close()


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/related", b"", 400),
        ("multipart/related; boundary=B", b"--B\r\n\r\nno DICOM\r\n--B--", 409),
    ],
)
def test_what_it_cannot_store(archive: Archive, content_type: str, body: bytes, status: int) -> None:
    url = f"{archive.dicom_web_url}/studies"
    answer = httpx.post(url, content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert httpx.get(f"{url}/1.2.3").status_code == 404


def test_it_says_where_it_listens_and_keeps_its_files(tmp_path: Path, scanned: list[Path]) -> None:
    endpoint, folder = tmp_path / "endpoint.json", tmp_path / "archive"
    folder.mkdir()
    (folder / "kept.dcm").write_bytes(scanned[0].read_bytes())
    command = [sys.executable, "-m", "conformance.peers.archive", "--folder", str(folder)]
    with subprocess.Popen([*command, "--endpoint-file", str(endpoint)]) as process:
        wait_until(endpoint.exists, "the endpoint file")
        addresses = json.loads(endpoint.read_text())
        assert addresses["pid"] == process.pid
        assert addresses["dicom"]["ae_title"] == "ARCHIVE"
        found = httpx.get(f"{addresses['dicom_web_url']}/studies").json()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert len(found) == 1
    assert not endpoint.exists()
