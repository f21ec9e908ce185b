# SPDX-License-Identifier: Apache-2.0
"""The ImagingStudy a result is about, as far as the SR tells it.

It lists the series that were read and made, and states no counts: the SR does not know the whole study.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiles.air.model import ReportContent
from profiles.codes import STUDY_INSTANCE_UID
from profiles.fhir.datatypes import concept, fhir_date_time
from profiles.fhir.entry import Entry
from profiles.fhir.identifiers import CODE_SYSTEMS, FhirIdentity, Json, token_query, uid_identifier

_RESULT_MODALITIES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.88.11": "SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR",
    "1.2.840.10008.5.1.4.1.1.88.59": "KO",
    "1.2.840.10008.5.1.4.1.1.11.1": "PR",
}


def imaging_study_entry(
    content: ReportContent,
    *,
    patient: Json,
    orders: tuple[Json, ...],
    accession: Json | None,
    settings: FhirIdentity,
) -> Entry:
    """The ImagingStudy, created only if the receiver does not know its Study Instance UID."""
    study_uid = uid_identifier(content.study_instance_uid, type_code=STUDY_INSTANCE_UID, settings=settings)
    resource: Json = {
        "resourceType": "ImagingStudy",
        "identifier": [study_uid, *([accession] if accession else [])],
        "status": "available",
    }
    if modalities := _modalities(content):
        resource["modality"] = [_modality(each) for each in modalities]
    resource["subject"] = patient
    if started := fhir_date_time(content.study_date, content.study_time, settings.time_zone):
        resource["started"] = started
    if orders:
        resource["basedOn"] = list(orders)
    if content.procedure_reported is not None:
        resource["procedureCode"] = [concept(content.procedure_reported, settings)]
    if content.study_description:
        resource["description"] = content.study_description
    if series := _series(content):
        resource["series"] = series
    return Entry(resource=resource, if_none_exist=token_query(study_uid))


def _modalities(content: ReportContent) -> list[str]:
    parts = content.modality_of_sources.replace("\\", ",").split(",")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _modality(value: str) -> Json:
    return {"system": CODE_SYSTEMS["DCM"], "code": value}


def _series(content: ReportContent) -> list[Json]:
    """Series of the sources without their many instances; series of results with theirs."""
    sources = _modalities(content)
    found: dict[str, Json] = {}
    own = (content.series_instance_uid, content.sop_class_uid, content.sop_instance_uid)
    for series_uid, sop_class_uid, sop_instance_uid in (*content.referenced_instances, own):
        modality = _RESULT_MODALITIES.get(sop_class_uid) or (sources[0] if sources else "")
        if not modality:
            continue
        series = found.setdefault(series_uid, {"uid": series_uid, "modality": _modality(modality)})
        if sop_class_uid in _RESULT_MODALITIES:
            sop_class = {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class_uid}"}
            series.setdefault("instance", []).append({"uid": sop_instance_uid, "sopClass": sop_class})
    return list(found.values())
