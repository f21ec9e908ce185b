# SPDX-License-Identifier: Apache-2.0
"""STOW-RS, QIDO-RS and WADO-RS as dicomweb-client uses them, and senders that stop half-way."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from conformance.peers.process import wait_until
from profiles.multipart import PART_END, closing, part_head
from tests.instances import STUDY, FolderIntake, ct

RELATED = {"content-type": 'multipart/related; type="application/dicom"; boundary=B'}


@pytest.fixture
def client(dicom_web_url: str) -> Iterator[DICOMwebClient]:
    client = DICOMwebClient(dicom_web_url)
    yield client
    client._session.close()


def test_dicomweb_client_stores_searches_and_retrieves(client: DICOMwebClient, intake: FolderIntake) -> None:
    images = [dcmread(io.BytesIO(ct(number))) for number in (1, 2, 3)]
    answer = client.store_instances(images)
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    stored = intake.stored()
    assert [dcmread(io.BytesIO(stored[image.SOPInstanceUID])) for image in images] == images

    assert [item["0020000D"]["Value"] for item in client.search_for_studies()] == [[STUDY]]
    assert client.search_for_studies(search_filters={"PatientID": "NOBODY"}) == []
    assert len(client.search_for_series(STUDY)) == 1
    assert len(client.search_for_instances(STUDY, search_filters={"InstanceNumber": "2"})) == 1

    assert client.retrieve_study(STUDY) == images
    assert client.retrieve_series(STUDY, f"{STUDY}.1") == images
    assert client.retrieve_instance(STUDY, f"{STUDY}.1", f"{STUDY}.1.2") == images[1]
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    assert client.retrieve_instance_metadata(STUDY, f"{STUDY}.1", f"{STUDY}.1.1")["00100020"]["Value"] == [
        "P1"
    ]


def test_chunked_body_of_many_instances(dicom_web_url: str, intake: FolderIntake) -> None:
    sent = [ct(number, pixels=64 * 1024) for number in range(1, 41)]

    def body() -> Iterator[bytes]:
        for content in sent:
            yield part_head("B", "application/dicom")
            yield content + PART_END
        yield closing("B")

    answer = httpx.post(f"{dicom_web_url}/studies/{STUDY}", content=body(), headers=RELATED)
    assert answer.status_code == 200
    assert sorted(intake.stored().values()) == sorted(sent)


def test_a_sender_that_goes_away_leaves_only_what_was_complete(
    dicom_web_url: str, intake: FolderIntake
) -> None:
    address = urlsplit(dicom_web_url)
    first = part_head("B", "application/dicom") + ct(1) + PART_END + part_head("B", "application/dicom")
    # more than one batch, so that the first instance is committed and the second is being staged
    rest = ct(2, pixels=4 * 1024 * 1024)[: 2 * 1024 * 1024]
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = (
            f"POST {address.path}/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {RELATED['content-type']}\r\n"
            "Content-Length: 99999999\r\n\r\n"
        )
        connection.sendall(head.encode() + first + rest)
        wait_until(lambda: intake.leftovers() and intake.instances, "one stored, one on its way", 10)
    wait_until(lambda: intake.leftovers() == [], "the unfinished one is dropped", 10)
    assert [item.instance_number for item in intake.instances] == [1]
