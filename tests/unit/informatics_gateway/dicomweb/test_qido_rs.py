# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS answers (PS3.18 10.6): matching, paging, returned attributes and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb.qido_rs import router
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
        (f"/{STUDY}/instances?InstanceNumber=1*", [1, 11]),
        (f"/{STUDY}/instances?InstanceNumber=?", [1, 2]),
        (f"/{STUDY}/instances?Modality=CT&limit=1&offset=1", [2]),
    ],
)
def test_instances(client: AsgiClient, path: str, found: list[int]) -> None:
    answer = get(client, path)
    assert values(answer, "00200013") == found
    assert set(values(answer, "00080056")) == {"ONLINE"}
    assert set(values(answer, "00083002")) == {"1.2.840.10008.1.2.1"}
    assert "00280100" in answer.json()[0]
    assert "00100010" not in answer.json()[0]


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
    ],
)
def test_statuses(client: AsgiClient, path: str, status: int) -> None:
    answer = get(client, path)
    assert answer.status_code == status
    assert status != 204 or answer.content == b""


def test_other_media_types_are_not_acceptable(client: AsgiClient) -> None:
    answer = client.get("/dicom-web/studies", headers={"accept": "application/dicom+xml"})
    assert answer.status_code == 406


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?limit=1", "additional results"),
        ("?fuzzymatching=true", "literal matching"),
        ("?PatientSex=F", "PatientSex is not matched on"),
    ],
)
def test_warnings(client: AsgiClient, query: str, text: str) -> None:
    warning = get(client, query).headers["warning"]
    assert warning.startswith("299 http://airway.test ")
    assert text in warning
