# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS answers (PS3.18 10.6): matching, paging, returned attributes and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb.media import parse_media_type
from informatics_gateway.dicomweb.native_xml import read
from informatics_gateway.dicomweb.qido_rs import router
from profiles.multipart import MultipartParser, PartData
from task_manager.actor import Actor
from tests.asgi import AsgiClient
from tests.instances import STUDY, FolderIntake, ct

OTHER = "1.2.826.0.1.3680043.8.498.8"


@pytest.fixture
def client(tmp_path: Path) -> AsgiClient:
    archive = FolderIntake(tmp_path)
    for content in (ct(1), ct(2), ct(11), ct(1, study=OTHER, PatientID="P2")):
        staged = archive.stage()
        staged.write(content)
        archive.receive_instance(staged, actor=Actor(door="dicom"))
    app = FastAPI()
    app.include_router(router(archive))
    return AsgiClient(app)


def get(client: AsgiClient, path: str) -> Any:
    return client.get(f"/dicom-web/studies{path}", headers={"accept": "application/dicom+json"})


def values(answer: Any, key: str) -> list[Any]:
    return [item[key]["Value"][0] for item in answer.json()]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [STUDY, OTHER]),
        ("?PatientID=P2", [OTHER]),
        ("?00100020=P1", [STUDY]),
        ("?PatientID=*&AccessionNumber=", [STUDY, OTHER]),
        ("?limit=1", [STUDY]),
        ("?offset=1", [OTHER]),
        ("?limit=1&offset=1&includefield=all", [OTHER]),
        ("?PatientID=P1&Nonsense=1", [STUDY]),
        ("?PatientName=m%C3%BCller*&StudyDate=20260101-", [STUDY, OTHER]),
    ],
)
def test_studies(client: AsgiClient, query: str, found: list[str]) -> None:
    answer = get(client, query)
    assert answer.status_code == 200
    assert values(answer, "0020000D") == found
    assert values(answer, "00081190") == [f"http://airway.test/dicom-web/studies/{uid}" for uid in found]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/{STUDY}/instances", [1, 2, 11]),
        (f"/{STUDY}/series/{STUDY}.1/instances?InstanceNumber=2", [2]),
        (f"/{STUDY}/instances?SOPInstanceUID={STUDY}.1.1,{STUDY}.1.11", [1, 11]),
        (f"/{STUDY}/instances?StudyDate=20260101-20260401", [1, 2, 11]),
        (f"/{STUDY}/instances?00280010=16&BitsAllocated=16", [1, 2, 11]),
        (f"/{STUDY}/instances?Modality=CT&limit=1&offset=1", [2]),
    ],
)
def test_instances(client: AsgiClient, path: str, found: list[int]) -> None:
    answer = get(client, path)
    assert values(answer, "00200013") == found
    assert set(values(answer, "00080056")) == {"ONLINE"}
    assert "00280100" in answer.json()[0]
    assert "00100010" not in answer.json()[0]
    assert "00280101" not in answer.json()[0]


def test_included_fields(client: AsgiClient) -> None:
    for field in ("PatientName", "00100010", "all", "Nonsense,PatientName"):
        answer = get(client, f"/{STUDY}/instances?includefield={field}")
        assert values(answer, "00100010")[0] == {"Alphabetic": "Müller^Jörg"}


def test_series(client: AsgiClient) -> None:
    answer = get(client, f"/{STUDY}/series?Modality=CT")
    assert values(answer, "00081190") == [f"http://airway.test/dicom-web/studies/{STUDY}/series/{STUDY}.1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?PatientID=NOBODY", 204),
        (f"/{STUDY}/instances?limit=0", 204),
        ("/1.2.3/series", 204),
        ("?limit=-1", 400),
        ("?limit=ten", 400),
        ("?offset=99999999999", 400),
        ("?PatientID=%00", 400),
        ("/x/series", 400),
        ("/x/instances", 400),
        ("?StudyDate=yesterday", 400),
        ("?PatientName.PatientID=1", 400),
        ("?PixelData=1", 400),
        ("?StudyInstanceUID=../../etc", 400),
        ("?InstanceNumber=first", 400),
        ("?PatientID=P1&PatientID=P2", 400),
        ("?RequestAttributesSequence=1", 400),
        ("?x=" + "y" * 20_000, 414),
        ("?" + "a=1&" * 300, 400),
        ("?PatientID=%FF", 400),
    ],
)
def test_statuses(client: AsgiClient, path: str, status: int) -> None:
    answer = get(client, path)
    assert answer.status_code == status
    assert status != 204 or answer.content == b""


def test_other_media_types_are_not_acceptable(client: AsgiClient) -> None:
    answer = client.get("/dicom-web/studies", headers={"accept": "text/html"})
    assert answer.status_code == 406


def test_answers_in_xml(client: AsgiClient) -> None:
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = client.get("/dicom-web/studies", headers={"accept": accept})
    boundary = parse_media_type(answer.headers["content-type"]).parameter("boundary")
    parser = MultipartParser(boundary, max_parts=9, max_part_bytes=1 << 20)
    models = [event.data for event in parser.feed(answer.content) if isinstance(event, PartData)]
    assert [read(model)["0020000D"]["Value"] for model in models] == [[STUDY], [OTHER]]


@pytest.mark.parametrize(
    ("path", "level", "extra"),
    [
        ("/series", "series", {"0020000E", "0020000D", "00100010", "00080060"}),
        ("/instances", "instances", {"00080018", "0020000D", "00100010", "00080060", "00280010"}),
    ],
)
def test_searches_of_all_studies_tell_the_study(
    client: AsgiClient, path: str, level: str, extra: set[str]
) -> None:
    answer = client.get(f"/dicom-web{path}?PatientID=P2")
    (found,) = answer.json()
    assert extra <= set(found)
    assert f"/{level}/" in found["00081190"]["Value"][0]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?limit=1", "additional results"),
        ("?fuzzymatching=true", "literal matching"),
        ("?fuzzymatching=true&limit=1", "additional results"),
        ("?Nonsense=F", "names no attribute"),
        ("?includefield=Nonsense", "names no attribute"),
    ],
)
def test_warnings(client: AsgiClient, query: str, text: str) -> None:
    warning = get(client, query).headers["warning"]
    assert warning.startswith("299 http://airway.test/dicom-web: ")
    assert text in warning
