# SPDX-License-Identifier: Apache-2.0
"""Data sets in DICOM JSON and XML with bulk data, as instances (PS3.18 10.5.2); and hostile ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import generate_frames

from informatics_gateway.dicomweb.media import MediaType
from informatics_gateway.dicomweb.native_xml import write
from informatics_gateway.dicomweb.stow_metadata import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_HELD_BYTES,
    BulkPart,
    InstanceBuilder,
    MetadataError,
)
from informatics_gateway.dicomweb.stow_rs import router
from profiles.multipart import PART_END, closing, part_head
from tests.asgi import AsgiClient
from tests.instances import STUDY, FolderIntake, ct_data_set
from tests.unit.informatics_gateway.dicomweb.images import image, pixels, rle

JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
Part = tuple[str, bytes, str]


@pytest.fixture
def intake(tmp_path: Path) -> FolderIntake:
    return FolderIntake(tmp_path)


@pytest.fixture
def client(intake: FolderIntake) -> AsgiClient:
    app = FastAPI()
    app.include_router(router(intake, max_part_bytes=1 << 20))
    return AsgiClient(app)


def metadata(made: Dataset, **bulk: str) -> dict[str, Any]:
    """The DICOM JSON of a data set; `bulk` has Bulk Data URIs by keyword."""
    content: dict[str, Any] = made.to_json_dict()
    for keyword, address in bulk.items():
        tag = f"{made.data_element(keyword).tag:08X}"
        content[tag] = {"vr": content[tag]["vr"], "BulkDataURI": address}
    return content


def post(client: AsgiClient, *parts: Part, kind: str = JSON, path: str = "") -> Any:
    content = b"".join(
        part_head("B", content_type, **({"content_location": location} if location else {})) + body + PART_END
        for content_type, body, location in parts
    )
    headers = {"content-type": f'multipart/related; type="{kind}"; boundary=B'}
    return client.post(f"/dicom-web/studies{path}", content=content + closing("B"), headers=headers)


def stored(intake: FolderIntake) -> Dataset:
    (content,) = intake.stored().values()
    return dcmread(io.BytesIO(content))


def test_json_with_native_pixels(client: AsgiClient, intake: FolderIntake) -> None:
    made = image(pixels())
    document = orjson.dumps([metadata(made, PixelData="pixels/1")])
    answer = post(client, (JSON, document, ""), (OCTETS, pixels().tobytes(), "pixels/1"), path=f"/{STUDY}")
    assert answer.status_code == 200
    assert answer.json()["00081199"]["Value"][0]["00081155"]["Value"] == [made.SOPInstanceUID]
    found = stored(intake)
    assert found == made
    assert np.array_equal(found.pixel_array, pixels())
    assert str(found.PatientName) == "Müller^Jörg"
    assert intake.leftovers() == []


def test_bulk_data_may_come_first_and_for_several_instances(client: AsgiClient, intake: FolderIntake) -> None:
    made = [ct_data_set(number) for number in (1, 2)]
    document = orjson.dumps([metadata(one, PixelData=f"p{one.InstanceNumber}") for one in made])
    bulk = [(OCTETS, bytes([one.InstanceNumber]) * 512, f"p{one.InstanceNumber}") for one in made]
    assert post(client, *bulk, (JSON, document, "")).status_code == 200
    found = {uid: dcmread(io.BytesIO(content)) for uid, content in intake.stored().items()}
    assert [found[one.SOPInstanceUID].PixelData[:1] for one in made] == [b"\1", b"\2"]


def test_xml_with_bulk_data(client: AsgiClient, intake: FolderIntake) -> None:
    made = image(pixels())
    document = write(metadata(made, PixelData="p"), lambda tag: keyword_for_tag(int(tag, 16)))
    answer = post(client, (XML, document, ""), (OCTETS, pixels().tobytes(), "p"), kind=XML)
    assert answer.status_code == 200
    assert stored(intake) == made


def test_metadata_alone(client: AsgiClient, intake: FolderIntake) -> None:
    made = ct_data_set(1)
    del made.PixelData
    body = orjson.dumps(made.to_json_dict())
    answer = client.post("/dicom-web/studies", content=body, headers={"content-type": JSON})
    assert answer.status_code == 200
    assert stored(intake) == made


def test_compressed_frames_each_a_part(client: AsgiClient, intake: FolderIntake) -> None:
    source = dcmread(io.BytesIO(rle(image(pixels()))))
    frames = list(generate_frames(source.PixelData, number_of_frames=3))
    document = orjson.dumps(metadata(source, PixelData="frames"))
    answer = post(client, (JSON, document, ""), *(("image/dicom-rle", one, "frames") for one in frames))
    assert answer.status_code == 200
    assert np.array_equal(stored(intake).pixel_array, pixels())


def test_jpeg_without_a_transfer_syntax_is_what_its_stream_says(
    client: AsgiClient, intake: FolderIntake
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), 77, dtype=np.uint8)).save(file, "JPEG")
    made = image(np.zeros((1, 16, 16), dtype=np.uint8))
    document = orjson.dumps(metadata(made, PixelData="p"))
    assert post(client, (JSON, document, ""), ("image/jpeg", file.getvalue(), "p")).status_code == 200
    assert stored(intake).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert np.all(stored(intake).pixel_array == 77)


def test_other_bulk_data(client: AsgiClient, intake: FolderIntake) -> None:
    made = ct_data_set(1)
    made.TextValue = "x"
    icon = ct_data_set(2)
    made.IconImageSequence = [icon]
    content = metadata(made, PixelData="p", TextValue="t")
    content["00880200"]["Value"][0]["7FE00010"] = {"vr": "OW", "BulkDataURI": "icon"}
    bulk = (
        (OCTETS, b"\1" * 512, "p"),
        (OCTETS, "Größe".encode() * 1000, "t"),
        (OCTETS, b"\2" * 513, "icon"),
    )
    assert post(client, (JSON, orjson.dumps(content), ""), *bulk).status_code == 200
    found = stored(intake)
    assert found.TextValue == "Größe" * 1000
    assert found.IconImageSequence[0].PixelData == b"\2" * 513 + b"\0"


def test_what_one_instance_holds_has_a_limit_however_often_it_is_referred_to(intake: FolderIntake) -> None:
    content = metadata(ct_data_set(1))
    for tag in ("00420011", "00189445"):
        content[tag] = {"vr": "OB", "BulkDataURI": "p"}
    large, made = intake.stage(), intake.stage()
    large.write(b"\0" * (MAX_HELD_BYTES // 2 + 1))
    builder = InstanceBuilder({"p": [BulkPart(media_type=MediaType(OCTETS), staged=large)]})
    with pytest.raises(MetadataError, match="bulk data other than pixels of more than"):
        builder.write(content, made)
    for staged in (large, made):
        staged.discard()
    assert intake.leftovers() == []


def changed(**elements: Any) -> dict[str, Any]:
    content: dict[str, Any] = ct_data_set(1).to_json_dict()
    for tag, element in elements.items():
        if element is None:
            content.pop(tag[1:])
        else:
            content[tag[1:]] = element
    return content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(changed(t00080016=None), id="no-sop-class"),
        pytest.param(changed(t00080018={"vr": "UI", "Value": ["../../etc"]}), id="path-like-uid"),
        pytest.param(changed(t0020000D={"vr": "UI", "Value": ["1/../2"]}), id="path-like-study"),
        pytest.param(changed(t7FE00010={"vr": "OW", "BulkDataURI": "nowhere"}), id="bulk-did-not-come"),
        pytest.param(changed(t7FE00010={"vr": "OW", "BulkDataURI": {"a": 1}}), id="address-is-no-text"),
        pytest.param(changed(t00200013={"vr": "IS", "Value": ["many"]}), id="no-number"),
        pytest.param(changed(t00280010={"vr": "US", "Value": [2**40]}), id="absurd-number"),
        pytest.param(changed(t00280010={"vr": "US", "BulkDataURI": "p"}), id="bulk-of-a-number"),
        pytest.param(changed(t00100010={"vr": "PN", "Value": [[]]}), id="name-is-a-list"),
        pytest.param(changed(t00880200={"vr": "SQ", "Value": ["item"]}), id="item-is-text"),
        pytest.param(changed(t00420011={"vr": "OB", "InlineBinary": "%%%"}), id="no-base64"),
        pytest.param(changed(tnonsense={"vr": "CS"}), id="no-tag"),
        pytest.param(changed(t00080060={"vr": "ZZ", "Value": ["CT"]}), id="no-vr"),
        pytest.param(changed(t00080060={}), id="empty-element"),
    ],
)
def test_data_sets_that_make_no_instance(
    client: AsgiClient, intake: FolderIntake, content: dict[str, Any]
) -> None:
    answer = post(client, (JSON, orjson.dumps(content), ""), (OCTETS, b"\0\0", "p"))
    assert (answer.status_code == 409) == (not intake.instances)
    assert answer.status_code in (200, 409)
    assert intake.leftovers() == []
    if answer.status_code == 409:
        (failed,) = [
            item for tag in ("00081198", "0008119A") for item in answer.json().get(tag, {}).get("Value", [])
        ]
        assert failed["00081197"]["Value"] == [0xC000]


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"00880200": {"vr": "SQ", "Value": [inner]}}
    return inner


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[1]",
        b'"text"',
        b"[" * 100_000,
        b'{"00080018": 1}',
        orjson.dumps(nested(MAX_DEPTH + 1)),
        b"[" + b",".join([b"{}"] * 10_001) + b"]",
        orjson.dumps({f"{number:08X}": {"vr": "CS"} for number in range(MAX_ELEMENTS + 1)}),
    ],
    ids=["empty", "open", "numbers", "text", "deep", "no-element", "nested", "many", "elements"],
)
def test_documents_that_are_no_metadata(tmp_path: Path, document: bytes) -> None:
    intake = FolderIntake(tmp_path)
    app = FastAPI()
    app.include_router(router(intake, max_part_bytes=1 << 26))
    answer = post(AsgiClient(app), (JSON, document, ""), (OCTETS, b"x", "p"))
    assert answer.status_code == 400
    assert intake.leftovers() == []


def test_xml_with_entities_is_refused(client: AsgiClient, intake: FolderIntake) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>'
    assert post(client, (XML, bomb, ""), kind=XML).status_code == 400
    assert intake.leftovers() == []


def test_metadata_over_the_limit(tmp_path: Path) -> None:
    intake = FolderIntake(tmp_path)
    app = FastAPI()
    app.include_router(router(intake))
    assert post(AsgiClient(app), (JSON, b" " * (33 * 1024**2), "")).status_code == 413
    assert intake.leftovers() == []
