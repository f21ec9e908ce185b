# SPDX-License-Identifier: Apache-2.0
"""A shipment of one report for tests, changed piece by piece; files are written where a test wants them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from profiles.codes import WORKITEM_LUNG_CT
from profiles.dicom_json import element, merged
from profiles.ups.references import InstanceReference, information_items
from task_manager.ports import Shipment
from task_manager.study.model import Instance
from tests.reported import COMPREHENSIVE_3D_SR_STORAGE, CT_IMAGE_STORAGE, request_item

NOW = datetime(2026, 5, 4, 9, 15, 27, tzinfo=UTC)
INSTANCE = Instance(
    sop_instance_uid="2.25.100",
    sop_class_uid=COMPREHENSIVE_3D_SR_STORAGE,
    series_instance_uid="2.25.99",
    study_instance_uid="2.25.98",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    instance_number=1,
    path="sr.dcm",
    size=5,
    received_at=NOW,
    attributes={},
)
IMAGE = replace(
    INSTANCE,
    sop_instance_uid="2.25.50",
    sop_class_uid=CT_IMAGE_STORAGE,
    series_instance_uid="2.25.97",
    path="ct.dcm",
    size=7,
)
_INPUT = InstanceReference(
    study_instance_uid=IMAGE.study_instance_uid,
    series_instance_uid=IMAGE.series_instance_uid,
    sop_class_uid=IMAGE.sop_class_uid,
    sop_instance_uid=IMAGE.sop_instance_uid,
)
SHIPMENT = Shipment(
    destination="SHARE",
    workitem_uid="2.25.77",
    workitem=merged(
        [
            element("StudyInstanceUID", "2.25.98"),
            element("ProcedureStepState", "COMPLETED"),
            element("ProcedureStepLabel", "Lung CT"),
            element("ScheduledWorkitemCodeSequence", WORKITEM_LUNG_CT.to_json()),
            element("ReferencedRequestSequence", request_item()),
            element("InputInformationSequence", *information_items([_INPUT], "http://x/dicom-web")),
            element("PatientID", "PAT-0001"),
            element("PatientName", "Doe^Jane"),
        ]
    ),
    instances=(INSTANCE,),
    paths=(Path("sr.dcm"),),
    order=None,
)


def written_shipment(folder: Path) -> Shipment:
    """The shipment with its report in `folder`."""
    path = folder / INSTANCE.path
    path.write_bytes(b"12345")
    return replace(SHIPMENT, paths=(path,))
