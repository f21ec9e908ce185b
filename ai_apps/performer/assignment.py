# SPDX-License-Identifier: Apache-2.0
"""Whose a workitem is, and whether an app can do it: what a performer decides before it claims.

Pure: workitems in, verdicts out (IHE RAD TF-2 4.82.4.1.1, TF-1:50.4.2.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from ai_apps.manifest import InputRequirements
from profiles.dicom_json import DicomJson, items, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What work may be assigned by to this performer.

    Attributes
    ----------
    station
        AE title: Code Value of Scheduled Station Name. No two performers with different apps share one.
    station_class
        Code Value of Scheduled Station Class; empty for none.
    organization
        Human Performer Organization; empty for none.
    """

    station: str
    station_class: str = ""
    organization: str = ""

    def is_named_by(self, workitem: DicomJson) -> bool:
        """Whether the workitem is assigned to this very station."""
        return self.station in _codes(workitem, "ScheduledStationNameCodeSequence")

    def may_take(self, workitem: DicomJson) -> bool:
        """Whether the workitem is assigned to this performer or to nobody.

        A station name says all; without one, class and organization must each be ours if given, and work for
        a named person is not ours.
        """
        if _codes(workitem, "ScheduledStationNameCodeSequence"):
            return self.is_named_by(workitem)
        classes = _codes(workitem, "ScheduledStationClassCodeSequence")
        if classes and self.station_class not in classes:
            return False
        people = items(workitem, "ScheduledHumanPerformersSequence")
        organizations = {text(one, "HumanPerformerOrganization") for one in people} - {""}
        if organizations:
            return self.organization in organizations
        return not people


def unfitness(workitem: DicomJson, requires: InputRequirements) -> str:
    """Why an app cannot do a workitem, seen from its inputs' classes; empty if nothing speaks against it."""
    told = {
        text(reference, "ReferencedSOPClassUID")
        for item in items(workitem, "InputInformationSequence")
        for reference in items(item, "ReferencedSOPSequence")
    } - {""}
    if told and requires.sop_class_uids and told.isdisjoint(requires.sop_class_uids):
        return "the app does not take inputs of these SOP classes"
    return ""


def _codes(workitem: DicomJson, keyword: str) -> list[str]:
    return [value for item in items(workitem, keyword) if (value := text(item, "CodeValue"))]
