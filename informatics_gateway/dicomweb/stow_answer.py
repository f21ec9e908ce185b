# SPDX-License-Identifier: Apache-2.0
"""The answer of a Store transaction: Store Instances Response (PS3.18 I.2), and the status that goes with it.

Failure reasons are the statuses of C-STORE (PS3.4 B.2.3), as ``statuses.py`` has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from fastapi import Response

from informatics_gateway.dicomweb.media import DICOM_JSON, DICOM_XML, JSON, MediaType
from informatics_gateway.dicomweb.metadata import keyword_for_key
from informatics_gateway.dicomweb.native_xml import write
from informatics_gateway.statuses import STATUSES
from profiles.dicom_json import DicomJson, element, merged
from task_manager.outcome import Accepted, RefusalCode, WarningCode

KEPT_APART = 0xB001
"""Warning Reason, ours: other bytes are held under this UID, and these are kept beside them."""

_OUT_OF_RESOURCES = STATUSES[RefusalCode.OUT_OF_RESOURCES].dimse
_INSUFFICIENT_STORAGE = 507
_MAX_COMMENT = 64


class StoreAnswer:
    """What became of the instances of one request, in the order they came.

    Parameters
    ----------
    study_url
        Where the study of the request's URL can be retrieved; empty if it names none.
    """

    def __init__(self, study_url: str) -> None:
        self._study_url = study_url
        self._stored: list[DicomJson] = []
        self._failed: list[DicomJson] = []
        self._others: list[DicomJson] = []
        self._reasons: set[int] = set()
        self._warned = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come yet."""
        return not (self._stored or self._failed or self._others)

    @property
    def status(self) -> int:
        """The HTTP status of a body that was understood (PS3.18 table 10.5.3-1).

        507 if nothing was stored for want of room alone.
        """
        if self._failed or self._others:
            if self._stored:
                return 202
            return _INSUFFICIENT_STORAGE if self._reasons == {_OUT_OF_RESOURCES} else 409
        return 202 if self._warned else 200

    def stored(self, sop_class_uid: str, accepted: Accepted) -> None:
        """Add an instance that was stored."""
        parts = [
            element("ReferencedSOPClassUID", sop_class_uid),
            element("ReferencedSOPInstanceUID", accepted.uid),
        ]
        if WarningCode.KEPT_APART in accepted.warnings:
            self._warned = True
            parts.append(element("WarningReason", KEPT_APART))
        self._stored.append(merged(parts))

    def failed(self, sop_class_uid: str, sop_instance_uid: str, reason: int) -> None:
        """Add an instance that was not stored; without UIDs, it is one of the other failures."""
        self._reasons.add(reason)
        if not (sop_class_uid and sop_instance_uid):
            self._others.append(element("FailureReason", reason))
            return
        self._failed.append(
            merged(
                (
                    element("ReferencedSOPClassUID", sop_class_uid),
                    element("ReferencedSOPInstanceUID", sop_instance_uid),
                    element("FailureReason", reason),
                )
            )
        )

    def content(self, comment: str = "") -> DicomJson:
        """The data set of the answer; with a comment where the whole request went wrong."""
        parts = [element("RetrieveURL", self._study_url)]
        for keyword, items in (
            ("FailedSOPSequence", self._failed),
            ("ReferencedSOPSequence", self._stored),
            ("OtherFailuresSequence", self._others),
        ):
            if items:
                parts.append(element(keyword, *items))
        if comment:
            parts.append(element("ErrorComment", comment[:_MAX_COMMENT]))
        return merged(parts)


def answer_type(accept: Sequence[MediaType]) -> str:
    """In what to answer: DICOM JSON unless XML comes before it; empty if neither is accepted."""
    for kind in accept:
        if kind.name in (DICOM_JSON, JSON, "application/*", "*/*"):
            return JSON if kind.name == JSON else DICOM_JSON
        if kind.name == DICOM_XML:
            return DICOM_XML
    return ""


def encoded(content: DicomJson, status: int, media_type: str, accept: str = "") -> Response:
    """The HTTP answer; `accept` names what the server takes (RFC 9110 12.5.1)."""
    body = write(content, keyword_for_key) if media_type == DICOM_XML else orjson.dumps(content)
    headers = {"Accept": accept} if accept else None
    return Response(body, status_code=status, media_type=media_type or DICOM_JSON, headers=headers)
