# SPDX-License-Identifier: Apache-2.0
"""The operational events Airway reports, and what each must tell.

Codes are the SWIM terms of RadLex that IHE SOLE uses as EventTypeCode. The encoding of an event as an audit
message lives in ``audit_message.py``, its transport frame in ``syslog.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventType(StrEnum):
    """RadLex code of the event, or that of DICOM; the member's name says what happened.

    Codes that begin with AW are our own (99AIRWAY): neither has a term. They are recorded only where
    somebody is to be told of them.
    """

    ORDER_RECEIVED = "RID45895"
    EXAM_CANCELLED = "RID45862"
    STUDY_IMPORTED = "RID45872"
    STUDY_COMPLETE = "RID45835"
    PROCESSING_STARTED = "RID45834"
    PROCESSING_COMPLETED = "RID45833"
    RESULTS_STORED = "RID45871"
    EXPORTED = "RID45864"
    PATIENT_MERGED = "RID45898"
    PATIENT_RENUMBERED = "RID45922"
    PATIENT_UPDATED = "110110"
    INSTANCES_REMOVED = "110105"
    STUDY_NOT_RUN = "AW2001"
    WORKITEM_SCHEDULED = "AW2002"
    WORKITEM_CANCELED = "AW2003"
    DELIVERY_GIVEN_UP = "AW2004"


OWN_EVENTS = frozenset(one for one in EventType if one.value.startswith("AW"))
"""Events that are recorded only where somebody is to be told of them."""


class Outcome(StrEnum):
    """EventOutcomeIndicator (PS3.15 A.5.2)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalEvent:
    """One event, complete: everything its audit message needs.

    Attributes
    ----------
    key
        Identity of the event; the same happening always has the same key.
    occurred_at
        Aware time of the event itself, not of its sending.
    machine, machine_address
        The system that took part (AE title or process) and its host name or IP.
    function
        Inner function of that machine, such as ``lung-ct 0.1.0``.
    patient_id, issuer_of_patient_id
        Identifier only, never a name.
    former_patient_id, former_issuer
        The identifier the patient had before a merge or a new number.
    instances
        (SOP Class UID, SOP Instance UID) of the objects the event is about.
    """

    key: str
    type: EventType
    occurred_at: datetime
    outcome: Outcome = Outcome.SUCCESS
    outcome_description: str = ""
    machine: str = "AIRWAY"
    machine_address: str = "127.0.0.1"
    function: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    former_patient_id: str = ""
    former_issuer: str = ""
    study_instance_uid: str = ""
    accession_number: str = ""
    order_number: str = ""
    workitem_uid: str = ""
    destination: str = ""
    instances: tuple[tuple[str, str], ...] = ()
