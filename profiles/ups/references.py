# SPDX-License-Identifier: Apache-2.0
"""Items of the Referenced Instances and Access macro (PS3.4 table CC.2.5-2c): what, and where to get it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from profiles.dicom_json import DicomJson, element, items, merged, text


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReference:
    """A DICOM instance, named completely."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def information_items(references: Iterable[InstanceReference], wado_base_url: str) -> list[DicomJson]:
    """One item for each series in order of appearance, with the WADO-RS address of the series.

    Whoever retrieves takes the instances that are listed: a series may hold more.
    """
    series: dict[tuple[str, str], list[InstanceReference]] = {}
    for reference in references:
        series.setdefault((reference.study_instance_uid, reference.series_instance_uid), []).append(reference)
    base = wado_base_url.rstrip("/")
    return [
        merged(
            [
                element("TypeOfInstances", "DICOM"),
                element("StudyInstanceUID", study_uid),
                element("SeriesInstanceUID", series_uid),
                element("ReferencedSOPSequence", *(_reference_item(one) for one in members)),
                element(
                    "WADORSRetrievalSequence",
                    element("RetrieveURL", f"{base}/studies/{study_uid}/series/{series_uid}"),
                ),
            ]
        )
        for (study_uid, series_uid), members in series.items()
    ]


def _reference_item(reference: InstanceReference) -> DicomJson:
    return {
        **element("ReferencedSOPClassUID", reference.sop_class_uid),
        **element("ReferencedSOPInstanceUID", reference.sop_instance_uid),
    }


def listed_instances(information: Iterable[DicomJson]) -> tuple[InstanceReference, ...]:
    """The instances that items of Input or Output Information Sequence name, in their order."""
    return tuple(
        InstanceReference(
            study_instance_uid=text(item, "StudyInstanceUID"),
            series_instance_uid=text(item, "SeriesInstanceUID"),
            sop_class_uid=text(reference, "ReferencedSOPClassUID"),
            sop_instance_uid=text(reference, "ReferencedSOPInstanceUID"),
        )
        for item in information
        for reference in items(item, "ReferencedSOPSequence")
    )
