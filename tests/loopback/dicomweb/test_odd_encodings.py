# SPDX-License-Identifier: Apache-2.0
"""Files of many makers and many faults through STOW-RS: back bit for bit, or refused with a reason."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydicom import dcmread

from informatics_gateway.dicomweb import qido_rs, stow_rs, wado_rs
from profiles.multipart import PART_END, closing, part_head
from task_manager.outcome import Refused
from task_manager.study.header import read_header
from tests.loopback.dicomweb.conftest import serving
from tests.service import make_service
from tests.unit.informatics_gateway.dicomweb.images import parts

pytestmark = pytest.mark.real_data
RELATED = {"content-type": 'multipart/related; type="application/dicom"; boundary=B'}
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def files(shared_data: Path) -> list[Path]:
    folder = shared_data / "odd-encodings"
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("README.md", "SHA256SUMS")
    )


@pytest.fixture(scope="module")
def service(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    bed = make_service(tmp_path_factory.mktemp("odd"))
    app = FastAPI()
    for routes in (
        stow_rs.router(bed.service.intake),
        wado_rs.router(bed.service.archive),
        qido_rs.router(bed.service.archive),
    ):
        app.include_router(routes)
    with serving(app) as url, httpx.Client(base_url=f"{url}/dicom-web", timeout=30) as client:
        yield client
    bed.database.close()


@pytest.fixture(scope="module")
def answers(service: httpx.Client, files: list[Path]) -> dict[Path, httpx.Response]:
    """What storing each file alone was answered."""
    found = {}
    for path in files:
        body = part_head("B", "application/dicom") + path.read_bytes() + PART_END + closing("B")
        found[path] = service.post("/studies", content=body, headers=RELATED)
    return found


def kept(answers: dict[Path, httpx.Response]) -> dict[Path, str]:
    """Path of the instance of each file that is the first under its UID."""
    found: dict[str, Path] = {}
    for path in answers:
        header = read_header(path)
        if not isinstance(header, Refused):
            address = (
                f"/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
                f"/instances/{header.sop_instance_uid}"
            )
            found.setdefault(address, path)
    return {path: address for address, path in found.items()}


def test_every_file_is_stored_or_refused_with_a_reason(answers: dict[Path, httpx.Response]) -> None:
    for path, answer in answers.items():
        refused = isinstance(read_header(path), Refused)
        assert answer.status_code == (409 if refused else answer.status_code), path.name
        assert answer.status_code in ((409,) if refused else (200, 202)), path.name
        if refused:
            failures = answer.json().get("00081198") or answer.json()["0008119A"]
            assert failures["Value"][0]["00081197"]["Value"] == [0xC000]


def test_what_was_stored_comes_back_bit_for_bit(
    service: httpx.Client, answers: dict[Path, httpx.Response]
) -> None:
    for path, address in kept(answers).items():
        answer = service.get(address, headers={"accept": AS_STORED})
        ((_, content),) = parts(answer.headers["content-type"], answer.content)
        assert content == path.read_bytes(), path.name


@pytest.mark.filterwarnings("ignore")  # pydicom, of values that are as odd as they should be
def test_nothing_that_is_asked_of_them_fails(
    service: httpx.Client, answers: dict[Path, httpx.Response]
) -> None:
    for path, address in kept(answers).items():
        metadata = service.get(f"{address}/metadata")
        assert metadata.status_code == 200, path.name
        assert metadata.json()[0]["00080018"]["Value"] == [address.rpartition("/")[2]]
        xml = {"accept": 'multipart/related; type="application/dicom+xml"'}
        assert service.get(f"{address}/metadata", headers=xml).status_code == 200, path.name
        for below, accept in (
            ("/frames/1", "*/*"),
            ("/frames/1", "application/octet-stream"),
            ("/rendered", "image/png"),
            ("/thumbnail", "image/jpeg"),
            ("", 'multipart/related; type="application/dicom"'),
        ):
            answer = service.get(f"{address}{below}", headers={"accept": accept})
            assert answer.status_code in (200, 404, 406), (path.name, below, accept)
            assert "Traceback" not in answer.headers.get("content-type", "")
    found = service.get("/instances", headers={"accept": "application/dicom+json"}, params={"limit": 1000})
    assert len(found.json()) == len(kept(answers))


@pytest.mark.filterwarnings("ignore")
def test_decoded_instances_have_the_same_pixels(
    service: httpx.Client, answers: dict[Path, httpx.Response]
) -> None:
    explicit = f"{AS_STORED.partition('; transfer')[0]}; transfer-syntax=1.2.840.10008.1.2.1"
    compared = 0
    for path, address in kept(answers).items():
        answer = service.get(address, headers={"accept": explicit})
        if answer.status_code == 406 or path.parent.name == "broken":
            continue
        ((_, content),) = parts(answer.headers["content-type"], answer.content)
        decoded, source = dcmread(io.BytesIO(content)), dcmread(path)
        if "PixelData" in source:
            assert (decoded.pixel_array == source.pixel_array).all(), path.name
            compared += 1
    assert compared > 35
