# SPDX-License-Identifier: Apache-2.0
"""The two parts a workitem is kept in: what lasts while it is performed, and what moves with each step.

The inputs, the request and the patient are most of its text and hardly ever change once it is created; state,
progress and what was performed follow them in tag order and change with every command. Pure.
"""

from __future__ import annotations

from operator import is_

from profiles.dicom_json import DicomJson, tag_key
from profiles.ups.returning import search_result_between

FIRST_MOVING = tag_key("ProcedureStepState")
"""The first tag of the part that moves."""

_EMPTY = len(b"{}")
_FIRST, _END = "", "G"  # before and after every tag


def lasting_part(attributes: DicomJson) -> DicomJson:
    """Inputs, request, patient and all else of tags before (0074,1000)."""
    return {tag: value for tag, value in attributes.items() if tag < FIRST_MOVING}


def moving_part(attributes: DicomJson) -> DicomJson:
    """State, progress, performed procedures and all else from (0074,1000) on."""
    return {tag: value for tag, value in attributes.items() if tag >= FIRST_MOVING}


def lasting_summary(attributes: DicomJson) -> DicomJson:
    """What of the lasting part every search returns."""
    return search_result_between(attributes, _FIRST, FIRST_MOVING)


def moving_summary(attributes: DicomJson) -> DicomJson:
    """What of the moving part every search returns."""
    return search_result_between(attributes, FIRST_MOVING, _END)


def lasts(before: DicomJson, after: DicomJson) -> bool:
    """Whether `after`, made from `before`, certainly has the same lasting part: none of it was set."""
    former = [value for tag, value in before.items() if tag < FIRST_MOVING]
    present = [value for tag, value in after.items() if tag < FIRST_MOVING]
    return len(former) == len(present) and all(map(is_, former, present))


def whole_text(lasting: bytes, moving: bytes) -> bytes:
    """The DICOM JSON text of both parts as one object."""
    if len(lasting) == _EMPTY or len(moving) == _EMPTY:
        return moving if len(lasting) == _EMPTY else lasting
    return b"%s,%s" % (lasting[:-1], moving[1:])
