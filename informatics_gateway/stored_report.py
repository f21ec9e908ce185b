# SPDX-License-Identifier: Apache-2.0
"""The report of a shipment, read from disk for receivers that do not speak DICOM.

The stored SR is their only source; FHIR and HL7 v2 start from the same :class:`ReportContent`. What a fault
means for the delivery is decided here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, tzinfo
from pathlib import Path

import pydicom

from profiles.air.model import ReportContent
from profiles.air.read import REPORT_SOP_CLASSES, ReportError, read_report
from profiles.patient import PatientIdentity
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Shipment


def shipped_report(shipment: Shipment, zone: tzinfo | None = None) -> ReportContent:
    """What the last SR of a shipment says, about the patient as known by now.

    Parameters
    ----------
    zone
        Zone of its times if neither they nor the report name one; None takes UTC.

    Raises
    ------
    RetryableDeliveryError
        If its file cannot be read now.
    FinalDeliveryError
        If there is no SR, or it is not one Airway can read.
    """
    reports = [
        (path, instance.size)
        for instance, path in zip(shipment.instances, shipment.paths, strict=True)
        if instance.sop_class_uid in REPORT_SOP_CLASSES
    ]
    if not reports:
        raise FinalDeliveryError("the shipment holds no structured report")
    content = _stored_content(*reports[-1], zone or UTC)
    return content if shipment.patient is None else _of_patient(content, shipment.patient)


def _of_patient(content: ReportContent, patient: PatientIdentity) -> ReportContent:
    """`content` for the patient its id stands for by now: results of a merged patient are the survivor's."""
    return replace(
        content,
        patient_id=patient.patient_id,
        issuer_of_patient_id=patient.issuer or content.issuer_of_patient_id,
        patient_name=patient.name or content.patient_name,
        patient_birth_date=patient.birth_date or content.patient_birth_date,
        patient_sex=patient.sex or content.patient_sex,
    )


def _stored_content(path: Path, size: int, zone: tzinfo) -> ReportContent:
    try:
        complete = path.stat().st_size == size
        content = read_report(pydicom.dcmread(path), zone) if complete else None
    except OSError as error:
        raise RetryableDeliveryError("the structured report cannot be read from disk") from error
    except ReportError as error:
        raise FinalDeliveryError(f"the structured report cannot be told: {error}") from error
    except Exception as error:  # the bytes are of others; pydicom raises nearly anything on bad ones
        raise FinalDeliveryError("the structured report is no readable DICOM file") from error
    if content is None:  # cut short it may still read as a report, with fewer results
        raise FinalDeliveryError("the structured report is not as long as when it was stored")
    return content
