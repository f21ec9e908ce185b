# SPDX-License-Identifier: Apache-2.0
"""Who a patient is, what a hospital tells of a change of that, and reports of earlier examinations.

Values only; what follows from them is decided by the task manager.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from profiles.codes import Code


class IdentityKind(StrEnum):
    """What happened to an identity."""

    UPDATED = "updated"
    MERGED = "merged"
    RENUMBERED = "renumbered"
    VISIT = "visit"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentity:
    """A patient by id and issuer (a namespace or universal id), with demographics in DICOM form.

    Empty text means nothing was told; `cleared` names the demographics that were deleted.
    """

    patient_id: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    cleared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityChange:
    """One change: `patient` as it is from now on, and the id it had before a merge or a new number.

    ``VISIT`` tells only of a stay: nothing of the patient changes by it.
    """

    kind: IdentityKind
    patient: PatientIdentity
    former_id: str = ""
    former_issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorReport:
    """A report somebody else wrote (ORU^R01), as context.

    Attributes
    ----------
    report_number
        What its sender calls it: filler number, else placer number, else accession number.
    status
        OBR-25 (HL7 table 0123): P, F, C, X, …
    findings
        (name, value with unit) of coded and measured observations.
    text
        Narrative, lines separated by ``\\n``.
    attachments
        Kinds of the parts that are no text, such as ``application/pdf``; they are not kept here.
    """

    report_number: str
    patient_id: str
    issuer_of_patient_id: str = ""
    placer_order_number: str = ""
    filler_order_number: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    procedure: Code | None = None
    description: str = ""
    status: str = ""
    observed_at: datetime | None = None
    reported_at: datetime | None = None
    text: str = ""
    findings: tuple[tuple[str, str], ...] = ()
    attachments: tuple[str, ...] = ()
    extra_segments: tuple[str, ...] = ()
