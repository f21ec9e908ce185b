# SPDX-License-Identifier: Apache-2.0
"""The DiagnosticReport of a stored SR: preliminary until a person verified the SR.

The SR's SOP Instance UID identifies it. Its plain text says the same numbers as the Observations, for
readers that show no structured results.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from profiles.air.model import ReportContent
from profiles.air.wording import report_text
from profiles.fhir.datatypes import concept, fhir_date_time, instant
from profiles.fhir.entry import Entry, Links
from profiles.fhir.identifiers import FhirIdentity, Json, token_query, uid_identifier
from profiles.fhir.observation import report_status

_CATEGORIES = (
    {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"},
    {"system": "http://loinc.org", "code": "LP29684-5", "display": "Radiology"},
)


def report_entry(
    content: ReportContent, *, links: Links, results: Sequence[Entry], settings: FhirIdentity
) -> Entry:
    """The DiagnosticReport with the groupers among its results."""
    identifier = uid_identifier(content.sop_instance_uid)
    resource: Json = {"resourceType": "DiagnosticReport", "identifier": [identifier]}
    if links.orders:
        resource["basedOn"] = list(links.orders)
    resource |= {
        "status": report_status(content),
        "category": [{"coding": [category]} for category in _CATEGORIES],
        "code": concept(content.title, settings),
        "subject": links.patient,
    }
    if effective := fhir_date_time(content.study_date, content.study_time, settings.time_zone):
        resource["effectiveDateTime"] = effective
    resource["issued"] = instant(content.performed_at)
    if settings.organization_name:
        resource["performer"] = [{"type": "Organization", "display": settings.organization_name}]
    if results:
        resource["result"] = [result.reference for result in results]
    resource["imagingStudy"] = [links.study]
    resource["presentedForm"] = [_attachment(report_text(content))]
    return Entry(resource=resource, if_none_exist=token_query(identifier))


def _attachment(text: str) -> Json:
    data = text.encode()
    return {
        "contentType": "text/plain; charset=utf-8",
        "language": "en",
        "data": base64.b64encode(data).decode("ascii"),
        "size": len(data),
        # FHIR R4 fixes SHA-1 for Attachment.hash; it guards against accidents, not attackers.
        "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii"),
        "title": "Results as text",
    }
