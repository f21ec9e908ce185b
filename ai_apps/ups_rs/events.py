# SPDX-License-Identifier: Apache-2.0
"""Event reports as values, read from what servers really send; no sockets here.

Tolerant on purpose (PS3.18 11.13 prints wrong VRs, a wrong class and no instance for event 4, and servers
copied it): an object or an array of them, numbers as text, tags in small letters, keywords for tags. What is
told is taken from the values, never from the VRs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import tag_for_keyword

from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text
from profiles.uids import is_uid
from profiles.ups.context import code_in
from profiles.ups.report import EventType
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_EVENT_TYPE = "00001002"
_INSTANCES = ("00001000", "00001001", "00080018")
_MESSAGE_ELEMENTS = frozenset({"00000002", "00000003", "00000110", "00001000", "00001001", _EVENT_TYPE})
_MOST_EVENTS = 1000
# What a report without a type must be, by an attribute that only it has (PS3.4 table CC.2.4-1).
_TELLING = (
    ("RequestingAE", EventType.CANCEL_REQUESTED),
    ("SCPStatus", EventType.SCP_STATUS_CHANGE),
    ("ProcedureStepProgressInformationSequence", EventType.PROGRESS_REPORT),
    ("ProcedureStepState", EventType.STATE_REPORT),
    ("ScheduledStationNameCodeSequence", EventType.ASSIGNED),
    ("HumanPerformerCodeSequence", EventType.ASSIGNED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsEvent:
    """One event report.

    Attributes
    ----------
    type
        Event Type ID, 1 to 5.
    workitem_uid
        The workitem it is about; for event 4 the UID of the global subscription.
    payload
        Event information as DICOM JSON, without the elements that address the message.

    References
    ----------
    PS3.4 table CC.2.4-1.
    """

    type: EventType
    workitem_uid: str
    payload: DicomJson

    @property
    def state(self) -> str:
        """Procedure Step State, of event 1."""
        return text(self.payload, "ProcedureStepState")

    @property
    def input_readiness(self) -> str:
        """Input Readiness State, of event 1."""
        return text(self.payload, "InputReadinessState")

    @property
    def reason(self) -> str:
        """Reason For Cancellation, of events 1 and 2."""
        return text(self.payload, "ReasonForCancellation")

    @property
    def reason_code(self) -> Code | None:
        """The first discontinuation reason, of events 1 and 2."""
        found = items(self.payload, "ProcedureStepDiscontinuationReasonCodeSequence")
        code = code_in(found[0]) if found else None
        return code if code is not None and code.value else None

    @property
    def requesting_ae(self) -> str:
        """Who asks for cancellation, of event 2."""
        return text(self.payload, "RequestingAE")

    @property
    def progress(self) -> tuple[str, str]:
        """Percent done and description, of event 3; either may be empty."""
        found = items(self.payload, "ProcedureStepProgressInformationSequence")
        item = found[0] if found else {}
        return text(item, "ProcedureStepProgress"), text(item, "ProcedureStepProgressDescription")

    @property
    def stations(self) -> tuple[str, ...]:
        """Code Values of the stations that it is assigned to, of event 5."""
        return tuple(
            text(item, "CodeValue") for item in items(self.payload, "ScheduledStationNameCodeSequence")
        )

    @property
    def server_status(self) -> str:
        """RESTARTED or GOING DOWN, of event 4."""
        return text(self.payload, "SCPStatus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """What to look at after a channel was opened, since what happened before was told to nobody.

    Attributes
    ----------
    matching
        Keys of a search over what is watched; None for no search.
    include
        Further attributes that the search returns.
    workitems
        UIDs to be retrieved each.
    most
        Workitems that a search reads at most.
    """

    matching: Mapping[str, str] | None = None
    include: tuple[str, ...] = ("ProcedureStepState", "InputReadinessState")
    workitems: tuple[str, ...] = ()
    most: int = 10_000


NO_RESYNC = Resync()
"""Nothing is looked at; the stream tells only that it was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resynchronized:
    """The channel was opened, or the server started anew: how things stand now.

    Attributes
    ----------
    workitems
        What the search and the retrieves found.
    missing
        UIDs that are watched, or were open when last heard of, and are no longer there.
    complete
        Whether the search was read to its end.
    """

    workitems: tuple[DicomJson, ...] = ()
    missing: tuple[str, ...] = field(default=())
    complete: bool = True


def read_events(message: str | bytes) -> tuple[UpsEvent, ...]:
    """The reports of one message.

    Raises
    ------
    ValueError
        If it holds something else; the message of the error holds none of it.
    """
    try:
        content = json.loads(message)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    found = content if isinstance(content, list) else [content]
    if not found or len(found) > _MOST_EVENTS or not all(isinstance(one, dict) for one in found):
        raise ValueError("neither an object nor an array of objects")
    return tuple(_event(one) for one in found)


def _event(content: dict[str, Any]) -> UpsEvent:
    data_set = dict(_plain(key, value) for key, value in content.items())
    event_type = _type(data_set)
    uids = [str(_value(data_set, tag)) for tag in _INSTANCES if _value(data_set, tag)]
    uid = uids[0].strip(" \0") if uids else ""
    if not uid and event_type is EventType.SCP_STATUS_CHANGE:
        uid = GLOBAL_SUBSCRIPTION_UID
    if not is_uid(uid):
        raise ValueError("names no workitem")
    payload = merged([{tag: value} for tag, value in data_set.items() if tag not in _MESSAGE_ELEMENTS])
    if event_type is EventType.ASSIGNED:
        payload = _with_human_performers_on_top(payload)
    return UpsEvent(type=event_type, workitem_uid=uid, payload=payload)


def _plain(key: str, value: Any) -> tuple[str, Any]:
    """An element under its upper-case tag, its values in a list."""
    tag = key.upper() if _TAG.fullmatch(key) else key
    if tag is key and not _TAG.fullmatch(key):
        number = tag_for_keyword(key)
        tag = key if number is None else f"{number:08X}"
    if isinstance(value, dict) and "Value" in value and not isinstance(value["Value"], list):
        value = {**value, "Value": [value["Value"]]}
    return tag, value if isinstance(value, dict) else {"vr": "UN", "Value": [value]}


def _value(data_set: DicomJson, tag: str) -> Any:
    found = data_set.get(tag, {}).get("Value")
    return found[0] if isinstance(found, list) and found else None


def _type(data_set: DicomJson) -> EventType:
    told = _value(data_set, _EVENT_TYPE)
    if told is None:
        told = next((kind for keyword, kind in _TELLING if tag_key(keyword) in data_set), None)
    try:
        return EventType(int(float(str(told).strip(" \0"))))
    except (ValueError, OverflowError) as error:
        raise ValueError("is no event of a UPS") from error


def _with_human_performers_on_top(payload: DicomJson) -> DicomJson:
    """Event 5 with human performers where table CC.2.4-1 has them, if they came nested as in the workitem."""
    performers = items(payload, "ScheduledHumanPerformersSequence")
    codes = [code for each in performers for code in items(each, "HumanPerformerCodeSequence")]
    names = [name for each in performers if (name := text(each, "HumanPerformerOrganization"))]
    parts = [payload]
    if codes and not items(payload, "HumanPerformerCodeSequence"):
        parts.append(element("HumanPerformerCodeSequence", *codes))
    if names and not text(payload, "HumanPerformerOrganization"):
        parts.append(element("HumanPerformerOrganization", names[0]))
    return merged(parts)
