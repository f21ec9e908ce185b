# SPDX-License-Identifier: Apache-2.0
"""ORU^R01: the results of a stored SR as an HL7 v2 message, for versions 2.3 to 2.8. Pure.

Derived from what the SR says (:class:`ReportContent`) and the orders its workitem names, as FHIR results are.
The same result gives the same bytes and the same control id, so sending it again is harmless. How an OBX is
made lives in ``observations.py``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from profiles import codes
from profiles.air.model import ReportContent
from profiles.answered_orders import OrderNumber, Request, answered_requests
from profiles.codes import Code
from profiles.dicom_json import DicomJson, items, text
from profiles.hl7.datatypes import xpn_of
from profiles.hl7.message import Encoding
from profiles.hl7.observations import (
    CORRECTED,
    FINAL,
    NOT_OBTAINED,
    PRELIMINARY,
    ObservationWriter,
    coded,
    hl7_time,
    study_time,
)
from profiles.hl7.result_options import Acknowledgement, ResultOptions, Service
from profiles.uids import is_uid

_NO_ORDER = Request(
    accession=OrderNumber(value=""),
    filler=OrderNumber(value=""),
    placer=OrderNumber(value=""),
    procedure=None,
    description="",
    procedure_id="",
    requesting_physician_name="",
)
_CONTROL_ID = "\x00"  # takes the place of MSH-10 until the message it is made of is there


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultMessage:
    """A message ready to be sent; `control_id` is MSH-10, `status` OBR-25."""

    control_id: str
    status: str
    raw: bytes


def result_status(content: ReportContent, options: ResultOptions, *, replaces: bool = False) -> str:
    """OBR-25 and OBX-11 of a result: preliminary until a person verified the SR.

    A verified result that takes the place of an earlier report is a correction (C); one that nobody verified
    is so only where the site wants it, for C tells that a *final* result is replaced. That it does is told by
    its Predecessor Documents, or known otherwise (`replaces`).

    References
    ----------
    HL7 tables 0123 and 0085; PS3.3 C.17.2.3 (Predecessor Documents).
    """
    if (replaces or content.predecessors) and (content.is_verified or options.correct_unverified):
        return CORRECTED
    return FINAL if content.is_verified else PRELIMINARY


def result_message(
    content: ReportContent, workitem: DicomJson, options: ResultOptions, *, key: str, replaces: bool = False
) -> ResultMessage:
    """The message of one stored SR: an OBR with all results for each order it answers.

    Parameters
    ----------
    workitem
        DICOM JSON of the workitem: its Referenced Request Sequence and workitem code are read.
    key
        Identity of the delivery; the same key and content give the same control id.
    replaces
        Whether it takes the place of earlier results, as far as is known beside the SR.

    Raises
    ------
    UnicodeEncodeError
        If the character set of the destination lacks a character of the message.

    References
    ----------
    HL7 v2.5.1 chapter 7.3.1 (ORU), 7.4.1 (OBR), 7.4.2 (OBX), 4.5.1 (ORC).
    """
    status = result_status(content, options, replaces=replaces)
    writer = ObservationWriter(content=content, options=options, status=status)
    segments = [_patient(content, options.encoding, options.version)]
    requests = answered_requests(workitem, content.accession_number) or (_NO_ORDER,)
    for number, request in enumerate(requests, start=1):
        order = _Order(request, content.accession_number, content.study_instance_uid)
        segments += order.segments(
            number,
            options,
            service=_service(request, content, workitem, options),
            observed=study_time(content, options.time_zone),
            told_at=hl7_time(content.performed_at),
            modality=content.modality_of_sources,
            status=status,
        )
        segments += writer.segments()
    return _message(segments, options, key=key, sent_at=content.performed_at, status=status)


def failure_message(
    workitem: DicomJson, options: ResultOptions, *, key: str, reason: str, failed_at: datetime
) -> ResultMessage:
    """The message that a run brought no result: OBR-25 X and one OBX with the reason.

    Parameters
    ----------
    reason
        Why, in words without patient data.

    Raises
    ------
    UnicodeEncodeError
        See :func:`result_message`.
    """
    encoding = options.encoding
    study, label = text(workitem, "StudyInstanceUID"), text(workitem, "ProcedureStepLabel")
    issuer = text(workitem, "IssuerOfPatientID")
    segments = [
        _patient_segment(
            encoding,
            options.version,
            identifier=text(workitem, "PatientID"),
            issuer=issuer,
            name=text(workitem, "PatientName"),
            birth_date=text(workitem, "PatientBirthDate"),
            sex=text(workitem, "PatientSex"),
        )
    ]
    title = coded(codes.IMAGING_MEASUREMENT_REPORT, options)
    said = encoding.encoded(f"{label or 'Analysis'}: no result. {reason}")
    for number, request in enumerate(answered_requests(workitem, "") or (_NO_ORDER,), start=1):
        order = _Order(request, "", study)
        service = request.procedure or _workitem_code(workitem) or codes.IMAGING_PROCEDURE
        segments += order.segments(
            number,
            options,
            service=_workitem_code(workitem) or service if options.service is Service.APP else service,
            observed="",
            told_at=hl7_time(failed_at),
            modality="",
            status=NOT_OBTAINED,
        )
        segments.append(["OBX", "1", "TX", title, "0", said, "", "", "", "", "", NOT_OBTAINED])
    return _message(segments, options, key=key, sent_at=failed_at, status=NOT_OBTAINED)


@dataclass(frozen=True, slots=True)
class _Order:
    """ORC and OBR of one order; without one the accession number, else the study, takes its place."""

    request: Request
    accession_number: str
    study_instance_uid: str

    def segments(
        self,
        number: int,
        options: ResultOptions,
        *,
        service: Code,
        observed: str,
        told_at: str,
        modality: str,
        status: str,
    ) -> list[list[str]]:
        encoding, request = options.encoding, self.request
        accession = self.accession_number or request.accession.value
        placer = _entity(request.placer, encoding)
        filler = _entity(request.filler, encoding) or encoding.encoded(accession or self.study_instance_uid)
        description = request.description if service is request.procedure else ""
        obr = [""] * 28
        obr[0:5] = ["OBR", str(number), placer, filler, coded(service, options, description)]
        obr[7] = observed
        obr[16] = _physician(request.requesting_physician_name, encoding)
        obr[18] = encoding.encoded(accession)
        obr[19] = encoding.encoded(request.procedure_id)
        obr[22] = told_at
        obr[24] = encoding.encoded(modality)
        obr[25] = status
        orc = ["ORC", "RE", placer, filler, "", "", "", ""]
        if options.version == "2.3":
            orc[7] = obr[27] = "1"  # quantity and timing, required there
        return [orc, obr]


def _service(request: Request, content: ReportContent, workitem: DicomJson, options: ResultOptions) -> Code:
    """OBR-4: what was ordered, or what the app did."""
    if options.service is Service.APP:
        return _workitem_code(workitem) or content.title
    return request.procedure or content.procedure_reported or content.title


def _workitem_code(workitem: DicomJson) -> Code | None:
    for code in items(workitem, "ScheduledWorkitemCodeSequence"):
        value, scheme = text(code, "CodeValue"), text(code, "CodingSchemeDesignator")
        if value and scheme:
            return Code(value, scheme, text(code, "CodeMeaning"))
    return None


def _entity(number: OrderNumber, encoding: Encoding) -> str:
    """EI: the number and who gave it out, a universal id (ISO) or a namespace."""
    if not number.value:
        return ""
    if is_uid(number.issuer):
        parts = [number.value, "", number.issuer, "ISO"]
    else:
        parts = [number.value, number.issuer]
    return encoding.component.join(encoding.encoded(part) for part in parts).rstrip(encoding.component)


def _physician(name: str, encoding: Encoding) -> str:
    """XCN without an id for a DICOM PN."""
    family, given, middle, prefix, suffix = [*name.split("=", 1)[0].split("^", 5), "", "", "", "", ""][:5]
    parts = ["", *(encoding.encoded(part) for part in (family, given, middle, suffix, prefix))]
    return encoding.component.join(parts).rstrip(encoding.component)


def _patient(content: ReportContent, encoding: Encoding, version: str) -> list[str]:
    return _patient_segment(
        encoding,
        version,
        identifier=content.patient_id,
        issuer=content.issuer_of_patient_id,
        name=content.patient_name,
        birth_date=content.patient_birth_date,
        sex=content.patient_sex,
    )


def _patient_segment(
    encoding: Encoding, version: str, *, identifier: str, issuer: str, name: str, birth_date: str, sex: str
) -> list[str]:
    inside = encoding.subcomponent
    authority = f"{inside}{issuer}{inside}ISO" if is_uid(issuer) else encoding.encoded(issuer)
    patient_id = encoding.component.join([encoding.encoded(identifier), "", "", authority, "MR"])
    names = xpn_of(name, encoding)
    if version == "2.3":  # XPN has no name representation code before 2.3.1
        first = names.split(encoding.repetition, 1)[0]
        names = encoding.component.join(first.split(encoding.component)[:7])
    return ["PID", "1", "", patient_id, "", names, "", encoding.encoded(birth_date), encoding.encoded(sex)]


def _message(
    segments: Sequence[Sequence[str]], options: ResultOptions, *, key: str, sent_at: datetime, status: str
) -> ResultMessage:
    encoding = options.encoding
    kind = encoding.component.join(["ORU", "R01"] if options.version == "2.3" else ["ORU", "R01", "ORU_R01"])
    accept, application = {
        Acknowledgement.ORIGINAL: ("", ""),
        Acknowledgement.ACCEPT: ("AL", "NE"),
        Acknowledgement.APPLICATION: ("NE", "AL"),
    }[options.acknowledgement]
    msh = ["MSH" + encoding.field + encoding.delimiters, options.sending_application]
    msh += [options.sending_facility, options.receiving_application, options.receiving_facility]
    msh += [hl7_time(sent_at), "", kind, _CONTROL_ID, options.processing_id, options.version, "", ""]
    msh += [accept, application, "", options.character_set]
    lines = [encoding.field.join(fields).rstrip(encoding.field) for fields in (msh, *segments)]
    whole = "".join(f"{line}\r" for line in (*lines, *options.extra_segments))
    digest = hashlib.sha256(f"{key}\x1f{whole}".encode()).digest()
    control_id = base64.b32encode(digest).decode("ascii")[:20]
    raw = _encoded(whole.replace(_CONTROL_ID, control_id, 1), encoding.codec)
    return ResultMessage(control_id=control_id, status=status, raw=raw)


def _encoded(whole: str, codec: str) -> bytes:
    """The bytes, if they say the same: Python writes a yen sign as a backslash in Shift JIS, which escapes.

    Raises
    ------
    UnicodeEncodeError
        If the set lacks a character.
    """
    raw = whole.encode(codec)
    if raw.decode(codec) != whole:
        raise UnicodeEncodeError(codec, "", 0, 0, "another character would take its place")
    return raw
