# SPDX-License-Identifier: Apache-2.0
"""Media types and Accept headers as clients write them."""

from __future__ import annotations

import pytest

from informatics_gateway.dicomweb.media import (
    DICOM_JSON,
    JSON,
    MULTIPART_XML,
    MediaType,
    metadata_type,
    parse_accept,
    parse_media_type,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MediaType("")),
        ("Application/DICOM", MediaType("application/dicom")),
        (
            'multipart/related; type="application/dicom"; boundary="a;b,c"',
            MediaType("multipart/related", (("type", "application/dicom"), ("boundary", "a;b,c"))),
        ),
        ("multipart/related;BOUNDARY=x-y", MediaType("multipart/related", (("boundary", "x-y"),))),
        ("text/plain; ;;=; a", MediaType("text/plain")),
        ("a/b; x=", MediaType("a/b", (("x", ""),))),
    ],
)
def test_media_type(text: str, expected: MediaType) -> None:
    assert parse_media_type(text) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["*/*"]),
        ("a/b, c/d", ["a/b", "c/d"]),
        ("a/b; q=0.5, c/d", ["c/d", "a/b"]),
        ("a/b; q=0, c/d", ["c/d"]),
        ("a/b; q=much", ["a/b"]),
        ('multipart/related; type="x,y", a/b', ["multipart/related", "a/b"]),
        (",,", ["*/*"]),
    ],
)
def test_accept(text: str, names: list[str]) -> None:
    assert [kind.name for kind in parse_accept(text)] == names


@pytest.mark.parametrize(
    ("header", "parameters", "expected"),
    [
        ("", (), DICOM_JSON),
        ("*/*", (), DICOM_JSON),
        ("application/*;q=0.1, application/json", (), JSON),
        ('multipart/related; type="application/dicom+xml"', (), MULTIPART_XML),
        ("multipart/related; type=application/DICOM+xml; q=0.9, application/json;q=0.8", (), MULTIPART_XML),
        ("multipart/related", (), MULTIPART_XML),
        ('multipart/related; type="application/dicom"', (), ""),
        ("application/dicom+xml", (), ""),
        ("text/html", (), ""),
        ("text/html", (JSON,), JSON),
        (DICOM_JSON, (MULTIPART_XML,), MULTIPART_XML),
        (JSON, ("*/*",), JSON),
        ("text/html", ("*/*",), ""),
        ("", ("text/html",), DICOM_JSON),
    ],
)
def test_metadata_types(header: str, parameters: tuple[str, ...], expected: str) -> None:
    assert metadata_type(header, parameters) == expected
