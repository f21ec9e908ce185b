# SPDX-License-Identifier: Apache-2.0
"""WADO-RS answers (PS3.18 10.4): what is served, in which form, and what is not there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dicomweb.media import parse_media_type
from informatics_gateway.dicomweb.native_xml import read
from informatics_gateway.dicomweb.wado_rs import router
from profiles.multipart import MultipartParser, PartBegan, PartData
from task_manager.actor import Actor
from tests.asgi import AsgiClient
from tests.instances import STUDY, FolderIntake, ct, ct_data_set, part10

FILES = [ct(1), ct(2), part10(ct_data_set(3, SeriesInstanceUID=f"{STUDY}.2"), ImplicitVRLittleEndian)]
ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture
def archive(tmp_path: Path) -> FolderIntake:
    archive = FolderIntake(tmp_path)
    for content in FILES:
        staged = archive.stage()
        staged.write(content)
        archive.receive_instance(staged, actor=Actor(door="dicom"))
    return archive


@pytest.fixture
def client(archive: FolderIntake) -> AsgiClient:
    app = FastAPI()
    app.include_router(router(archive))
    return AsgiClient(app)


def parts(content_type: str, body: bytes) -> list[bytes]:
    parser = MultipartParser(
        parse_media_type(content_type).parameter("boundary"), max_parts=10, max_part_bytes=1 << 20
    )
    found: list[bytes] = []
    for event in parser.feed(body):
        match event:
            case PartBegan():
                found.append(b"")
            case PartData(data):
                found[-1] += data
    parser.close()
    return found


@pytest.mark.parametrize(
    ("path", "files"),
    [
        (f"/{STUDY}", FILES),
        (f"/{STUDY}/series/{STUDY}.1", FILES[:2]),
        (f"/{STUDY}/series/{STUDY}.2/instances/{STUDY}.1.3", FILES[2:]),
    ],
    ids=["study", "series", "instance"],
)
def test_retrieved_as_stored(client: AsgiClient, path: str, files: list[bytes]) -> None:
    answer = client.get(f"/dicom-web/studies{path}", headers={"accept": ANY})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert parts(answer.headers["content-type"], answer.content) == files


def test_one_instance_without_multipart(client: AsgiClient) -> None:
    url = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
    answer = client.get(url, headers={"accept": "application/dicom"})
    assert answer.content == FILES[0]
    assert answer.headers["content-type"].startswith("application/dicom;")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"/{STUDY}", "*/*", 200),
        (f"/{STUDY}", "multipart/related", 200),
        (f"/{STUDY}", "application/dicom", 406),
        (f"/{STUDY}", 'multipart/related; type="image/jpeg"', 406),
        (f"/{STUDY}", f"{ANY.replace('*', ExplicitVRLittleEndian)}", 200),
        (f"/{STUDY}/series/{STUDY}.1", f"{ANY.replace('*', ExplicitVRLittleEndian)}", 200),
        (f"/{STUDY}/series/{STUDY}.1", f"{ANY.replace('*', ImplicitVRLittleEndian)}", 406),
        (f"/{STUDY}/series/{STUDY}.2", f"{ANY.replace('*', ImplicitVRLittleEndian)}", 200),
        (f"/{STUDY}/series/{STUDY}.2", f"{ANY.replace('*', '1.2.840.10008.1.2.5')}, {ANY};q=0.1", 200),
        (f"/{STUDY}", "text/html", 406),
        ("/1.2.3.4", ANY, 404),
        (f"/{STUDY}/series/1.2.3", ANY, 404),
        ("/..%2F..%2Fetc", ANY, 404),
        ("/1.2.x", ANY, 400),
        (f"/{STUDY}/metadata", "text/html", 406),
        ("/1.2.3.4/metadata", "application/dicom+json", 404),
    ],
)
def test_statuses(client: AsgiClient, path: str, accept: str, status: int) -> None:
    assert client.get(f"/dicom-web/studies{path}", headers={"accept": accept}).status_code == status


def test_one_that_names_no_transfer_syntax_gets_explicit_little_endian(client: AsgiClient) -> None:
    url = f"/dicom-web/studies/{STUDY}/series/{STUDY}.2"
    answer = client.get(url, headers={"accept": 'multipart/related; type="application/dicom"'})
    (content,) = parts(answer.headers["content-type"], answer.content)
    found = dcmread(io.BytesIO(content))
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found == dcmread(io.BytesIO(FILES[2]))


@pytest.mark.parametrize(
    ("path", "count"),
    [("", 3), (f"/series/{STUDY}.1", 2), (f"/series/{STUDY}.1/instances/{STUDY}.1.2", 1)],
)
def test_metadata(client: AsgiClient, path: str, count: int) -> None:
    answer = client.get(f"/dicom-web/studies/{STUDY}{path}/metadata")
    assert answer.headers["content-type"] == "application/dicom+json"
    assert len(answer.json()) == count
    assert all(item["0020000D"]["Value"] == [STUDY] for item in answer.json())
    address = answer.json()[-1]["7FE00010"]["BulkDataURI"]
    pixels = client.get(address, headers={"accept": "application/octet-stream"})
    assert pixels.content == bytes(range(256)) * 2


def test_metadata_in_xml_names_the_same_bulk_data(client: AsgiClient) -> None:
    url = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/metadata"
    answer = client.get(url, headers={"accept": 'multipart/related; type="application/dicom+xml"'})
    models = [read(model) for model in parts(answer.headers["content-type"], answer.content)]
    plain = client.get(url).json()
    assert [model["7FE00010"] for model in models] == [item["7FE00010"] for item in plain]
    assert [model["00100010"] for model in models] == [item["00100010"] for item in plain]


def test_metadata_of_a_file_that_cannot_be_followed_is_what_was_read_before(
    client: AsgiClient, archive: FolderIntake
) -> None:
    path = archive.open_path(archive.instances[0])
    path.write_bytes(path.read_bytes()[:-100])
    url = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
    (item,) = client.get(f"{url}/metadata").json()
    assert item["00080018"]["Value"] == [f"{STUDY}.1.1"]
    assert client.get(f"{url}/frames/1").status_code == 404


@pytest.mark.parametrize("accept", [ANY, "application/dicom"])
def test_a_lost_file_is_our_error(client: AsgiClient, archive: FolderIntake, accept: str) -> None:
    archive.open_path(archive.instances[0]).unlink()
    url = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
    assert client.get(url, headers={"accept": accept}).status_code == 500
