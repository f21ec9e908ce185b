# SPDX-License-Identifier: Apache-2.0
"""When a performer counts as lost, and what the workitem looks like that takes the place of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from profiles.codes import (
    DISCONTINUED_FOR_UNSPECIFIED_REASON,
    EQUIPMENT_FAILURE,
    OBJECTS_INCORRECTLY_FORMATTED,
    RESCHEDULED,
    RESCHEDULING_RECOMMENDED,
    WORKITEM_EXPIRED,
    Code,
)
from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text, values
from profiles.uids import is_uid
from profiles.ups.states import ProcedureStepState
from task_manager.dispatch import leases
from task_manager.dispatch.model import LeaseLimits
from task_manager.outcome import Refused, WarningCode
from task_manager.workitem import machine
from task_manager.workitem.commands import ChangeState, Command, Create, RequestCancel, Update, Withdraw
from task_manager.workitem.model import Workitem
from task_manager.workitem.validate import checked_create
from tests.contract.workitems import NOW, code, instances, minimal, performed, progress, request

LIMITS = LeaseLimits(silence=timedelta(minutes=15), run=timedelta(hours=2), tries=3)
UID, LOCK = "1.2.3.1", "1.2.3.999"
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def made(now: datetime = NOW, **given: object) -> Workitem:
    applied = machine.create(Create(uid=UID, attributes=minimal(**given)), now=now)
    assert not isinstance(applied, Refused), applied
    return applied.workitem


def after(workitem: Workitem, *commands: Command, now: datetime = NOW) -> Workitem:
    for command in commands:
        applied = machine.apply(workitem, command, now=now)
        assert not isinstance(applied, Refused), applied
        workitem = applied.workitem
    return workitem


CLAIM = ChangeState(state="IN PROGRESS", transaction_uid=LOCK)
CANCEL = ChangeState(state="CANCELED", transaction_uid=LOCK)


def canceled_because(reason: Code) -> Workitem:
    told = progress(ProcedureStepDiscontinuationReasonCodeSequence=reason.to_json())
    return after(made(), CLAIM, Update(changes=told, transaction_uid=LOCK), CANCEL)


@pytest.mark.parametrize(
    ("claimed", "heard", "expected"),
    [
        pytest.param(0, 0, 15, id="silent since its claim"),
        pytest.param(0, 10, 25, id="heard again"),
        pytest.param(0, 104, 119, id="just before the run limit"),
        pytest.param(0, 105, 120, id="both at once"),
        pytest.param(0, 119, 120, id="heard, but works too long"),
        pytest.param(None, 30, 45, id="claim unknown, counted from the last change at 60"),
        pytest.param(0, None, 75, id="not known when heard: from the last change at 60"),
        pytest.param(None, None, 75, id="a row of the first release"),
    ],
)
def test_lease_ends_with_silence_or_with_too_long_a_run(
    claimed: int | None, heard: int | None, expected: int
) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW + minutes * MINUTE

    workitem = replace(
        after(made(), CLAIM), claimed_at=at(claimed), heard_at=at(heard), modified_at=NOW + 60 * MINUTE
    )
    assert leases.lease_until(workitem, LIMITS) == NOW + expected * MINUTE


@pytest.mark.parametrize(
    ("stored", "counted", "expected"),
    [
        pytest.param(None, None, None, id="not claimed"),
        pytest.param(None, 15, 15, id="claimed"),
        pytest.param(15, 15.5, 15, id="heard half a minute later: the index is not written"),
        pytest.param(15, 16, 16, id="heard a minute later"),
        pytest.param(15, 14, 14, id="earlier than stored"),
        pytest.param(15, None, None, id="finished"),
    ],
)
def test_a_lease_is_stored_when_it_has_moved_on(
    stored: float | None, counted: float | None, expected: float | None
) -> None:
    def at(minutes: float | None) -> datetime | None:
        return None if minutes is None else NOW + minutes * MINUTE

    assert leases.renewed_lease(at(stored), at(counted), LIMITS) == at(expected)


def test_a_short_lease_is_followed_more_closely() -> None:
    limits = replace(LIMITS, silence=10 * SECOND)
    assert leases.renewed_lease(NOW, NOW + 2 * SECOND, limits) == NOW + 2 * SECOND
    assert leases.renewed_lease(NOW, NOW + SECOND / 2, limits) == NOW


def test_silence_does_not_count_where_a_person_works() -> None:
    claimed = after(made(), CLAIM)
    assert leases.lease_until(claimed, LIMITS, silence_counts=False) == NOW + LIMITS.run


@pytest.mark.parametrize(
    "workitem",
    [
        pytest.param(made(), id="SCHEDULED"),
        pytest.param(after(made(), CLAIM, CANCEL), id="CANCELED"),
        pytest.param(
            after(
                made(),
                CLAIM,
                Update(changes=performed(), transaction_uid=LOCK),
                ChangeState(state="COMPLETED", transaction_uid=LOCK),
            ),
            id="COMPLETED",
        ),
    ],
)
def test_only_work_in_progress_has_a_lease(workitem: Workitem) -> None:
    assert leases.lease_until(workitem, LIMITS) is None


@pytest.mark.parametrize(
    ("passed", "limits", "expected"),
    [
        (15 * MINUTE, LIMITS, "performer was not heard for 15 min"),
        (120 * MINUTE, LIMITS, "performer did not finish within 2 h"),
        (90 * MINUTE, replace(LIMITS, silence=timedelta(seconds=90)), "performer was not heard for 90 s"),
        (MINUTE, replace(LIMITS, run=timedelta(seconds=0.5)), "performer did not finish within 0.5 s"),
    ],
)
def test_reason_text_says_which_limit_passed(passed: timedelta, limits: LeaseLimits, expected: str) -> None:
    assert leases.loss_text(after(made(), CLAIM), limits, NOW + passed) == expected


@pytest.mark.parametrize(
    ("reason", "command", "expected"),
    [
        pytest.param(RESCHEDULING_RECOMMENDED, CANCEL, True, id="110529 by its performer"),
        pytest.param(RESCHEDULED, CANCEL, True, id="110528 by its performer"),
        pytest.param(EQUIPMENT_FAILURE, CANCEL, False, id="110501 by its performer: it may not work ever"),
        pytest.param(OBJECTS_INCORRECTLY_FORMATTED, CANCEL, False, id="110521 by its performer"),
        pytest.param(DISCONTINUED_FOR_UNSPECIFIED_REASON, CANCEL, False, id="110513 by its performer"),
        pytest.param(EQUIPMENT_FAILURE, Withdraw(reason=EQUIPMENT_FAILURE, text="lost"), True, id="lost"),
        pytest.param(WORKITEM_EXPIRED, Withdraw(reason=WORKITEM_EXPIRED, text="late"), False, id="expired"),
    ],
)
def test_which_cancels_are_tried_again(reason: Code, command: Command, expected: bool) -> None:
    assert leases.is_to_be_tried_again(canceled_because(reason), command) is expected


def test_a_cancel_that_somebody_asked_for_is_not_undone() -> None:
    told = progress(ProcedureStepDiscontinuationReasonCodeSequence=RESCHEDULING_RECOMMENDED.to_json())
    asked = after(made(), CLAIM, RequestCancel(), Update(changes=told, transaction_uid=LOCK), CANCEL, now=NOW)
    assert not leases.is_to_be_tried_again(asked, CANCEL)
    lost = after(made(), CLAIM, RequestCancel(), Withdraw(reason=EQUIPMENT_FAILURE, text="lost"))
    assert not leases.is_to_be_tried_again(lost, Withdraw(reason=EQUIPMENT_FAILURE, text="lost"))


PRIVATE = {"00991010": {"vr": "LO", "Value": ["kept"]}, "00990010": {"vr": "LO", "Value": ["ACME"]}}
FULL = {
    "PatientName": "Müller^Änne",
    "PatientID": "P1",
    "IssuerOfPatientID": "H",
    "StudyInstanceUID": "1.2.3",
    "ScheduledProcedureStepPriority": "HIGH",
    "ScheduledWorkitemCodeSequence": code(),
    "ScheduledStationNameCodeSequence": code("PERF1", "L", "Performer 1"),
    "InputInformationSequence": instances(),
    "ReferencedRequestSequence": request(),
    "OutputDestinationSequence": element("STOWRSStorageSequence", element("StorageURL", "http://a.test/")),
    "ScheduledProcedureStepExpirationDateTime": "20270301120000+0000",
    "ExpectedCompletionDateTime": "20260301130000+0000",
    "CommentsOnTheScheduledProcedureStep": "urgent",
}


_RENEWED = (
    "SOPInstanceUID",
    "ProcedureStepState",
    "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
    "ScheduledProcedureStepStartDateTime",
    "ScheduledProcedureStepModificationDateTime",
    "ReplacedProcedureStepSequence",
    "ExpectedCompletionDateTime",
)


def test_replacement_keeps_what_was_asked_for_and_begins_anew() -> None:
    attributes = merged([minimal(**FULL), PRIVATE])
    created = machine.create(Create(uid=UID, attributes=attributes), now=NOW)
    assert not isinstance(created, Refused), created
    lost = after(
        created.workitem,
        CLAIM,
        Update(changes=progress(ProcedureStepProgress=40), transaction_uid=LOCK),
        Update(changes=performed(), transaction_uid=LOCK),
        Withdraw(reason=EQUIPMENT_FAILURE, text="lost"),
    )
    uid = leases.replacement_uid(UID)
    later = NOW + timedelta(minutes=30)
    again = leases.replacement(lost, uid, now=later)
    applied = machine.create(Create(uid=uid, attributes=again), now=later)
    assert not isinstance(applied, Refused), applied
    assert applied.accepted.warnings == ()
    found = applied.workitem.attributes
    tags = {tag_key(keyword) for keyword in _RENEWED}
    before = created.workitem.attributes
    assert {tag: value for tag, value in found.items() if tag not in tags} == {
        tag: value for tag, value in before.items() if tag not in tags
    }
    assert text(found, "ProcedureStepState") == "SCHEDULED"
    assert text(found, "ScheduledProcedureStepStartDateTime") == "20260301123000+0000"
    assert not values(found, "ProcedureStepProgressInformationSequence")
    assert not values(found, "UnifiedProcedureStepPerformedProcedureSequence")
    assert not values(found, "ExpectedCompletionDateTime")
    assert applied.workitem.transaction_uid == ""
    [replaced] = items(found, "ReplacedProcedureStepSequence")
    assert text(replaced, "ReferencedSOPInstanceUID") == UID
    assert text(replaced, "ReferencedSOPClassUID") == "1.2.840.10008.5.1.4.34.6.1"


def test_a_chain_of_replacements_names_all_before_the_last_first() -> None:
    first = after(made(), CLAIM, CANCEL)
    uids = [UID]
    workitem = first
    for _ in range(3):
        uid = leases.replacement_uid(workitem.uid)
        attributes = leases.replacement(workitem, uid, now=NOW)
        applied = machine.create(Create(uid=uid, attributes=attributes), now=NOW)
        assert not isinstance(applied, Refused), applied
        workitem = applied.workitem
        assert leases.replaced_uids(workitem.attributes) == tuple(reversed(uids))
        uids.append(uid)
    assert len(set(uids)) == 4


def test_replacement_uids_are_derived() -> None:
    assert leases.replacement_uid(UID) == leases.replacement_uid(UID) != leases.replacement_uid("1.2.3.2")
    assert is_uid(leases.replacement_uid(UID))


ORGANIZATION = merged(
    [
        element("HumanPerformerCodeSequence", code("ORG", "L", "Reading room")),
        element("HumanPerformerName", "Room^Reading"),
        element("HumanPerformerOrganization", "Reading room"),
    ]
)


@pytest.mark.parametrize(
    ("given", "names", "expected"),
    [
        pytest.param({}, {"PERF1"}, False, id="open to all"),
        pytest.param({"ScheduledStationNameCodeSequence": code("PERF1")}, {"PERF1"}, True, id="station"),
        pytest.param({"ScheduledStationNameCodeSequence": code("OTHER")}, {"PERF1"}, False, id="foreign"),
        pytest.param({"ScheduledStationClassCodeSequence": code("GPU")}, {"GPU"}, True, id="class"),
        pytest.param(
            {"ScheduledHumanPerformersSequence": ORGANIZATION}, {"Reading room"}, True, id="organization"
        ),
        pytest.param({"ScheduledStationNameCodeSequence": code("PERF1")}, set(), False, id="none known"),
    ],
)
def test_whose_assignment_it_was(given: DicomJson, names: set[str], expected: bool) -> None:
    assert leases.is_assigned_to(minimal(**given), names) is expected


def test_replacement_may_be_opened_to_others() -> None:
    workitem = after(
        made(
            ScheduledStationNameCodeSequence=code("PERF1"),
            ScheduledStationClassCodeSequence=code("GPU"),
            ScheduledHumanPerformersSequence=ORGANIZATION,
        ),
        CLAIM,
        CANCEL,
    )
    uid = leases.replacement_uid(UID)
    opened = leases.replacement(workitem, uid, now=NOW, keep_assignment=False)
    assert not isinstance(checked_create(uid, opened), Refused)
    for keyword in (
        "ScheduledStationNameCodeSequence",
        "ScheduledStationClassCodeSequence",
        "ScheduledHumanPerformersSequence",
    ):
        assert not values(opened, keyword)
        assert values(leases.replacement(workitem, uid, now=NOW), keyword)


def test_a_workitem_whose_sender_left_much_out_is_replaced_too() -> None:
    sparse = merged(
        [
            element("ScheduledProcedureStepPriority", "LOW"),
            element("ProcedureStepLabel", "x"),
            element("ScheduledProcedureStepStartDateTime", "2026"),
            element("InputReadinessState", "READY"),
            element("ProcedureStepState", ProcedureStepState.SCHEDULED.value),
        ]
    )
    created = machine.create(Create(uid=UID, attributes=sparse), now=NOW)
    assert not isinstance(created, Refused)
    assert created.accepted.warnings == (WarningCode.COERCED,)
    lost = after(created.workitem, CLAIM, Withdraw(reason=EQUIPMENT_FAILURE, text="lost"))
    uid = leases.replacement_uid(UID)
    applied = machine.create(Create(uid=uid, attributes=leases.replacement(lost, uid, now=NOW)), now=NOW)
    assert not isinstance(applied, Refused), applied
    assert applied.accepted.warnings == ()
