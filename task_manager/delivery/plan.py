# SPDX-License-Identifier: Apache-2.0
"""Which objects of a completed workitem are delivered, and in what order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from profiles import dicom_json
from profiles.dicom_json import DicomJson, tag_key
from profiles.ups.references import listed_instances
from task_manager.study.model import Instance

_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88."
_REFERENCE = tag_key("ReferencedSOPInstanceUID")
_DEEPEST = 16


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
    """The instances in the order to be sent: what others refer to first, root reports last.

    Reports come after all that are none, each after those it refers to; so do the others among themselves.
    Objects that refer to each other in a ring keep the order of series and instance number.
    """
    plain = sorted(
        instances,
        key=lambda instance: (
            is_report(instance.sop_class_uid),
            instance.series_instance_uid,
            instance.instance_number or 0,
            instance.sop_instance_uid,
        ),
    )
    return tuple(sorted(_after_what_they_need(plain), key=lambda instance: is_report(instance.sop_class_uid)))


def _after_what_they_need(plain: Sequence[Instance]) -> Iterator[Instance]:
    """Each once, in the order given, but after what it refers to."""
    by_uid = {instance.sop_instance_uid: instance for instance in plain}
    seen: set[str] = set()
    for start in plain:
        stack = [(start, iter(_references(start, by_uid)))] if start.sop_instance_uid not in seen else []
        seen.add(start.sop_instance_uid)
        while stack:
            instance, needed = stack[-1]
            following = next((uid for uid in needed if uid not in seen), None)
            if following is None:
                stack.pop()
                yield instance
            else:
                seen.add(following)
                stack.append((by_uid[following], iter(_references(by_uid[following], by_uid))))


def _references(instance: Instance, by_uid: Mapping[str, Instance]) -> list[str]:
    found = dict.fromkeys(_referenced_uids(instance.attributes, 0))
    return [uid for uid in found if uid in by_uid and uid != instance.sop_instance_uid]


def _referenced_uids(attributes: DicomJson, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    for tag, content in attributes.items():
        values: list[Any] = content.get("Value") or [] if isinstance(content, dict) else []
        for value in values:
            if isinstance(value, dict):
                yield from _referenced_uids(value, depth + 1)
            elif tag == _REFERENCE:
                yield str(value)
