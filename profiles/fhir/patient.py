# SPDX-License-Identifier: Apache-2.0
"""The Patient of a result, from the header of its SR."""

from __future__ import annotations

from profiles.air.model import ReportContent
from profiles.fhir.datatypes import fhir_date, human_names
from profiles.fhir.entry import Entry
from profiles.fhir.identifiers import IDENTIFIER_TYPE_SYSTEM, FhirIdentity, Json, token_query

_GENDER = {"M": "male", "F": "female", "O": "other", "U": "unknown"}


def patient_entry(content: ReportContent, settings: FhirIdentity) -> Entry:
    """The Patient, created only if the receiver knows no such identifier.

    A patient without id (0010,0020 may be empty) is identified by the study, so two of them are never taken
    for one.
    """
    resource: Json = {"resourceType": "Patient", "identifier": [_identifier(content, settings)]}
    if names := human_names(content.patient_name):
        resource["name"] = names
    if gender := _GENDER.get(content.patient_sex.strip().upper()):
        resource["gender"] = gender
    if birth_date := fhir_date(content.patient_birth_date):
        resource["birthDate"] = birth_date
    return Entry(resource=resource, if_none_exist=token_query(resource["identifier"][0]))


def _identifier(content: ReportContent, settings: FhirIdentity) -> Json:
    patient_id = content.patient_id.strip()
    if not patient_id:
        return {
            "system": f"{settings.sid_base}/unidentified-patient-of-study",
            "value": content.study_instance_uid,
        }
    return {
        "type": {"coding": [{"system": IDENTIFIER_TYPE_SYSTEM, "code": "MR"}]},
        "system": settings.patient_system(content.issuer_of_patient_id.strip()),
        "value": patient_id,
    }
