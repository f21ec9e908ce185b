# SPDX-License-Identifier: Apache-2.0
"""Round trips with Orthanc's DICOMweb plug-in, both ways, over the doors of a real service."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydicom import dcmread

from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.dicomweb import qido_rs, stow_rs, wado_rs
from informatics_gateway.http_server import HttpServer
from profiles.multipart import PART_END, closing, part_head
from tests.instances import STUDY, ct, data_set_bytes, part10
from tests.service import TestBed, make_service
from tests.unit.informatics_gateway.dicomweb.images import image, parts, pixels, rle

pytestmark = pytest.mark.peers
RELATED = {"content-type": 'multipart/related; type="application/dicom"; boundary=B'}
AS_STORED = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
JSON = {"accept": "application/dicom+json"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(port: int) -> Iterator[Orthanc]:
    """An Orthanc that knows the door of the tests as a DICOMweb server."""
    web = {
        "Enable": True,
        "Root": "/dicom-web/",
        "Servers": {"airway": {"Url": f"http://127.0.0.1:{port}/dicom-web/", "HasDelete": False}},
    }
    with run_orthanc(settings={"DicomWeb": web}) as peer:
        yield peer


@pytest.fixture
def bed(tmp_path: Path, port: int, orthanc: Orthanc) -> Iterator[TestBed]:
    """A real service behind real doors, and an empty Orthanc."""
    orthanc.clear()
    made = make_service(tmp_path)
    app = FastAPI()
    service = made.service
    for routes in (
        stow_rs.router(service.intake),
        wado_rs.router(service.archive),
        qido_rs.router(service.archive),
    ):
        app.include_router(routes)
    server = HttpServer(app, "127.0.0.1", port, drain_s=1)
    server.start()
    yield made
    server.stop()
    made.database.close()


def store(url: str, *files: bytes) -> None:
    body = b"".join(part_head("B", "application/dicom") + file + PART_END for file in files)
    httpx.post(
        f"{url}/studies", content=body + closing("B"), headers={**RELATED, **JSON}, timeout=30
    ).raise_for_status()


def ask_orthanc(orthanc: Orthanc, path: str, **content: object) -> None:
    httpx.post(f"{orthanc.http_url}{path}", json=content, timeout=60).raise_for_status()


FILES = [ct(1), ct(2), rle(image(pixels(), SOPInstanceUID=f"{STUDY}.1.3", InstanceNumber=3))]


def test_what_orthanc_sends_comes_as_it_is(bed: TestBed, orthanc: Orthanc) -> None:
    store(orthanc.dicom_web_url.rstrip("/"), *FILES)
    ask_orthanc(orthanc, "/dicom-web/servers/airway/stow", Resources=orthanc.studies(), Synchronous=True)
    found = bed.service.archive.find_instances(study_instance_uid=STUDY)
    stored = [bed.service.archive.open_path(one).read_bytes() for one in found]
    assert [data_set_bytes(file) for file in stored] == [data_set_bytes(file) for file in FILES]


def test_orthanc_retrieves_what_is_here(bed: TestBed, orthanc: Orthanc, port: int) -> None:
    store(f"http://127.0.0.1:{port}/dicom-web", *FILES)
    ask_orthanc(
        orthanc,
        "/dicom-web/servers/airway/retrieve",
        Resources=[{"Study": STUDY}],
        Synchronous=True,
    )
    files = [dcmread(io.BytesIO(file)) for file in orthanc.files_of_study(STUDY)]
    assert {file.SOPInstanceUID for file in files} == {f"{STUDY}.1.{number}" for number in (1, 2, 3)}
    (compressed,) = [file for file in files if file.SOPInstanceUID == f"{STUDY}.1.3"]
    assert np.array_equal(compressed.pixel_array, pixels())


def test_what_went_to_orthanc_and_back_is_the_same(bed: TestBed, orthanc: Orthanc, port: int) -> None:
    ours, theirs = f"http://127.0.0.1:{port}/dicom-web", orthanc.dicom_web_url.rstrip("/")
    store(theirs, *FILES)
    answer = httpx.get(f"{theirs}/studies/{STUDY}", headers=AS_STORED, timeout=30)
    store(ours, *(content for _, content in parts(answer.headers["content-type"], answer.content)))
    back = httpx.get(f"{ours}/studies/{STUDY}", headers=AS_STORED, timeout=30)
    received = [content for _, content in parts(back.headers["content-type"], back.content)]
    assert [data_set_bytes(file) for file in received] == [data_set_bytes(file) for file in FILES]


def test_both_tell_the_same_of_the_same_images(bed: TestBed, orthanc: Orthanc, port: int) -> None:
    ours, theirs = f"http://127.0.0.1:{port}/dicom-web", orthanc.dicom_web_url.rstrip("/")
    file = part10(image(pixels()))
    for url in (ours, theirs):
        store(url, file)
    study = f"/studies/{STUDY}"
    instance = f"{study}/series/{STUDY}.1/instances/{STUDY}.1.1"
    found = [
        httpx.get(f"{url}{study}/metadata", headers=JSON, timeout=30).json()[0] for url in (ours, theirs)
    ]
    for tag in found[1].keys() & found[0].keys() - {"7FE00010"}:
        assert found[0][tag].get("Value") == found[1][tag].get("Value"), tag
    accept = {"accept": 'multipart/related; type="application/octet-stream"'}
    frames = [httpx.get(f"{url}{instance}/frames/2", headers=accept, timeout=30) for url in (ours, theirs)]
    contents = [parts(one.headers["content-type"], one.content)[0][1] for one in frames]
    assert contents[0] == contents[1] == pixels()[1].tobytes()
    for query in ("?PatientID=P1", "?StudyDate=20260101-20261231", "?PatientID=P*", "?PatientID=NOBODY"):
        answers = [httpx.get(f"{url}/studies{query}", headers=JSON, timeout=30) for url in (ours, theirs)]
        uids = [
            [item["0020000D"]["Value"] for item in answer.json()] if answer.content else []
            for answer in answers
        ]
        assert uids[0] == uids[1]
