# SPDX-License-Identifier: Apache-2.0
"""multipart/related, both ways, without I/O: bytes in, events out; and the frames around parts going out.

The parser never holds more than one chunk and a header: part bodies of any size stream through. Everything a
sender controls has a limit. It follows RFC 2046 5.1: the boundary must be on a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

PART_END = b"\r\n"
MAX_BOUNDARY_LENGTH = 128
"""RFC 2046 5.1.1 allows 70; the DICOMweb plug-in of Orthanc 1.10 sends 73."""

MAX_HEADER_BYTES = 16 * 1024
MAX_PREAMBLE_BYTES = 16 * 1024


class MultipartError(ValueError):
    """The body is not what its boundary says; or a limit was met (`too_large`)."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        self.too_large = too_large
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class PartBegan:
    """A part and its header fields, names in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the body of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part that began last is complete."""


Event = PartBegan | PartData | PartEnded


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Takes a body in pieces of any size.

    Parameters
    ----------
    boundary
        From the Content-Type header.
    max_parts
        Parts in one body.
    max_part_bytes
        Bytes in one part.

    Raises
    ------
    MultipartError
        If the boundary is not one.
    """

    def __init__(self, boundary: str, *, max_parts: int, max_part_bytes: int) -> None:
        if (
            not 0 < len(boundary) <= MAX_BOUNDARY_LENGTH
            or not boundary.isascii()
            or not boundary.isprintable()
        ):
            raise MultipartError(f"the boundary must have 1 to {MAX_BOUNDARY_LENGTH} printable characters")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._max_parts = max_parts
        self._max_part_bytes = max_part_bytes
        # the first boundary may start the body: pretend that a line ended before
        self._pending = bytearray(b"\r\n")
        self._state = _State.PREAMBLE
        self._parts = 0
        self._part_bytes = 0

    @property
    def parts(self) -> int:
        """Parts begun so far."""
        return self._parts

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes; consume them all before the next call.

        Raises
        ------
        MultipartError
            If the body is malformed or a limit is met.
        """
        self._pending += data
        progressed = True
        while progressed:
            match self._state:
                case _State.PREAMBLE:
                    progressed = self._skip_preamble()
                case _State.AFTER_BOUNDARY:
                    progressed = self._after_boundary()
                case _State.HEADERS:
                    headers = self._headers()
                    progressed = headers is not None
                    if headers is not None:
                        yield PartBegan(headers)
                case _State.BODY:
                    body, progressed = self._body()
                    if body:
                        yield PartData(body)
                    if progressed:
                        yield PartEnded()
                case _State.EPILOGUE:
                    self._pending.clear()
                    progressed = False

    def close(self) -> None:
        """The body has ended.

        Raises
        ------
        MultipartError
            If the closing boundary has not come.
        """
        if self._state is not _State.EPILOGUE:
            raise MultipartError("the body ends before the closing boundary")

    def _skip_preamble(self) -> bool:
        found = self._pending.find(self._delimiter)
        if found < 0:
            if len(self._pending) > MAX_PREAMBLE_BYTES:
                raise MultipartError("no boundary at the start of the body")
            return False
        del self._pending[: found + len(self._delimiter)]
        self._state = _State.AFTER_BOUNDARY
        return True

    def _after_boundary(self) -> bool:
        if len(self._pending) < 2:
            return False
        if self._pending.startswith(b"--"):
            self._state = _State.EPILOGUE
            return True
        line_end = self._pending.find(b"\r\n")
        if line_end < 0:
            if len(self._pending) > MAX_HEADER_BYTES:
                raise MultipartError("the line of a boundary does not end")
            return False
        if self._pending[:line_end].strip(b" \t"):
            raise MultipartError("something follows a boundary on its line")
        if self._parts >= self._max_parts:
            raise MultipartError(f"more than {self._max_parts} parts", too_large=True)
        # the line end stays: an empty header section is then an empty line like any other
        del self._pending[:line_end]
        self._parts += 1
        self._part_bytes = 0
        self._state = _State.HEADERS
        return True

    def _headers(self) -> dict[str, str] | None:
        end = self._pending.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._pending) > MAX_HEADER_BYTES):
            raise MultipartError(f"part headers of more than {MAX_HEADER_BYTES} bytes")
        if end < 0:
            return None
        section = bytes(self._pending[2:end]) if end else b""
        # the last line end of the section may begin the delimiter of an empty part
        del self._pending[: end + 2]
        headers: dict[str, str] = {}
        for line in section.split(b"\r\n") if section else ():
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise MultipartError("a part header without name")
            headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
        self._state = _State.BODY
        # until two bytes of body are passed on, the line end before them is not body
        self._part_bytes = -2
        return headers

    def _body(self) -> tuple[bytes, bool]:
        """Body bytes that are certain to be body, and whether the part ended."""
        found = self._pending.find(self._delimiter)
        ended = found >= 0
        size = found if ended else max(0, len(self._pending) - len(self._delimiter) + 1)
        if self._part_bytes < 0 and size < 2:
            if not ended:
                return b"", False
            body = b""  # the delimiter follows the headers at once
        else:
            body = bytes(self._pending[2:size] if self._part_bytes < 0 else self._pending[:size])
            self._part_bytes = max(self._part_bytes, 0) + len(body)
            if self._part_bytes > self._max_part_bytes:
                raise MultipartError(f"a part of more than {self._max_part_bytes} bytes", too_large=True)
        del self._pending[: size + (len(self._delimiter) if ended else 0)]
        if ended:
            self._state = _State.AFTER_BOUNDARY
        return body, ended


def part_head(boundary: str, content_type: str, **headers: str) -> bytes:
    """The bytes before the body of a part, which :data:`PART_END` ends.

    Parameters
    ----------
    headers
        Further fields, underscores for hyphens.
    """
    lines = [f"--{boundary}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def closing(boundary: str) -> bytes:
    """The bytes after the last part."""
    return f"--{boundary}--\r\n".encode("ascii")
