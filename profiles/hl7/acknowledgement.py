# SPDX-License-Identifier: Apache-2.0
"""The answer to an HL7 v2 message: MSH, MSA and ERR, in original and enhanced mode.

Nothing but header fields of the message comes back to the sender: no patient data, no field values. Header
fields are returned as they were sent, in the separators of the message, so that MSA-2 equals MSH-10 exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from profiles.hl7.message import SUPPORTED_VERSIONS, ErrorCode, Header, Hl7Fault

MAX_FAULTS_TOLD = 20
_REJECTED = frozenset(
    {
        ErrorCode.SEGMENT_SEQUENCE,
        ErrorCode.MESSAGE_TYPE,
        ErrorCode.EVENT,
        ErrorCode.PROCESSING_ID,
        ErrorCode.VERSION,
    }
)
MEANINGS = {
    ErrorCode.SEGMENT_SEQUENCE: "Segment sequence error",
    ErrorCode.REQUIRED_FIELD_MISSING: "Required field missing",
    ErrorCode.DATA_TYPE: "Data type error",
    ErrorCode.TABLE_VALUE: "Table value not found",
    ErrorCode.TOO_LONG: "Value too long",
    ErrorCode.CARDINALITY: "Cardinality error",
    ErrorCode.OTHER: "Other error",
    ErrorCode.MESSAGE_TYPE: "Unsupported message type",
    ErrorCode.EVENT: "Unsupported event code",
    ErrorCode.PROCESSING_ID: "Unsupported processing id",
    ErrorCode.VERSION: "Unsupported version id",
    ErrorCode.UNKNOWN_KEY: "Unknown key identifier",
    ErrorCode.DUPLICATE_KEY: "Duplicate key identifier",
    ErrorCode.RECORD_LOCKED: "Application record locked",
    ErrorCode.APPLICATION: "Application internal error",
}
"""HL7 table 0357."""


class AcknowledgementCode(StrEnum):
    """HL7 table 0008, application level; enhanced mode turns A into C at the accept level."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"


def code_for(faults: Sequence[Hl7Fault]) -> AcknowledgementCode:
    """What faults come to: AR if type, event, version or structure is not acceptable, otherwise AE."""
    if not faults:
        return AcknowledgementCode.ACCEPT
    rejected = any(fault.code in _REJECTED for fault in faults)
    return AcknowledgementCode.REJECT if rejected else AcknowledgementCode.ERROR


def acknowledge(
    header: Header,
    code: AcknowledgementCode,
    faults: Sequence[Hl7Fault] = (),
    *,
    control_id: str,
    sent_at: datetime,
    text: str = "",
) -> bytes | None:
    """The acknowledgement of the message with `header`, or None if its sender wants none.

    In enhanced mode this is the accept acknowledgement (MSH-15), or for a sender that asks for none the
    application acknowledgement of MSH-16. Two answers to one message would put a sender that reads one out of
    step: who wants both is asked for with :func:`application_acknowledgement`.

    Parameters
    ----------
    code
        In original-mode terms.
    faults
        Told as ERR, at most `MAX_FAULTS_TOLD`.
    control_id
        MSH-10 of the answer, at most 20 characters.
    sent_at
        Aware time of the answer.
    text
        MSA-3 where there is no fault.

    References
    ----------
    HL7 v2.5.1 chapter 2.9.2, 2.9.3, 2.15.5 (ERR), 2.15.8 (MSA); v2.3.1 chapter 2.24.5; tables 0008, 0155.
    """
    codes = _wire_codes(header, code)
    return _answer(header, codes[0], faults, control_id, sent_at, text) if codes else None


def application_acknowledgement(
    header: Header,
    code: AcknowledgementCode,
    faults: Sequence[Hl7Fault] = (),
    *,
    control_id: str,
    sent_at: datetime,
    text: str = "",
) -> bytes | None:
    """The second answer of enhanced mode: the application acknowledgement that MSH-16 asks for.

    None if :func:`acknowledge` was the only answer due; after a CE or CR none is, and a sender would take it
    for the answer to its next message. It asks for no acknowledgement of its own.

    References
    ----------
    HL7 v2.5.1 chapter 2.9.3.2.
    """
    codes = _wire_codes(header, code)
    if len(codes) < 2 or codes[0] != "CA":
        return None
    return _answer(header, codes[1], faults, control_id, sent_at, text, asks="NE")


def _answer(
    header: Header,
    wire_code: str,
    faults: Sequence[Hl7Fault],
    control_id: str,
    sent_at: datetime,
    text: str,
    *,
    asks: str = "",
) -> bytes:
    encoding = header.encoding
    component, separator = encoding.component, encoding.field
    version = header.version if header.version in SUPPORTED_VERSIONS else "2.5.1"
    kind = ["ACK", encoding.encoded(header.trigger), "ACK"] if header.trigger else ["ACK"]
    msh = ["MSH" + separator + encoding.delimiters]
    msh += [header.receiving_application, header.receiving_facility]
    msh += [header.sending_application, header.sending_facility]
    msh += [f"{sent_at:%Y%m%d%H%M%S%z}", "", component.join(kind), control_id]
    msh += [encoding.encoded(header.processing_id) or "P", version]
    if header.character_set or asks:
        msh += ["", "", asks, asks, "", header.character_set]
    summary = encoding.encoded(_summary(faults) if faults else text)
    msa = ["MSA", wire_code, header.control_id] + ([summary] if summary else [])
    lines = [msh, msa, *_errors(header, version, faults[:MAX_FAULTS_TOLD])]
    whole = "".join(separator.join(fields) + "\r" for fields in lines)
    return whole.encode(encoding.codec, "replace")


def _wire_codes(header: Header, code: AcknowledgementCode) -> list[str]:
    """MSA-1 of every answer due: the accept level before the application level."""
    if not header.enhanced:
        return [code.value]
    success = code is AcknowledgementCode.ACCEPT
    due = []
    for wanted, prefix in ((header.accept_acknowledgement, "C"), (header.application_acknowledgement, "A")):
        refused = wanted in ("", "NE") or wanted == ("ER" if success else "SU")
        if not refused:  # a value that is not of table 0155 is taken for AL
            due.append(prefix + code.value[1])
    return due


def _summary(faults: Sequence[Hl7Fault]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return str(faults[0])[:60] + more


def _errors(header: Header, version: str, faults: Sequence[Hl7Fault]) -> list[list[str]]:
    encoding = header.encoding
    component = encoding.component
    if version in ("2.3.1", "2.4"):
        places = []
        for fault in faults:
            at = fault.location
            code = encoding.subcomponent.join([fault.code, MEANINGS[fault.code], "HL70357"])
            places.append(
                component.join([at.segment, str(at.sequence), str(at.field) if at.field else "", code])
            )
        return [["ERR", encoding.repetition.join(places)]] if places else []
    segments = []
    for fault in faults:
        at = fault.location
        parts = [at.segment, str(at.sequence)] if at.segment else []
        if at.field:
            parts += [str(at.field), str(at.repetition)]
        if at.component:
            parts += [str(at.component)]
        code = component.join([fault.code, MEANINGS[fault.code], "HL70357"])
        message = encoding.encoded(fault.text[:250])
        segments.append(["ERR", "", component.join(parts), code, "E", "", "", "", message])
    return segments
