# SPDX-License-Identifier: Apache-2.0
"""Multipart beside :mod:`profiles.multipart`: a Content-Type read, a file framed to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from profiles.multipart import PART_END, closing, part_head

_CHUNK = 256 * 1024


def content_type(header: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case and its parameters."""
    message = Message()
    message["Content-Type"] = header
    parameters = {name.lower(): value for name, value in message.get_params(failobj=[])[1:]}
    return message.get_content_type(), parameters


def framed_file(path: Path, boundary: str) -> tuple[int, Iterator[bytes]]:
    """Length and bytes of a message with the one DICOM file at `path`, read while it is sent."""
    head = part_head(boundary, "application/dicom")
    tail = PART_END + closing(boundary)

    def pieces() -> Iterator[bytes]:
        yield head
        with path.open("rb") as source:
            while piece := source.read(_CHUNK):
                yield piece
        yield tail

    return len(head) + path.stat().st_size + len(tail), pieces()
