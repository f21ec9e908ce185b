# SPDX-License-Identifier: Apache-2.0
"""What each UPS event report tells: PS3.4 table CC.2.4-1, as event information in DICOM JSON.

Addressing (class, instance and event type elements of the message) belongs to the channel that carries it.
"""

from __future__ import annotations

from enum import IntEnum

from profiles.dicom_json import DicomJson, element, items, merged, tag_key, values


class EventType(IntEnum):
    """Event Type ID (0000,1002)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


CANCEL_DETAILS = (
    "ContactURI",
    "ContactDisplayName",
    "ProcedureStepDiscontinuationReasonCodeSequence",
    "ReasonForCancellation",
)
"""Attributes of a cancel request (table CC.2.2-1), told on in event 2."""

_PROGRESS_KEYWORDS = (
    "ProcedureStepProgress",
    "ProcedureStepProgressDescription",
    "ProcedureStepProgressParametersSequence",
    "ProcedureStepCommunicationsURISequence",
)
_PROGRESS_TRIGGERS = (
    "ProcedureStepProgress",
    "ProcedureStepProgressDescription",
    "ProcedureStepCommunicationsURISequence",
)
_ASSIGNMENT_TRIGGERS = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")


def _copied(source: DicomJson, *keywords: str) -> DicomJson:
    """The elements of `source` that have a value, of the named attributes."""
    tags = (tag_key(keyword) for keyword in keywords)
    return {tag: source[tag] for tag in tags if source.get(tag, {}).get("Value")}


def _progress_item(attributes: DicomJson) -> DicomJson:
    found = items(attributes, "ProcedureStepProgressInformationSequence")
    return found[0] if found else {}


def state_report(attributes: DicomJson) -> DicomJson:
    """Event 1: state, readiness, and why it was canceled if it was."""
    reasons = ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
    return merged(
        [
            _copied(attributes, "ProcedureStepState", "InputReadinessState"),
            _copied(_progress_item(attributes), *reasons),
        ]
    )


def cancel_requested(requesting_ae: str, details: DicomJson) -> DicomJson:
    """Event 2: who asked, with what reason and contact."""
    return merged([element("RequestingAE", requesting_ae), _copied(details, *CANCEL_DETAILS)])


def progress_report(attributes: DicomJson) -> DicomJson:
    """Event 3: how far it is."""
    item = merged([_copied(_progress_item(attributes), *_PROGRESS_KEYWORDS)])
    return element("ProcedureStepProgressInformationSequence", item)


def scp_status_report(scp_status: str, subscriptions: str, workitems: str) -> DicomJson:
    """Event 4: whether the manager is ``RESTARTED`` or ``GOING DOWN``, and what it has kept.

    `subscriptions` and `workitems` are ``WARM START`` (kept) or ``COLD START`` (lost).
    """
    return merged(
        [
            element("SCPStatus", scp_status),
            element("SubscriptionListStatus", subscriptions),
            element("UnifiedProcedureStepListStatus", workitems),
        ]
    )


def assigned_report(attributes: DicomJson) -> DicomJson:
    """Event 5: to whom it is assigned.

    The codes of all human performers become items of Human Performer Code Sequence, and the first
    organization is told: the table has these attributes at its top level (CC.2.4-1), the workitem in a
    sequence.
    """
    performers = items(attributes, "ScheduledHumanPerformersSequence")
    codes = [code for performer in performers for code in items(performer, "HumanPerformerCodeSequence")]
    organizations = [name for p in performers for name in values(p, "HumanPerformerOrganization")]
    parts = [_copied(attributes, "ScheduledStationNameCodeSequence")]
    if codes:
        parts.append(element("HumanPerformerCodeSequence", *codes))
    if organizations:
        parts.append(element("HumanPerformerOrganization", organizations[0]))
    return merged(parts)


def is_assigned(attributes: DicomJson) -> bool:
    """Whether a station or a person is named to perform it."""
    return any(values(attributes, keyword) for keyword in _ASSIGNMENT_TRIGGERS)


def assignment_changed(before: DicomJson, after: DicomJson) -> bool:
    """Whether event 5 is due (CC.2.4.3)."""
    return any(values(before, keyword) != values(after, keyword) for keyword in _ASSIGNMENT_TRIGGERS)


def readiness_changed(before: DicomJson, after: DicomJson) -> bool:
    """Whether event 1 is due for Input Readiness State (CC.2.4.3)."""
    return values(before, "InputReadinessState") != values(after, "InputReadinessState")


def progress_changed(before: DicomJson, after: DicomJson) -> bool:
    """Whether event 3 is due (CC.2.4.3)."""
    old, new = _progress_item(before), _progress_item(after)
    return any(values(old, keyword) != values(new, keyword) for keyword in _PROGRESS_TRIGGERS)
