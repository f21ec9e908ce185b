# SPDX-License-Identifier: Apache-2.0
"""Metadata of stored instances (PS3.18 10.4.1.1.2): the whole data set with addresses for its bulk data.

Read from the files one after the other while the answer is sent, so that a study of any size needs the memory
of one instance. A file that cannot be followed any further gives what was read of it on arrival.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import orjson
from fastapi import Response
from pydicom.datadict import keyword_for_tag
from starlette.responses import StreamingResponse

from informatics_gateway.dicomweb.media import DICOM_XML, MULTIPART_XML
from informatics_gateway.dicomweb.native_xml import write
from informatics_gateway.dicomweb.retrieval import Found, Part, multipart
from profiles.dicom_json import DicomJson, element
from task_manager.study.content import UNREADABLE, ContentReader

_LOG = logging.getLogger(__name__)
_GATHERED_BYTES = 512 * 1024


def metadata_answer(found: Sequence[Found], base: str, kind: str) -> Response:
    """The metadata of `found` in DICOM JSON or as Native DICOM Model documents.

    Parameters
    ----------
    base
        Base URL of the service, for the addresses of bulk data.
    kind
        What to answer in; see :func:`informatics_gateway.dicomweb.media.metadata_type`.
    """
    for one in found:
        one.path.stat()  # what is lost is told before the answer begins
    reader = ContentReader()
    if kind == MULTIPART_XML:
        return multipart((_model(one, base, reader) for one in found), DICOM_XML)
    return StreamingResponse(_json(found, base, reader), media_type=kind)


def instance_metadata(one: Found, base: str, reader: ContentReader) -> DicomJson:
    """The metadata of one instance."""
    instance = one.instance
    address = (
        f"{base}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}/bulkdata/"
    )
    try:
        content = reader.read(one.path, address.__add__)
    except UNREADABLE as error:
        extra = {"action": "wado.metadata_short", "error": type(error).__name__}
        _LOG.warning("an instance gives less metadata than it has", extra=extra)
        content = instance.attributes
    return content | element("AvailableTransferSyntaxUID", instance.transfer_syntax_uid)


def _model(one: Found, base: str, reader: ContentReader) -> Part:
    document = write(instance_metadata(one, base, reader), keyword_for_key)
    return Part(content_type=DICOM_XML, content=lambda: (document,), size=len(document))


def keyword_for_key(tag: str) -> str:
    """The keyword of a tag given as eight hexadecimal digits; empty if it has none."""
    return keyword_for_tag(int(tag, 16))


def _json(found: Sequence[Found], base: str, reader: ContentReader) -> Iterator[bytes]:
    gathered = bytearray(b"[")
    for number, one in enumerate(found):
        if number:
            gathered += b","
        gathered += orjson.dumps(instance_metadata(one, base, reader))
        if len(gathered) >= _GATHERED_BYTES:
            yield bytes(gathered)
            gathered.clear()
    gathered += b"]"
    yield bytes(gathered)
