# SPDX-License-Identifier: Apache-2.0
"""Every cell of the state table, legal and illegal, over both doors: one machine, one answer (PS3.4 CC.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb import ups_rs
from informatics_gateway.dimse.ups_messages import WATCH
from informatics_gateway.statuses import STATUSES, WARNINGS, Operation
from profiles.dicom_json import element, merged
from profiles.ups.states import (
    CHANGE_STATE_EVENTS,
    TRANSITIONS,
    Cell,
    Effect,
    ProcedureStepState,
    TransitionEvent,
)
from task_manager.workitem.machine import REFUSALS
from task_manager.workitem.machine import WARNINGS as WARNED
from task_manager.workitem.memory import MemoryWorklist
from tests.asgi import AsgiClient
from tests.contract.workitems import NOW, minimal, performed
from tests.contract.worklist import ACTOR, LOCK, OTHER_LOCK, UID, bring_to, must, state_of
from tests.loopback.dimse.ups_peer import Stage, UpsScu, connected, ups_port

JSON = {"Content-Type": "application/dicom+json"}
E, S = TransitionEvent, ProcedureStepState
WORKLIST = Stage()

AFTER = {
    Effect.CREATE: S.SCHEDULED,
    Effect.CLAIM: S.IN_PROGRESS,
    Effect.COMPLETE: S.COMPLETED,
    Effect.CANCEL: S.CANCELED,
    Effect.CANCEL_SCHEDULED: S.CANCELED,
    Effect.REPORT_CANCEL_REQUEST: S.IN_PROGRESS,
}
SUCCESS = {Operation.CREATE: 201, Operation.CHANGE_STATE: 200, Operation.CANCEL: 202}


@dataclass(frozen=True)
class Case:
    """A cell, and for rows with a missing or wrong Transaction UID one of the two."""

    event: TransitionEvent
    state: ProcedureStepState | None
    transaction_uid: str

    @property
    def cell(self) -> Cell:
        return TRANSITIONS[self.event][self.state]

    @property
    def operation(self) -> Operation:
        if self.event is E.CREATE:
            return Operation.CREATE
        return Operation.CANCEL if self.event is E.REQUEST_CANCEL else Operation.CHANGE_STATE

    @property
    def asked(self) -> str:
        return next((state.value for state, rows in CHANGE_STATE_EVENTS.items() if self.event in rows), "")

    def __str__(self) -> str:
        given = self.transaction_uid or "no UID"
        return f"{self.event.name}-{self.state or 'none'}-{given}"


def cases() -> Iterator[Case]:
    for event, row in TRANSITIONS.items():
        for state in row:
            if event.name.endswith("WRONG_UID"):
                yield Case(event, state, "")
                if state is not S.SCHEDULED:  # any well-formed UID is right for one that is not claimed
                    yield Case(event, state, OTHER_LOCK)
            else:
                yield Case(event, state, LOCK)


CASES = list(cases())


def expected_statuses(case: Case) -> tuple[int, int]:
    """DIMSE and HTTP status, by the tables alone."""
    cell, success = case.cell, SUCCESS[case.operation]
    if isinstance(cell, Effect):
        return 0x0000, success
    if cell in WARNED:
        assert WARNINGS[WARNED[cell]].dimse_status(case.operation) == cell
        return cell, success
    refused = STATUSES[REFUSALS[cell]]
    assert refused.dimse == cell
    return cell, refused.http_status(case.operation)


def prepared(case: Case) -> MemoryWorklist:
    worklist = MemoryWorklist(lambda: NOW)
    if case.state is not None:
        bring_to(worklist, case.state)
    if case.cell is Effect.COMPLETE:
        must(worklist.update_workitem(UID, performed(), transaction_uid=LOCK, actor=ACTOR))
    return worklist


def over_dimse(case: Case, scu: UpsScu) -> int:
    if case.operation is Operation.CREATE:
        return scu.create(minimal(), UID).status
    if case.operation is Operation.CANCEL:
        return scu.action(UID, 2, None, context=WATCH).status
    return scu.state(UID, case.asked, case.transaction_uid).status


def over_http(case: Case, worklist: MemoryWorklist) -> int:
    app = FastAPI()
    app.include_router(ups_rs.router(worklist))
    client = AsgiClient(app)
    base = "/dicom-web/workitems"
    if case.operation is Operation.CREATE:
        content = json.dumps([minimal()])
        return client.request("POST", f"{base}?{UID}", content=content, headers=JSON).status_code
    if case.operation is Operation.CANCEL:
        return client.request("POST", f"{base}/{UID}/cancelrequest").status_code
    wanted = merged(
        [element("ProcedureStepState", case.asked), element("TransactionUID", case.transaction_uid)]
    )
    return client.request(
        "PUT", f"{base}/{UID}/state", content=json.dumps([wanted]), headers=JSON
    ).status_code


@pytest.fixture(scope="module")
def scu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpsScu]:
    with ups_port(tmp_path_factory.mktemp("port"), WORKLIST) as server, connected(server.port) as peer:
        yield peer


def test_every_cell_is_here() -> None:
    assert {(case.event, case.state) for case in CASES} == {
        (event, state) for event, row in TRANSITIONS.items() for state in row
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_doors_answer_as_the_table_says(case: Case, scu: UpsScu) -> None:
    dimse, http = expected_statuses(case)
    WORKLIST.actor = by_dimse = prepared(case)
    by_http = prepared(case)
    assert over_dimse(case, scu) == dimse
    assert over_http(case, by_http) == http
    for worklist in (by_dimse, by_http):
        if case.state is None and case.cell is not Effect.CREATE:
            assert worklist.find(UID) is None
        else:
            after = AFTER[case.cell] if isinstance(case.cell, Effect) else case.state
            assert state_of(worklist) == after
    assert [(report.event_type, report.state) for report in by_dimse.reports] == [
        (report.event_type, report.state) for report in by_http.reports
    ]
    if case.event is not E.REQUEST_CANCEL:  # which tells who asked
        payloads = [[report.payload for report in one.reports] for one in (by_dimse, by_http)]
        assert payloads[0] == payloads[1]


def test_final_state_rules_hold_over_both_doors(scu: UpsScu) -> None:
    case = Case(E.TO_COMPLETED, S.IN_PROGRESS, LOCK)
    worklist = MemoryWorklist(lambda: NOW)
    bring_to(worklist, "IN PROGRESS")
    WORKLIST.actor = worklist
    assert over_dimse(case, scu) == 0xC304
    assert over_http(case, worklist) == STATUSES[REFUSALS[0xC304]].http_status(Operation.CHANGE_STATE)
    assert state_of(worklist) == "IN PROGRESS"
