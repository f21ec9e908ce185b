# SPDX-License-Identifier: Apache-2.0
"""Sizes that code streams announce, and frames that would become more than their header says."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from informatics_gateway.pixels.code_streams import announced_samples
from informatics_gateway.pixels.transcoding import TranscodingError, decoded, pixel_header
from task_manager.study.frames import locate_frames
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader
from tests.instances import ct_data_set, part10


def jpeg(width: int, height: int, *, marker: int = 0xC0, before: bytes = b"") -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + before + frame + b"\xff\xda\x00\x02\xff\x00\xff\xd9"


def jpeg_2000(width: int, height: int, components: int = 1) -> bytes:
    size = struct.pack(">HHH8LH", 0xFF51, 41, 0, width, height, 0, 0, width, height, 0, 0, components)
    return b"\xff\x4f" + size + b"\x07\x01\x01" * components


THUMBNAIL = b"\xff\xe1\x00\x0e" + b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x00\x00"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(jpeg(6, 4), 24, id="jpeg"),
        pytest.param(jpeg(6, 4, marker=0xC3), 24, id="jpeg-lossless"),
        pytest.param(jpeg(6, 4, marker=0xF7), 24, id="jpeg-ls"),
        pytest.param(jpeg(6, 4, before=THUMBNAIL), 24, id="jpeg-in-a-segment"),
        pytest.param(jpeg(6, 4, before=b"\xff\xff\xff\x01junk"), 24, id="jpeg-after-fill-and-junk"),
        pytest.param(b"\xff\xd8\xff\xda" + jpeg(6, 4), None, id="no-frame-before-the-scan"),
        pytest.param(b"\xff\xd8\xff\xc0\x00", None, id="cut-jpeg"),
        pytest.param(jpeg_2000(6, 4, 3), 72, id="jpeg-2000"),
        pytest.param(b"box" + jpeg_2000(1, 1) + jpeg_2000(6, 4), 24, id="hidden-among-boxes"),
        pytest.param(jpeg_2000(6, 4)[:30], None, id="cut-jpeg-2000"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\0" * 64, None, id="another"),
    ],
)
def test_announced(content: bytes, expected: int | None) -> None:
    assert announced_samples(content) == expected


@pytest.mark.parametrize(("form", "options"), [("JPEG", {}), ("JPEG2000", {"no_jp2": True})])
def test_of_a_codec(form: str, options: dict[str, bool]) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file, form, **options)
    assert announced_samples(file.getvalue()) == 40 * 60 * 3


def with_frame(folder: Path, syntax: str, frame: bytes) -> Path:
    made = ct_data_set(1, Rows=4, Columns=6)
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    del made.PixelData
    value = encapsulate([frame], has_bot=False)
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    path = folder / "one.dcm"
    path.write_bytes(part10(made, syntax) + head + value + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    return path


@pytest.mark.parametrize(
    ("syntax", "frame", "changes"),
    [
        pytest.param(JPEG2000Lossless, jpeg_2000(60_000, 60_000), {}, id="jpeg-2000"),
        pytest.param(JPEGBaseline8Bit, jpeg(60_000, 60_000), {}, id="jpeg"),
        pytest.param(RLELossless, b"\x81\0" * 40_000, {}, id="rle"),
        pytest.param(
            JPEG2000Lossless, jpeg_2000(60_000, 60_000), {"Rows": 60_000, "Columns": 60_000}, id="header-too"
        ),
    ],
)
def test_frames_that_become_more_are_not_decoded(
    tmp_path: Path, syntax: str, frame: bytes, changes: dict[str, int]
) -> None:
    path = with_frame(tmp_path, syntax, frame)
    header = read_header(path)
    assert isinstance(header, InstanceHeader)
    attributes = {**header.attributes}
    for keyword, key in (("Rows", "00280010"), ("Columns", "00280011")):
        if keyword in changes:
            attributes[key] = {"vr": "US", "Value": [changes[keyword]]}
    frames = locate_frames(path, attributes)
    assert frames is not None
    with pytest.raises(TranscodingError, match=r"than the header says|no size of a frame that is decoded"):
        decoded(path, frames, pixel_header(path), 0, raw=False)
