# SPDX-License-Identifier: Apache-2.0
"""Where frames lie in native and encapsulated pixel data (PS3.5 A.4), well-formed and not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless

from task_manager.study.frames import Frames, locate_frames
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader
from tests.instances import ct_data_set, part10

END = b"\xff\xd9"


def item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def located(folder: Path, number: int, table: list[int], *fragments: bytes) -> Frames | None:
    """The frames of a file with this offset table and these fragments."""
    made = ct_data_set(1, NumberOfFrames=number)
    del made.PixelData
    content = part10(made, JPEG2000Lossless)
    content += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    content += item(struct.pack(f"<{len(table)}L", *table)) + b"".join(map(item, fragments))
    path = folder / "one.dcm"
    path.write_bytes(content + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    header = read_header(path)
    assert isinstance(header, InstanceHeader)
    return locate_frames(path, header.attributes)


def contents(folder: Path, frames: Frames | None) -> list[bytes]:
    assert frames is not None
    data = (folder / "one.dcm").read_bytes()
    return [b"".join(data[start:end] for start, end in frames.ranges(index)) for index in range(frames.count)]


@pytest.mark.parametrize(
    ("number", "table", "fragments", "expected"),
    [
        pytest.param(1, [], [b"aa", b"bb"], [b"aabb"], id="one-frame-of-fragments"),
        pytest.param(2, [], [b"aa", b"bb"], [b"aa", b"bb"], id="a-fragment-each"),
        pytest.param(2, [0, 20], [b"aa", b"bb", b"cc"], [b"aabb", b"cc"], id="table"),
        pytest.param(2, [], [b"aa", b"b" + END, b"c" + END], [b"aab" + END, b"c" + END], id="end-of-image"),
    ],
)
def test_frames(
    tmp_path: Path, number: int, table: list[int], fragments: list[bytes], expected: list[bytes]
) -> None:
    assert contents(tmp_path, located(tmp_path, number, table, *fragments)) == expected


@pytest.mark.parametrize(
    ("number", "table", "fragments"),
    [
        pytest.param(1, [], [], id="no-fragment"),
        pytest.param(3, [], [b"aa", b"bb"], id="fewer-fragments"),
        pytest.param(2, [0, 5], [b"aa", b"bb"], id="offset-within-a-fragment"),
        pytest.param(2, [10, 0], [b"aa", b"bb"], id="falling-offsets"),
        pytest.param(2, [0, 0], [b"aa", b"bb"], id="equal-offsets"),
        pytest.param(2, [10, 20], [b"aa", b"bb", b"cc"], id="begins-late"),
        pytest.param(2_000_000_000, [], [b"aa", b"bb"], id="absurd-number"),
    ],
)
def test_fragments_that_do_not_fit(
    tmp_path: Path, number: int, table: list[int], fragments: list[bytes]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        located(tmp_path, number, table, *fragments)


def test_an_instance_without_pixels_has_no_frames(tmp_path: Path) -> None:
    made = ct_data_set(1)
    del made.PixelData
    path = tmp_path / "one.dcm"
    path.write_bytes(part10(made))
    assert locate_frames(path, {}) is None
