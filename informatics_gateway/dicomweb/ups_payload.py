# SPDX-License-Identifier: Apache-2.0
"""What a UPS-RS request says besides attributes: which workitem, which Transaction UID, which data set.

Editions of PS3.18 and real clients put these in different places; all are read, and contradictions are
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from informatics_gateway.dicomweb import native_xml
from profiles.dicom_json import DicomJson, tag_key
from profiles.faults import Fault
from profiles.multipart import MultipartError, MultipartParser, PartData
from profiles.ups.states import UPS_SOP_CLASS_UIDS
from task_manager.outcome import RefusalCode

_MOST_PARAMETERS = 50
_UID_LIKE = re.compile(r"[0-9.]+")
_WORKITEM_NAMES = frozenset({"workitem", "affectedsopinstanceuid", "sopinstanceuid", "00001000", "00080018"})
_TRANSACTION_NAMES = frozenset(
    {"transaction-uid", "transaction_uid", "transaction", "transactionuid", "00081195"}
)

AFFECTED_SOP_CLASS_UID = "00000002"
AFFECTED_SOP_INSTANCE_UID = "00001000"
SOP_CLASS_UID = tag_key("SOPClassUID")
SOP_INSTANCE_UID = tag_key("SOPInstanceUID")
TRANSACTION_UID = tag_key("TransactionUID")
PROCEDURE_STEP_STATE = tag_key("ProcedureStepState")


class PayloadError(Exception):
    """The request cannot be read; `code` and `faults` are the answer."""

    def __init__(self, code: RefusalCode, *faults: Fault) -> None:
        self.code = code
        self.faults = faults
        super().__init__(code)


def parse_data_set(body: bytes, *, may_be_empty: bool = False) -> DicomJson:
    """The one data set of a JSON body: an array of one or a bare object (PS3.18 11.1.3 and practice).

    Raises
    ------
    PayloadError
        If the body is no JSON or holds another number of data sets.
    """
    if may_be_empty and not body.strip():
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PayloadError(
            RefusalCode.MALFORMED, Fault(f"line {error.lineno} column {error.colno}", "is not JSON")
        ) from None
    if isinstance(content, list):
        if may_be_empty and not content:
            return {}
        if len(content) != 1:
            raise PayloadError(RefusalCode.MALFORMED, Fault("", f"needs one data set, has {len(content)}"))
        content = content[0]
    if not isinstance(content, dict):
        raise PayloadError(RefusalCode.MALFORMED, Fault("", "needs a DICOM JSON object"))
    return {key.upper(): element for key, element in content.items()}


def parse_xml(body: bytes) -> DicomJson:
    """The data set of a Native DICOM Model document.

    Raises
    ------
    PayloadError
        If the body is none.
    """
    try:
        return native_xml.read(body)
    except native_xml.NativeXmlError as error:
        raise PayloadError(RefusalCode.MALFORMED, Fault(error.where, str(error))) from error


def parse_multipart_xml(body: bytes, boundary: str) -> DicomJson:
    """The data set of a multipart body of one Native DICOM Model document (PS3.18 11.1.3).

    Raises
    ------
    PayloadError
        If the frame cannot be followed or holds another number of parts.
    """
    try:
        parser = MultipartParser(boundary, max_parts=1, max_part_bytes=max(1, len(body)))
        document = b"".join(event.data for event in parser.feed(body) if isinstance(event, PartData))
        parser.close()
    except MultipartError as error:
        raise PayloadError(RefusalCode.MALFORMED, Fault("", str(error))) from error
    if not parser.parts:
        raise PayloadError(RefusalCode.MALFORMED, Fault("", "needs one part, has none"))
    return parse_xml(document)


def _from_query(query: str, names: frozenset[str]) -> list[str]:
    """UIDs under one of `names` and those that stand alone as the whole parameter."""
    if not query:
        return []
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise PayloadError(RefusalCode.MALFORMED, Fault("", "the query cannot be read")) from error
    found = []
    for name, value in pairs:
        if name.lower() in names:
            found.append(value)
        elif not value and _UID_LIKE.fullmatch(name):
            found.append(name)
    return found


def text_value(data_set: DicomJson, tag: str, path: str) -> str:
    """The only text of an attribute, stripped; empty if absent or without value.

    Raises
    ------
    PayloadError
        If it is there in another form.
    """
    element: Any = data_set.get(tag)
    if element is None:
        return ""
    found = element.get("Value") if isinstance(element, dict) else ()
    if found is None or found == []:
        return ""
    if isinstance(found, list) and len(found) == 1:
        if found[0] is None:
            return ""
        if isinstance(found[0], str):
            return found[0].strip(" \0")
    raise PayloadError(RefusalCode.INVALID_ATTRIBUTES, Fault(path, "needs one text value"))


def _one(path: str, found: Iterable[str]) -> str:
    given = {value for value in found if value}
    if len(given) > 1:
        raise PayloadError(
            RefusalCode.INVALID_ATTRIBUTES, Fault(path, "is given more than once with different values")
        )
    return given.pop() if given else ""


def take_workitem_uid(query: str, data_set: DicomJson) -> str:
    """The UID that a create names, empty if none; taken out of `data_set` (PS3.18 11.4.1).

    Raises
    ------
    PayloadError
        If several places name different ones.
    """
    uid = _one(
        "SOPInstanceUID",
        [
            *_from_query(query, _WORKITEM_NAMES),
            text_value(data_set, SOP_INSTANCE_UID, "SOPInstanceUID"),
            text_value(data_set, AFFECTED_SOP_INSTANCE_UID, "AffectedSOPInstanceUID"),
        ],
    )
    for tag in (SOP_INSTANCE_UID, AFFECTED_SOP_INSTANCE_UID, AFFECTED_SOP_CLASS_UID):
        data_set.pop(tag, None)
    return uid


def take_transaction_uid(query: str, data_set: DicomJson) -> str:
    """The Transaction UID that a request carries, empty if none; taken out of `data_set` (PS3.18 11.6.1).

    Raises
    ------
    PayloadError
        If several places carry different ones.
    """
    uid = _one(
        "TransactionUID",
        [
            *_from_query(query, _TRANSACTION_NAMES),
            text_value(data_set, TRANSACTION_UID, "TransactionUID"),
        ],
    )
    data_set.pop(TRANSACTION_UID, None)
    return uid


def drop_own_identity(uid: str, data_set: DicomJson) -> None:
    """Take out what only repeats the target of an update: clients send back what they retrieved."""
    for tag in (SOP_INSTANCE_UID, AFFECTED_SOP_INSTANCE_UID):
        if text_value(data_set, tag, "SOPInstanceUID") == uid:
            del data_set[tag]
    for tag in (SOP_CLASS_UID, AFFECTED_SOP_CLASS_UID):
        if text_value(data_set, tag, "SOPClassUID") in UPS_SOP_CLASS_UIDS:
            del data_set[tag]
