# SPDX-License-Identifier: Apache-2.0
"""Which objects of a completed workitem are delivered, and in what order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.ups.references import listed_instances
from task_manager.study.model import Instance

_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88."


def output_sop_instance_uids(attributes: DicomJson) -> tuple[str, ...]:
    """SOP Instance UIDs in the workitem's Output Information Sequence (PS3.3 C.30.3), in its order."""
    performed = dicom_json.items(attributes, "UnifiedProcedureStepPerformedProcedureSequence")
    outputs = [output for item in performed for output in dicom_json.items(item, "OutputInformationSequence")]
    uids = (reference.sop_instance_uid for reference in listed_instances(outputs))
    return tuple(dict.fromkeys(uid for uid in uids if uid))


def is_report(sop_class_uid: str) -> bool:
    """Whether the SOP class is a structured report, the root of a result set (IHE AIR root result)."""
    return sop_class_uid.startswith(_SR_STORAGE)


def ship_order(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """The instances in the order to be sent: what reports refer to first, root reports last."""
    return tuple(
        sorted(
            instances,
            key=lambda instance: (
                is_report(instance.sop_class_uid),
                instance.series_instance_uid,
                instance.instance_number or 0,
                instance.sop_instance_uid,
            ),
        )
    )
