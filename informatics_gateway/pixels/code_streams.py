# SPDX-License-Identifier: Apache-2.0
"""How many samples a compressed frame will become, told by its own code stream before anything is decoded.

A few hundred bytes can announce gigabytes, whatever the header of the instance says; codecs believe them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_START_OF_CODE_STREAM = b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))


def announced_samples(content: bytes) -> int | None:
    """Width x height x components that a JPEG, JPEG-LS or JPEG 2000 stream announces; None for others.

    The most of them where it announces several.

    References
    ----------
    ISO/IEC 10918-1 B.1.1 and B.2.2, 14495-1 C.2.2, 15444-1 A.5.1.
    """
    if content.startswith(b"\xff\xd8"):
        return max(_jpeg_frames(content), default=None)
    return max(_jpeg_2000_sizes(content), default=None)


def _jpeg_frames(content: bytes) -> Iterator[int]:
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 10 <= len(content):
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            if marker in _FRAME_MARKERS:
                height, width, components = struct.unpack_from(">HHB", content, at + 5)
                yield height * width * components
            if marker == 0xDA:  # coded data begin, and no frame header is in them
                return
            at += 2 + int.from_bytes(content[at + 2 : at + 4])


def _jpeg_2000_sizes(content: bytes) -> Iterator[int]:
    """Of each code stream; there is one, unless boxes around it hide another."""
    at = 0 if content.startswith(_START_OF_CODE_STREAM) else content.find(_START_OF_CODE_STREAM)
    while at >= 0 and at + 42 <= len(content):
        right, bottom, left, top = struct.unpack_from(">4L", content, at + 8)
        components = int.from_bytes(content[at + 40 : at + 42])
        yield max(0, right - left) * max(0, bottom - top) * components
        at = content.find(_START_OF_CODE_STREAM, at + 4) if at else -1
