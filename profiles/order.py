# SPDX-License-Identifier: Apache-2.0
"""An imaging order as a value, whatever door it came through (HL7 v2 ORM, FHIR ServiceRequest)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from profiles.codes import Code


class OrderControl(StrEnum):
    """HL7 table 0119, the values acted on."""

    NEW = "NW"
    CHANGE = "XO"
    CANCEL = "CA"
    DISCONTINUE = "DC"


class Priority(StrEnum):
    """Scheduled Procedure Step Priority (0074,1200), PS3.3 C.30.2."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order (ORC/OBR pair of ORM^O01, or a ServiceRequest).

    Names are in DICOM form (``family^given^middle^prefix^suffix``); dates are DICOM DA; empty text means the
    sender gave no value. `issuer_of_patient_id` is the namespace or universal id of PID-3.4.
    """

    control: OrderControl
    placer_order_number: str
    filler_order_number: str
    accession_number: str
    patient_id: str
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    requested_procedure_code: Code | None = None
    study_instance_uid: str = ""
    modality: str = ""
    priority: Priority = Priority.MEDIUM
    reason: str = ""
    referring_physician_name: str = ""
    requesting_physician_name: str = ""
    admission_id: str = ""
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """Identity of an HL7 message: a second one with the same key changes nothing (MSH-3, MSH-4, MSH-10)."""

    sending_application: str
    sending_facility: str
    control_id: str
