# SPDX-License-Identifier: Apache-2.0
"""Until when a workitem is its performer's, and what takes its place when it is lost. Pure.

A lease is no attribute of DICOM: PS3.4 CC.2.1.3 lets the manager change the state of a workitem whose
performer is known to be dead, and this is how it comes to know. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from profiles.codes import EQUIPMENT_FAILURE, RESCHEDULED, RESCHEDULING_RECOMMENDED, Code
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text
from profiles.uids import derived_uid
from profiles.ups.states import UPS_PUSH_SOP_CLASS_UID, ProcedureStepState
from profiles.ups.times import dicom_datetime
from task_manager.dispatch.model import LeaseLimits
from task_manager.workitem.commands import Command, Withdraw
from task_manager.workitem.model import Workitem

_LEFT_OUT = frozenset(
    tag_key(keyword)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "ScheduledProcedureStepModificationDateTime",
        "ExpectedCompletionDateTime",
    )
)
"""Belong to the old workitem itself: its identity, and what its performer expected."""

_SLACK = timedelta(minutes=1)

_ASSIGNMENT = (
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledHumanPerformersSequence",
)


def lease_until(workitem: Workitem, limits: LeaseLimits, *, silence_counts: bool = True) -> datetime | None:
    """When the performer of a workitem IN PROGRESS counts as lost; None in any other state.

    What first passes: it has not been heard for ``limits.silence``, or has worked for ``limits.run``. A time
    that is not known counts from the last change. Where a person works, or the manager itself looks after the
    performer, silence does not count.
    """
    if workitem.state is not ProcedureStepState.IN_PROGRESS:
        return None
    run_out = (workitem.claimed_at or workitem.modified_at) + limits.run
    if not silence_counts:
        return run_out
    return min((workitem.heard_at or workitem.modified_at) + limits.silence, run_out)


def renewed_lease(stored: datetime | None, counted: datetime | None, limits: LeaseLimits) -> datetime | None:
    """The end of a lease to store for one that is `counted`; `stored` itself where it is hardly earlier.

    Whoever ends a lease counts again: an end stored too early only has it looked at sooner. So a performer
    that is heard often does not have an index written each time.
    """
    if stored is None or counted is None:
        return counted
    return stored if timedelta(0) <= counted - stored < min(_SLACK, limits.silence / 10) else counted


def loss_text(workitem: Workitem, limits: LeaseLimits, now: datetime) -> str:
    """Reason For Cancellation of a workitem whose lease has run out at `now`."""
    claimed_at = workitem.claimed_at or workitem.modified_at
    if now >= claimed_at + limits.run:
        return f"performer did not finish within {_words(limits.run)}"
    return f"performer was not heard for {_words(limits.silence)}"


def reasons(attributes: DicomJson) -> tuple[Code, ...]:
    """The discontinuation reasons that a workitem tells."""
    return tuple(
        Code(text(code, "CodeValue"), text(code, "CodingSchemeDesignator"), text(code, "CodeMeaning"))
        for progress in items(attributes, "ProcedureStepProgressInformationSequence")
        for code in items(progress, "ProcedureStepDiscontinuationReasonCodeSequence")
    )


def is_to_be_tried_again(workitem: Workitem, command: Command) -> bool:
    """Whether a workitem that was canceled while IN PROGRESS is one to replace.

    Its performer says that it is to be rescheduled (110528, 110529), or the manager gave its performer up
    (110501). A cancel that somebody asked for is what they wanted.
    """
    if workitem.cancel_requested is not None:
        return False
    tried_again = [RESCHEDULED, RESCHEDULING_RECOMMENDED]
    if isinstance(command, Withdraw):
        tried_again.append(EQUIPMENT_FAILURE)
    told = reasons(workitem.attributes)
    return any(reason.same_concept(code) for reason in told for code in tried_again)


def replaced_uids(attributes: DicomJson) -> tuple[str, ...]:
    """UIDs in Replaced Procedure Step Sequence, in its order."""
    found = items(attributes, "ReplacedProcedureStepSequence")
    return tuple(uid for item in found if (uid := text(item, "ReferencedSOPInstanceUID")))


def replacement_uid(uid: str) -> str:
    """The UID of what replaces the workitem `uid`: always the same, so replacing twice makes one."""
    return derived_uid("replacement", uid)


def replacement(workitem: Workitem, uid: str, *, now: datetime, keep_assignment: bool = True) -> DicomJson:
    """Attributes of the create that replaces a canceled workitem.

    Everything scheduled and every relation is kept exactly, also what peers added of their own. Identity is
    new, progress and performed attributes are empty, the start is `now`, and Replaced Procedure Step Sequence
    names `workitem` first, then what that had replaced. Without `keep_assignment` any performer may take it.

    References
    ----------
    PS3.3 C.30.4; PS3.17 GGG.1, GGG.2.7.
    """
    kept = {tag: value for tag, value in workitem.attributes.items() if tag not in _LEFT_OUT}
    replaced = (
        workitem.uid,
        *(other for other in replaced_uids(workitem.attributes) if other != workitem.uid),
    )
    parts = [
        kept,
        element("TransactionUID"),
        element("SOPInstanceUID", uid),
        element("ProcedureStepState", ProcedureStepState.SCHEDULED.value),
        element("ProcedureStepProgressInformationSequence"),
        element("UnifiedProcedureStepPerformedProcedureSequence"),
        element("ScheduledProcedureStepStartDateTime", dicom_datetime(now)),
        element("ReplacedProcedureStepSequence", *(_reference(other) for other in replaced)),
    ]
    if not keep_assignment:
        parts += [element(keyword) for keyword in _ASSIGNMENT if tag_key(keyword) in kept]
    return merged(parts)


def is_assigned_to(attributes: DicomJson, names: Collection[str]) -> bool:
    """Whether a workitem is scheduled for a station name, a station class or an organization of `names`."""
    coded = (
        text(code, "CodeValue").strip(" ")
        for keyword in _ASSIGNMENT[:2]
        for code in items(attributes, keyword)
    )
    performers = items(attributes, "ScheduledHumanPerformersSequence")
    organizations = (text(performer, "HumanPerformerOrganization").strip(" ") for performer in performers)
    return any(name in names for name in (*coded, *organizations))


def _reference(uid: str) -> DicomJson:
    return merged(
        [
            element("ReferencedSOPClassUID", UPS_PUSH_SOP_CLASS_UID),
            element("ReferencedSOPInstanceUID", uid),
        ]
    )


def _words(duration: timedelta) -> str:
    """A duration for people, in its largest whole unit."""
    seconds = duration.total_seconds()
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
