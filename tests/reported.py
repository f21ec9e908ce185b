# SPDX-License-Identifier: Apache-2.0
"""Contents of stored reports for tests: a lung CT result with everything in it, changed piece by piece."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from profiles import codes
from profiles.air.model import ReportContent, ReportedGroup, ReportedMeasurement
from profiles.dicom_json import DicomJson, element, merged

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.1.1"
SR_UID = "2.25.1001"
SEG_UID = "2.25.1002"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.34"
REPORT_TITLE = codes.Code("126000", "DCM", "Imaging Measurement Report")

VOLUME = ReportedMeasurement(
    observation_uid="2.25.2001", name=codes.VOLUME, value=2310.25, unit=codes.MILLILITRE
)
DENSITY = ReportedMeasurement(
    observation_uid="2.25.2002",
    name=codes.MEAN_ATTENUATION,
    value=-812.4,
    unit=codes.HOUNSFIELD_UNIT,
    derivation=codes.MEAN,
)
EMPHYSEMA = ReportedMeasurement(
    observation_uid="2.25.2003", name=codes.EMPHYSEMA_INDEX, value=3.5, unit=codes.PERCENT
)
FAILED = ReportedMeasurement(
    observation_uid="2.25.2004",
    name=codes.EMPHYSEMA_INDEX,
    value=None,
    unit=codes.PERCENT,
    failure=codes.CALCULATION_FAILURE,
)


def group(**changes: Any) -> ReportedGroup:
    """The left lung, segmented and measured."""
    whole = ReportedGroup(
        observation_uid="2.25.3001",
        tracking_identifier="lung-left",
        tracking_uid="2.25.4001",
        finding=codes.LUNG,
        finding_category=codes.ANATOMICAL_STRUCTURE,
        finding_site=codes.LUNG,
        laterality=codes.LEFT,
        segmentation_sop_instance_uid=SEG_UID,
        segment_number=1,
        measurements=(VOLUME, DENSITY, EMPHYSEMA),
    )
    return replace(whole, **changes)


def content(**changes: Any) -> ReportContent:
    """A stored lung CT report."""
    whole = ReportContent(
        sop_class_uid=COMPREHENSIVE_3D_SR_STORAGE,
        sop_instance_uid=SR_UID,
        series_instance_uid="2.25.1000",
        study_instance_uid=STUDY_UID,
        patient_id="PAT-0001",
        issuer_of_patient_id="",
        patient_name="Doe^Jane",
        patient_birth_date="19610214",
        patient_sex="F",
        accession_number="ACC-77",
        study_date="20260504",
        study_time="091000",
        study_description="CT chest",
        modality_of_sources="CT",
        performed_at=datetime(2026, 5, 4, 9, 15, 27, tzinfo=UTC),
        title=REPORT_TITLE,
        procedure_reported=codes.IMAGING_PROCEDURE,
        device_uid="2.25.5001",
        device_manufacturer="Airway",
        device_name="lung-ct",
        device_version="0.1.0",
        algorithm_parameters=("label=demonstration, not for clinical use",),
        groups=(group(),),
        referenced_instances=(
            (SERIES_UID, CT_IMAGE_STORAGE, "1.2.826.0.1.3680043.8.498.1.1.1"),
            (SERIES_UID, CT_IMAGE_STORAGE, "1.2.826.0.1.3680043.8.498.1.1.2"),
            ("2.25.1003", SEGMENTATION_STORAGE, SEG_UID),
        ),
    )
    return replace(whole, **changes)


def request_item(**changes: str) -> DicomJson:
    """One item of the Referenced Request Sequence; keywords change or, when empty, remove values."""
    given = {
        "AccessionNumber": "ACC-77",
        "PlacerOrderNumberImagingServiceRequest": "PLC-1",
        "FillerOrderNumberImagingServiceRequest": "FIL-1",
        "RequestedProcedureID": "RP-1",
        "RequestedProcedureDescription": "CT Thorax",
    } | changes
    return merged(element(keyword, value) for keyword, value in given.items())


def workitem(*requests: DicomJson) -> DicomJson:
    """A workitem with the given requests and nothing else."""
    return merged([element("ReferencedRequestSequence", *requests)])
