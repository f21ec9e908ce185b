# SPDX-License-Identifier: Apache-2.0
"""How a rule names an attribute, and what is found under that name.

Names: a keyword (``Modality``), a tag (``(0018,0015)``), a private tag with its creator, a path
(``ProcedureCodeSequence[0].CodeMeaning``, without an index any item), ``order.`` and a field of
the order, or a name of ``facts.py``. Reading never fails: what is absent, empty or unreadable is no value.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from pydicom.datadict import (
    dictionary_has_tag,
    dictionary_keyword,
    dictionary_VR,
    keyword_dict,
    tag_for_keyword,
)

from profiles.codes import Code
from profiles.dicom_json import DicomJson
from profiles.order import Order
from task_manager.rules.facts import FACT_SPACES, FACTS, LEARNED_FACTS
from task_manager.rules.model import Learned, Reference, Step

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4}|[xX]{2}[0-9A-Fa-f]{2})\)?")
_STEP = re.compile(r"([A-Za-z0-9]+|\([0-9A-Fa-f]{4},[0-9A-Fa-fxX]{4}\))(?:\[([0-9]{1,4}|\*)\])?")
_MAXIMUM_STEPS = 8
MAXIMUM_SEEN = 1000
"""Values read of one attribute; sequences of hostile length cost no more."""

Value = str | Code


@dataclass(frozen=True, slots=True)
class OrderField:
    """A field of the order under the name rules use, with the representation its values have."""

    vr: str
    read: Callable[[Order], Value | Sequence[Value | None] | None]


ORDER_FIELDS: Mapping[str, OrderField] = {
    "AccessionNumber": OrderField("SH", lambda o: o.accession_number),
    "AdmissionID": OrderField("LO", lambda o: o.admission_id),
    "FillerOrderNumber": OrderField("LO", lambda o: o.filler_order_number),
    "IssuerOfPatientID": OrderField("LO", lambda o: o.issuer_of_patient_id),
    "Comments": OrderField("LT", lambda o: o.comments),
    "Modality": OrderField("CS", lambda o: o.modality),
    "OrderStatus": OrderField("CS", lambda o: o.order_status),
    "PatientBirthDate": OrderField("DA", lambda o: o.patient_birth_date),
    "PatientID": OrderField("LO", lambda o: o.patient_id),
    "PatientName": OrderField("PN", lambda o: o.patient_name),
    "PatientSex": OrderField("CS", lambda o: o.patient_sex),
    "PlacerOrderNumber": OrderField("LO", lambda o: o.placer_order_number),
    "Priority": OrderField("CS", lambda o: o.priority.value),
    "PriorReportCount": OrderField("IS", lambda o: str(len(o.earlier))),
    "PriorReportDate": OrderField("DA", lambda o: [one.date for one in o.earlier]),
    "PriorReportProcedure": OrderField("SQ", lambda o: [one.procedure for one in o.earlier]),
    "ProtocolCode": OrderField("SQ", lambda o: o.protocol_code),
    "Reason": OrderField("LT", lambda o: o.reason),
    "ReferringPhysicianName": OrderField("PN", lambda o: o.referring_physician_name),
    "RequestedProcedureCode": OrderField("SQ", lambda o: o.requested_procedure_code),
    "RequestedProcedureDescription": OrderField("LO", lambda o: o.requested_procedure_description),
    "RequestedProcedureID": OrderField("SH", lambda o: o.requested_procedure_id),
    "RequestingPhysicianName": OrderField("PN", lambda o: o.requesting_physician_name),
    "ScheduledAt": OrderField(
        "DT", lambda o: o.scheduled_at.strftime("%Y%m%d%H%M%S%z") if o.scheduled_at else None
    ),
    "StationName": OrderField("SH", lambda o: o.station_name),
}


DETAILS = "details."
"""What begins, after ``order.``, the name of a field that the site maps from its messages."""


class UnknownAttributeError(ValueError):
    """The text names no attribute; the message says why and suggests one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found: the values and the representation the data set gave them."""

    values: tuple[Value, ...] = ()
    vr: str = ""


_NOTHING_SEEN = Seen()


def parse_reference(text: str, creator: str = "", learned: Learned | None = None) -> Reference:
    """The reference that `text` names, a private one in the block of `creator`.

    Raises
    ------
    UnknownAttributeError
        If there is no such keyword, tag or field, no classifier where one is asked, or the path cannot be
        followed.
    """
    if text.partition(".")[0] in FACT_SPACES:
        if text not in FACTS:
            raise UnknownAttributeError(f"there is no {text[:70]!r}{suggestion(text, FACTS)}")
        asked = learned if text in LEARNED_FACTS else None
        if asked is None and text in LEARNED_FACTS:
            raise UnknownAttributeError("the file names no classifier")
        return Reference(text=text, fact=text, vr=FACTS[text].vr, learned=asked)
    if text.startswith("order."):
        name = text.removeprefix("order.")
        if name.startswith(DETAILS) and name.removeprefix(DETAILS).isidentifier():
            return Reference(text=text, order_field=name, vr="LO")
        if name not in ORDER_FIELDS:
            raise UnknownAttributeError(f"the order has no field {name!r}{suggestion(name, ORDER_FIELDS)}")
        return Reference(text=text, order_field=name, vr=ORDER_FIELDS[name].vr)
    parts = text.split(".") if text else []
    if not parts or len(parts) > _MAXIMUM_STEPS:
        raise UnknownAttributeError(f"a path has 1 to {_MAXIMUM_STEPS} steps joined by dots")
    steps: list[Step] = []
    vr = ""
    for index, part in enumerate(parts):
        step, vr = _step(part, creator)
        last = index == len(parts) - 1
        if last and step.item is not None:
            raise UnknownAttributeError("the last step of a path has no index")
        if not last and vr not in ("SQ", ""):
            raise UnknownAttributeError(f"{part!r} is no sequence (it is {vr}), nothing is inside it")
        steps.append(step)
    return Reference(text=text, steps=tuple(steps), vr=vr)


def _step(part: str, creator: str) -> tuple[Step, str]:
    found = _STEP.fullmatch(part)
    if not found:
        raise UnknownAttributeError(f"{part[:40]!r} is no keyword, no tag and no step of a path")
    name, index = found.groups()
    item = None if index in (None, "*") else int(index)
    tag = _TAG.fullmatch(name)
    if tag is None:
        number = tag_for_keyword(name)
        if number is None:
            raise UnknownAttributeError(f"unknown keyword {name[:70]!r}{suggestion(name, keyword_dict)}")
        return Step(tag=f"{number:08X}", keyword=name, item=item), _vr(number)
    group, element = tag.group(1).upper(), tag.group(2).upper().replace("X", "x")
    if int(group, 16) % 2:
        return _private_step(group, element, creator, item), ""
    if "x" in element:
        raise UnknownAttributeError(f"{name!r}: only a private (odd) group has xx for its block")
    number = int(group + element, 16)
    if not dictionary_has_tag(number):
        raise UnknownAttributeError(f"unknown tag {name!r}")
    return Step(tag=group + element, keyword=dictionary_keyword(number), item=item), _vr(number)


def _private_step(group: str, element: str, creator: str, item: int | None) -> Step:
    if not creator:
        raise UnknownAttributeError(
            f"({group},{element}) is private: name its creator, {{tag: ..., creator: ...}}"
        )
    return Step(tag=f"{group}xx{element[2:]}", creator=creator, item=item)


def _vr(number: int) -> str:
    return str(dictionary_VR(number)).split(" or ", maxsplit=1)[0]


def suggestion(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """`` (did you mean X?)`` for the known name nearest to `name`, or nothing."""
    near = difflib.get_close_matches(name[:70], list(known), n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def order_value(order: Order | None, name: str) -> Seen:
    """The value of a field of the order; nothing without an order."""
    if name.startswith(DETAILS):
        wanted = name.removeprefix(DETAILS)
        found = dict.fromkeys(value for key, value in order.details if key == wanted) if order else ()
        return Seen(tuple(found)[:MAXIMUM_SEEN], "LO")
    field = ORDER_FIELDS[name]
    read = field.read(order) if order is not None else None
    several = [read] if read is None or isinstance(read, str | Code) else read
    values = (value.strip() if isinstance(value, str) else value for value in several)
    return Seen(tuple(dict.fromkeys(value for value in values if value)), field.vr)


def data_set_values(attributes: DicomJson, steps: tuple[Step, ...]) -> Seen:
    """All values under a path of a data set in DICOM JSON, at most `MAXIMUM_SEEN`."""
    if len(steps) == 1 and not steps[0].creator:  # nearly all that rules ask
        element = attributes.get(steps[0].tag)
        if not isinstance(element, dict):
            return _NOTHING_SEEN
        return Seen(tuple(islice(_values(element), MAXIMUM_SEEN)), str(element.get("vr", "")))
    found: list[Value] = []
    vr = ""
    for element in _elements(attributes, steps):
        vr = vr or str(element.get("vr", ""))
        found.extend(_values(element))
        if len(found) >= MAXIMUM_SEEN:
            break
    return Seen(tuple(found[:MAXIMUM_SEEN]), vr)


def _elements(attributes: DicomJson, steps: tuple[Step, ...]) -> Iterator[dict[str, Any]]:
    step, rest = steps[0], steps[1:]
    element = attributes.get(_key(attributes, step))
    if not isinstance(element, dict):
        return
    if not rest:
        yield element
        return
    content = element.get("Value")
    entries = content if isinstance(content, list) else []
    chosen = entries[:MAXIMUM_SEEN] if step.item is None else entries[step.item : step.item + 1]
    for entry in chosen:
        if isinstance(entry, dict):
            yield from _elements(entry, rest)


def _key(attributes: DicomJson, step: Step) -> str:
    """The key of a step; a private one is looked for in the blocks its creator reserved (PS3.5 7.8.1)."""
    if not step.creator:
        return step.tag
    group = step.tag[:4]
    for key in sorted(_reservations(group) & attributes.keys()):
        reservation = attributes[key]
        found = f"{group}{key[6:]}{step.tag[6:]}"
        if (
            found in attributes
            and isinstance(reservation, dict)
            and any(
                isinstance(value, str) and value.strip() == step.creator for value in _values(reservation)
            )
        ):
            return found
    return ""


@lru_cache(maxsize=256)
def _reservations(group: str) -> frozenset[str]:
    """Keys of the elements that reserve blocks of a private group."""
    return frozenset(f"{group}00{block:02X}" for block in range(0x10, 0x100))


def _values(element: dict[str, Any]) -> Iterator[Value]:
    content = element.get("Value")
    if content is None and element.get("vr") == "UN":
        content = _text_of_unknown(element.get("InlineBinary"))
    for value in content if isinstance(content, list) else []:
        read = _value(value)
        if read:
            yield read


def plain(value: Value) -> str:
    """The value as one text; of a code its code value."""
    return value.value if isinstance(value, Code) else value


def _value(value: Any) -> Value | None:
    if isinstance(value, str):
        return value.strip(" \0")
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, dict):
        return None
    if "Alphabetic" in value:
        return str(value["Alphabetic"]).strip()
    code = [_first_text(value, tag) for tag in ("00080100", "00080102", "00080104")]
    return Code(*code) if code[0] else "(item)"


def _first_text(item: dict[str, Any], tag: str) -> str:
    element = item.get(tag)
    content = element.get("Value") if isinstance(element, dict) else None
    return str(content[0]).strip() if isinstance(content, list) and content and content[0] else ""


def _text_of_unknown(encoded: Any) -> list[str]:
    """The text of a short value whose representation was lost in Implicit VR (PS3.5 6.2.2)."""
    if not isinstance(encoded, str) or len(encoded) > 2048:
        return []
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return []
    parts = text.rstrip(" \0").split("\\")
    return parts if all(part.isprintable() for part in parts) else []
