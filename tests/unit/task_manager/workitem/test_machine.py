# SPDX-License-Identifier: Apache-2.0
"""The machine cell by cell (PS3.4 CC.1.1-2), with its reports and final-state rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID, ProcedureStepState
from task_manager.outcome import RefusalCode, WarningCode
from task_manager.workitem import machine
from task_manager.workitem.commands import Command, Create, RequestCancel, Update
from tests.contract.workitems import NOW, code, instances, minimal, performed, progress, request
from tests.unit.task_manager.workitem.machines import (
    LATER,
    LATER_TEXT,
    LOCK,
    OTHER,
    UID,
    C,
    P,
    S,
    X,
    after,
    applied,
    created,
    do,
    events,
    in_state,
    move,
    refused,
    told,
)

# PS3.4 table CC.1.1-2, entered a second time: event, state, then the DIMSE status or the state reached.
MISSING, WRONG, BROKEN = "", OTHER, "not a uid"
TRANSITION_CELLS: list[tuple[str, Command, str | None, str]] = [
    ("to in progress", move(P), None, "C307"),
    ("to in progress", move(P), S, P),
    ("to in progress", move(P), P, "C302"),
    ("to in progress", move(P), C, "C300"),
    ("to in progress", move(P), X, "C300"),
    ("to in progress, no uid", move(P, MISSING), None, "C307"),
    ("to in progress, no uid", move(P, MISSING), S, "C301"),
    ("to in progress, malformed uid", move(P, BROKEN), S, "C301"),
    ("to in progress, no uid", move(P, MISSING), P, "C301"),
    ("to in progress, other uid", move(P, WRONG), P, "C301"),
    ("to in progress, other uid", move(P, WRONG), C, "C301"),
    ("to in progress, other uid", move(P, WRONG), X, "C301"),
    ("to scheduled", move(S), None, "C307"),
    ("to scheduled", move(S), S, "C303"),
    ("to scheduled", move(S), P, "C303"),
    ("to scheduled", move(S), C, "C303"),
    ("to scheduled", move(S), X, "C303"),
    ("to scheduled, no uid", move(S, MISSING), P, "C303"),
    ("to completed", move(C), None, "C307"),
    ("to completed", move(C), S, "C310"),
    ("to completed", move(C), P, C),
    ("to completed", move(C), C, "B306"),
    ("to completed", move(C), X, "C300"),
    ("to completed, no uid", move(C, MISSING), None, "C307"),
    ("to completed, no uid", move(C, MISSING), S, "C301"),
    ("to completed, other uid", move(C, WRONG), P, "C301"),
    ("to completed, other uid", move(C, WRONG), C, "C301"),
    ("to completed, no uid", move(C, MISSING), C, "C301"),
    ("to completed, other uid", move(C, WRONG), X, "C301"),
    ("request cancel", RequestCancel(), None, "C307"),
    ("request cancel", RequestCancel(), S, X),
    ("request cancel", RequestCancel(), P, P),
    ("request cancel", RequestCancel(), C, "C311"),
    ("request cancel", RequestCancel(), X, "B304"),
    ("to canceled", move(X), None, "C307"),
    ("to canceled", move(X), S, "C310"),
    ("to canceled", move(X), P, X),
    ("to canceled", move(X), C, "C300"),
    ("to canceled", move(X), X, "B304"),
    ("to canceled, no uid", move(X, MISSING), None, "C307"),
    ("to canceled, no uid", move(X, MISSING), S, "C301"),
    ("to canceled, other uid", move(X, WRONG), P, "C301"),
    ("to canceled, other uid", move(X, WRONG), C, "C301"),
    ("to canceled, other uid", move(X, WRONG), X, "C301"),
]
CODES = {
    "0111": RefusalCode.DUPLICATE_INSTANCE,
    "C300": RefusalCode.MAY_NOT_BE_UPDATED,
    "C301": RefusalCode.WRONG_TRANSACTION_UID,
    "C302": RefusalCode.ALREADY_IN_PROGRESS,
    "C303": RefusalCode.MAY_NOT_BECOME_SCHEDULED,
    "C307": RefusalCode.NO_SUCH_INSTANCE,
    "C310": RefusalCode.NOT_YET_IN_PROGRESS,
    "C311": RefusalCode.ALREADY_COMPLETED,
    "B304": WarningCode.ALREADY_CANCELED,
    "B306": WarningCode.ALREADY_COMPLETED,
}


@pytest.mark.parametrize(
    ("command", "state", "answer"),
    [cell[1:] for cell in TRANSITION_CELLS],
    ids=[f"CC.1.1-2 {event}, {state or 'unknown'}: {answer}" for event, _, state, answer in TRANSITION_CELLS],
)
def test_every_cell_of_the_transition_table(command: Command, state: str | None, answer: str) -> None:
    before = in_state(state)
    outcome = do(before, command)
    if answer in (S, P, C, X):
        assert applied(outcome).workitem.state.value == answer
        assert text(applied(outcome).workitem.attributes, "ProcedureStepState") == answer
        assert applied(outcome).workitem is not before
    elif answer.startswith("B"):
        assert applied(outcome).accepted.warnings == (CODES[answer],)
        assert applied(outcome).workitem is before
        assert applied(outcome).reports == ()
    else:
        assert refused(outcome).code is CODES[answer]
        assert refused(outcome).faults


@pytest.mark.parametrize("state", [S, P, C, X])
def test_a_uid_in_use_is_refused_in_every_state(state: str) -> None:
    again = machine.create(Create(uid=UID, attributes=minimal()), now=LATER, existing=in_state(state))
    assert refused(again).code is CODES["0111"]


@pytest.mark.parametrize("state", ["", "scheduled", "DISCONTINUED", "IN_PROGRESS"])
def test_a_state_that_is_none_is_refused_after_existence(state: str) -> None:
    assert refused(do(None, move(state))).code is RefusalCode.NO_SUCH_INSTANCE
    assert refused(do(created(), move(state))).code is RefusalCode.INVALID_ATTRIBUTES


# Create


def test_create_sets_what_the_manager_owns() -> None:
    outcome = applied(machine.create(Create(uid=UID, attributes=minimal()), now=NOW))
    workitem = outcome.workitem
    assert workitem.state is ProcedureStepState.SCHEDULED
    assert (workitem.transaction_uid, workitem.version, workitem.cancel_requested) == ("", 1, None)
    assert text(workitem.attributes, "SOPClassUID") == "1.2.840.10008.5.1.4.34.6.1"
    assert text(workitem.attributes, "SOPInstanceUID") == UID
    assert text(workitem.attributes, "ScheduledProcedureStepModificationDateTime") == "20260301120000+0000"
    assert tag_key("TransactionUID") not in workitem.attributes
    assert list(workitem.attributes) == sorted(workitem.attributes)
    assert outcome.accepted.warnings == ()
    assert events(outcome) == [(1, S)]


def test_create_fills_an_empty_worklist_label_and_says_so() -> None:
    outcome = applied(machine.create(Create(uid=UID, attributes=minimal(WorklistLabel=())), now=NOW))
    assert text(outcome.workitem.attributes, "WorklistLabel") == machine.DEFAULT_WORKLIST_LABEL
    assert outcome.accepted.warnings == (WarningCode.COERCED,)


def test_create_adds_missing_type_2_attributes_empty_and_says_so() -> None:
    given = minimal(PatientName=None, ReferencedRequestSequence=request(AccessionNumber=None))
    outcome = applied(machine.create(Create(uid=UID, attributes=given), now=NOW))
    requested = items(outcome.workitem.attributes, "ReferencedRequestSequence")[0]
    assert outcome.workitem.attributes[tag_key("PatientName")] == {"vr": "PN"}
    assert requested[tag_key("AccessionNumber")] == {"vr": "SH"}
    assert list(requested) == sorted(requested)
    assert outcome.accepted.warnings == (WarningCode.COERCED,)


@pytest.mark.parametrize(
    ("given", "warnings"),
    [({"Value": ["20200101"]}, (WarningCode.COERCED,)), ({}, ())],
    ids=["given", "empty"],
)
def test_the_modification_time_of_a_client_is_replaced_and_told(
    given: DicomJson, warnings: tuple[WarningCode, ...]
) -> None:
    named = {tag_key("ScheduledProcedureStepModificationDateTime"): {"vr": "DT", **given}}
    made = applied(machine.create(Create(uid=UID, attributes=merged([minimal(), named])), now=NOW))
    assert (
        text(made.workitem.attributes, "ScheduledProcedureStepModificationDateTime") == "20260301120000+0000"
    )
    assert made.accepted.warnings == warnings
    outcome = applied(do(created(), Update(changes=named)))
    assert text(outcome.workitem.attributes, "ScheduledProcedureStepModificationDateTime") == LATER_TEXT
    assert outcome.accepted.warnings == warnings


def test_create_tells_an_assignment() -> None:
    performer = merged(
        [
            element("HumanPerformerCodeSequence", code("H1", "L", "Doe")),
            element("HumanPerformerName", "Doe^Jane"),
            element("HumanPerformerOrganization", "Radiology"),
        ]
    )
    given = minimal(
        ScheduledStationNameCodeSequence=code("PERF1", "L", "Performer"),
        ScheduledHumanPerformersSequence=performer,
    )
    outcome = applied(machine.create(Create(uid=UID, attributes=given), now=NOW))
    assert events(outcome) == [(1, S), (5, S)]
    payload = outcome.reports[1].payload
    assert text(items(payload, "ScheduledStationNameCodeSequence")[0], "CodeValue") == "PERF1"
    assert text(items(payload, "HumanPerformerCodeSequence")[0], "CodeValue") == "H1"
    assert text(payload, "HumanPerformerOrganization") == "Radiology"


@pytest.mark.parametrize(
    "uid",
    [
        "",
        "1",
        "1.2.",
        "1.02",
        "1." + "2" * 64,
        "x",
        GLOBAL_SUBSCRIPTION_UID,
        FILTERED_GLOBAL_SUBSCRIPTION_UID,
    ],
)
def test_create_refuses_what_is_no_workitem_uid(uid: str) -> None:
    outcome = refused(machine.create(Create(uid=uid, attributes=minimal()), now=NOW))
    assert outcome.code is RefusalCode.INVALID_ATTRIBUTES
    assert [fault.path for fault in outcome.faults] == ["SOPInstanceUID"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ""),
        ({"PatientName": "Müller^Jörg"}, "ISO_IR 192"),
        ({"SpecificCharacterSet": "ISO_IR 100"}, "ISO_IR 192"),
    ],
)
def test_the_character_set_is_that_of_json(given: dict[str, str], named: str) -> None:
    assert text(created(**given).attributes, "SpecificCharacterSet") == named


def test_private_and_unlisted_attributes_are_kept() -> None:
    given = {
        **minimal(),
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091001": {"vr": "DS", "Value": ["1.50"]},
        **element("PatientWeight", 71.5),
    }
    attributes = applied(machine.create(Create(uid=UID, attributes=given), now=NOW)).workitem.attributes
    assert attributes["00091001"] == {"vr": "DS", "Value": ["1.50"]}
    assert text(attributes, "PatientWeight") == "71.5"


# Update


@pytest.mark.parametrize(
    ("state", "uid", "code"),
    [
        pytest.param(None, "", RefusalCode.NO_SUCH_INSTANCE, id="C307-unknown"),
        pytest.param(S, LOCK, RefusalCode.NOT_YET_IN_PROGRESS, id="C310-uid-for-scheduled"),
        pytest.param(P, "", RefusalCode.WRONG_TRANSACTION_UID, id="C301-missing"),
        pytest.param(P, OTHER, RefusalCode.WRONG_TRANSACTION_UID, id="C301-wrong"),
        pytest.param(C, LOCK, RefusalCode.MAY_NOT_BE_UPDATED, id="C300-completed"),
        pytest.param(X, LOCK, RefusalCode.MAY_NOT_BE_UPDATED, id="C300-canceled"),
    ],
)
def test_who_may_not_update(state: str | None, uid: str, code: RefusalCode) -> None:
    changes = element("ProcedureStepLabel", "new")
    assert refused(do(in_state(state), Update(changes=changes, transaction_uid=uid))).code is code


def test_rights_are_decided_before_attributes() -> None:
    changes = element("PatientID", "P2")
    assert refused(do(in_state(C), Update(changes=changes))).code is RefusalCode.MAY_NOT_BE_UPDATED


def test_an_update_of_the_schedule_sets_its_modification_time() -> None:
    workitem = after(created(), Update(changes=element("ProcedureStepLabel", "new")))
    assert text(workitem.attributes, "ScheduledProcedureStepModificationDateTime") == LATER_TEXT
    assert (workitem.version, workitem.modified_at, workitem.created_at) == (2, LATER, NOW)


def test_an_update_of_progress_leaves_the_schedule_time() -> None:
    workitem = after(created(), Update(changes=progress(ProcedureStepProgress="10")))
    assert text(workitem.attributes, "ScheduledProcedureStepModificationDateTime") == "20260301120000+0000"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(element("ProcedureStepLabel", "new"), [], id="label-none"),
        pytest.param(element("InputReadinessState", "INCOMPLETE"), [(1, S)], id="readiness-1"),
        pytest.param(element("InputReadinessState", "READY"), [], id="same-readiness-none"),
        pytest.param(progress(ProcedureStepProgress="10"), [(3, S)], id="progress-3"),
        pytest.param(progress(ProcedureStepProgressDescription="Running"), [(3, S)], id="description-3"),
        pytest.param(
            progress(ProcedureStepCommunicationsURISequence=element("ContactURI", "tel:1")),
            [(3, S)],
            id="contact-3",
        ),
        pytest.param(progress(ReasonForCancellation="Wrong"), [], id="reason-none"),
        pytest.param(
            element("ScheduledStationNameCodeSequence", code("PERF1", "L", "P")), [(5, S)], id="station-5"
        ),
        pytest.param(
            merged([element("InputReadinessState", "UNAVAILABLE"), progress(ProcedureStepProgress="1")]),
            [(1, S), (3, S)],
            id="both-1-and-3",
        ),
    ],
)
def test_events_of_an_update(changes: DicomJson, expected: list[tuple[int, str]]) -> None:
    assert events(applied(do(created(), Update(changes=changes)))) == expected


def test_the_same_progress_twice_is_told_once() -> None:
    command = Update(changes=progress(ProcedureStepProgress="10", ProcedureStepProgressDescription="Running"))
    first = applied(do(created(), command))
    assert (
        text(
            items(first.reports[0].payload, "ProcedureStepProgressInformationSequence")[0],
            "ProcedureStepProgress",
        )
        == "10"
    )
    assert events(applied(do(first.workitem, command))) == []


def test_a_sequence_is_replaced_whole() -> None:
    workitem = after(
        created(),
        Update(changes=progress(ProcedureStepProgress="10", ReasonForCancellation="kept?")),
        Update(changes=progress(ProcedureStepProgress="20")),
    )
    assert told(workitem) == element("ProcedureStepProgress", "20")


# Final states


PERFORMED = "UnifiedProcedureStepPerformedProcedureSequence"


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        pytest.param({}, [PERFORMED], id="P-no-performed-sequence"),
        *[
            pytest.param(performed(**{keyword: None}), [f"{PERFORMED}[0].{keyword}"], id=f"P-{keyword}")
            for keyword in (
                "PerformedStationNameCodeSequence",
                "PerformedProcedureStepStartDateTime",
                "PerformedProcedureStepEndDateTime",
                "PerformedWorkitemCodeSequence",
                "OutputInformationSequence",
            )
        ],
        pytest.param(
            performed(PerformedStationNameCodeSequence=()),
            [f"{PERFORMED}[0].PerformedStationNameCodeSequence"],
            id="P-empty-is-no-value",
        ),
        pytest.param(
            performed(PerformedProcedureStepStartDateTime=None, PerformedWorkitemCodeSequence=None),
            [
                f"{PERFORMED}[0].PerformedProcedureStepStartDateTime",
                f"{PERFORMED}[0].PerformedWorkitemCodeSequence",
            ],
            id="P-all-at-once",
        ),
        pytest.param(
            performed(ActualHumanPerformersSequence=({},)),
            [f"{PERFORMED}[0].ActualHumanPerformersSequence[0]"],
            id="RC-performer-without-name",
        ),
        pytest.param(performed(OutputInformationSequence=()), [], id="P-no-output-is-allowed"),
        pytest.param(performed(), [], id="all-there"),
    ],
)
def test_what_completed_needs(changes: DicomJson, missing: list[str]) -> None:
    workitem = after(created(), move(P), Update(changes=changes, transaction_uid=LOCK))
    outcome = do(workitem, move(C))
    if missing:
        assert refused(outcome).code is RefusalCode.FINAL_STATE_NOT_MET
        assert sorted(fault.path for fault in refused(outcome).faults) == sorted(missing)
    else:
        assert applied(outcome).workitem.state is ProcedureStepState.COMPLETED
        assert events(applied(outcome)) == [(1, C)]


def test_canceled_needs_no_performed_sequence_and_is_filled() -> None:
    outcome = applied(do(after(created(), move(P)), move(X)))
    item = told(outcome.workitem)
    reason = items(item, "ProcedureStepDiscontinuationReasonCodeSequence")[0]
    assert text(item, "ProcedureStepCancellationDateTime") == LATER_TEXT
    assert (text(reason, "CodeValue"), text(reason, "CodingSchemeDesignator")) == ("110513", "DCM")
    assert items(outcome.reports[0].payload, "ProcedureStepDiscontinuationReasonCodeSequence") == [reason]


def test_canceled_keeps_what_the_performer_told() -> None:
    changes = progress(
        ProcedureStepProgress="40",
        ReasonForCancellation="Series has no spacing",
        ProcedureStepCancellationDateTime="20260301120200+0000",
        ProcedureStepDiscontinuationReasonCodeSequence=code("110521", "DCM", "Objects incorrectly formatted"),
    )
    outcome = applied(do(after(created(), move(P), Update(changes=changes, transaction_uid=LOCK)), move(X)))
    assert element("ProcedureStepProgressInformationSequence", told(outcome.workitem)) == changes
    assert text(outcome.reports[0].payload, "ReasonForCancellation") == "Series has no spacing"


# Request cancel


def test_the_given_workitem_is_never_changed() -> None:
    workitem = created(InputInformationSequence=instances())
    copy = replace(workitem, attributes=merged([workitem.attributes]))
    for command in (RequestCancel(), move(P), Update(changes=progress(ProcedureStepProgress="1"))):
        applied(do(workitem, command))
    assert workitem == copy
