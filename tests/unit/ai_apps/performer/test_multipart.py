# SPDX-License-Identifier: Apache-2.0
"""Reading a Content-Type, and framing a file to send."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_apps.performer.multipart import content_type, framed_file
from profiles.multipart import MultipartParser, PartBegan, PartData


@pytest.mark.parametrize(
    ("header", "media_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "multipart/related", "abc"),
        ('Multipart/Related; Boundary="a b"', "multipart/related", "a b"),
        ("application/dicom; transfer-syntax=1.2", "application/dicom", None),
        ("", "text/plain", None),
        ("garbage", "text/plain", None),
    ],
)
def test_content_type(header: str, media_type: str, boundary: str | None) -> None:
    found, parameters = content_type(header)
    assert (found, parameters.get("boundary")) == (media_type, boundary)


def test_framed_file_is_read_back(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3000
    (tmp_path / "x").write_bytes(content)
    length, pieces = framed_file(tmp_path / "x", "b-1")
    message = b"".join(pieces)
    assert len(message) == length
    parser = MultipartParser("b-1", max_parts=1, max_part_bytes=len(content))
    events = list(parser.feed(message))
    parser.close()
    assert events[0] == PartBegan({"content-type": "application/dicom"})
    assert b"".join(event.data for event in events if isinstance(event, PartData)) == content
