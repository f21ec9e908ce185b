# SPDX-License-Identifier: Apache-2.0
"""Properties of the machine under any sequence of commands, and the store held against the same in memory.

The expected cell is looked up in ``profiles.ups.states.TRANSITIONS``; nothing else of the machine is used to
judge it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text as sql

from profiles import codes
from profiles.dicom_json import DicomJson, element, merged, tag_key, text
from profiles.ups.report import EventType
from profiles.ups.states import (
    CHANGE_STATE_EVENTS,
    FINAL_STATES,
    TRANSITIONS,
    Cell,
    Effect,
    ProcedureStepState,
    TransitionEvent,
)
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.workitem import machine
from task_manager.workitem.commands import (
    ChangeState,
    Command,
    Create,
    Rearrange,
    RequestCancel,
    Update,
    Withdraw,
)
from task_manager.workitem.machine import REFUSALS, WARNINGS, Applied, StateReport
from task_manager.workitem.memory import MemoryWorklist
from task_manager.workitem.model import Workitem
from tests.contract.workitems import NOW, code, minimal, performed, progress
from tests.service import TestBed, make_service

SCHEDULED, IN_PROGRESS = ProcedureStepState.SCHEDULED, ProcedureStepState.IN_PROGRESS
COMPLETED, CANCELED = ProcedureStepState.COMPLETED, ProcedureStepState.CANCELED
ACTOR = Actor(door="dicomweb", name="TESTER", address="127.0.0.1")
NAMES = ("first", "second", "third")
LOCKS = ("2.25.1", "2.25.2", "2.25.3")
TRANSACTION_UID = tag_key("TransactionUID")
ATTRIBUTE_REFUSALS = frozenset(
    {
        RefusalCode.INVALID_ATTRIBUTES,
        RefusalCode.MISSING_ATTRIBUTE,
        RefusalCode.MISSING_VALUE,
        RefusalCode.NOT_SCHEDULED,
    }
)
PATHS: dict[Effect, tuple[ProcedureStepState, ...]] = {
    Effect.CREATE: (SCHEDULED,),
    Effect.CLAIM: (IN_PROGRESS,),
    Effect.COMPLETE: (COMPLETED,),
    Effect.CANCEL: (CANCELED,),
    Effect.CANCEL_SCHEDULED: (IN_PROGRESS, CANCELED),
    Effect.REPORT_CANCEL_REQUEST: (),
}
"""The states each effect of the table reports, in order."""

# What is asked ----------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
tags = st.sampled_from(
    [
        *(tag_key(name) for name in ("ProcedureStepLabel", "InputInformationSequence", "PatientName")),
        *(tag_key(name) for name in ("ProcedureStepState", "TransactionUID", "SOPInstanceUID")),
        *("00001002", "00091001", "7FE00010", "0074100", "", "ZZZZZZZZ"),
    ]
)
junk = st.dictionaries(
    tags, anything | st.fixed_dictionaries({"vr": st.just("SH"), "Value": anything}), max_size=3
)
sound = st.sampled_from(
    [
        element("ProcedureStepLabel", "Another label"),
        element("ProcedureStepLabel", "Étude µ"),
        element("ScheduledProcedureStepPriority", "HIGH"),
        element("InputReadinessState", "INCOMPLETE"),
        element("InputReadinessState", "READY"),
        element("ScheduledStationNameCodeSequence", code("ST1", "L", "Station 1")),
        element("ScheduledStationNameCodeSequence"),
        progress(ProcedureStepProgress="10"),
        progress(ProcedureStepProgress="80", ProcedureStepProgressDescription="almost"),
        performed(),
        performed(PerformedWorkitemCodeSequence=None),
        {},
    ]
)
changes = sound | junk | st.builds(lambda a, b: {**a, **b}, sound, junk)
creates = st.sampled_from(
    [
        minimal(),
        minimal(WorklistLabel=(), ScheduledProcedureStepPriority="LOW"),
        minimal(ScheduledStationNameCodeSequence=code("ST1", "L", "Station 1")),
        minimal(ProcedureStepState="IN PROGRESS"),
        minimal(ProcedureStepLabel=()),
        merged([minimal(), element("TransactionUID", LOCKS[0])]),
    ]
)
names = st.sampled_from(NAMES)
locks = st.sampled_from([*LOCKS, LOCKS[0], LOCKS[0], "", "not a uid"])
states = st.sampled_from([*(state.value for state in ProcedureStepState), "IN PROGRESS", "DONE", ""])
details = st.sampled_from(
    [
        {},
        element("ReasonForCancellation", "not needed"),
        merged([element("ReasonForCancellation", "not needed"), element("PatientID", "P1")]),
    ]
)


def answers(row: TransitionEvent | None, workitem: Workitem | None) -> Cell | None:
    """The cell of the table; None for a command that the table does not have."""
    return None if row is None else TRANSITIONS[row][workitem.state if workitem else None]


def row_of(command: Create | Command, workitem: Workitem | None) -> TransitionEvent | None:
    match command:
        case Create():
            return TransitionEvent.CREATE
        case RequestCancel():
            return TransitionEvent.REQUEST_CANCEL
        case ChangeState(state=asked, transaction_uid=given):
            if asked not in {state.value for state in ProcedureStepState}:
                return None
            well_formed = given in LOCKS
            right = well_formed and (
                workitem is None or workitem.state is SCHEDULED or given == workitem.transaction_uid
            )
            return CHANGE_STATE_EVENTS[ProcedureStepState(asked)][0 if right else 1]
        case _:
            return None


def elements_of(value: Any) -> Iterator[str]:
    """Every key at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from elements_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from elements_of(inner)


# The machine alone ------------------------------------------------------------------------------------------


class MachineProperties(RuleBasedStateMachine):
    """A few workitems and everything that can be asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self.current: dict[str, Workitem] = {}
        self.walks: dict[str, list[ProcedureStepState]] = {}
        self.told: list[StateReport] = []
        self.now = NOW

    @rule(name=names, attributes=creates, more=junk)
    def create(self, name: str, attributes: DicomJson, more: DicomJson) -> None:
        uid = uid_of(name)
        for given in ({**attributes, **more}, attributes):
            before = self.current.get(uid)
            command = Create(uid=uid, attributes=given)
            outcome = machine.create(command, now=self.tick(), existing=before)
            self.judge(uid, before, command, outcome)

    @rule(name=names, wanted=changes, lock=locks)
    def update(self, name: str, wanted: DicomJson, lock: str) -> None:
        self.ask(name, Update(changes=wanted, transaction_uid=lock))

    @rule(name=names, wanted=changes)
    def update_rightly(self, name: str, wanted: DicomJson) -> None:
        held = self.current.get(uid_of(name))
        self.ask(name, Update(changes=wanted, transaction_uid=held.transaction_uid if held else ""))

    @rule(name=names, state=states, lock=locks)
    def change_state(self, name: str, state: str, lock: str) -> None:
        self.ask(name, ChangeState(state=state, transaction_uid=lock))

    @rule(name=names, final=st.sampled_from([COMPLETED, CANCELED]), lock=st.sampled_from(LOCKS))
    def perform(self, name: str, final: ProcedureStepState, lock: str) -> None:
        self.ask(name, ChangeState(state="IN PROGRESS", transaction_uid=lock))
        self.ask(name, Update(changes=performed(), transaction_uid=lock))
        self.ask(name, ChangeState(state=final.value, transaction_uid=lock))

    @rule(
        name=names,
        given=details | junk,
        asker=st.sampled_from(["VIEWER", "", "far too long for an AE title"]),
    )
    def request_cancel(self, name: str, given: DicomJson, asker: str) -> None:
        self.ask(name, RequestCancel(details=given, requesting_ae=asker))

    @rule(name=names, wanted=changes)
    def rearrange(self, name: str, wanted: DicomJson) -> None:
        self.ask(name, Rearrange(changes=wanted))

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        reason = codes.DISCONTINUED_FOR_UNSPECIFIED_REASON
        self.ask(name, Withdraw(reason=reason, text="no longer wanted"))

    @invariant()
    def state_is_the_attribute(self) -> None:
        for workitem in self.current.values():
            assert text(workitem.attributes, "ProcedureStepState") == workitem.state.value

    @invariant()
    def states_were_told_as_they_came(self) -> None:
        """No state is told that was not taken, and none taken that was not told."""
        for uid, walk in self.walks.items():
            told = [
                report.state
                for report in self.told
                if report.workitem_uid == uid and report.event_type is EventType.STATE_REPORT
            ]
            assert [state for state, _ in itertools.groupby(told)] == walk
            assert walk[-1] is self.current[uid].state

    @invariant()
    def the_lock_stays_inside(self) -> None:
        for workitem in self.current.values():
            assert TRANSACTION_UID not in set(elements_of(workitem.attributes))
            assert list(workitem.attributes) == sorted(workitem.attributes)
            assert bool(workitem.transaction_uid) >= (workitem.state in (IN_PROGRESS, COMPLETED))
        for report in self.told:
            assert TRANSACTION_UID not in set(elements_of(report.payload))

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def ask(self, name: str, command: Command) -> None:
        uid = uid_of(name)
        before = self.current.get(uid)
        self.judge(uid, before, command, machine.apply(before, command, now=self.tick()))

    def judge(
        self,
        uid: str,
        before: Workitem | None,
        command: Create | Command,
        outcome: Applied | Refused,
    ) -> None:
        cell = answers(row_of(command, before), before)
        if isinstance(outcome, Refused):
            assert outcome.faults
            assert len({fault.path for fault in outcome.faults}) == len(outcome.faults)
            self.judge_refusal(before, command, cell, outcome.code)
            return
        after = outcome.workitem
        assert orjson.loads(orjson.dumps(after.attributes)) == after.attributes
        assert after.uid == uid == outcome.accepted.uid
        if after is before:
            assert not outcome.reports
            assert outcome.accepted.warnings
            assert isinstance(command, Withdraw) or (isinstance(cell, int) and cell in WARNINGS)
            return
        assert before is None or after.version > before.version
        assert after.modified_at == self.now
        assert all(report.workitem_uid == uid for report in outcome.reports)
        self.judge_transition(before, after, command, cell, outcome.reports)
        self.current[uid] = after
        self.told.extend(outcome.reports)

    def judge_refusal(
        self, before: Workitem | None, command: Create | Command, cell: Cell | None, code_told: RefusalCode
    ) -> None:
        if isinstance(cell, int):
            assert code_told is REFUSALS[cell]
        elif cell in (Effect.COMPLETE, Effect.CANCEL):
            assert code_told is RefusalCode.FINAL_STATE_NOT_MET
        elif cell is Effect.CLAIM:
            raise AssertionError("a claim that the table allows is never refused")
        elif cell is not None:
            assert code_told in ATTRIBUTE_REFUSALS
        elif before is None and not (isinstance(command, ChangeState) and code_told in ATTRIBUTE_REFUSALS):
            assert code_told is RefusalCode.NO_SUCH_INSTANCE
        elif isinstance(command, Update) and before is not None:
            rights = {
                SCHEDULED: {RefusalCode.NOT_YET_IN_PROGRESS} if command.transaction_uid else set(),
                IN_PROGRESS: {RefusalCode.WRONG_TRANSACTION_UID}
                if command.transaction_uid != before.transaction_uid
                else set(),
            }.get(before.state, {RefusalCode.MAY_NOT_BE_UPDATED})
            assert code_told in (rights or ATTRIBUTE_REFUSALS)
        elif isinstance(command, Withdraw):
            assert before is not None
            assert before.state is COMPLETED
            assert code_told is RefusalCode.MAY_NOT_BE_UPDATED
        else:
            assert code_told in ATTRIBUTE_REFUSALS

    def judge_transition(
        self,
        before: Workitem | None,
        after: Workitem,
        command: Create | Command,
        cell: Cell | None,
        reports: Sequence[StateReport],
    ) -> None:
        if isinstance(cell, Effect):
            path = PATHS[cell]
        elif isinstance(command, Withdraw):
            path = PATHS[Effect.CANCEL if before and before.state is IN_PROGRESS else Effect.CANCEL_SCHEDULED]
        else:
            assert isinstance(command, Update | Rearrange)
            path = ()
        told = [report.state for report in reports if report.event_type is EventType.STATE_REPORT]
        if isinstance(command, Update | Rearrange):
            assert set(told) <= {after.state}, "a state report for readiness tells the same state"
        else:
            assert told == list(path)
        assert before is None or before.state not in FINAL_STATES or after.state is before.state
        assert after.state is (path[-1] if path else (before and before.state))
        if before is not None and before.is_final:
            assert isinstance(command, Rearrange), "only the manager changes what is final"
        if before is not None and cell is not Effect.CLAIM:
            assert after.transaction_uid == before.transaction_uid
        asked = [report for report in reports if report.event_type is EventType.CANCEL_REQUESTED]
        assert len(asked) == (1 if cell is Effect.REPORT_CANCEL_REQUEST else 0)
        self.walks.setdefault(after.uid, []).extend(path)


def uid_of(name: str) -> str:
    return f"2.25.{100 + NAMES.index(name)}"


MachineProperties.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMachineProperties = MachineProperties.TestCase


# The store beside the memory --------------------------------------------------------------------------------


class StoreProperties(RuleBasedStateMachine):
    """The same commands to a worklist on SQLite and to one in memory."""

    bed: TestBed
    runs = itertools.count(1)

    @initialize()
    def begin(self) -> None:
        self.run = next(self.runs)
        self.memory = MemoryWorklist(self.bed.clock)
        self.stored = self.bed.service.worklist
        self.asked: set[str] = set()

    @rule(name=names, attributes=creates)
    def create(self, name: str, attributes: DicomJson) -> None:
        uid = self.uid(name)
        self.same(*(each.create_workitem(uid, attributes, actor=ACTOR) for each in self.both()))

    @rule(name=names, wanted=changes, lock=locks)
    def update(self, name: str, wanted: DicomJson, lock: str) -> None:
        uid = self.uid(name)
        self.same(
            *(each.update_workitem(uid, wanted, transaction_uid=lock, actor=ACTOR) for each in self.both())
        )

    @rule(name=names, state=states, lock=locks)
    def change_state(self, name: str, state: str, lock: str) -> None:
        uid = self.uid(name)
        self.same(*(each.change_state(uid, state, transaction_uid=lock, actor=ACTOR) for each in self.both()))

    @rule(name=names, lock=st.sampled_from(LOCKS[:2]))
    def perform(self, name: str, lock: str) -> None:
        self.change_state(name, "IN PROGRESS", lock)
        self.update(name, performed(), lock)
        self.change_state(name, "COMPLETED", lock)

    @rule(name=names, given=details)
    def request_cancel(self, name: str, given: DicomJson) -> None:
        uid = self.uid(name)
        self.same(*(each.request_cancel(uid, given, actor=ACTOR) for each in self.both()))

    @invariant()
    def both_know_the_same(self) -> None:
        for uid in self.asked:
            left, right = (each.retrieve_workitem(uid) for each in self.both())
            if isinstance(left, Refused) or isinstance(right, Refused):
                assert isinstance(left, Refused)
                assert isinstance(right, Refused)
                assert left.code is right.code
            else:
                assert left == right

    def teardown(self) -> None:
        """The journal holds what the memory told, in its order."""
        if not hasattr(self, "memory"):
            return
        wanted = [
            (report.workitem_uid, int(report.event_type), report.state.value, report.payload)
            for report in self.memory.reports
        ]
        statement = sql(
            "SELECT workitem_uid, event_type, state, content FROM workitem_report"
            " WHERE workitem_uid LIKE :mine ORDER BY id"
        )
        with self.bed.database.read() as connection:
            rows = connection.execute(statement, {"mine": f"2.25.7{self.run}.%"}).all()
        assert [(row[0], row[1], row[2], orjson.loads(row[3])) for row in rows] == wanted

    def both(self) -> tuple[Any, Any]:
        return self.memory, self.stored

    def uid(self, name: str) -> str:
        uid = f"2.25.7{self.run}.{1 + NAMES.index(name)}"
        self.asked.add(uid)
        return uid

    def same(self, left: Accepted | Refused, right: Accepted | Refused) -> None:
        self.bed.clock.pass_(1)
        if isinstance(left, Refused) or isinstance(right, Refused):
            assert isinstance(left, Refused), (left, right)
            assert isinstance(right, Refused), (left, right)
            assert left.code is right.code
            if left.code in ATTRIBUTE_REFUSALS:
                assert left.faults == right.faults
        else:
            assert left == right


def test_the_store_answers_as_the_memory_does(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    bed.clock.now = NOW

    class OnThisStore(StoreProperties):
        pass

    OnThisStore.bed = bed
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            OnThisStore,
            settings=settings(
                max_examples=25,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    finally:
        bed.database.close()
