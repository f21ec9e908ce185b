# SPDX-License-Identifier: Apache-2.0
"""What every implementation of ``task_manager.ports.Worklist`` does; subclass with a `worklist` fixture.

Said through the port alone: a worklist in memory, on SQLite or on PostgreSQL answers alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, tag_key, text
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import WorkitemQuery, Worklist
from tests.contract.workitems import code, minimal, performed, progress, request

ACTOR = Actor(door="dicomweb", name="TESTER", address="127.0.0.1")
UID, LOCK, OTHER_LOCK = "2.25.100", "2.25.1", "2.25.2"
CONTENDERS = 12


def must(outcome: Accepted | Refused) -> Accepted:
    assert isinstance(outcome, Accepted), outcome
    return outcome


def refusal(outcome: object) -> RefusalCode:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


def attributes_of(worklist: Worklist, uid: str = UID) -> DicomJson:
    found = worklist.retrieve_workitem(uid)
    assert not isinstance(found, Refused), found
    return found


def state_of(worklist: Worklist, uid: str = UID) -> str:
    return text(attributes_of(worklist, uid), "ProcedureStepState")


def bring_to(worklist: Worklist, state: str, uid: str = UID) -> None:
    """Create a workitem and lead it to `state` under LOCK."""
    must(worklist.create_workitem(uid, minimal(), actor=ACTOR))
    if state == "SCHEDULED":
        return
    must(worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=ACTOR))
    if state == "COMPLETED":
        must(worklist.update_workitem(uid, performed(), transaction_uid=LOCK, actor=ACTOR))
    if state in ("COMPLETED", "CANCELED"):
        must(worklist.change_state(uid, state, transaction_uid=LOCK, actor=ACTOR))


def at_once(ask: Callable[[int], Accepted | Refused], times: int = CONTENDERS) -> list[Accepted | Refused]:
    """The outcomes of `times` callers in as many threads."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, range(times)))


class WorklistContract:
    """The cases. `worklist` is empty and accepts calls from many threads."""

    @pytest.fixture
    def worklist(self) -> Worklist:
        raise NotImplementedError

    # Create and retrieve

    def test_a_created_workitem_is_retrieved_whole(self, worklist: Worklist) -> None:
        created = must(worklist.create_workitem(UID, minimal(PatientName="Müller^Ägidius"), actor=ACTOR))
        found = attributes_of(worklist)
        assert (created.uid, created.warnings) == (UID, ())
        assert text(found, "PatientName") == "Müller^Ägidius"
        assert text(found, "SOPInstanceUID") == UID
        assert text(found, "ProcedureStepState") == "SCHEDULED"
        assert list(found) == sorted(found)
        assert tag_key("TransactionUID") not in found

    def test_a_uid_is_created_once(self, worklist: Worklist) -> None:
        must(worklist.create_workitem(UID, minimal(ProcedureStepLabel="first"), actor=ACTOR))
        again = worklist.create_workitem(UID, minimal(ProcedureStepLabel="second"), actor=ACTOR)
        assert refusal(again) is RefusalCode.DUPLICATE_INSTANCE
        assert text(attributes_of(worklist), "ProcedureStepLabel") == "first"

    def test_of_many_creators_of_one_uid_one_wins(self, worklist: Worklist) -> None:
        outcomes = at_once(
            lambda n: worklist.create_workitem(UID, minimal(ProcedureStepLabel=f"by {n}"), actor=ACTOR)
        )
        winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Accepted)]
        assert len(winners) == 1
        assert text(attributes_of(worklist), "ProcedureStepLabel") == f"by {winners[0]}"
        assert {refusal(outcome) for outcome in outcomes if isinstance(outcome, Refused)} == {
            RefusalCode.DUPLICATE_INSTANCE
        }

    def test_a_refused_create_leaves_nothing(self, worklist: Worklist) -> None:
        outcome = worklist.create_workitem(UID, minimal(ProcedureStepLabel=None), actor=ACTOR)
        assert refusal(outcome) is RefusalCode.MISSING_ATTRIBUTE
        assert refusal(worklist.retrieve_workitem(UID)) is RefusalCode.NO_SUCH_INSTANCE

    def test_an_unknown_uid_is_told(self, worklist: Worklist) -> None:
        assert refusal(worklist.retrieve_workitem("2.25.404")) is RefusalCode.NO_SUCH_INSTANCE
        for outcome in (
            worklist.update_workitem("2.25.404", progress(), transaction_uid="", actor=ACTOR),
            worklist.change_state("2.25.404", "IN PROGRESS", transaction_uid=LOCK, actor=ACTOR),
            worklist.request_cancel("2.25.404", {}, actor=ACTOR),
        ):
            assert refusal(outcome) is RefusalCode.NO_SUCH_INSTANCE

    # State

    @pytest.mark.parametrize("state", ["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"])
    def test_each_state_is_reached_and_kept(self, worklist: Worklist, state: str) -> None:
        bring_to(worklist, state)
        assert state_of(worklist) == state
        assert tag_key("TransactionUID") not in attributes_of(worklist)

    def test_of_many_claimants_one_wins(self, worklist: Worklist) -> None:
        bring_to(worklist, "SCHEDULED")
        outcomes = at_once(
            lambda n: worklist.change_state(UID, "IN PROGRESS", transaction_uid=f"2.25.7{n}", actor=ACTOR)
        )
        winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Accepted)]
        assert len(winners) == 1
        assert {refusal(outcome) for outcome in outcomes if isinstance(outcome, Refused)} == {
            RefusalCode.WRONG_TRANSACTION_UID
        }
        lock = f"2.25.7{winners[0]}"
        must(worklist.update_workitem(UID, performed(), transaction_uid=lock, actor=ACTOR))
        must(worklist.change_state(UID, "COMPLETED", transaction_uid=lock, actor=ACTOR))

    def test_completing_names_all_that_is_missing_and_changes_nothing(self, worklist: Worklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        changes = performed(PerformedProcedureStepEndDateTime=None, OutputInformationSequence=None)
        must(worklist.update_workitem(UID, changes, transaction_uid=LOCK, actor=ACTOR))
        outcome = worklist.change_state(UID, "COMPLETED", transaction_uid=LOCK, actor=ACTOR)
        assert isinstance(outcome, Refused)
        assert outcome.code is RefusalCode.FINAL_STATE_NOT_MET
        sequence = "UnifiedProcedureStepPerformedProcedureSequence[0]."
        assert {fault.path for fault in outcome.faults} == {
            f"{sequence}PerformedProcedureStepEndDateTime",
            f"{sequence}OutputInformationSequence",
        }
        assert state_of(worklist) == "IN PROGRESS"

    def test_a_repeated_final_state_is_a_warning(self, worklist: Worklist) -> None:
        bring_to(worklist, "COMPLETED")
        before = attributes_of(worklist)
        again = must(worklist.change_state(UID, "COMPLETED", transaction_uid=LOCK, actor=ACTOR))
        assert again.warnings == (WarningCode.ALREADY_COMPLETED,)
        assert attributes_of(worklist) == before

    # Update

    def test_an_update_needs_the_lock(self, worklist: Worklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        changes = progress(ProcedureStepProgress="40")
        for wrong in ("", OTHER_LOCK):
            outcome = worklist.update_workitem(UID, changes, transaction_uid=wrong, actor=ACTOR)
            assert refusal(outcome) is RefusalCode.WRONG_TRANSACTION_UID
        must(worklist.update_workitem(UID, changes, transaction_uid=LOCK, actor=ACTOR))
        told = items(attributes_of(worklist), "ProcedureStepProgressInformationSequence")[0]
        assert text(told, "ProcedureStepProgress") == "40"

    def test_an_update_is_all_or_nothing(self, worklist: Worklist) -> None:
        bring_to(worklist, "SCHEDULED")
        before = attributes_of(worklist)
        changes = {**element("ProcedureStepLabel", "new"), **element("PatientID", "P2")}
        outcome = worklist.update_workitem(UID, changes, transaction_uid="", actor=ACTOR)
        assert refusal(outcome) is RefusalCode.INVALID_ATTRIBUTES
        assert attributes_of(worklist) == before

    def test_updates_at_once_are_all_kept(self, worklist: Worklist) -> None:
        bring_to(worklist, "SCHEDULED")
        changes = [
            element("ProcedureStepLabel", "changed"),
            element("WorklistLabel", "changed"),
            element("CommentsOnTheScheduledProcedureStep", "changed"),
            element("ScheduledProcedureStepPriority", "HIGH"),
        ]
        outcomes = at_once(
            lambda n: worklist.update_workitem(UID, changes[n], transaction_uid="", actor=ACTOR), len(changes)
        )
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        found = attributes_of(worklist)
        assert {tag: found[tag] for tag in merged(changes)} == merged(changes)

    # Cancel requests

    def test_a_cancel_request_ends_a_scheduled_workitem(self, worklist: Worklist) -> None:
        bring_to(worklist, "SCHEDULED")
        must(worklist.request_cancel(UID, element("ReasonForCancellation", "No longer wanted"), actor=ACTOR))
        found = attributes_of(worklist)
        told = items(found, "ProcedureStepProgressInformationSequence")[0]
        assert state_of(worklist) == "CANCELED"
        assert text(told, "ReasonForCancellation") == "No longer wanted"
        assert text(told, "ProcedureStepCancellationDateTime")
        assert items(told, "ProcedureStepDiscontinuationReasonCodeSequence")

    def test_a_cancel_request_leaves_a_claimed_workitem_to_its_performer(self, worklist: Worklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        must(worklist.request_cancel(UID, {}, actor=ACTOR))
        assert state_of(worklist) == "IN PROGRESS"
        must(worklist.change_state(UID, "CANCELED", transaction_uid=LOCK, actor=ACTOR))

    def test_a_cancel_request_on_a_final_workitem(self, worklist: Worklist) -> None:
        bring_to(worklist, "COMPLETED", "2.25.301")
        bring_to(worklist, "CANCELED", "2.25.302")
        assert refusal(worklist.request_cancel("2.25.301", {}, actor=ACTOR)) is RefusalCode.ALREADY_COMPLETED
        again = must(worklist.request_cancel("2.25.302", {}, actor=ACTOR))
        assert again.warnings == (WarningCode.ALREADY_CANCELED,)

    # Search

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            pytest.param({}, ["high", "early", "late", "done"], id="no-keys-all-in-order"),
            pytest.param(element("ProcedureStepState", "SCHEDULED"), ["high", "early", "late"], id="state"),
            pytest.param(element("ScheduledProcedureStepPriority", "HIGH"), ["high"], id="priority"),
            pytest.param(element("PatientID", "P-2"), ["early"], id="patient-id"),
            pytest.param(element("PatientID", "P-?"), ["high", "early"], id="wildcard"),
            pytest.param(element("PatientID", "*"), ["high", "early", "late", "done"], id="universal"),
            pytest.param(element("PatientID"), ["high", "early", "late", "done"], id="empty-key"),
            pytest.param(element("PatientName", "müller^*"), ["early"], id="name-without-case"),
            pytest.param(element("WorklistLabel", "ai"), [], id="label-is-case-sensitive"),
            pytest.param(element("SOPInstanceUID", "2.25.11", "2.25.13"), ["high", "late"], id="uid-list"),
            pytest.param(
                element("ScheduledProcedureStepStartDateTime", "20260302-20260303"), ["late"], id="range"
            ),
            pytest.param(
                element("ScheduledStationNameCodeSequence", element("CodeValue", "PERF2")),
                ["early"],
                id="second-item-of-a-sequence",
            ),
            pytest.param(
                element("ReferencedRequestSequence", element("AccessionNumber", "A7")),
                ["late"],
                id="accession",
            ),
            pytest.param(
                element(
                    "ReferencedRequestSequence",
                    merged([element("AccessionNumber", "A7"), element("RequestedProcedureID", "other")]),
                ),
                [],
                id="one-item-must-match-all",
            ),
            pytest.param(
                element("ScheduledWorkitemCodeSequence", element("CodeValue", "AW1001")), ["high"], id="code"
            ),
        ],
    )
    def test_search(self, worklist: Worklist, keys: DicomJson, expected: Sequence[str]) -> None:
        fill(worklist)
        found = worklist.search_workitems(WorkitemQuery(matching=keys))
        assert [text(one, "ProcedureStepLabel") for one in found] == list(expected)

    @pytest.mark.parametrize(
        ("offset", "limit", "expected"),
        [(0, 2, ["high", "early"]), (1, 2, ["early", "late"]), (3, 10, ["done"]), (4, 10, []), (0, 0, [])],
    )
    def test_pages(self, worklist: Worklist, offset: int, limit: int, expected: Sequence[str]) -> None:
        fill(worklist)
        found = worklist.search_workitems(WorkitemQuery(matching={}, offset=offset, limit=limit))
        assert [text(one, "ProcedureStepLabel") for one in found] == list(expected)

    def test_a_change_is_found_at_once(self, worklist: Worklist) -> None:
        bring_to(worklist, "SCHEDULED")
        for state, lock in (("SCHEDULED", ""), ("IN PROGRESS", LOCK)):
            if lock:
                must(worklist.change_state(UID, state, transaction_uid=lock, actor=ACTOR))
            for asked in ("SCHEDULED", "IN PROGRESS"):
                found = found_by(worklist, element("ProcedureStepState", asked))
                assert found == (1 if asked == state else 0)
        must(
            worklist.update_workitem(
                UID, element("WorklistLabel", "moved"), transaction_uid=LOCK, actor=ACTOR
            )
        )
        assert found_by(worklist, element("WorklistLabel", "moved")) == 1
        assert found_by(worklist, element("WorklistLabel", "AI")) == 0


def found_by(worklist: Worklist, keys: DicomJson) -> int:
    """How many workitems match."""
    return len(worklist.search_workitems(WorkitemQuery(matching=keys)))


def fill(worklist: Worklist) -> None:
    """Four workitems, created in an order that is not the answer's."""
    for uid, attributes in (
        (
            "2.25.13",
            minimal(
                ProcedureStepLabel="late",
                ScheduledProcedureStepStartDateTime="20260302080000+0000",
                ReferencedRequestSequence=(request(AccessionNumber="A6"), request(AccessionNumber="A7")),
            ),
        ),
        (
            "2.25.12",
            minimal(
                ProcedureStepLabel="early",
                PatientID="P-2",
                PatientName="Müller^Ägidius",
                ScheduledProcedureStepStartDateTime="20260301130000+0100",
                ScheduledStationNameCodeSequence=(code("PERF1", "L", "1"), code("PERF2", "L", "2")),
            ),
        ),
        (
            "2.25.11",
            minimal(
                ProcedureStepLabel="high",
                PatientID="P-1",
                ScheduledProcedureStepPriority="HIGH",
                ScheduledProcedureStepStartDateTime="20260305000000+0000",
                ScheduledWorkitemCodeSequence=code(),
            ),
        ),
        (
            "2.25.14",
            minimal(ProcedureStepLabel="done", ScheduledProcedureStepPriority="LOW"),
        ),
    ):
        must(worklist.create_workitem(uid, attributes, actor=ACTOR))
    must(worklist.change_state("2.25.14", "IN PROGRESS", transaction_uid=LOCK, actor=ACTOR))
