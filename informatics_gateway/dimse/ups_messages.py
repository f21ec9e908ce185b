# SPDX-License-Identifier: Apache-2.0
"""DIMSE messages of the UPS services, apart from what they do: who may ask what, and how answers are told.

Statuses of refusals come from ``informatics_gateway/statuses.py``; only those that PS3.7 Annex C gives to a
message itself, before any workitem is looked at, are named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from informatics_gateway.statuses import STATUSES, WARNINGS, Operation
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups.states import UPS_PUSH_SOP_CLASS_UID, UPS_SOP_CLASS_UIDS
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused

PUSH = UPS_PUSH_SOP_CLASS_UID
WATCH = "1.2.840.10008.5.1.4.34.6.2"
PULL = "1.2.840.10008.5.1.4.34.6.3"
EVENT = "1.2.840.10008.5.1.4.34.6.4"
QUERY = "1.2.840.10008.5.1.4.34.6.5"
INSTANCE_AVAILABILITY = "1.2.840.10008.5.1.4.33"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"


class Service(StrEnum):
    """The DIMSE services of UPS."""

    CREATE = "N-CREATE"
    SET = "N-SET"
    GET = "N-GET"
    ACTION = "N-ACTION"
    FIND = "C-FIND"
    EVENT_REPORT = "N-EVENT-REPORT"


class Action(IntEnum):
    """Action Type ID (0000,1008), PS3.4 tables CC.2.1-1, CC.2.2-1 and CC.2.3-1."""

    CHANGE_STATE = 1
    REQUEST_CANCEL = 2
    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    SUSPEND = 5


class MessageStatus(IntEnum):
    """Statuses of a message that asks for what is not there to be asked (PS3.7 Annex C)."""

    SUCCESS = 0x0000
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    UNRECOGNIZED_OPERATION = 0x0211


SERVICES: Mapping[str, frozenset[Service]] = {
    PUSH: frozenset({Service.CREATE, Service.ACTION, Service.GET}),
    WATCH: frozenset({Service.ACTION, Service.GET, Service.FIND}),
    PULL: frozenset({Service.FIND, Service.GET, Service.SET, Service.ACTION}),
    EVENT: frozenset(),
    QUERY: frozenset({Service.FIND}),
}
"""Abstract syntax to the services a peer may ask of us on it (PS3.4 tables CC.2-1 to CC.2-5); the reports of
the Event class are ours to send."""

ACTIONS: Mapping[str, frozenset[Action]] = {
    PUSH: frozenset({Action.REQUEST_CANCEL}),
    WATCH: frozenset({Action.REQUEST_CANCEL, Action.SUBSCRIBE, Action.UNSUBSCRIBE, Action.SUSPEND}),
    PULL: frozenset({Action.CHANGE_STATE}),
}
"""Abstract syntax to the actions a peer may ask for on it."""

OPERATIONS: Mapping[Action, Operation] = {
    Action.CHANGE_STATE: Operation.CHANGE_STATE,
    Action.REQUEST_CANCEL: Operation.CANCEL,
    Action.SUBSCRIBE: Operation.SUBSCRIBE,
    Action.UNSUBSCRIBE: Operation.UNSUBSCRIBE,
    Action.SUSPEND: Operation.SUSPEND,
}

NORMALIZED_STATUSES: Mapping[RefusalCode, int] = {
    RefusalCode.MALFORMED: 0x0110,
    RefusalCode.OUT_OF_RESOURCES: 0x0213,
    RefusalCode.NO_ROOM: 0x0213,
    RefusalCode.UNSUPPORTED_MATCHING: 0x0106,
}
"""Refusals whose status in the table belongs to the C- services, with that of the N- services."""

INTERNAL_ERROR = 1
"""Error ID (0000,0903) of a processing failure of our own."""

MAX_COMMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What any handler needs of a message.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        Affected or requested ones of the command set; empty if absent.
    abstract_syntax, transfer_syntax
        Of the presentation context.
    data
        The encoded data set; empty if there is none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax: str
    data: bytes
    actor: Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response: status, what is told of the reasons, and a data set if the service has one."""

    status: int
    comment: str = ""
    tags: tuple[int, ...] = ()
    error_id: int | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    data_set: Dataset | None = None

    def status_data_set(self, tags_as: str = "AttributeIdentifierList") -> Dataset:
        """Status (0000,0900) with Error Comment, Error ID and the attributes at fault.

        `tags_as` is where those go: Attribute Identifier List of N- services, Offending Element of C-FIND.
        The library leaves out what the response in question cannot have.
        """
        told = Dataset()
        told.Status = self.status
        if self.comment:
            told.ErrorComment = self.comment
        if self.error_id is not None:
            told.ErrorID = self.error_id
        if self.tags and tags_as:
            setattr(told, tags_as, list(self.tags))
        if self.sop_class_uid:
            told.AffectedSOPClassUID = self.sop_class_uid
        if self.sop_instance_uid:
            told.AffectedSOPInstanceUID = self.sop_instance_uid
        return told


def request_of(event: Any, data_keyword: str = "") -> Request:
    """The request of an event of the library."""
    message = event.request
    sop_class = getattr(message, "AffectedSOPClassUID", None) or getattr(
        message, "RequestedSOPClassUID", None
    )
    instance = getattr(message, "AffectedSOPInstanceUID", None) or getattr(
        message, "RequestedSOPInstanceUID", None
    )
    encoded = getattr(message, data_keyword) if data_keyword else None
    return Request(
        sop_class_uid=str(message.ErrorComment or sop_class or ""),
        sop_instance_uid=str(instance or ""),
        abstract_syntax=str(event.context.abstract_syntax),
        transfer_syntax=str(event.context.transfer_syntax),
        data=encoded.getvalue() if encoded is not None else b"",
        actor=actor_of(event.assoc),
    )


def actor_of(association: Any) -> Actor:
    """Who asks over an association."""
    return Actor(
        door="dicom",
        name=str(association.requestor.ae_title).strip(),
        address=str(association.requestor.address),
        called=str(association.requestor.primitive.called_ae_title).strip(),
    )


def class_answer(request: Request, service: Service, *, exists: bool) -> Answer | None:
    """The refusal of a message whose SOP class or service does not belong here; None if all is well.

    `exists` says whether the instance named is a workitem. The class of a UPS is always Push and never
    refused for differing from the abstract syntax (PS3.4 CC.3.1.1); the other four are taken for it.
    """
    if request.sop_class_uid not in UPS_SOP_CLASS_UIDS:
        echoed = request.sop_class_uid if is_uid(request.sop_class_uid) else ""
        if service is Service.FIND:
            return Answer(status=MessageStatus.SOP_CLASS_NOT_SUPPORTED, comment="not a UPS SOP class")
        status = MessageStatus.CLASS_INSTANCE_CONFLICT if exists else MessageStatus.NO_SUCH_SOP_CLASS
        return Answer(status=status, comment="not a UPS SOP class", sop_class_uid=echoed)
    if service not in SERVICES[request.abstract_syntax]:
        status = MessageStatus.UNRECOGNIZED_OPERATION
        if service is Service.FIND:
            status = MessageStatus.SOP_CLASS_NOT_SUPPORTED
        return Answer(status=status, comment=f"no {service} in this presentation context")
    return None


def refused_answer(refusal: Refused, *, normalized: bool = True) -> Answer:
    """The answer of a refusal: its status, and every attribute at fault."""
    status = STATUSES[refusal.code].dimse
    if normalized:
        status = NORMALIZED_STATUSES.get(refusal.code, status)
    return Answer(status=status, comment=comment(refusal), tags=fault_tags(refusal.faults))


def accepted_answer(accepted: Accepted, operation: Operation) -> Answer:
    """The answer of a success: the first warning that has a status in this service, else 0000."""
    told = (WARNINGS[warning].dimse_status(operation) for warning in accepted.warnings)
    return Answer(status=next(filter(None, told), MessageStatus.SUCCESS))


def comment(refusal: Refused) -> str:
    """Error Comment (0000,0902): the one fault in words, or the places of all, as far as 64 characters go."""
    faults = refusal.faults
    if len(faults) <= 1:
        return _line(str(faults[0]) if faults else str(refusal.code))
    places = list(dict.fromkeys(fault.path for fault in faults if fault.path))
    text = f"{len(faults)} faults: {', '.join(places)}"
    if len(text) <= MAX_COMMENT:
        return _line(text)
    while len(text) > MAX_COMMENT - len(" ...") and places:
        places.pop()
        text = f"{len(faults)} faults: {', '.join(places)}"
    return _line(f"{text} ..." if places else f"{len(faults)} faults: {faults[0].path}")


def _line(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:MAX_COMMENT]


def fault_tags(faults: Iterable[Fault]) -> tuple[int, ...]:
    """The top-level attributes that faults name, each once."""
    tags = (_tag(fault.path) for fault in faults)
    return tuple(dict.fromkeys(tag for tag in tags if tag is not None))


def _tag(path: str) -> int | None:
    if path.startswith("("):
        digits = path[1:10].replace(",", "")
        return int(digits, 16) if len(digits) == 8 else None
    keyword = path.split(".")[0].split("[")[0]
    return tag_for_keyword(keyword) if keyword else None  # the dictionary has nameless entries


def told_faults(faults: Sequence[Fault]) -> list[str]:
    """Faults for the log; they name no values."""
    return [str(fault) for fault in faults]
