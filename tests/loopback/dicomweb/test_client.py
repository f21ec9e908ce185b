# SPDX-License-Identifier: Apache-2.0
"""Deliveries by STOW-RS: to Orthanc and the stand-in archive, and to servers that refuse in every way."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI, Request, Response

from conformance.peers.archive import run_archive
from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.dicomweb.client import DicomWebDeliverer
from task_manager.errors import ConfigurationError, DeliveryError, FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Shipment
from tests.instances import STUDY, FolderIntake, ct, data_set_bytes, shipment
from tests.loopback.dicomweb.conftest import serving

IN_STUDY = [f"{STUDY}.1.{number}" for number in (1, 2, 3)]
STORED: dict[str, Any] = {
    "00081199": {
        "vr": "SQ",
        "Value": [{"00081155": {"vr": "UI", "Value": IN_STUDY}}],
    }
}


def failed(*reasons: int) -> dict[str, Any]:
    items = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    return {"00081198": {"vr": "SQ", "Value": items}}


def deliver(base_url: str, load: Shipment, **options: Any) -> str:
    with DicomWebDeliverer(base_url, timeout_s=5.0, **options) as deliverer:
        return deliverer.deliver(load).summary


@contextmanager
def answering(*answers: tuple[int, Any]) -> Iterator[tuple[str, list[Request]]]:
    """A server that gives `answers` in turn; yields its address and the requests it got."""
    waiting, requests = iter(answers), list[Request]()
    app = FastAPI()

    @app.post("/dicom-web/studies")
    async def store(request: Request) -> Response:
        await request.body()
        requests.append(request)
        status, content = next(waiting)
        return content if isinstance(content, Response) else _json(status, content)

    with serving(app) as url:
        yield f"{url}/dicom-web", requests


def _json(status: int, content: Any) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/dicom+json")


@pytest.mark.peers
class TestOrthanc:
    def test_delivered_twice_is_there_once(self, orthanc: Orthanc, tmp_path: Path) -> None:
        orthanc.clear()
        load = shipment(tmp_path, *[ct(number) for number in range(1, 6)])
        for _ in range(2):
            assert deliver(orthanc.dicom_web_url, load) == "5 instances stored by STOW-RS"
        stored = {data_set_bytes(content) for content in orthanc.files_of_study(STUDY)}
        assert stored == {data_set_bytes(path.read_bytes()) for path in load.paths}

    def test_down_and_up_again(self, tmp_path: Path) -> None:
        port = free_port()
        load = shipment(tmp_path / "load", ct(1), ct(2))
        with pytest.raises(RetryableDeliveryError, match="0 of 2 stored"):
            deliver(f"http://127.0.0.1:{port}/dicom-web", load)
        with run_orthanc(http_port=port) as orthanc:
            deliver(orthanc.dicom_web_url, load)
            assert len(orthanc.instances()) == 2


def test_stand_in_archive(tmp_path: Path) -> None:
    load = shipment(tmp_path / "load", ct(1), ct(2))
    with run_archive(folder=tmp_path / "archive") as archive:
        deliver(archive.dicom_web_url, load)
        stored = sorted(path.read_bytes() for path in archive.folder.rglob("*.dcm"))
    assert stored == sorted(path.read_bytes() for path in load.paths)


def test_order_is_kept_at_our_own_door(tmp_path: Path, dicom_web_url: str, intake: FolderIntake) -> None:
    load = shipment(tmp_path / "load", ct(3), ct(1), ct(2))
    deliver(dicom_web_url, load)
    assert [item.instance_number for item in intake.instances] == [3, 1, 2]


@pytest.mark.parametrize(
    "answers",
    [
        [(200, STORED), (200, [STORED])],
        [(200, STORED), (409, failed(0x0111))],
        [(202, STORED), (202, STORED | failed(0x0111))],
        [(200, Response(f"<Value>{STUDY}.1.1</Value>", media_type="application/dicom+xml")), (200, STORED)],
    ],
    ids=["stored", "duplicate", "warnings", "answer-in-xml"],
)
def test_taken(tmp_path: Path, answers: Sequence[tuple[int, Any]]) -> None:
    with answering(*answers) as (url, requests):
        deliver(url, shipment(tmp_path, ct(1), ct(2)))
    assert len(requests) == 2
    assert "transfer-encoding" not in requests[0].headers
    assert requests[0].headers["accept"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((500, {}), RetryableDeliveryError, "HTTP 500"),
        ((503, failed(0xA700)), RetryableDeliveryError, "HTTP 503"),
        ((429, {}), RetryableDeliveryError, "HTTP 429"),
        ((409, failed(0xA700)), RetryableDeliveryError, "A700"),
        ((202, failed(0x0110)), RetryableDeliveryError, "0110"),
        ((409, failed(0xA700, 0xC000)), FinalDeliveryError, "A700, C000"),
        ((409, failed(0x0122)), FinalDeliveryError, "0122"),
        ((200, failed(0xA900)), FinalDeliveryError, "A900"),
        ((202, {"0008119A": failed(0xC123)["00081198"]}), FinalDeliveryError, "C123"),
        ((409, {"00081198": {"vr": "SQ", "Value": [{}]}}), FinalDeliveryError, "C000"),
        ((409, {}), FinalDeliveryError, "does not confirm"),
        ((200, {}), FinalDeliveryError, "does not confirm"),
        ((200, Response(b"")), FinalDeliveryError, "does not confirm"),
        ((409, Response(b"<html>", 409)), FinalDeliveryError, "does not confirm"),
        ((202, "text"), FinalDeliveryError, "does not confirm"),
        ((401, {}), FinalDeliveryError, "HTTP 401"),
        ((301, {}), FinalDeliveryError, "HTTP 301"),
    ],
)
def test_not_taken(tmp_path: Path, answer: tuple[int, Any], error: type[DeliveryError], message: str) -> None:
    with answering((200, STORED), answer) as (url, _):
        with pytest.raises(error, match=f"1 of 3 stored.*{message}"):
            deliver(url, shipment(tmp_path, ct(1), ct(2), ct(3)))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (gzip.compress(b" " * 65 * 1024**2, 1), RetryableDeliveryError, "beyond all bounds"),
        (b"no gzip", FinalDeliveryError, "its answer not be read"),
    ],
    ids=["a bomb", "garbage"],
)
def test_answers_that_cannot_be_unpacked(
    tmp_path: Path, content: bytes, error: type[DeliveryError], message: str
) -> None:
    packed = Response(content, headers={"content-encoding": "gzip"})
    with answering((200, packed)) as (url, _), pytest.raises(error, match=message):
        deliver(url, shipment(tmp_path, ct(1)))


def test_a_lost_file_is_final(tmp_path: Path) -> None:
    load = shipment(tmp_path, ct(1))
    load.paths[0].unlink()
    with pytest.raises(FinalDeliveryError):
        deliver("http://127.0.0.1:1/dicom-web", load)


def test_the_token_is_read_for_each_shipment(tmp_path: Path) -> None:
    token = tmp_path / "token"
    load = shipment(tmp_path / "load", ct(1))
    with answering((200, STORED), (200, STORED)) as (url, requests):
        with DicomWebDeliverer(url, token_file=token) as deliverer:
            with pytest.raises(RetryableDeliveryError):
                deliverer.deliver(load)
            for content in ("first\n", "second"):
                token.write_text(content)
                deliverer.deliver(load)
            token.write_text("not a token")
            with pytest.raises(FinalDeliveryError):
                deliverer.deliver(load)
    assert [request.headers["authorization"] for request in requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://pacs/x", {}),
        ("pacs", {}),
        ("http://user:secret@pacs/x", {}),
        ("http://pacs/x?a=b", {}),
        ("http://pacs.example/x", {"token_file": Path("/token")}),
        ("https://pacs.example/x", {"ca_file": Path("/no/such/file")}),
    ],
)
def test_addresses_that_are_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        DicomWebDeliverer(url, **options)
