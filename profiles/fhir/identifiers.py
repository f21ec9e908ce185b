# SPDX-License-Identifier: Apache-2.0
"""Identifier systems of the FHIR resources, and identifiers built from DICOM and HL7 ones.

Every resource Airway sends is found again by a business identifier, so that sending twice changes nothing.
Which systems a site uses is configuration (:class:`FhirIdentity`); no other module spells a system of a site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any
from urllib.parse import quote

from profiles.codes import Code
from profiles.uids import is_uid

DICOM_UID_SYSTEM = "urn:dicom:uid"
IDENTIFIER_TYPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0203"
OBSERVATION_UID_TYPE_SYSTEM = "http://hl7.org/fhir/uv/dicom-sr/CodeSystem/dicom-identifier-type"

CODE_SYSTEMS: Mapping[str, str] = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "LN": "http://loinc.org",
    "RADLEX": "http://radlex.org",
    "UMLS": "http://terminology.hl7.org/CodeSystem/umls",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
}

_ABSOLUTE_URI = re.compile(r"(https?://|urn:)[!-~]+")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirIdentity:
    """What a site decides about the identity of what it is sent.

    Attributes
    ----------
    sid_base
        Absolute URI, no trailing slash, under which systems that nobody configured are formed.
    patient_id_system
        System of patient ids whose issuer is not stated; empty: ``<sid_base>/patient-id``.
    patient_id_systems
        Issuer of Patient ID (0010,0021) to system, for issuers that are neither OID nor URI.
    accession_system, placer_system, filler_system
        Systems of order identifiers without a stated issuer; empty: formed under `sid_base`.
    code_systems
        Coding scheme designator to system, added to :data:`CODE_SYSTEMS`. A scheme that is in neither is
        sent as text only.
    organization_name
        Who answers for the results; empty: no performer is stated.
    assembler_name
        The system that brings the results.
    time_zone
        Zone of study dates and times; without it only the study's date is sent, for a FHIR time needs a zone.
    """

    sid_base: str = "https://airway.invalid/sid"
    patient_id_system: str = ""
    patient_id_systems: Mapping[str, str] = field(default_factory=dict)
    accession_system: str = ""
    placer_system: str = ""
    filler_system: str = ""
    code_systems: Mapping[str, str] = field(default_factory=dict)
    organization_name: str = ""
    assembler_name: str = "Airway"
    time_zone: tzinfo | None = None

    def patient_system(self, issuer: str) -> str:
        """The identifier system of patient ids given out by `issuer` (PID-3.4, Issuer of Patient ID)."""
        if issuer in self.patient_id_systems:
            return self.patient_id_systems[issuer]
        return _issued(issuer, self.patient_id_system or f"{self.sid_base}/patient-id")

    def order_system(self, kind: str, issuer: str = "") -> str:
        """The system of order identifiers; `kind` is ``ACSN``, ``PLAC`` or ``FILL`` (HL7 table 0203)."""
        default = {
            "ACSN": self.accession_system or f"{self.sid_base}/accession-number",
            "PLAC": self.placer_system or f"{self.sid_base}/placer-order-number",
            "FILL": self.filler_system or f"{self.sid_base}/filler-order-number",
        }[kind]
        return _issued(issuer, default)

    def code_system(self, scheme: str) -> str:
        """The system of a coding scheme designator, or empty text if it has none."""
        if scheme in self.code_systems:
            return self.code_systems[scheme]
        if scheme == "99AIRWAY":
            return f"{self.sid_base}/CodeSystem/99AIRWAY"
        return CODE_SYSTEMS.get(scheme, "")


def _issued(issuer: str, default: str) -> str:
    """The system of an issuer: its OID, its URI, or a name below `default`."""
    if not issuer:
        return default
    if is_uid(issuer) and "." in issuer:
        return f"urn:oid:{issuer}"
    if _ABSOLUTE_URI.fullmatch(issuer):
        return issuer
    return f"{default}/{quote(issuer, safe='')}"


def uid_identifier(uid: str, *, type_code: Code | None = None, settings: FhirIdentity | None = None) -> Json:
    """The identifier of a DICOM UID: ``urn:dicom:uid`` with the value as ``urn:oid:`` URI."""
    identifier: Json = {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}
    if type_code is not None and settings is not None:
        identifier = {"type": typed(type_code, settings), **identifier}
    return identifier


def observation_identifier(uid: str) -> Json:
    """The identifier of an SR content item, typed as its Observation UID (0040,A171)."""
    coding = {"system": OBSERVATION_UID_TYPE_SYSTEM, "code": "observation-uid", "display": "Observation UID"}
    return {"type": {"coding": [coding]}, **uid_identifier(uid)}


def typed(code: Code, settings: FhirIdentity) -> Json:
    """An identifier type from a coded concept."""
    coding = {"system": settings.code_system(code.scheme), "code": code.value}
    return {"coding": [coding], "text": code.meaning}


def order_identifier(kind: str, value: str, system: str) -> Json:
    """An order identifier with its type of HL7 table 0203."""
    return {
        "type": {"coding": [{"system": IDENTIFIER_TYPE_SYSTEM, "code": kind}]},
        "system": system,
        "value": value,
    }


def token_query(identifier: Json, parameter: str = "identifier") -> str:
    """The search that finds a resource by `identifier`, URL-encoded, without ``?``.

    The separators of search values are escaped with a backslash (FHIR R4 search 3.1.1.4.3).
    """
    system, value = (_escaped(str(identifier[key])) for key in ("system", "value"))
    return f"{parameter}={quote(system, safe=':/')}|{quote(value, safe=':')}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", text)
