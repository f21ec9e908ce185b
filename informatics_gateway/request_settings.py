# SPDX-License-Identifier: Apache-2.0
"""The settings of the FHIR door, and of workitems that ask the rules for work."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Uri = Annotated[str, Field(min_length=1, max_length=256)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FhirDoorSettings(_Part):
    """How ServiceRequests and Tasks are read."""

    issuers: dict[_Uri, str] = {}
    """Identifier system to the issuer (assigning authority) that HL7 orders and images name for it. Of other
    systems an OID is the issuer, anything else tells none."""
    code_systems: dict[_Uri, str] = {}
    """Code system to coding scheme designator, beside SNOMED CT, LOINC, RadLex, UCUM and DICOM's."""
    accession_systems: tuple[_Uri, ...] = ()
    """Systems of accession numbers that carry no type of HL7 table 0203."""
    placer_systems: tuple[_Uri, ...] = ()
    """Systems of placer order numbers without a type."""
    filler_systems: tuple[_Uri, ...] = ()
    """Systems of filler order numbers without a type."""


class RequestingWorkitem(_Part):
    """Workitems of others that ask for what the rules give, known by code, by worklist label, or by both."""

    code: Annotated[str, Field(max_length=16)] = ""
    """Code Value of the Scheduled Workitem Code Sequence."""
    scheme: Annotated[str, Field(max_length=16)] = ""
    """Its Coding Scheme Designator; empty takes any."""
    worklist_label: Annotated[str, Field(max_length=64)] = ""
    """Worklist Label."""
    app: str = ""
    """App that is asked for with it; empty leaves it to the rules."""

    @model_validator(mode="after")
    def _is_known_by_something(self) -> RequestingWorkitem:
        if not self.code and not self.worklist_label:
            raise ValueError("needs a code or a worklist_label")
        return self
