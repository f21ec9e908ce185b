# SPDX-License-Identifier: Apache-2.0
"""multipart/related as DICOMweb uses it: reading a stream piece by piece, and framing one file to send.

No sockets: bytes in, events out. Memory stays bounded whatever arrives.

References: RFC 2046 5.1, RFC 2387, PS3.18 8.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto
from pathlib import Path

_HEADER_LIMIT = 16 * 1024
_CHUNK = 256 * 1024


class MultipartError(Exception):
    """The bytes are not the multipart message they claim to be."""


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins; its headers have lower-case names."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """A piece of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is whole."""


Event = PartStart | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartReader:
    """Splits a multipart stream; feed it pieces of any size, then call `finish`."""

    def __init__(self, boundary: str) -> None:
        if not 1 <= len(boundary) <= 200:
            raise MultipartError("no usable boundary")
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._buffer = bytearray(b"\r\n")  # so that a boundary at the very start is found like any other
        self._state = _State.PREAMBLE

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` brings.

        Raises
        ------
        MultipartError
            If a header is malformed or too long.
        """
        self._buffer += data
        moved = True
        while moved:
            moved = False
            match self._state:
                case _State.PREAMBLE | _State.BODY:
                    at = self._buffer.find(self._delimiter)
                    piece = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
                    if piece:
                        if self._state is _State.BODY:
                            yield PartData(bytes(self._buffer[:piece]))
                        del self._buffer[:piece]
                    if at >= 0:
                        del self._buffer[: len(self._delimiter)]
                        if self._state is _State.BODY:
                            yield PartEnd()
                        self._state = _State.AFTER_BOUNDARY
                        moved = True
                case _State.AFTER_BOUNDARY:
                    moved = self._after_boundary()
                case _State.HEADERS:
                    headers = self._headers()
                    if headers is not None:
                        self._state = _State.BODY
                        moved = True
                        yield PartStart(headers)
                case _State.EPILOGUE:
                    self._buffer.clear()

    def finish(self) -> None:
        """The stream has ended.

        Raises
        ------
        MultipartError
            If the closing boundary has not been seen: something is missing.
        """
        if self._state is not _State.EPILOGUE:
            raise MultipartError("the message ends before its closing boundary")

    def _after_boundary(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._state = _State.EPILOGUE
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _HEADER_LIMIT:
                raise MultipartError("a boundary line is too long")
            return False
        if self._buffer[:end].strip(b" \t"):
            raise MultipartError("text after a boundary")
        del self._buffer[:end]  # the line end stays: it may close an empty header
        self._state = _State.HEADERS
        return True

    def _headers(self) -> dict[str, str] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end > _HEADER_LIMIT or (end < 0 and len(self._buffer) > _HEADER_LIMIT):
            raise MultipartError("the headers of a part are too long")
        if end < 0:
            return None
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if line and not colon:
                raise MultipartError("a malformed header")
            if line:
                headers[name.strip().lower()] = value.strip()
        return headers


def content_type(header: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case and its parameters."""
    message = Message()
    message["Content-Type"] = header
    parameters = {name.lower(): value for name, value in message.get_params(failobj=[])[1:]}
    return message.get_content_type(), parameters


def framed_file(path: Path, boundary: str) -> tuple[int, Iterator[bytes]]:
    """Length and bytes of a message with the one DICOM file at `path`, read while it is sent."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def pieces() -> Iterator[bytes]:
        yield head
        with path.open("rb") as source:
            while piece := source.read(_CHUNK):
                yield piece
        yield tail

    return len(head) + path.stat().st_size + len(tail), pieces()
