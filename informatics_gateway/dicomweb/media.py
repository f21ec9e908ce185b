# SPDX-License-Identifier: Apache-2.0
"""Media types of requests and answers (PS3.18 8.7): parsing Content-Type and Accept, and choosing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
JSON = "application/json"
DICOM_XML = "application/dicom+xml"
MULTIPART = "multipart/related"
MULTIPART_XML = f'{MULTIPART}; type="{DICOM_XML}"'
OCTET_STREAM = "application/octet-stream"
WADL = "application/vnd.sun.wadl+xml"

_MAX_LENGTH = 4096
_PARAMETER = re.compile(r"([^\s=;,\"]+)\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]*))")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range in lower case, with its parameters (names in lower case)."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str:
        """The value of a parameter; empty if it is not there."""
        return next((value for key, value in self.parameters if key == name), "")

    @property
    def quality(self) -> float:
        """The weight ``q`` (RFC 9110 12.4.2); 1 if it is not there or not a number."""
        try:
            return float(self.parameter("q") or 1)
        except ValueError:
            return 1.0


def parse_media_type(text: str) -> MediaType:
    """The media type of a Content-Type header; name empty if there is none."""
    name, _, rest = text[:_MAX_LENGTH].partition(";")
    parameters = tuple(
        (match[1].lower(), match[2] if match[2] is not None else match[3])
        for part in _split_unquoted(rest, ";")
        if (match := _PARAMETER.match(part.strip()))
    )
    return MediaType(name.strip().lower(), parameters)


def parse_accept(text: str) -> list[MediaType]:
    """The media ranges of an Accept header, best first; ranges of weight 0 are left out.

    An absent or empty header accepts everything: PS3.18 8.7.5 would have it refused, tools omit it.
    """
    ranges = [parse_media_type(part) for part in _split_unquoted(text[:_MAX_LENGTH]) if part.strip()]
    if not ranges:
        return [MediaType("*/*")]
    return sorted((kind for kind in ranges if kind.quality > 0), key=lambda kind: -kind.quality)


def requested(header: str, parameters: Sequence[str] = ()) -> list[MediaType]:
    """What a request accepts, best first: ``accept`` query parameters, then the header (PS3.18 8.3.3.1)."""
    asked = [kind for text in parameters[:4] for kind in parse_accept(text)]
    return [*asked, *(parse_accept(header) if header or not asked else ())]


@lru_cache(maxsize=256)
def metadata_type(header: str, parameters: tuple[str, ...] = ()) -> str:
    """In what to answer where DICOM JSON and Native DICOM Model XML are served; empty if in none acceptable.

    Parameters
    ----------
    header
        The Accept header.
    parameters
        Values of ``accept`` query parameters, which come first and take no wildcards (PS3.18 8.3.3.1).

    Returns
    -------
    str
        :data:`DICOM_JSON` (the default, also for wildcards), :data:`JSON` or :data:`MULTIPART_XML`.
    """
    asked = [kind for text in parameters for kind in parse_accept(text) if "*" not in kind.name]
    for kind in [*asked, *parse_accept(header)]:
        if kind.name in (DICOM_JSON, "application/*", "*/*"):
            return DICOM_JSON
        if kind.name == JSON:
            return JSON
        if kind.name == MULTIPART and kind.parameter("type").lower() in (DICOM_XML, ""):
            return MULTIPART_XML
    return ""


def _split_unquoted(text: str, separator: str = ",") -> list[str]:
    parts, quoted, start = [], False, 0
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
