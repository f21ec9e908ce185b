# SPDX-License-Identifier: Apache-2.0
"""Observations of a stored TID 1500 SR: one grouper per measurement group, one per number and statement.

Follows the HL7 "DICOM SR to FHIR" guide as far as R4 has its elements. Where the guide could mislead a plain
reader it is left: a finding said to be absent or undetermined is the *question*, and that is its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiles import codes
from profiles.air.model import ReportContent, ReportedEvaluation, ReportedGroup, ReportedMeasurement
from profiles.air.wording import (
    UNVERIFIED,
    derived_observation_uid,
    is_number,
    measurement_title,
    site_text,
    stated_presence,
)
from profiles.codes import Code
from profiles.fhir.datatypes import codeable, coding, concept, fhir_date_time, instant, quantity
from profiles.fhir.entry import Entry, Links
from profiles.fhir.identifiers import FhirIdentity, Json, observation_identifier, token_query, uid_identifier

_CATEGORY_SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-category"
_ABSENT_REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_INTERPRETATION_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

ABSENT_REASONS: Mapping[Code, str] = {
    codes.NOT_A_NUMBER: "not-a-number",
    codes.NEGATIVE_INFINITY: "negative-infinity",
    codes.POSITIVE_INFINITY: "positive-infinity",
    codes.DIVIDE_BY_ZERO: "error",
    codes.UNDERFLOW: "error",
    codes.OVERFLOW: "error",
    codes.MEASUREMENT_FAILURE: "error",
    codes.MEASUREMENT_NOT_ATTEMPTED: "not-performed",
    codes.CALCULATION_FAILURE: "error",
    codes.VALUE_OUT_OF_RANGE: "error",
    codes.VALUE_UNKNOWN: "unknown",
    codes.VALUE_INDETERMINATE: "unknown",
}
"""CID 42 qualifier to FHIR data-absent-reason."""


def report_status(content: ReportContent) -> str:
    """Status of the report and its Observations: preliminary until a person verified the SR."""
    return "final" if content.is_verified else "preliminary"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntries:
    """The Observations of one measurement group: the grouper and those it has as members."""

    grouper: Entry
    members: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationWriter:
    """Writes the Observations of one SR; everything they share is the same for each of them.

    Attributes
    ----------
    content
        What the SR says.
    links
        References to patient, study, orders and device.
    settings
        Identity of the site.
    """

    content: ReportContent
    links: Links
    settings: FhirIdentity

    def groups(self) -> tuple[GroupEntries, ...]:
        """The Observations of every group, in the order of the SR."""
        return tuple(self._group(index, group) for index, group in enumerate(self.content.groups))

    def _group(self, index: int, group: ReportedGroup) -> GroupEntries:
        members = (
            *(self._measurement(f"{index}.{n}", group, each) for n, each in enumerate(group.measurements)),
            *(self._evaluation(f"{index}.e{n}", group, each) for n, each in enumerate(group.evaluations)),
        )
        uid = group.observation_uid or self._derived(str(index))
        stated = stated_presence(group)
        question, answer = group.finding_category or codes.MEASUREMENT_GROUP, group.finding
        if stated is not None and group.finding is not None:
            question, answer = group.finding, stated
        groupers = [] if question.same_concept(codes.MEASUREMENT_GROUP) else [codes.MEASUREMENT_GROUP]
        resource = self._start(uid, groupers)
        resource["code"] = concept(question, self.settings)
        resource["identifier"] += self._tracking(group)
        resource |= self._context()
        if answer is not None:
            resource["valueCodeableConcept"] = concept(answer, self.settings)
        if stated is not None:
            resource["interpretation"] = [_interpretation(stated)]
        resource |= self._end(group)
        if members:
            resource["hasMember"] = [member.reference for member in members]
        resource["derivedFrom"] = [self.links.study, *_segment(group)]
        resource |= self._components(group)
        return GroupEntries(grouper=_entry(resource), members=members)

    def _measurement(self, place: str, group: ReportedGroup, measurement: ReportedMeasurement) -> Entry:
        resource = self._start(measurement.observation_uid or self._derived(place), [])
        derivation = measurement.derivation
        resource["code"] = concept(measurement.name, self.settings, text=measurement_title(measurement))
        resource |= self._context()
        if measurement.value is not None and is_number(measurement):
            resource["valueQuantity"] = quantity(measurement.value, measurement.unit)
        else:
            resource["dataAbsentReason"] = self._absent_reason(measurement)
        method = {"method": concept(measurement.method, self.settings)} if measurement.method else {}
        resource |= self._end(group, method)
        resource["derivedFrom"] = [self.links.study, *_segment(group)]
        qualifiers = ((codes.DERIVATION, derivation),) if derivation else ()
        return _entry(resource | self._components(group, *qualifiers))

    def _evaluation(self, place: str, group: ReportedGroup, evaluation: ReportedEvaluation) -> Entry:
        uid = evaluation.observation_uid or self._derived(place)
        resource = self._start(uid, [codes.QUALITATIVE_EVALUATIONS])
        subject = f" of {group.finding.meaning}" if group.finding else ""
        resource["code"] = concept(evaluation.name, self.settings, text=evaluation.name.meaning + subject)
        resource |= self._context()
        resource["valueCodeableConcept"] = concept(evaluation.value, self.settings)
        resource |= self._end(group)
        resource["derivedFrom"] = [self.links.study]
        return _entry(resource | self._components(group))

    def _derived(self, place: str) -> str:
        return derived_observation_uid(self.content, place)

    def _start(self, uid: str, categories: Sequence[Code]) -> Json:
        resource: Json = {"resourceType": "Observation", "identifier": [observation_identifier(uid)]}
        if self.links.orders:
            resource["basedOn"] = list(self.links.orders)
        resource["partOf"] = [self.links.study]
        resource["status"] = report_status(self.content)
        imaging = {"system": _CATEGORY_SYSTEM, "code": "imaging", "display": "Imaging"}
        resource["category"] = [{"coding": [imaging]}, *(concept(each, self.settings) for each in categories)]
        return resource

    def _context(self) -> Json:
        content, zone = self.content, self.settings.time_zone
        context: Json = {"subject": self.links.patient}
        if effective := fhir_date_time(content.study_date, content.study_time, zone):
            context["effectiveDateTime"] = effective
        context["issued"] = instant(content.performed_at)
        if self.settings.organization_name:
            context["performer"] = [{"type": "Organization", "display": self.settings.organization_name}]
        return context

    def _end(self, group: ReportedGroup, method: Json | None = None) -> Json:
        end: Json = {} if self.content.is_verified else {"note": [{"text": UNVERIFIED}]}
        if group.finding_site is not None:
            end["bodySite"] = concept(group.finding_site, self.settings, text=site_text(group))
        end |= method or {}
        if self.links.device is not None:
            end["device"] = self.links.device
        return end

    def _components(self, group: ReportedGroup, *qualifiers: tuple[Code, Code]) -> Json:
        """Modifiers R4 has no element for: the side, and how the number was derived."""
        if group.laterality is not None:
            qualifiers = ((codes.LATERALITY, group.laterality), *qualifiers)
        components = [
            {"code": concept(name, self.settings), "valueCodeableConcept": concept(value, self.settings)}
            for name, value in qualifiers
        ]
        return {"component": components} if components else {}

    def _absent_reason(self, measurement: ReportedMeasurement) -> Json:
        failure = measurement.failure
        if failure is None:
            reason = "not-a-number" if measurement.value is not None else "unknown"
            return {"coding": [{"system": _ABSENT_REASON_SYSTEM, "code": reason}]}
        reason = next((r for code, r in ABSENT_REASONS.items() if code.same_concept(failure)), "error")
        told = {"system": _ABSENT_REASON_SYSTEM, "code": reason}
        return codeable((told, coding(failure, self.settings)), failure.meaning)

    def _tracking(self, group: ReportedGroup) -> list[Json]:
        """Tracking UID and identifier, which in R4 have no other place than the Observation."""
        found: list[Json] = []
        if group.tracking_uid:
            uid_type = codes.TRACKING_UNIQUE_IDENTIFIER
            found.append(uid_identifier(group.tracking_uid, type_code=uid_type, settings=self.settings))
        if group.tracking_identifier:
            name_type = concept(codes.TRACKING_IDENTIFIER, self.settings)
            found.append({"type": name_type, "value": group.tracking_identifier})
        return found


def _interpretation(stated: Code) -> Json:
    negative = stated.same_concept(codes.ABSENT)
    code, display = ("NEG", "Negative") if negative else ("IND", "Indeterminate")
    return {"coding": [{"system": _INTERPRETATION_SYSTEM, "code": code, "display": display}]}


def _segment(group: ReportedGroup) -> list[Json]:
    """The segment a group is about, by the SOP Instance UID of its segmentation."""
    if not group.segmentation_sop_instance_uid:
        return []
    number = f"Segment {group.segment_number} of the" if group.segment_number is not None else "The"
    return [
        {
            "type": "DocumentReference",
            "identifier": uid_identifier(group.segmentation_sop_instance_uid),
            "display": f"{number} segmentation",
        }
    ]


def _entry(resource: Json) -> Entry:
    return Entry(resource=resource, if_none_exist=token_query(resource["identifier"][0]))
