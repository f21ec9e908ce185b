# SPDX-License-Identifier: Apache-2.0
"""An operational event as an audit message in XML (PS3.15 A.5), as IHE SOLE uses it.

Children stand in the order of the schema; text that XML 1.0 cannot hold is replaced, never passed on. The
patient is told by identifier only, and no name of a person appears anywhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from lxml import etree
from lxml.etree import SubElement, tostring  # writes only; nothing is parsed here

from profiles import codes
from profiles.codes import Code
from profiles.hl7.message import STANDARD_ENCODING
from profiles.sole.events import OWN_EVENTS, EventType, OperationalEvent
from profiles.uids import is_uid

EVENT_NAMES: Mapping[EventType, str] = {
    EventType.ORDER_RECEIVED: "OrderReceived",
    EventType.EXAM_CANCELLED: "ExamCancelled",
    EventType.STUDY_IMPORTED: "ImportImage",
    EventType.STUDY_COMPLETE: "BaseImagesComplete",
    EventType.PROCESSING_STARTED: "AutomatedProcessingStart",
    EventType.PROCESSING_COMPLETED: "AutomatedProcessingComplete",
    EventType.RESULTS_STORED: "ImagesStoredInArchive",
    EventType.EXPORTED: "ExamExported",
    EventType.PATIENT_MERGED: "PatientMerge",
    EventType.PATIENT_RENUMBERED: "RemapHL7ID",
    EventType.PATIENT_UPDATED: "Patient Record",
    EventType.INSTANCES_REMOVED: "DICOM Study Deleted",
    EventType.STUDY_NOT_RUN: "StudyNotRun",
    EventType.WORKITEM_SCHEDULED: "WorkitemScheduled",
    EventType.WORKITEM_CANCELED: "WorkitemCanceled",
    EventType.DELIVERY_GIVEN_UP: "DeliveryGivenUp",
}
MAX_INSTANCES = 256
MAX_DESCRIPTION = 32 * 1024

# Object type and role codes, life cycle (PS3.15 A.5.2)
_PERSON, _SYSTEM_OBJECT = "1", "2"
_PATIENT_ROLE, _REPORT_ROLE, _JOB_ROLE = "1", "3", "20"
_LIFE_CYCLES: Mapping[EventType, str] = {
    EventType.STUDY_IMPORTED: "2",
    EventType.PROCESSING_STARTED: "6",
    EventType.PROCESSING_COMPLETED: "8",
    EventType.RESULTS_STORED: "1",
    EventType.EXPORTED: "10",
    EventType.INSTANCES_REMOVED: "15",
}
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]*(:[0-9A-Fa-f]*){2,7}")


def event_code(event_type: EventType) -> Code:
    """EventTypeCode: the RadLex term of the event; DICOM's (PS3.16 CID 400) or our own where it has none."""
    if event_type in OWN_EVENTS:
        return Code(event_type.value, "99AIRWAY", EVENT_NAMES[event_type])
    scheme = "RadLex" if event_type.value.startswith("RID") else "DCM"
    return Code(event_type.value, scheme, EVENT_NAMES[event_type])


def audit_message(
    event: OperationalEvent,
    *,
    source_id: str,
    enterprise_site_id: str = "",
    event_id: Code = codes.IMAGING_OPERATIONAL_EVENT,
) -> bytes:
    """The XML of `event`, UTF-8, on one line.

    Parameters
    ----------
    source_id, enterprise_site_id
        AuditSourceID and AuditEnterpriseSiteID: this system and its site.
    event_id
        EventID, the family of SOLE events.

    References
    ----------
    PS3.15 A.5.1, A.5.2; IHE RAD SOLE volume 3, event report message.
    """
    event = _cleaned(event)
    root = etree.Element("AuditMessage")
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode="E",
        EventDateTime=timestamp(event.occurred_at),
        EventOutcomeIndicator=event.outcome.value,
    )
    _coded(identification, "EventID", event_id)
    _coded(identification, "EventTypeCode", event_code(event.type))
    if event.outcome_description:
        description = SubElement(identification, "EventOutcomeDescription")
        description.text = event.outcome_description[:MAX_DESCRIPTION]
    _machine(root, event.machine, event.machine_address, codes.APPLICATION, requestor=True)
    if event.destination:
        _machine(root, event.destination, event.destination, codes.DESTINATION_ROLE, requestor=False)
    source = SubElement(root, "AuditSourceIdentification")
    if site := _line(enterprise_site_id):
        source.set("AuditEnterpriseSiteID", site)
    source.set("AuditSourceID", _line(source_id) or "-")
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    if event.patient_id:
        identifier = _cx(event.patient_id, event.issuer_of_patient_id)
        _participant_object(root, identifier, _PERSON, _PATIENT_ROLE, codes.PATIENT, "Patient")
    if event.former_patient_id:
        identifier = _cx(event.former_patient_id, event.former_issuer)
        _participant_object(root, identifier, _PERSON, _PATIENT_ROLE, codes.PATIENT, "Former Patient")
    _objects(root, event)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + bytes(tostring(root, encoding="unicode").encode())


def timestamp(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC with milliseconds, a form of both xsd:dateTime and syslog."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _machine(root: etree._Element, name: str, address: str, role: Code, *, requestor: bool) -> None:
    address = address or name or "-"
    participant = SubElement(
        root,
        "ActiveParticipant",
        UserID=name or "-",
        UserIsRequestor="true" if requestor else "false",
        NetworkAccessPointID=address,
        NetworkAccessPointTypeCode="2" if _ADDRESS.fullmatch(address) else "1",
    )
    _coded(participant, "RoleIDCode", role)


def _objects(root: etree._Element, event: OperationalEvent) -> None:
    """Study, order and workitem; the first of them says which inner function took part."""
    details = {"Function": event.function} if event.function else {}
    if event.study_instance_uid:
        study = _participant_object(
            root,
            event.study_instance_uid,
            _SYSTEM_OBJECT,
            _REPORT_ROLE,
            codes.STUDY_INSTANCE_UID,
            "Study",
            life_cycle=_LIFE_CYCLES.get(event.type, ""),
            details=details,
        )
        details = {}
        _description(study, event)
    if event.accession_number or event.order_number:
        accession = bool(event.accession_number)
        order_details = dict(details)
        if accession and event.order_number:
            order_details["PlacerOrderNumber"] = event.order_number
        _participant_object(
            root,
            event.accession_number or event.order_number,
            _SYSTEM_OBJECT,
            _JOB_ROLE,
            codes.ACCESSION_NUMBER if accession else codes.PLACER_NUMBER,
            "Order",
            details=order_details,
        )
        details = {}
    if event.workitem_uid:
        _participant_object(
            root,
            event.workitem_uid,
            _SYSTEM_OBJECT,
            _JOB_ROLE,
            codes.WORKITEM_UID,
            "Workitem",
            details=details,
        )


def _participant_object(
    root: etree._Element,
    identifier: str,
    type_code: str,
    role: str,
    id_type: Code,
    name: str,
    *,
    life_cycle: str = "",
    details: Mapping[str, str] | None = None,
) -> etree._Element:
    node = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )
    if life_cycle:
        node.set("ParticipantObjectDataLifeCycle", life_cycle)
    _coded(node, "ParticipantObjectIDTypeCode", id_type)
    SubElement(node, "ParticipantObjectName").text = name
    for kind, value in (details or {}).items():
        content = base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")
        SubElement(node, "ParticipantObjectDetail", type=kind, value=content)
    return node


def _description(study: etree._Element, event: OperationalEvent) -> None:
    """Accession number and instances by SOP class: all are counted, the first `MAX_INSTANCES` are named.

    What is no UID cannot stand where the schema asks for one and is left out.
    """
    by_class: dict[str, list[str]] = {}
    for sop_class_uid, sop_instance_uid in event.instances:
        if not is_uid(sop_class_uid):
            continue
        by_class.setdefault(sop_class_uid, []).append(sop_instance_uid)
    if not by_class and not event.accession_number:
        return
    description = SubElement(study, "ParticipantObjectDescription")
    if event.accession_number:
        SubElement(description, "Accession", Number=event.accession_number)
    left = MAX_INSTANCES
    for sop_class_uid, sop_instance_uids in by_class.items():
        node = SubElement(
            description,
            "SOPClass",
            UID=sop_class_uid,
            NumberOfInstances=str(len(sop_instance_uids)),
        )
        for sop_instance_uid in filter(is_uid, sop_instance_uids[:left]):
            SubElement(node, "Instance", UID=sop_instance_uid)
        left -= min(left, len(sop_instance_uids))


def _cx(patient_id: str, issuer: str) -> str:
    """Patient id and issuer as HL7 CX: a namespace in CX.4.1, an OID in CX.4.2."""
    encoded = STANDARD_ENCODING.encoded
    identifier, issuer = encoded(patient_id), encoded(issuer)
    if not issuer:
        return identifier
    return f"{identifier}^^^&{issuer}&ISO" if is_uid(issuer) else f"{identifier}^^^{issuer}"


def _coded(parent: etree._Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    SubElement(parent, name, attributes)


def _cleaned(event: OperationalEvent) -> OperationalEvent:
    """`event` with every text that becomes XML on one line and free of what XML 1.0 forbids."""
    return replace(
        event,
        outcome_description=_line(event.outcome_description),
        machine=_line(event.machine),
        machine_address=_line(event.machine_address),
        patient_id=_line(event.patient_id),
        issuer_of_patient_id=_line(event.issuer_of_patient_id),
        former_patient_id=_line(event.former_patient_id),
        former_issuer=_line(event.former_issuer),
        study_instance_uid=_line(event.study_instance_uid),
        accession_number=_line(event.accession_number),
        order_number=_line(event.order_number),
        workitem_uid=_line(event.workitem_uid),
        destination=_line(event.destination),
    )


def _line(text: str) -> str:
    """`text` on one line and without what XML 1.0 forbids (2.2 Char)."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join(_FORBIDDEN.sub("\ufffd", text).split())
