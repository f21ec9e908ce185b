# SPDX-License-Identifier: Apache-2.0
"""Performed procedure steps over DIMSE (IHE RAD-6, RAD-7), told by pynetdicom as a modality does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import PERFORMED_STEP, PUSH
from profiles.request import RequestKind
from task_manager.store import evidence, performed_steps
from task_manager.study.model import Evidence
from task_manager.study.performed import StepStatus
from tests.loopback.dimse.ups_peer import UpsScu, connected
from tests.performed_steps import completed, in_progress
from tests.service import TestBed, make_service

STEP = "1.2.3.77"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    made = make_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def port(bed: TestBed) -> Iterator[int]:
    server = DimseServer(
        bed.service.intake, worklist=bed.service.worklist, performed_steps=bed.service.performed_steps
    )
    server.start()
    try:
        yield server.port
    finally:
        server.stop(grace_s=1)


def create(scu: UpsScu, told: Dataset, uid: str | None = STEP) -> int:
    return scu.create(told, uid, named=PERFORMED_STEP, context=PERFORMED_STEP).status


def change(scu: UpsScu, told: Dataset, uid: str = STEP) -> tuple[int, Dataset]:
    answer = scu.set(uid, told, named=PERFORMED_STEP, context=PERFORMED_STEP)
    return answer.status, answer.command


def status_of(bed: TestBed) -> StepStatus:
    with bed.database.read() as connection:
        step = performed_steps.locked_step(connection, STEP)
    assert step is not None
    return step.status


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_step_from_its_begin_to_its_end(bed: TestBed, port: int, syntax: str) -> None:
    with connected(port, ae_title="CT1", classes=[PERFORMED_STEP], syntaxes=[syntax]) as scu:
        assert create(scu, in_progress()) == 0x0000
        assert status_of(bed) is StepStatus.IN_PROGRESS
        assert bed.service.requests.request(RequestKind.PERFORMED, STEP) is None
        assert change(scu, completed())[0] == 0x0000
    assert status_of(bed) is StepStatus.COMPLETED
    kept = bed.service.requests.request(RequestKind.PERFORMED, STEP)
    assert kept is not None
    assert kept.source == "CT1"
    with bed.database.read() as connection:
        (told,) = evidence.evidence_of(connection, "1.2.3")
    assert (told.kind, told.ended, len(told.instances)) == (Evidence.MPPS, True, 2)


def test_a_discontinued_step_is_noted_and_asks_for_nothing(bed: TestBed, port: int) -> None:
    with connected(port, classes=[PERFORMED_STEP]) as scu:
        create(scu, in_progress())
        assert change(scu, completed("DISCONTINUED"))[0] == 0x0000
    assert status_of(bed) is StepStatus.DISCONTINUED
    assert bed.service.requests.request(RequestKind.PERFORMED, STEP) is None


def test_a_step_that_is_over_may_not_be_updated(port: int) -> None:
    with connected(port, classes=[PERFORMED_STEP]) as scu:
        create(scu, in_progress())
        change(scu, completed())
        assert change(scu, completed())[0] == 0x0000  # an answer that was lost
        other = Dataset()
        other.PerformedProcedureStepDescription = "late"
        status, command = change(scu, other)
    assert status == 0x0110
    assert command.ErrorID == 0xA710


def test_refusals(port: int) -> None:
    nothing = in_progress()
    del nothing.Modality
    empty = in_progress()
    empty.PerformedStationAETitle = ""
    ended = in_progress()
    ended.PerformedProcedureStepStatus = "COMPLETED"
    with connected(port, classes=[PERFORMED_STEP]) as scu:
        assert change(scu, completed())[0] == 0x0112
        assert create(scu, nothing) == 0x0120
        assert create(scu, empty) == 0x0121
        assert create(scu, ended) == 0x0106
        assert create(scu, in_progress()) == 0x0000
        assert create(scu, in_progress()) == 0x0111


def test_without_a_uid_one_is_made(port: int) -> None:
    with connected(port, classes=[PERFORMED_STEP]) as scu:
        told = scu.create(in_progress(), None, named=PERFORMED_STEP, context=PERFORMED_STEP)
    assert told.status == 0x0000
    assert told.command.AffectedSOPInstanceUID.startswith("2.25.")


def test_another_class_is_told_and_the_worklist_is_on_the_same_association(port: int) -> None:
    with connected(port, classes=[PERFORMED_STEP, PUSH]) as scu:
        told = scu.create(in_progress(), STEP, named=PUSH, context=PERFORMED_STEP)
        assert told.status == 0x0118
        assert scu.create({}, "1.2.9").status != 0x0000
        assert create(scu, in_progress()) == 0x0000


def test_what_is_not_wanted_is_not_offered(bed: TestBed) -> None:
    server = DimseServer(bed.service.intake)
    server.start()
    try:
        entity = AE()
        entity.add_requested_context(PERFORMED_STEP)
        association = entity.associate("127.0.0.1", server.port, ae_title="AIRWAY")
        assert not association.is_established
    finally:
        server.stop(grace_s=1)
