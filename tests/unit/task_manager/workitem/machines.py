# SPDX-License-Identifier: Apache-2.0
"""Workitems led to a state, and what the machine says."""

from __future__ import annotations

from datetime import timedelta

from profiles.dicom_json import DicomJson, items
from task_manager.outcome import Refused
from task_manager.workitem import machine
from task_manager.workitem.commands import ChangeState, Command, Create, Update
from task_manager.workitem.machine import Applied
from task_manager.workitem.model import Workitem
from tests.contract.workitems import NOW, minimal, performed

UID, LOCK, OTHER = "2.25.100", "2.25.1", "2.25.2"
LATER = NOW + timedelta(minutes=5)
LATER_TEXT = "20260301120500+0000"
S, P, C, X = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"


def applied(outcome: Applied | Refused) -> Applied:
    assert isinstance(outcome, Applied), outcome
    return outcome


def refused(outcome: Applied | Refused) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def created(**given: object) -> Workitem:
    return applied(machine.create(Create(uid=UID, attributes=minimal(**given)), now=NOW)).workitem


def do(workitem: Workitem | None, command: Command) -> Applied | Refused:
    return machine.apply(workitem, command, now=LATER)


def after(workitem: Workitem, *commands: Command) -> Workitem:
    for command in commands:
        workitem = applied(do(workitem, command)).workitem
    return workitem


def in_state(state: str | None) -> Workitem | None:
    """A workitem led to `state` under LOCK."""
    if state is None:
        return None
    claim, finish = ChangeState(state=P, transaction_uid=LOCK), ChangeState(state=state, transaction_uid=LOCK)
    done = Update(changes=performed(), transaction_uid=LOCK)
    steps: dict[str, tuple[Command, ...]] = {
        S: (),
        P: (claim, done),
        C: (claim, done, finish),
        X: (claim, finish),
    }
    return after(created(), *steps[state])


def told(workitem: Workitem) -> DicomJson:
    return items(workitem.attributes, "ProcedureStepProgressInformationSequence")[0]


def events(outcome: Applied) -> list[tuple[int, str]]:
    return [(int(report.event_type), report.state.value) for report in outcome.reports]


def move(state: str, uid: str = LOCK) -> ChangeState:
    return ChangeState(state=state, transaction_uid=uid)
