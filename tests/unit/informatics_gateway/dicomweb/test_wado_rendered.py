# SPDX-License-Identifier: Apache-2.0
"""Rendered images and thumbnails (PS3.18 8.3.5, 10.4.1.1.3): what the pictures show, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from tests.asgi import AsgiClient
from tests.instances import part10
from tests.unit.informatics_gateway.dicomweb.images import URL, client_of, image, pixels, rle

RAMP = np.array([[[0, 100, 200, 300], [400, 500, 600, 700]]], dtype=np.uint16)


def shown(client: AsgiClient, path: str, accept: str = "image/png") -> np.ndarray[Any, Any]:
    answer = client.get(f"{URL}{path}", headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == accept
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    ("changes", "query", "expected"),
    [
        pytest.param({}, "", [0, 36, 73, 109, 146, 182, 219, 255], id="whole-range"),
        pytest.param(
            {"WindowCenter": "350.5", "WindowWidth": "701"},
            "",
            [0, 36, 73, 109, 146, 182, 219, 255],
            id="own-window",
        ),
        pytest.param({}, "?window=350,700,linear-exact", [0, 36, 73, 109, 146, 182, 219, 255], id="exact"),
        pytest.param({}, "?window=300.5,1,linear", [0, 0, 0, 0, 255, 255, 255, 255], id="width-1"),
        pytest.param({}, "?window=300,200,sigmoid", [1, 5, 30, 128, 225, 250, 254, 255], id="sigmoid"),
        pytest.param(
            {"RescaleSlope": "2", "RescaleIntercept": "-1000"},
            "?window=-300,1400,linear-exact",
            [0, 36, 73, 109, 146, 182, 219, 255],
            id="modality-units",
        ),
        pytest.param(
            {"PhotometricInterpretation": "MONOCHROME1"},
            "",
            [255, 219, 182, 146, 109, 73, 36, 0],
            id="inverted",
        ),
        pytest.param({"PixelPaddingValue": 700}, "", [0, 42, 85, 128, 170, 212, 255, 255], id="padding"),
    ],
)
def test_grey_values(tmp_path: Path, changes: dict[str, Any], query: str, expected: list[int]) -> None:
    client = client_of(tmp_path, part10(image(RAMP, **changes)))
    assert shown(client, f"/rendered{query}").ravel().tolist() == pytest.approx(expected, abs=1)


def test_frames_have_their_own_window(tmp_path: Path) -> None:
    made = image(pixels(frames=2))
    groups = []
    for center in (20, 400):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = str(center), "1"
        group = Dataset()
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
    client = client_of(tmp_path, part10(made))
    for number, center in ((1, 20), (2, 400)):
        expected = np.where(pixels(frames=2)[number - 1] > center - 0.5, 255, 0)
        assert np.array_equal(shown(client, f"/frames/{number}/rendered"), expected)


def test_colour_and_palette(tmp_path: Path) -> None:
    colours = np.array([[[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]]], dtype=np.uint8)
    client = client_of(tmp_path / "rgb", part10(image(colours)))
    assert np.array_equal(shown(client, "/rendered"), colours[0])
    indices = np.array([[[0, 1], [2, 3]]], dtype=np.uint8)
    made = image(indices, PhotometricInterpretation="PALETTE COLOR")
    for name, column in (("Red", 0), ("Green", 1), ("Blue", 2)):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(made, f"{name}PaletteColorLookupTableData", colours[0].reshape(4, 3)[:, column].tobytes())
    client = client_of(tmp_path / "palette", part10(made))
    assert np.array_equal(shown(client, "/rendered"), colours[0])


@pytest.mark.parametrize(
    ("viewport", "shape"),
    [
        ("12,8", (8, 12)),
        ("12,100", (8, 12)),
        ("3,2", (2, 3)),
        ("4,4,2,1,2,2", (4, 4)),
        ("4,4,2,1,,", (3, 4)),
        ("4,4,,,2,2", (4, 4)),
    ],
)
def test_viewport_keeps_the_shape(tmp_path: Path, viewport: str, shape: tuple[int, int]) -> None:
    client = client_of(tmp_path, part10(image(pixels(frames=1))))
    assert shown(client, f"/rendered?viewport={viewport}").shape == shape


def test_negative_regions_flip(tmp_path: Path) -> None:
    client = client_of(tmp_path, part10(image(pixels(frames=1))))
    upright = shown(client, "/rendered")
    assert np.array_equal(shown(client, "/rendered?viewport=6,4,0,0,-6,-4"), upright[::-1, ::-1])


def test_compressed_frames_look_the_same(tmp_path: Path) -> None:
    native = client_of(tmp_path / "a", part10(image(pixels())))
    compressed = client_of(tmp_path / "b", rle(image(pixels())))
    for path in ("/rendered", "/frames/3/rendered?window=100,50,linear"):
        assert np.array_equal(shown(native, path), shown(compressed, path))
    assert np.array_equal(shown(native, "/rendered"), shown(native, "/frames/2/rendered"))


def test_quality_and_formats(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 4000, (1, 64, 64), dtype=np.uint16)
    client = client_of(tmp_path, part10(image(noise)))
    sizes = [len(client.get(f"{URL}/rendered?quality={quality}").content) for quality in (10, 95)]
    assert sizes[0] < sizes[1]
    for accept, kind in (("*/*", "image/jpeg"), ("image/*", "image/jpeg"), ("image/gif", "image/gif")):
        answer = client.get(f"{URL}/rendered", headers={"accept": accept})
        assert answer.headers["content-type"] == kind
    query = client.get(f"{URL}/rendered?accept=image/png", headers={"accept": "text/html"})
    assert query.headers["content-type"] == "image/png"


@pytest.mark.parametrize("path", ["/thumbnail", "/frames/1/thumbnail"])
def test_thumbnails(tmp_path: Path, path: str) -> None:
    client = client_of(tmp_path, part10(image(np.zeros((1, 100, 300), dtype=np.uint8))))
    assert shown(client, path).shape == (43, 128)
    assert shown(client, f"{path}?viewport=30,30").shape == (10, 30)
    for above in (URL.rpartition("/instances/")[0], URL.rpartition("/series/")[0]):
        assert client.get(f"{above}/thumbnail").status_code == 200


def test_what_is_not_supported_is_told(tmp_path: Path) -> None:
    client = client_of(tmp_path, part10(image(pixels())))
    answer = client.get(f"{URL}/rendered?annotation=patient&iccprofile=no")
    assert "annotation" in answer.headers["warning"]
    assert "iccprofile" not in answer.headers["warning"]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/rendered", "image/jp2", 406),
        ("/rendered", "text/html", 406),
        ("/rendered?quality=0", "*/*", 400),
        ("/rendered?quality=101", "*/*", 400),
        ("/rendered?quality=%D9%A3", "*/*", 400),
        ("/rendered?window=40", "*/*", 400),
        ("/rendered?window=40,nan,linear", "*/*", 400),
        ("/rendered?window=40,0,linear", "*/*", 400),
        ("/rendered?window=40,400,cubic", "*/*", 400),
        ("/rendered?viewport=0,10", "*/*", 400),
        ("/rendered?viewport=99999,99999", "*/*", 400),
        ("/rendered?viewport=10", "*/*", 400),
        ("/rendered?viewport=10,10,-1,0,5,5", "*/*", 400),
        ("/rendered?viewport=10,10,0,0,0,5", "*/*", 400),
        ("/rendered?viewport=10,10,5000,0,5,5", "*/*", 406),
        ("/frames/9/rendered", "*/*", 404),
        ("/frames/1,2/rendered", "*/*", 400),
    ],
)
def test_refused(tmp_path: Path, path: str, accept: str, status: int) -> None:
    client = client_of(tmp_path, part10(image(pixels())))
    assert client.get(f"{URL}{path}", headers={"accept": accept}).status_code == status


def test_pictures_that_are_too_large_are_refused(tmp_path: Path) -> None:
    wide = client_of(tmp_path / "wide", part10(image(np.zeros((1, 1, 65_535), dtype=np.uint8))))
    assert wide.get(f"{URL}/rendered", headers={"accept": "image/jpeg"}).status_code == 406
    assert wide.get(f"{URL}/rendered?viewport=99,99", headers={"accept": "image/jpeg"}).status_code == 200
    bits = image(
        np.zeros((1, 1, 8192), dtype=np.uint8), Rows=8192, Columns=8200, BitsAllocated=1, BitsStored=1
    )
    bits.HighBit = 0
    bits.PixelData = b"\0" * (8192 * 8200 // 8)
    many = client_of(tmp_path / "bits", part10(bits))
    answer = many.get(f"{URL}/rendered", headers={"accept": "image/png"})
    assert (answer.status_code, b"pixels is not rendered" in answer.content) == (406, True)
