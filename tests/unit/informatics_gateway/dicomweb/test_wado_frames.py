# SPDX-License-Identifier: Apache-2.0
"""Frames and bulk data (PS3.18 10.4.1.1.4, 10.4.1.1.5): as stored, decoded, and what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from informatics_gateway.dicomweb.media import parse_accept
from informatics_gateway.dicomweb.retrieval import AnsweredError
from informatics_gateway.dicomweb.wado_frames import frame_form
from tests.asgi import AsgiClient
from tests.instances import ct_data_set, part10
from tests.unit.informatics_gateway.dicomweb.images import URL, client_of, image, parts, pixels, rle

OCTETS = 'multipart/related; type="application/octet-stream"'
JLS = "1.2.840.10008.1.2.4.80"


def get(client: AsgiClient, path: str, accept: str = OCTETS) -> list[tuple[str, bytes]]:
    answer = client.get(f"{URL}{path}", headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    return parts(answer.headers["content-type"], answer.content)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_native_frames_in_the_order_asked(tmp_path: Path, syntax: str) -> None:
    client = client_of(tmp_path, part10(image(pixels()), syntax))
    kind = f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    expected = [(kind, pixels()[index].tobytes()) for index in (2, 0)]
    assert get(client, "/frames/3,1") == expected
    assert get(client, "/frames/3,1", "*/*") == expected


def test_big_endian_frames_and_bulk_data_are_turned(tmp_path: Path) -> None:
    made = image(pixels())
    made["PixelData"].value = pixels().byteswap().tobytes()
    client = client_of(tmp_path, part10(made, ExplicitVRBigEndian))
    assert get(client, "/frames/2")[0][1] == pixels()[1].tobytes()
    assert get(client, "/bulkdata/7FE00010")[0][1] == pixels().tobytes()


@pytest.mark.parametrize(
    ("accept", "kind", "decoded"),
    [
        pytest.param(OCTETS, "application/octet-stream", True, id="decoded"),
        pytest.param(f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}", "application", True, id="named"),
        pytest.param(f"{OCTETS}; transfer-syntax=*", "image/dicom-rle", False, id="as-stored"),
        pytest.param('multipart/related; type="image/dicom-rle"', "image/dicom-rle", False, id="rle"),
        pytest.param('multipart/related; type="image/x-dicom-rle"', "image/dicom-rle", False, id="old-name"),
        pytest.param(
            f'multipart/related; type="image/jp2", {OCTETS};q=0.5', "application", True, id="second"
        ),
        pytest.param("multipart/related", "image/dicom-rle", False, id="any"),
    ],
)
def test_compressed_frames(tmp_path: Path, accept: str, kind: str, decoded: bool) -> None:
    client = client_of(tmp_path, rle(image(pixels())))
    found = get(client, "/frames/1,3", accept)
    assert [found_kind.startswith(kind) for found_kind, _ in found] == [True, True]
    assert ([content for _, content in found] == [pixels()[n].tobytes() for n in (0, 2)]) is decoded


def test_one_frame_without_multipart(tmp_path: Path) -> None:
    client = client_of(tmp_path, rle(image(pixels())))
    answer = client.get(f"{URL}/frames/2", headers={"accept": "application/octet-stream"})
    assert answer.content == pixels()[1].tobytes()
    assert answer.headers["content-length"] == str(len(answer.content))
    two = client.get(f"{URL}/frames/1,2", headers={"accept": "application/octet-stream"})
    assert two.status_code == 406


def test_frames_of_single_bits_begin_at_a_byte(tmp_path: Path) -> None:
    bits = (np.arange(3 * 15) % 4 == 1).reshape(3, 3, 5)
    made = ct_data_set(1, Rows=3, Columns=5, NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    made.add_new(0x7FE00010, "OB", packed + b"\0" * (len(packed) % 2))
    client = client_of(tmp_path, part10(made))
    for number in (1, 2, 3):
        expected = np.packbits(bits[number - 1].ravel(), bitorder="little").tobytes()
        assert get(client, f"/frames/{number}")[0][1] == expected


def test_bulk_data_within_a_sequence(tmp_path: Path) -> None:
    made = image(pixels())
    inner = ct_data_set(9)
    inner.PixelData = bytes(range(200)) * 20
    made.IconImageSequence = [ct_data_set(8, pixels=256), inner]
    client = client_of(tmp_path, part10(made))
    (item,) = client.get(f"{URL}/metadata").json()
    addresses = [icon["7FE00010"]["BulkDataURI"] for icon in item["00880200"]["Value"]]
    assert [address.rpartition("/bulkdata/")[2] for address in addresses] == [
        "00880200/1/7FE00010",
        "00880200/2/7FE00010",
    ]
    answer = client.get(addresses[1], headers={"accept": "application/octet-stream"})
    assert answer.content == inner.PixelData


def test_bulk_data_of_compressed_pixels_are_their_frames(tmp_path: Path) -> None:
    client = client_of(tmp_path, rle(image(pixels())))
    assert [content for _, content in get(client, "/bulkdata/7fe00010")] == [
        frame.tobytes() for frame in pixels()
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/frames/0", 404),
        ("/frames/4", 404),
        ("/frames/1,9999999", 404),
        ("/frames/one", 400),
        ("/frames/-1", 400),
        ("/frames/1,", 400),
        ("/frames/%D9%A1", 400),
        ("/frames/" + ",".join(["1"] * 10_001), 400),
        ("/bulkdata/PixelData", 400),
        ("/bulkdata/..%2F..%2Fetc%2Fpasswd", 400),
        ("/bulkdata/00100010/1", 400),
        ("/bulkdata/54000100", 404),
        ("/bulkdata/00880200/1/7FE00010", 404),
    ],
)
def test_what_is_not_there(tmp_path: Path, path: str, status: int) -> None:
    client = client_of(tmp_path, part10(image(pixels())))
    assert client.get(f"{URL}{path}", headers={"accept": "*/*"}).status_code == status


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        pytest.param({"Rows": 4000}, "/frames/1", id="pixels-too-short"),
        pytest.param({"NumberOfFrames": 2**31 - 1}, "/frames/1", id="more-frames-than-bytes"),
        pytest.param({"Rows": 0}, "/frames/1", id="no-rows"),
        pytest.param({"BitsAllocated": 0}, "/frames/1", id="no-bits"),
        pytest.param({"Rows": 65535, "Columns": 65535, "BitsAllocated": 65528}, "/frames/1", id="absurd"),
    ],
)
def test_headers_that_lie_about_their_pixels(tmp_path: Path, changes: dict[str, int], path: str) -> None:
    client = client_of(tmp_path, part10(image(pixels(), **changes)))
    answer = client.get(f"{URL}{path}", headers={"accept": OCTETS})
    assert answer.status_code == 404
    assert answer.json()["faults"]


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        ("image/jls", JLS, (False, True)),
        (f"image/jls; transfer-syntax={JLS}", JLS, (False, True)),
        (f'multipart/related; type="image/jls"; transfer-syntax={RLELossless}', JLS, None),
        ('multipart/related; type="image/*"', JLS, (False, False)),
        ('multipart/related; type="video/*"', JLS, None),
        ("text/html, image/jls;q=0.2", JLS, (False, True)),
        ("image/png", JLS, None),
        (OCTETS, "1.2.840.10008.1.2.4.100", None),
        ("", JLS, (False, False)),
    ],
)
def test_forms(accept: str, stored: str, expected: tuple[bool, bool] | None) -> None:
    if expected is None:
        with pytest.raises(AnsweredError) as raised:
            frame_form(parse_accept(accept), stored, one=True)
        assert raised.value.answer.status_code == 406
        return
    form = frame_form(parse_accept(accept), stored, one=True)
    assert (form.decode, form.single) == expected
