# SPDX-License-Identifier: Apache-2.0
"""What is deleted, when, and what keeps it, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from task_manager.dispatch.leases import replacement_uid
from task_manager.dispatch.model import RetentionLimits
from task_manager.outbox import JobKind
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store import jobs
from task_manager.store.records import Dispatch
from task_manager.store.subscriptions import put_state
from task_manager.workitem.subscriptions import SubscriptionState
from tests.contract.workitems import minimal
from tests.service import PERFORMER
from tests.unit.task_manager.dispatch.bed import UID, DispatchBed

DAY = RetentionLimits(workitems=timedelta(hours=24), reports=timedelta(hours=48), jobs=timedelta(hours=48))


def daily(bed: DispatchBed) -> DispatchBed:
    return bed.replica(retention=DAY)


def count(bed: DispatchBed, table: str) -> int:
    with bed.database.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_final_workitems_are_kept_a_day_and_then_gone(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    own.create("1.2.3.2")
    own.complete()
    own.pass_(hours=24, seconds=-1)
    own.sweeps.run_due()
    assert own.state() == "COMPLETED"
    own.pass_(minutes=10)
    own.sweeps.run_due()
    assert not own.exists(UID)
    assert own.state("1.2.3.2") == "SCHEDULED", "what is not final stays"
    gone = own.worklist.retrieve_workitem(UID)
    assert isinstance(gone, Refused)
    assert gone.code is RefusalCode.NO_LONGER_HERE
    changed = own.worklist.change_state(UID, "IN PROGRESS", transaction_uid="1.2.3.5", actor=PERFORMER)
    assert isinstance(changed, Refused)
    assert changed.code is RefusalCode.NO_LONGER_HERE
    never = own.worklist.retrieve_workitem("1.2.3.404")
    assert isinstance(never, Refused)
    assert never.code is RefusalCode.NO_SUCH_INSTANCE
    assert count(own, "purged_workitem") == 1


def test_less_than_a_day_cannot_be_configured_by_any_way(bed: DispatchBed) -> None:
    hasty = bed.replica(retention=RetentionLimits(workitems=timedelta(0)))
    hasty.create()
    hasty.complete()
    hasty.pass_(hours=23)
    hasty.sweeps.run_due()
    assert hasty.exists(UID)


def _lock(bed: DispatchBed) -> None:
    with bed.database.write() as connection:
        put_state(connection, UID, "WATCHER", SubscriptionState.WITH_LOCK)


def _unlock(bed: DispatchBed) -> None:
    with bed.database.write() as connection:
        put_state(connection, UID, "WATCHER", SubscriptionState.NOT_SUBSCRIBED)


def _plan(bed: DispatchBed) -> None:
    with bed.database.write() as connection:
        jobs.plan_job(
            connection,
            key="deliver:1:pacs",
            lane="deliver/pacs",
            kind=JobKind.DELIVER,
            now=bed.clock(),
            workitem_uid=UID,
        )


def _deliver(bed: DispatchBed) -> None:
    until = bed.clock() + timedelta(minutes=1)
    with bed.database.write() as connection:
        job = jobs.claim_job(connection, "deliver/pacs", worker="w", now=bed.clock(), until=until)
        assert job is not None
        jobs.finish_job(connection, job, summary="sent", now=bed.clock())


def _attend(bed: DispatchBed) -> None:
    with bed.worklist.transact() as work:
        work.set_dispatch(UID, Dispatch(attention="given up"))


def _dismiss(bed: DispatchBed) -> None:
    with bed.worklist.transact() as work:
        work.set_dispatch(UID, Dispatch())


def _subtask(bed: DispatchBed, **columns: str) -> None:
    values = {"parent_uid": "1.9", "child_uid": "1.8", "state": "open", **columns}
    with bed.database.write() as connection:
        connection.execute(text("DELETE FROM subtask"))
        connection.execute(
            text(
                "INSERT INTO subtask (parent_uid, child_uid, role, performer, state, created_at) "
                "VALUES (:parent_uid, :child_uid, 'inference', '', :state, '2026-03-01T12:00:00.000000Z')"
            ),
            values,
        )


@pytest.mark.parametrize(
    ("keep", "release"),
    [
        pytest.param(_lock, _unlock, id="a deletion lock"),
        pytest.param(_plan, _deliver, id="an unfinished delivery"),
        pytest.param(_attend, _dismiss, id="attention"),
        pytest.param(
            lambda bed: _subtask(bed, parent_uid=UID),
            lambda bed: _subtask(bed, parent_uid=UID, state="done"),
            id="an open child",
        ),
        pytest.param(
            lambda bed: _subtask(bed, child_uid=UID),
            lambda bed: _subtask(bed, child_uid=UID, state="done"),
            id="a parent that has not taken it over",
        ),
    ],
)
def test_what_keeps_a_final_workitem(bed: DispatchBed, keep: Any, release: Any) -> None:
    own = daily(bed)
    own.create()
    own.complete()
    keep(own)
    own.pass_(days=30)
    own.sweeps.run_due()
    assert own.exists(UID)
    release(own)
    own.pass_(hours=25)
    own.sweeps.run_due()
    assert not own.exists(UID)
    assert (count(own, "subscription"), count(own, "subtask")) == (0, 0)


def test_a_watcher_without_a_lock_keeps_nothing(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    own.complete()
    with own.database.write() as connection:
        put_state(connection, UID, "WATCHER", SubscriptionState.WITHOUT_LOCK)
    own.pass_(days=2)
    own.sweeps.run_due()
    assert not own.exists(UID)
    assert count(own, "subscription") == 0


def test_numbers_of_reports_are_never_used_again(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    own.complete()
    with own.database.read() as connection:
        newest = connection.execute(text("SELECT max(id) FROM workitem_report")).scalar_one()
    own.pass_(days=30)
    own.sweeps.run_due()
    assert (count(own, "workitem"), count(own, "workitem_report")) == (0, 1)
    own.create("1.2.3.2")
    with own.database.read() as connection:
        later = connection.execute(
            text("SELECT min(id) FROM workitem_report WHERE workitem_uid = '1.2.3.2'")
        ).scalar_one()
    assert later > newest


def test_old_reports_and_told_jobs_go_and_young_ones_stay(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    own.complete()
    told = count(own, "job")
    assert told
    with own.database.write() as connection:
        connection.execute(text("UPDATE job SET state = 'DONE', done_at = created_at"))
    reports = count(own, "workitem_report")
    own.create("1.2.3.2")
    own.pass_(hours=47)
    own.create("1.2.3.3")
    own.complete("1.2.3.3")
    young = count(own, "job") - told
    own.sweeps.run_due()
    assert count(own, "workitem_report") > 0
    assert count(own, "job") == told + young
    own.pass_(hours=2)
    own.sweeps.run_due()
    assert count(own, "job") == young
    with own.database.read() as connection:
        left = connection.execute(text("SELECT DISTINCT workitem_uid FROM workitem_report")).scalars()
        assert list(left) == ["1.2.3.3"]
    assert reports > 2


def test_waiting_jobs_are_not_deleted_however_old(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    _plan(own)
    own.pass_(days=100)
    own.sweeps.run_due()
    assert count(own, "job") == 1


def test_where_instances_were_is_forgotten(bed: DispatchBed) -> None:
    own = daily(bed)
    with own.database.write() as connection:
        for number, told in ((1, "2026-03-01T12:00:00.000000Z"), (2, "2026-03-02T11:00:00.000000Z")):
            connection.execute(
                text(
                    "INSERT INTO availability (sop_instance_uid, source, availability, retrieve_ae_title, "
                    "retrieve_url, told_at) VALUES (:uid, 'PACS', 'ONLINE', '', '', :told)"
                ),
                {"uid": f"1.{number}", "told": told},
            )
    own.pass_(hours=24, seconds=1)
    own.sweeps.run_due()
    with own.database.read() as connection:
        assert list(connection.execute(text("SELECT sop_instance_uid FROM availability")).scalars()) == [
            "1.2"
        ]


def test_much_is_deleted_in_small_parts_until_all_is_gone(bed: DispatchBed) -> None:
    own = daily(bed)
    with own.worklist.transact() as work:
        for number in range(120):
            outcome = work.create(f"1.2.9.{number}", minimal(), actor=PERFORMER)
            assert isinstance(outcome, Accepted)
    with own.database.write() as connection:
        connection.execute(
            text("UPDATE workitem SET state = 'CANCELED', final_at = '2026-03-01T12:00:00.000000Z'")
        )
    own.pass_(days=2)
    own.sweeps.run_due()
    assert count(own, "workitem") == 0
    assert count(own, "purged_workitem") == 120
    assert count(own, "workitem_report") == 1


def test_two_replicas_delete_at_once(bed: DispatchBed) -> None:
    own, other = daily(bed), daily(bed)
    own.create()
    own.complete()
    own.pass_(days=2)
    own.sweeps.run_due()
    other.sweeps.run_due()
    assert count(own, "purged_workitem") == 1


def test_the_uid_of_a_deleted_replacement_is_not_taken_again(bed: DispatchBed) -> None:
    own = daily(bed)
    own.create()
    successor = own.lose()
    assert successor == replacement_uid(UID)
    own.complete(successor)
    own.pass_(days=2)
    own.sweeps.run_due()
    assert not own.exists(UID)
    assert not own.exists(successor)
