# SPDX-License-Identifier: Apache-2.0
"""What dicomweb-client asks of the doors: frames, bulk data, pictures, XML; and slow or hostile senders."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from fastapi import FastAPI
from PIL import Image
from pydicom import dcmread

from informatics_gateway.dicomweb import stow_rs
from profiles.multipart import part_head
from tests.instances import STUDY, FolderIntake, ct, part10
from tests.loopback.dicomweb.conftest import serving
from tests.unit.informatics_gateway.dicomweb.images import image, pixels, rle

SERIES, INSTANCE = f"{STUDY}.1", f"{STUDY}.1.1"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"


@pytest.fixture
def client(dicom_web_url: str) -> Iterator[DICOMwebClient]:
    client = DICOMwebClient(dicom_web_url)
    yield client
    client._session.close()


def test_frames_and_bulk_data_of_a_compressed_image(client: DICOMwebClient) -> None:
    client.store_instances([dcmread(io.BytesIO(rle(image(pixels()))))])
    native = client.retrieve_instance_frames(
        STUDY, SERIES, INSTANCE, [1, 3], media_types=(("application/octet-stream", EXPLICIT),)
    )
    assert native == [pixels()[0].tobytes(), pixels()[2].tobytes()]
    stored = client.retrieve_instance_frames(STUDY, SERIES, INSTANCE, [2])
    assert len(stored) == 1
    assert stored[0] != pixels()[1].tobytes()
    metadata = client.retrieve_instance_metadata(STUDY, SERIES, INSTANCE)
    address = metadata["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(address)[1] == stored[0]


def test_transfer_syntaxes(client: DICOMwebClient) -> None:
    client.store_instances([dcmread(io.BytesIO(rle(image(pixels()))))])
    for media_types in (("application/dicom",), (("application/dicom", EXPLICIT),)):
        found = client.retrieve_instance(STUDY, SERIES, INSTANCE, media_types=media_types)
        assert found.file_meta.TransferSyntaxUID == EXPLICIT
        assert np.array_equal(found.pixel_array, pixels())
    kept = client.retrieve_instance(STUDY, SERIES, INSTANCE)
    assert kept.file_meta.TransferSyntaxUID == RLE


def test_pictures(client: DICOMwebClient) -> None:
    client.store_instances([dcmread(io.BytesIO(part10(image(pixels()))))])
    content = client.retrieve_instance_rendered(
        STUDY, SERIES, INSTANCE, media_types=("image/png",), params={"viewport": "12,8"}
    )
    assert Image.open(io.BytesIO(content)).size == (12, 8)
    frame = client.retrieve_instance_frames_rendered(
        STUDY, SERIES, INSTANCE, [1], media_types=("image/jpeg",)
    )
    assert Image.open(io.BytesIO(frame)).format == "JPEG"


def test_searches_at_every_level(client: DICOMwebClient) -> None:
    client.store_instances([dcmread(io.BytesIO(ct(number))) for number in (1, 2)])
    assert len(client.search_for_series()) == 1
    assert len(client.search_for_instances()) == 2
    assert len(client.search_for_instances(limit=1, offset=1)) == 1
    assert client.search_for_studies(search_filters={"StudyDate": "20250101-20250201"}) == []
    (found,) = client.search_for_studies(fields=["00080080"], search_filters={"PatientName": "m*"})
    assert found["00100020"]["Value"] == ["P1"]


def test_a_sender_that_does_not_go_on_is_told_and_leaves_nothing(intake: FolderIntake) -> None:
    app = FastAPI()
    app.include_router(stow_rs.router(intake, idle_s=0.2))
    with serving(app) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            head = (
                "POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n"
                'Content-Type: multipart/related; type="application/dicom"; boundary=B\r\n\r\n'
            )
            connection.sendall(head.encode() + part_head("B", "application/dicom") + ct(1)[:300])
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert intake.leftovers() == []


@pytest.mark.parametrize(
    "path",
    [
        "/studies/..%2f..%2f..%2fetc%2fpasswd",
        "/studies/%2e%2e/%2e%2e/metadata",
        f"/studies/{STUDY}/series/../../../../etc",
        f"/studies/{STUDY}%00/metadata",
        "/studies/" + "1" * 65,
        f"/studies/{STUDY}/series/1/instances/1/bulkdata/..%2f..%2fairway.db",
        f"/studies/{STUDY}/series/1/instances/1/frames/" + "9" * 5000,
    ],
)
def test_hostile_addresses(dicom_web_url: str, path: str) -> None:
    answer = httpx.get(f"{dicom_web_url}{path}", headers={"accept": "*/*"})
    assert answer.status_code in (400, 404)
    assert "Traceback" not in answer.text
