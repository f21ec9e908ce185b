# SPDX-License-Identifier: Apache-2.0
"""What takes the place of a workitem that was given back or lost, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from profiles.codes import (
    DUPLICATE_ORDER,
    EQUIPMENT_FAILURE,
    OBJECTS_INCORRECTLY_FORMATTED,
    RESCHEDULED,
    RESCHEDULING_RECOMMENDED,
    Code,
)
from profiles.dicom_json import DicomJson, element, merged
from task_manager.dispatch import leases
from task_manager.dispatch.assignment import station_of
from task_manager.dispatch.model import PerformerOffer
from task_manager.outcome import Accepted
from task_manager.store.records import Dispatch, Origin
from task_manager.store.subscriptions import put_state
from task_manager.workitem.subscriptions import SubscriptionState
from tests.contract.workitems import code, minimal
from tests.service import PERFORMER
from tests.unit.task_manager.dispatch.bed import LOCK, STUDY, UID, DispatchBed

OWED = Origin(
    rule="every-ct", order_key="PL1", input_digest="i", order_digest="o", destinations=("pacs", "emr")
)
NEXT = leases.replacement_uid(UID)


@pytest.mark.parametrize(
    ("reason", "replaced"),
    [
        pytest.param(RESCHEDULING_RECOMMENDED, True, id="110529"),
        pytest.param(RESCHEDULED, True, id="110528"),
        pytest.param(EQUIPMENT_FAILURE, False, id="110501"),
        pytest.param(OBJECTS_INCORRECTLY_FORMATTED, False, id="110521"),
    ],
)
def test_what_a_performer_gives_back_is_tried_again(bed: DispatchBed, reason: Code, replaced: bool) -> None:
    bed.create(origin=OWED, dispatch=Dispatch(app="lung-ct"))
    bed.claim()
    bed.cancel(reason)
    assert bed.state() == "CANCELED"
    assert bed.exists(NEXT) is replaced
    if replaced:
        again = bed.record(NEXT)
        assert again.origin == OWED
        assert again.dispatch == Dispatch(app="lung-ct", tries=2)
        assert leases.replaced_uids(again.workitem.attributes) == (UID,)


def test_giving_back_counts_as_a_try(bed: DispatchBed) -> None:
    bed.create(dispatch=Dispatch(tries=3))
    bed.claim()
    bed.cancel(RESCHEDULING_RECOMMENDED)
    assert not bed.exists(NEXT)
    assert bed.record().dispatch.attention == "given up after 3 tries"


def test_watchers_go_along_with_their_locks(bed: DispatchBed) -> None:
    bed.create()
    with bed.database.write() as connection:
        put_state(connection, UID, "WATCHER1", SubscriptionState.WITH_LOCK)
        put_state(connection, UID, "WATCHER2", SubscriptionState.WITHOUT_LOCK)
    successor = bed.lose()
    with bed.database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT receiving_ae, deletion_lock FROM subscription WHERE workitem_uid = :uid "
                "AND from_report < (SELECT min(id) FROM workitem_report WHERE workitem_uid = :uid) ORDER BY 1"
            ),
            {"uid": successor},
        )
        assert [(row[0], bool(row[1])) for row in rows] == [("WATCHER1", True), ("WATCHER2", False)]
        kept = text("SELECT count(*) FROM subscription WHERE workitem_uid = :uid")
        assert connection.execute(kept, {"uid": UID}).scalar_one() == 2


def replacing(uid: str) -> DicomJson:
    item = merged(
        [
            element("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.34.6.1"),
            element("ReferencedSOPInstanceUID", uid),
        ]
    )
    return minimal(**STUDY, ReplacedProcedureStepSequence=item)


def test_a_performer_that_has_rescheduled_it_itself_is_believed(bed: DispatchBed) -> None:
    bed.create(origin=OWED, dispatch=Dispatch(app="lung-ct"))
    bed.claim()
    made = bed.worklist.create_workitem("1.2.3.77", replacing(UID), actor=PERFORMER)
    assert isinstance(made, Accepted)
    bed.cancel(RESCHEDULED)
    assert not bed.exists(NEXT)
    taken = bed.record("1.2.3.77")
    assert taken.origin == OWED, "its results are delivered as those of the first would have been"
    assert taken.dispatch == Dispatch(app="lung-ct", tries=2)


def test_a_performer_that_reschedules_after_its_cancel_wins_too(bed: DispatchBed) -> None:
    bed.create(origin=OWED, dispatch=Dispatch(app="lung-ct"))
    bed.claim()
    bed.cancel(RESCHEDULED)
    assert bed.state(NEXT) == "SCHEDULED"
    made = bed.worklist.create_workitem("1.2.3.77", replacing(UID), actor=PERFORMER)
    assert isinstance(made, Accepted)
    assert bed.state(NEXT) == "CANCELED"
    [told] = leases.reasons(bed.record(NEXT).workitem.attributes)
    assert told.same_concept(DUPLICATE_ORDER)
    taken = bed.record("1.2.3.77")
    assert taken.workitem.state == "SCHEDULED"
    assert taken.origin == OWED
    assert taken.dispatch == Dispatch(app="lung-ct", tries=2)


def test_a_replacement_that_has_begun_does_not_give_way(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    bed.cancel(RESCHEDULED)
    bed.claim(NEXT)
    bed.worklist.create_workitem("1.2.3.77", replacing(UID), actor=PERFORMER)
    assert bed.state(NEXT) == "IN PROGRESS"


FIRST = PerformerOffer(ae_title="PERF1", apps=("lung-ct",))
SECOND = PerformerOffer(ae_title="PERF2")


@pytest.mark.parametrize(
    ("performers", "station", "kept", "rejected"),
    [
        pytest.param((), "PERF1", "PERF1", (), id="nobody configured: as the requester wanted"),
        pytest.param((FIRST,), "ELSEWHERE", "ELSEWHERE", (), id="not ours: as the requester wanted"),
        pytest.param((FIRST,), "PERF1", "", (), id="the only one may try again"),
        pytest.param((FIRST, SECOND), "PERF1", "", ("PERF1",), id="another is preferred"),
    ],
)
def test_who_may_take_the_replacement(
    bed: DispatchBed,
    performers: tuple[PerformerOffer, ...],
    station: str,
    kept: str,
    rejected: tuple[str, ...],
) -> None:
    own = bed.replica(performers=performers)
    own.create(dispatch=Dispatch(app="lung-ct"), ScheduledStationNameCodeSequence=code(station))
    again = own.record(own.lose())
    assert station_of(again.workitem.attributes) == kept
    assert again.dispatch.rejected_by == rejected


def test_a_retry_by_a_person_begins_anew(bed: DispatchBed) -> None:
    own = bed.replica(performers=(FIRST, SECOND))
    own.create(
        dispatch=Dispatch(app="lung-ct", tries=3, rejected_by=("PERF1", "PERF2")),
        ScheduledStationNameCodeSequence=code("PERF2"),
    )
    own.claim()
    own.cancel(RESCHEDULING_RECOMMENDED)
    with own.worklist.transact() as work:
        old = work.get(UID)
        assert old is not None
        assert own.replacement.replace(work, old, tries=1) == Accepted(uid=NEXT)
        assert own.replacement.replace(work, old, tries=1) == Accepted(uid=NEXT), "twice makes one"
    assert own.record(NEXT).dispatch == Dispatch(app="lung-ct")


def test_a_split_workitem_is_not_tried_again_beside_its_children(bed: DispatchBed) -> None:
    bed.create()
    bed.claim()
    with bed.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO subtask (parent_uid, child_uid, role, performer, state, created_at) "
                "VALUES (:uid, '1.2.3.7', 'inference', '', 'done', '2026-03-01T12:00:00.000000Z')"
            ),
            {"uid": UID},
        )
    bed.cancel(RESCHEDULING_RECOMMENDED)
    assert not bed.exists(NEXT)


def test_work_without_study_and_patient_is_replaced_too(bed: DispatchBed) -> None:
    bed.create(StudyInstanceUID=(), PatientID=())
    assert bed.state(bed.lose()) == "SCHEDULED"


def test_lock_of_the_lost_performer_opens_nothing(bed: DispatchBed) -> None:
    bed.create()
    successor = bed.lose()
    bed.claim(successor, lock="1.2.3.888")
    done = bed.worklist.change_state(successor, "CANCELED", transaction_uid=LOCK, actor=PERFORMER)
    assert not isinstance(done, Accepted)
