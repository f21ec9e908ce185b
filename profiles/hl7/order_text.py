# SPDX-License-Identifier: Apache-2.0
"""An order to an ORM^O01 in bytes: what ``airway send`` and the demonstration send as a RIS would.

Each segment is held against the definitions of hl7apy before it leaves; its ORM^O01 structure is not used,
because it demands every member of a choice (version 1.3.5).
"""

from __future__ import annotations

from datetime import datetime

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_segment

from profiles.hl7.datatypes import xpn_of
from profiles.hl7.message import STANDARD_ENCODING as ENCODING
from profiles.order import Order, Priority

_PRIORITIES = {Priority.HIGH: "S", Priority.MEDIUM: "T", Priority.LOW: "R"}


def order_message(
    order: Order,
    *,
    control_id: str,
    sent_at: datetime,
    sending_application: str = "RIS",
    sending_facility: str = "HOSPITAL",
    receiving_application: str = "AIRWAY",
    receiving_facility: str = "HOSPITAL",
) -> bytes:
    """An ORM^O01 (v2.5.1, UTF-8) that asks for `order`; equal arguments give equal bytes.

    Parameters
    ----------
    control_id
        MSH-10, at most 20 characters; the same one again is the same message.
    sent_at
        Aware time of the message.

    Raises
    ------
    hl7apy.exceptions.HL7apyException
        If a value breaks the definition of its field.

    References
    ----------
    HL7 v2.5.1 chapter 4.4.1; IHE RAD TF-2 4.4.4.1 (ZDS).
    """
    encoded = ENCODING.encoded
    stamp = f"{sent_at:%Y%m%d%H%M%S%z}"
    code = order.requested_procedure_code
    procedure = (
        f"{encoded(code.value)}^{encoded(order.requested_procedure_description or code.meaning)}"
        f"^{encoded(code.scheme)}"
        if code
        else f"^{encoded(order.requested_procedure_description)}"
    )
    start = f"{order.scheduled_at:%Y%m%d%H%M%S%z}" if order.scheduled_at else ""
    timing = f"1^^^{start}^^{_PRIORITIES[order.priority]}"
    numbers = [encoded(order.placer_order_number), encoded(order.filler_order_number)]
    issuer = encoded(order.issuer_of_patient_id)
    identifier = f"{encoded(order.patient_id)}^^^{issuer}^MR"
    pid = {
        1: "1",
        3: identifier,
        5: xpn_of(order.patient_name, ENCODING) or "^^^^^^U",  # name type U: unspecified
        7: order.patient_birth_date,
        8: order.patient_sex,
    }
    pv1 = {2: "O", 8: _xcn(order.referring_physician_name), 19: encoded(order.admission_id)}
    requester = _xcn(order.requesting_physician_name)
    orc = {1: order.control.value, 2: numbers[0], 3: numbers[1], 7: timing, 9: stamp, 12: requester}
    obr = {
        1: "1",
        2: numbers[0],
        3: numbers[1],
        4: procedure,
        16: requester,
        18: encoded(order.accession_number),
        19: encoded(order.requested_procedure_id),
        24: encoded(order.modality),
        27: timing,
        31: f"^{encoded(order.reason)}" if order.reason else "",
    }
    msh = [
        *(encoded(sending_application), encoded(sending_facility)),
        *(encoded(receiving_application), encoded(receiving_facility)),
        *(stamp, "", "ORM^O01^ORM_O01", encoded(control_id), "P", "2.5.1", "", "", "", "", ""),
        "UNICODE UTF-8",
    ]
    lines = ["|".join(["MSH", ENCODING.delimiters, *msh])]
    patient = [("PID", pid), ("PV1", pv1)] if order.patient_id else []
    for name, fields in (*patient, ("ORC", orc), ("OBR", obr)):
        line = _segment(name, fields)
        parse_segment(line, version="2.5.1", validation_level=VALIDATION_LEVEL.STRICT).validate()
        lines.append(line)
    if order.study_instance_uid:
        lines.append(f"ZDS|{order.study_instance_uid}^{encoded(sending_application)}^Application^DICOM")
    return "".join(line + "\r" for line in lines).encode()


def _segment(name: str, fields: dict[int, str]) -> str:
    return "|".join([name, *(fields.get(n, "") for n in range(1, max(fields) + 1))]).rstrip("|")


def _xcn(name: str) -> str:
    parts = [*name.split("=")[0].split("^", 5), "", "", "", "", ""][:5]
    family, given, middle, prefix, suffix = (ENCODING.encoded(part) for part in parts)
    return "^".join(["", family, given, middle, suffix, prefix]).rstrip("^")
