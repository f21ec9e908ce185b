# SPDX-License-Identifier: Apache-2.0
"""What a stored report says, in words: the same for every receiver, whatever it speaks.

FHIR and HL7 v2 results take their text, their presence statements and the UIDs of their observations from
here, so that they cannot disagree. No patient data.
"""

from __future__ import annotations

import math

from profiles import codes
from profiles.air.model import ReportContent, ReportedGroup, ReportedMeasurement
from profiles.codes import Code
from profiles.uids import derived_uid

UNVERIFIED = "Computed by an algorithm, not verified by a physician."


def stated_presence(group: ReportedGroup) -> Code | None:
    """What the group says of its finding when that is not "present": absent or undetermined (CID 240)."""
    for each in group.evaluations:
        if each.name.same_concept(codes.PRESENCE_OF_PROPERTY) and not each.value.same_concept(codes.PRESENT):
            return each.value
    return None


def is_number(measurement: ReportedMeasurement) -> bool:
    """Whether there is a number to be told."""
    return measurement.value is not None and math.isfinite(measurement.value)


def measurement_title(measurement: ReportedMeasurement) -> str:
    """What was measured, with how it was derived."""
    derivation = f" ({measurement.derivation.meaning})" if measurement.derivation else ""
    return f"{measurement.name.meaning}{derivation}"


def site_text(group: ReportedGroup) -> str:
    """The finding site with its side; empty without a site."""
    if group.finding_site is None:
        return ""
    side = f", {group.laterality.meaning.lower()}" if group.laterality else ""
    return f"{group.finding_site.meaning}{side}"


def derived_observation_uid(content: ReportContent, place: str) -> str:
    """The Observation UID of a content item that has none (SRs of others).

    Parameters
    ----------
    place
        ``<group>`` , ``<group>.<measurement>`` or ``<group>.e<evaluation>``, each from 0.
    """
    return derived_uid("observation", content.sop_instance_uid, place)


def report_text(content: ReportContent) -> str:
    """The results as plain text, one line per number; no patient data."""
    algorithm = " ".join(part for part in (content.device_name, content.device_version) if part)
    lines = [content.title.meaning] if content.is_verified else [content.title.meaning, UNVERIFIED]
    if algorithm:
        lines.append(f"Algorithm: {algorithm}")
    lines += [f"Algorithm parameter: {parameter}" for parameter in content.algorithm_parameters]
    for group in content.groups:
        lines += ["", _group_title(group)]
        lines += [f"  {_measurement_line(measurement)}" for measurement in group.measurements]
        lines += [f"  {each.name.meaning}: {each.value.meaning}" for each in group.evaluations]
    if not content.groups:
        lines += ["", "No measurements."]
    return "\n".join(lines) + "\n"


def _group_title(group: ReportedGroup) -> str:
    finding = group.finding or group.finding_site or codes.MEASUREMENT_GROUP
    side = f", {group.laterality.meaning.lower()}" if group.laterality else ""
    stated = stated_presence(group)
    return f"{finding.meaning}{side}" + (f": {stated.meaning.lower()}" if stated else "")


def _measurement_line(measurement: ReportedMeasurement) -> str:
    title = measurement_title(measurement)
    if not is_number(measurement):
        why = f": {measurement.failure.meaning}" if measurement.failure else ""
        return f"{title}: no value{why}"
    unit = measurement.unit.value if measurement.unit.scheme == "UCUM" else measurement.unit.meaning
    return f"{title}: {measurement.value!r} {unit}"
