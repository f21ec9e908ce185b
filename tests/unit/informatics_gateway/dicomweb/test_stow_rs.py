# SPDX-License-Identifier: Apache-2.0
"""STOW-RS answers (PS3.18 10.5): statuses, sequences and what is kept when a body goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb.native_xml import read
from informatics_gateway.dicomweb.stow_rs import router
from profiles.multipart import PART_END, closing, part_head
from task_manager.errors import StoreError
from tests.asgi import AsgiClient
from tests.instances import STUDY, FolderIntake, ct
from tests.service import make_service

RELATED = 'multipart/related; type="application/dicom"; boundary=B'


@pytest.fixture
def intake(tmp_path: Path) -> FolderIntake:
    return FolderIntake(tmp_path)


@pytest.fixture
def client(intake: FolderIntake) -> AsgiClient:
    app = FastAPI()
    app.include_router(router(intake, max_part_bytes=100_000, max_parts=5))
    return AsgiClient(app)


def body(*parts: bytes, content_type: str = "application/dicom") -> bytes:
    return b"".join(part_head("B", content_type) + part + PART_END for part in parts) + closing("B")


def post(client: AsgiClient, content: bytes, path: str = "", **headers: str) -> Any:
    fields = {"content-type": RELATED} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/dicom-web/studies{path}", content=content, headers=fields)


def uids(answer: dict[str, Any], key: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.get(key, {}).get("Value", [])]


def reasons(answer: dict[str, Any], key: str) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.get(key, {}).get("Value", [])]


def test_all_stored(client: AsgiClient, intake: FolderIntake) -> None:
    sent = [ct(1), ct(2)]
    answer = post(client, body(*sent))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert uids(answer.json(), "00081199") == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    assert answer.json()["00081199"]["Value"][0]["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    assert sorted(intake.stored().values()) == sorted(sent)
    assert intake.actors[0].door == "dicomweb"


def test_some_stored(client: AsgiClient, intake: FolderIntake) -> None:
    answer = post(client, body(ct(1), ct(2, SeriesInstanceUID=None), b"no DICOM"))
    assert answer.status_code == 202
    assert uids(answer.json(), "00081199") == [f"{STUDY}.1.1"]
    assert uids(answer.json(), "00081198") == [f"{STUDY}.1.2"]
    assert reasons(answer.json(), "00081198") == [0xC000]
    assert reasons(answer.json(), "0008119A") == [0xC000]
    assert intake.leftovers() == []


def test_none_stored(client: AsgiClient) -> None:
    answer = post(client, body(ct(1, study="1.2.3")), path=f"/{STUDY}")
    assert answer.status_code == 409
    assert reasons(answer.json(), "00081198") == [0xA900]
    assert answer.json()["00081190"]["Value"] == [f"http://airway.test/dicom-web/studies/{STUDY}"]


def test_stored_into_its_study(client: AsgiClient) -> None:
    assert post(client, body(ct(1)), path=f"/{STUDY}").status_code == 200


def test_one_instance_without_multipart(client: AsgiClient, intake: FolderIntake) -> None:
    answer = post(client, ct(1), content_type="application/dicom")
    assert answer.status_code == 200
    assert list(intake.stored().values()) == [ct(1)]


@pytest.mark.parametrize(
    ("content", "path", "headers", "status"),
    [
        pytest.param(b"", "", {}, 400, id="empty"),
        pytest.param(closing("B"), "", {}, 400, id="no-parts"),
        pytest.param(b"--B\r\n\r\nxxx", "", {}, 400, id="not-closed"),
        pytest.param(body(ct(1)), "", {"content_type": "multipart/related"}, 400, id="no-boundary"),
        pytest.param(b"", "", {"content_type": "application/dicom"}, 400, id="empty-instance"),
        pytest.param(body(ct(1)), "/not-a-uid", {}, 400, id="bad-study"),
        pytest.param(body(b"x" * 200_000), "", {}, 413, id="large-part"),
        pytest.param(b"x" * 200_000, "", {"content_type": "application/dicom"}, 413, id="large-instance"),
        pytest.param(body(*[b"x"] * 6), "", {}, 413, id="many-parts"),
        pytest.param(b"{}", "", {"content_type": "application/json"}, 415, id="json"),
        pytest.param(b"{}", "", {"content_type": ""}, 415, id="no-type"),
        pytest.param(
            b"{}",
            "",
            {"content_type": 'multipart/related; type="application/dicom+json"; boundary=B'},
            400,
            id="json-without-parts",
        ),
        pytest.param(body(ct(1)), "", {"accept": "text/html"}, 406, id="html-answer"),
        pytest.param(body(ct(1), content_type="image/jpeg"), "", {}, 409, id="part-of-another-type"),
    ],
)
def test_refused(
    client: AsgiClient,
    intake: FolderIntake,
    content: bytes,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    answer = post(client, content, path, **headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/dicom+json"
    assert intake.leftovers() == []
    assert intake.instances == []


def test_what_was_stored_before_a_body_broke_is_told(client: AsgiClient, intake: FolderIntake) -> None:
    answer = post(
        client,
        part_head("B", "application/dicom") + ct(1) + PART_END + part_head("B", "application/dicom") + b"x",
    )
    assert answer.status_code == 400
    assert uids(answer.json(), "00081199") == [f"{STUDY}.1.1"]
    assert len(intake.instances) == 1
    assert intake.leftovers() == []


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(StoreError("full"), 507, 0xA700), (RuntimeError("bug"), 409, 0x0110)],
    ids=["disk-full", "our-fault"],
)
def test_failures_of_ours(
    client: AsgiClient, intake: FolderIntake, error: Exception, status: int, reason: int
) -> None:
    intake.broken = error
    answer = post(client, body(ct(1)))
    assert answer.status_code == status
    assert reasons(answer.json(), "00081198") + reasons(answer.json(), "0008119A") == [reason]
    assert intake.leftovers() == []


def test_an_answer_in_xml(client: AsgiClient) -> None:
    answer = post(client, body(ct(1), b"no DICOM"), accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    content = read(answer.content)
    assert uids(content, "00081199") == [f"{STUDY}.1.1"]
    assert reasons(content, "0008119A") == [0xC000]


def test_other_bytes_under_a_known_uid_are_told(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    app = FastAPI()
    app.include_router(router(bed.service.intake))
    client = AsgiClient(app)
    assert post(client, body(ct(1))).status_code == 200
    again = post(client, body(ct(1)))
    assert again.status_code == 200
    assert "00081196" not in again.json()["00081199"]["Value"][0]
    other = post(client, body(ct(1, PatientID="P2"), ct(2)))
    assert other.status_code == 202
    assert [item.get("00081196") for item in other.json()["00081199"]["Value"]] == [
        {"vr": "US", "Value": [0xB001]},
        None,
    ]
    bed.database.close()


def test_a_body_that_claims_too_much_is_not_read(client: AsgiClient, intake: FolderIntake) -> None:
    headers = {"content-type": "application/dicom", "content-length": "2147483648"}
    answer = client.post("/dicom-web/studies", content=b"x", headers=headers)
    assert answer.status_code == 413
    assert intake.leftovers() == []
