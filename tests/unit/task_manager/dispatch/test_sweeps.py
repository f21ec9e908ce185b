# SPDX-License-Identifier: Apache-2.0
"""Leases and expirations that pass, on SQLite and on PostgreSQL; one replica or two at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from task_manager.dispatch import leases
from task_manager.dispatch.model import LeaseLimits, RetentionLimits, SubtaskRole, SubtaskState
from task_manager.outcome import Accepted, Refused
from task_manager.store.database import Database
from task_manager.store.records import Dispatch
from task_manager.store.subtasks import Subtask, add_subtask, set_subtask_state
from tests.contract.workitems import progress
from tests.service import PERFORMER
from tests.unit.task_manager.dispatch.bed import LIMITS, LOCK, UID, DispatchBed

SECOND = timedelta(seconds=1)


def reason(bed: DispatchBed, uid: str = UID) -> tuple[str, list[str]]:
    attributes = bed.record(uid).workitem.attributes
    [item] = attributes["00741002"]["Value"]
    return item["00741238"]["Value"][0], [code.value for code in leases.reasons(attributes)]


def test_silent_performer_loses_the_workitem_to_the_next(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    assert bed.sweeps.next_due() == bed.clock.now + LIMITS.silence
    bed.clock.now += LIMITS.silence - SECOND
    assert bed.sweeps.run_due() == 0
    bed.clock.now += SECOND
    assert bed.sweeps.run_due() == 1
    assert bed.state() == "CANCELED"
    assert reason(bed) == ("performer was not heard for 15 min", ["110501"])
    again = bed.record(leases.replacement_uid(UID))
    assert again.workitem.state == "SCHEDULED"
    assert again.dispatch.tries == 2
    assert bed.sweeps.leases_lost == 1
    assert bed.sweeps.run_due() == 0
    late = bed.worklist.update_workitem(
        UID, progress(ProcedureStepProgress="99"), transaction_uid=LOCK, actor=PERFORMER
    )
    assert isinstance(late, Refused)


def test_who_is_heard_keeps_the_workitem_until_the_run_limit(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    for percent in range(11):
        bed.pass_(minutes=10)
        bed.update(progress(ProcedureStepProgress=percent))
        assert bed.sweeps.run_due() == 0
    bed.pass_(minutes=9)
    assert bed.sweeps.run_due() == 0
    bed.pass_(minutes=1)
    assert bed.sweeps.run_due() == 1
    assert reason(bed) == ("performer did not finish within 2 h", ["110501"])


def test_limits_are_those_of_the_app(bed: DispatchBed) -> None:
    quick = LeaseLimits(silence=timedelta(seconds=20), run=timedelta(hours=1), tries=1)
    own = bed.replica(limits={"quick": quick})
    own.create(dispatch=Dispatch(app="quick"))
    own.create("1.2.3.2", dispatch=Dispatch(app="slow"))
    own.claim()
    own.claim("1.2.3.2")
    own.pass_(seconds=21)
    assert own.sweeps.run_due() == 1
    assert (own.state(), own.state("1.2.3.2")) == ("CANCELED", "IN PROGRESS")
    assert own.record().dispatch.attention == "given up after 1 try"


def test_work_is_tried_as_often_as_it_may_and_then_waits_for_a_person(bed: DispatchBed) -> None:
    bed.create()
    second = bed.lose()
    third = bed.lose(second)
    last = bed.lose(third)
    assert not bed.exists(last)
    assert [bed.record(uid).dispatch.tries for uid in (UID, second, third)] == [1, 2, 3]
    assert [bed.record(uid).dispatch.attention for uid in (UID, second)] == ["", ""]
    assert bed.record(third).dispatch.attention == "given up after 3 tries"
    with bed.database.read() as connection:
        told = connection.execute(text("SELECT content FROM event WHERE key LIKE '%given-up'")).scalars()
        [content] = list(told)
    assert "waits for a person" in content


def test_a_cancel_that_was_asked_for_is_done_when_the_performer_is_lost(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    assert isinstance(bed.worklist.request_cancel(UID, {}, actor=PERFORMER), Accepted)
    bed.pass_(minutes=16)
    assert bed.sweeps.run_due() == 1
    assert bed.state() == "CANCELED"
    assert not bed.exists(leases.replacement_uid(UID))
    assert bed.record().dispatch.attention == ""


def test_after_a_restart_performers_have_one_silence_to_be_heard(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    bed.pass_(hours=10)
    restarted = bed.replica()
    restarted.sweeps.started(restarted.clock())
    assert restarted.sweeps.run_due() == 0
    assert restarted.sweeps.next_due() == restarted.clock() + timedelta(minutes=10), "the next deletion"
    restarted.clock.now += LIMITS.silence - SECOND
    assert restarted.sweeps.run_due() == 0
    restarted.update(progress(ProcedureStepProgress="50"))
    restarted.clock.now += SECOND
    assert restarted.sweeps.run_due() == 1, "the run limit had passed, and one silence since the start"
    assert bed.state() == "CANCELED"


def test_work_of_a_release_without_leases_gets_one_at_the_start(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    with bed.database.write() as connection:
        connection.execute(text("UPDATE workitem SET lease_until = NULL, claimed_at = NULL, heard_at = NULL"))
    assert bed.sweeps.next_due() is None
    bed.sweeps.started(bed.clock())
    bed.clock.now += LIMITS.silence
    assert bed.sweeps.run_due() == 1


def test_limits_that_became_longer_count_at_once(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    longer = bed.replica(limits={"": LeaseLimits(silence=timedelta(hours=1))})
    longer.pass_(minutes=20)
    assert longer.sweeps.run_due() == 0
    assert longer.state() == "IN PROGRESS"
    due = longer.sweeps.next_due()
    assert due is not None
    assert due > longer.clock()


def _child(bed: DispatchBed, uid: str, role: SubtaskRole, performer: str = "") -> None:
    with bed.database.write() as connection:
        add_subtask(
            connection,
            Subtask(
                parent_uid=UID,
                child_uid=uid,
                role=role,
                state=SubtaskState.OPEN,
                created_at=bed.clock(),
                performer=performer,
            ),
        )


def test_a_parent_is_not_lost_while_its_children_work(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    bed.create("1.2.3.7")
    _child(bed, "1.2.3.7", SubtaskRole.INFERENCE)
    for _ in range(5):
        bed.pass_(hours=5)
        bed.sweeps.run_due()
    assert bed.state() == "IN PROGRESS"
    with bed.database.write() as connection:
        set_subtask_state(connection, UID, "1.2.3.7", SubtaskState.DONE)
    bed.pass_(hours=1)
    bed.sweeps.run_due()
    assert bed.state() == "CANCELED"


def test_a_pushed_workitem_may_be_silent_but_not_run_for_ever(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    _child(bed, "2.25.7", SubtaskRole.PUSHED, "PERF9")
    bed.pass_(hours=1, minutes=59)
    assert bed.sweeps.run_due() == 0
    bed.pass_(minutes=1)
    assert bed.sweeps.run_due() == 1
    assert bed.state() == "CANCELED"


def test_a_reviewer_may_be_silent(bed: DispatchBed) -> None:
    bed.create("1.2.3.8")
    with bed.database.write() as connection:
        review = Subtask(
            parent_uid=UID,
            child_uid="1.2.3.8",
            role=SubtaskRole.VERIFICATION,
            state=SubtaskState.OPEN,
            created_at=bed.clock(),
        )
        add_subtask(connection, review)
    bed.claim("1.2.3.8")
    bed.pass_(minutes=100)
    assert bed.sweeps.run_due() == 0
    assert bed.state("1.2.3.8") == "IN PROGRESS"


def test_lost_child_hands_its_place_on(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    bed.create("1.2.3.7")
    _child(bed, "1.2.3.7", SubtaskRole.INFERENCE)
    successor = bed.lose("1.2.3.7")
    with bed.database.read() as connection:
        rows = connection.execute(text("SELECT parent_uid, child_uid, state FROM subtask")).all()
    assert [tuple(row) for row in rows] == [(UID, successor, "open")]
    assert bed.state() == "IN PROGRESS"


@pytest.mark.parametrize(
    ("expires", "passes", "expected"),
    [
        pytest.param("20260301121000+0000", timedelta(minutes=10), "SCHEDULED", id="its last second"),
        pytest.param("20260301121000+0000", timedelta(minutes=10, seconds=1), "CANCELED", id="just after"),
        pytest.param("20260301", timedelta(hours=11), "SCHEDULED", id="a whole day"),
        pytest.param("20260301", timedelta(hours=12), "CANCELED", id="the day is over"),
        pytest.param("20260301140000+0200", timedelta(minutes=1), "CANCELED", id="zone of the sender"),
        pytest.param((), timedelta(days=1000), "SCHEDULED", id="never"),
    ],
)
def test_expired_work_is_not_begun(
    tmp_path: Path, expires: str | tuple[str, ...], passes: timedelta, expected: str
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    bed = DispatchBed(database)
    given: dict[str, Any] = (
        {} if isinstance(expires, tuple) else {"ScheduledProcedureStepExpirationDateTime": expires}
    )
    bed.create(**given)
    bed.clock.now += passes
    bed.sweeps.run_due()
    assert bed.state() == expected
    if expected == "CANCELED":
        assert reason(bed) == ("not begun before its expiration", ["110533"])
        assert not bed.exists(leases.replacement_uid(UID))
    database.close()


def test_work_begun_before_its_expiration_goes_on_and_is_not_tried_again(bed: DispatchBed) -> None:
    bed.create(ScheduledProcedureStepExpirationDateTime="20260301120500+0000")
    bed.claim()
    bed.pass_(minutes=14)
    assert bed.sweeps.run_due() == 0
    bed.pass_(minutes=1)
    assert bed.sweeps.run_due() == 1
    assert bed.state() == "CANCELED"
    assert not bed.exists(leases.replacement_uid(UID))


def test_next_due_is_the_first_of_leases_and_expirations(bed: DispatchBed) -> None:
    bed.sweeps.run_due()
    idle = bed.sweeps.next_due()
    assert idle == bed.clock() + timedelta(minutes=10), "the next look for what may be deleted"
    bed.create("1.2.3.2", ScheduledProcedureStepExpirationDateTime="20260301120500.000000+0000")
    assert bed.sweeps.next_due() == bed.clock() + timedelta(minutes=5, microseconds=1)
    short = bed.replica(limits={"quick": LeaseLimits(silence=timedelta(seconds=7))})
    short.create(dispatch=Dispatch(app="quick"))
    short.claim()
    assert bed.sweeps.next_due() == bed.clock() + timedelta(seconds=7)


def test_two_replicas_sweep_at_once_and_replace_once(bed: DispatchBed) -> None:
    uids = [f"1.2.3.{number}" for number in range(10, 20)]
    for uid in uids:
        bed.create(uid)
        bed.claim(uid)
    bed.create("1.2.3.30", ScheduledProcedureStepExpirationDateTime="20260301120500+0000")
    bed.pass_(minutes=30)
    replicas = [bed.replica(), bed.replica()]
    together = Barrier(2)

    def sweep(replica: DispatchBed) -> int:
        together.wait(20)
        return replica.sweeps.run_due()

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(sweep, replicas))
    assert sum(done) == 11
    assert sum(replica.sweeps.leases_lost for replica in replicas) == 10
    with bed.database.read() as connection:
        counted = connection.execute(
            text("SELECT state, tries, count(*) FROM workitem GROUP BY state, tries")
        )
        assert sorted(tuple(row) for row in counted) == [("CANCELED", 1, 11), ("SCHEDULED", 2, 10)]
        per_workitem = text(
            "SELECT count(*) FROM workitem_report WHERE event_type = 1 AND workitem_uid = :uid"
        )
        for uid in uids:
            assert connection.execute(per_workitem, {"uid": uid}).scalar_one() == 3


def test_a_workitem_that_breaks_the_sweep_stops_no_other(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    bed = DispatchBed(database)
    for uid in (UID, "1.2.3.2"):
        bed.create(uid)
        bed.claim(uid)
    with database.write() as connection:
        broken = "UPDATE workitem SET attributes = '[]', lease_until = :first WHERE uid = :uid"
        connection.execute(text(broken), {"uid": UID, "first": "2026-03-01T12:00:01.000000Z"})
    bed.pass_(minutes=16)
    assert bed.sweeps.run_due() == 1
    assert bed.state("1.2.3.2") == "CANCELED"
    due = bed.sweeps.next_due()
    assert due == bed.clock() + timedelta(minutes=1), "the broken one is looked at again after a pause"
    assert bed.sweeps.run_due() == 0
    database.close()


def test_nothing_is_swept_twice_over_restarts(bed: DispatchBed) -> None:
    bed.create()
    second = bed.lose()
    for _ in range(3):
        restarted = bed.replica(retention=RetentionLimits())
        restarted.sweeps.started(restarted.clock())
        assert restarted.sweeps.run_due() == 0
    assert bed.state(second) == "SCHEDULED"
    assert bed.record(second).dispatch.tries == 2
