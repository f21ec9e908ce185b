# SPDX-License-Identifier: Apache-2.0
"""What a person decides about work that was given up, where it is one part of another, on both databases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from profiles.codes import WORKITEM_LUNG_CT, Code
from task_manager.attention import Attention
from task_manager.dispatch.leases import replacement_uid
from task_manager.dispatch.model import LeaseLimits, RetentionLimits, SubtaskRole, Verification
from task_manager.dispatch.sweeps import Sweeps
from task_manager.dispatching import Dispatching, DispatchSettings
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import subtasks, workitems
from task_manager.store.database import Database
from task_manager.story import workitem_status
from task_manager.worklist import StoredWorklist
from tests.contract.workitems import instances, minimal
from tests.service import PERFORMER, Clock

X = "1.2.3.1"
REVIEW = Code("110007", "DCM", "Report Verification")


class VerifyingBed:
    """A task manager that splits the lung app's workitems into inference and review."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        settings = DispatchSettings(
            verifications={"lung-ct": Verification(code=REVIEW)},
            leases=LeaseLimits(silence=timedelta(minutes=15), run=timedelta(hours=2), tries=2),
        )
        numbers = itertools.count(1)
        dispatching = Dispatching(
            settings,
            {"lung-ct": WORKITEM_LUNG_CT},
            base_url=lambda: "http://manager.test/dicom-web",
            new_uid=lambda: f"1.2.3.4.5.{next(numbers)}",
        )
        self.worklist = StoredWorklist(
            database,
            followers=dispatching.followers,
            interceptors=dispatching.interceptors,
            limits=settings.limits_of,
            clock=self.clock,
            wake=lambda: None,
        )
        self.sweeps = Sweeps(
            self.worklist.transact, database, settings.limits_of, RetentionLimits(), clock=self.clock
        )
        self.attention = Attention(
            self.worklist.transact, database, dispatching.replacement, lanes=frozenset()
        )

    def inference_of(self, parent: str) -> str:
        """UID of the inference that a workitem waits for."""
        with self.database.read() as connection:
            found = subtasks.subtasks_of_parent(connection, parent)
        [child] = [one.child_uid for one in found if one.role is SubtaskRole.INFERENCE]
        return child

    def state(self, uid: str) -> str:
        with self.database.read() as connection:
            found = workitems.workitem_by_uid(connection, uid)
        assert found is not None, uid
        return found.state.value

    def lose(self, uid: str) -> None:
        claimed = self.worklist.change_state(uid, "IN PROGRESS", transaction_uid="1.2.3.999", actor=PERFORMER)
        assert isinstance(claimed, Accepted), claimed
        self.clock.pass_(16 * 60)
        self.sweeps.run_due()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VerifyingBed]:
    sqlite = f"sqlite:///{tmp_path / 'airway.db'}"
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else sqlite
    database = Database(url)
    database.migrate()
    made = VerifyingBed(database)
    attributes = minimal(
        ScheduledWorkitemCodeSequence=WORKITEM_LUNG_CT.to_json(),
        StudyInstanceUID="1.2.3",
        PatientID="P1",
        InputInformationSequence=instances(),
    )
    assert isinstance(made.worklist.create_workitem(X, attributes, actor=PERFORMER), Accepted)
    yield made
    database.close()


def test_parent_waits_for_the_next_try_of_its_part(bed: VerifyingBed) -> None:
    first = bed.inference_of(X)
    bed.lose(first)
    second = replacement_uid(first)
    assert bed.inference_of(X) == second
    assert bed.state(second) == "SCHEDULED"
    assert bed.state(X) != "CANCELED"


def test_retry_of_a_part_begins_the_whole_anew(bed: VerifyingBed) -> None:
    first = bed.inference_of(X)
    bed.lose(first)
    last = replacement_uid(first)
    bed.lose(last)
    assert (bed.state(last), bed.state(X)) == ("CANCELED", "CANCELED")
    whole = replacement_uid(X)
    with bed.database.read() as connection:
        assert workitems.workitem_by_uid(connection, whole) is None, "its parts were tried often enough"
    [waiting] = bed.attention.everything().workitems
    assert waiting.uid == last
    assert bed.attention.retry(last, actor=PERFORMER) == Accepted(uid=whole)
    assert bed.attention.everything().workitems == ()
    again = bed.inference_of(whole)
    assert again not in {first, last}
    assert bed.state(again) == "SCHEDULED"
    status = workitem_status(bed.database, again)
    assert status is not None
    assert (status.parent, status.tries) == (whole, 1)
    status = workitem_status(bed.database, X)
    assert status is not None
    assert status.replaced_by == whole


def test_only_what_waits_is_decided_about(bed: VerifyingBed) -> None:
    for decide in (bed.attention.retry, bed.attention.dismiss):
        outcome = decide(X, actor=PERFORMER)
        assert isinstance(outcome, Refused)
        assert outcome.code is RefusalCode.NO_SUCH_INSTANCE
