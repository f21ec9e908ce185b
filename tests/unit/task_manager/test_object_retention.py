# SPDX-License-Identifier: Apache-2.0
"""Objects that policies remove, what keeps them, and what happens when they come again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.sole.events import EventType, OperationalEvent, Outcome
from task_manager.disk import ObjectKind, ObjectPolicy, Wanted
from task_manager.object_retention import GRACE, ObjectRetention
from task_manager.outbox import delivery_lane, event_lane
from task_manager.outcome import Accepted, WarningCode
from task_manager.store import jobs, removals, wanted
from task_manager.store.held import REMOVED
from task_manager.store.orphans import find_orphans
from task_manager.store.subscriptions import put_state
from task_manager.study.model import StudyState
from task_manager.study.query import HoldingsQuery, Level
from task_manager.workitem.subscriptions import SubscriptionState
from tests.instances import SERIES, STUDY, ct
from tests.service import PERFORMER, TestBed
from tests.unit.task_manager.steps import LOCK, complete, run_to_completed, sr_and_seg, workitem

MONTH = timedelta(days=30)
IMAGES = ObjectPolicy(name="sources", objects=ObjectKind.IMAGES, after=MONTH)


def retention(bed: TestBed, *policies: ObjectPolicy, owed: frozenset[str] = frozenset()) -> ObjectRetention:
    return ObjectRetention(
        bed.database,
        bed.objects,
        policies or (IMAGES,),
        sinks=("log",),
        committing=lambda: owed,
        clock=bed.clock,
    )


def deliver(bed: TestBed, outcome: Outcome = Outcome.SUCCESS) -> None:
    """As the worker writes down that both destinations have the results, or that a person dropped them."""
    now = bed.clock.now
    for destination in ("pacs", "emr"):
        event = OperationalEvent(
            key=f"exported:{destination}",
            type=EventType.EXPORTED,
            occurred_at=now,
            outcome=outcome,
            study_instance_uid=STUDY,
        )
        with bed.database.write() as connection:
            lane, until = delivery_lane(destination), now + timedelta(minutes=1)
            job = jobs.claim_job(connection, lane, worker="w", now=now, until=until)
            assert job is not None
            jobs.finish_job(connection, job, summary="sent", now=now)
            jobs.record_event(connection, event, (), now)


def delivered(bed: TestBed) -> None:
    run_to_completed(bed)
    deliver(bed)


def files(bed: TestBed) -> list[str]:
    return sorted(path.name for path in (bed.folder / "store" / "objects").rglob("*.dcm"))


def held(bed: TestBed) -> list[str]:
    return [one.sop_instance_uid for one in bed.service.archive.find_instances(study_instance_uid=STUDY)]


def pass_days(bed: TestBed, days: float) -> None:
    bed.clock.pass_(days * 86_400)


def why(bed: TestBed, own: ObjectRetention) -> frozenset[Wanted]:
    (plan,) = own.plans()
    return plan.wanted


def test_delivered_images_go_after_their_time_and_results_stay(bed: TestBed) -> None:
    delivered(bed)
    own = retention(bed)
    pass_days(bed, 29)
    assert own.run_once() == (0, 0)
    pass_days(bed, 1)
    number, size = own.run_once()
    assert (number, size > 0) == (2, True)
    assert held(bed) == [f"{STUDY}.8.1", f"{STUDY}.9.1"]
    assert len(files(bed)) == 4, "who found a file before may still read it"
    bed.clock.pass_(GRACE.total_seconds() + 1)
    own.run_once()
    assert files(bed) == [f"{STUDY}.8.1.dcm", f"{STUDY}.9.1.dcm"]
    assert own.run_once() == (0, 0), "twice is harmless"


def test_step_by_step_a_study_goes_then_its_files_then_it_looks_once_an_hour(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    own = retention(bed)
    assert own.step() < 1
    assert len(held(bed)) == 2
    assert own.step() == GRACE.total_seconds(), "nothing more to do"
    bed.clock.pass_(GRACE.total_seconds() + 1)
    assert own.step() < 1
    assert len(files(bed)) == 2
    bed.receive(ct(1))
    pass_days(bed, 30)
    assert own.step() < 1
    assert len(held(bed)) == 2, "the next round"
    own.step()
    bed.clock.pass_(3000)
    assert own.step() < 1, "its file"
    assert own.step() == GRACE.total_seconds()


def test_the_story_tells_what_went_and_the_event_is_recorded(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed).run_once()
    story = bed.service.story(STUDY)
    assert story is not None
    assert [(one.policy, one.number, one.removed_at) for one in story.removed] == [
        ("sources", 2, bed.clock.now)
    ]
    assert [series.series_instance_uid for series in story.study.series] == [f"{STUDY}.8", f"{STUDY}.9"]
    assert story.workitems[0].missing_outputs == 0
    (event,) = (one for one in story.events if one.type is EventType.INSTANCES_REMOVED)
    assert {uid for _, uid in event.instances} == {f"{STUDY}.1.1", f"{STUDY}.1.2"}
    with bed.database.read() as connection:
        assert jobs.next_due(connection, event_lane("log")) is not None


def test_a_study_without_anything_left_is_not_shown_but_still_explained(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed, ObjectPolicy(name="all", objects=ObjectKind.ALL, after=MONTH)).run_once()
    for level in Level:
        assert bed.service.archive.search(HoldingsQuery(level=level, matching={}, limit=10, offset=0)) == []
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.workitems[0].missing_outputs == 0
    assert sum(one.number for one in story.removed) == 4


def test_searches_count_what_is_here(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed).run_once()
    (study,) = bed.service.archive.search(HoldingsQuery(level=Level.STUDY, matching={}, limit=10, offset=0))
    assert _number(study, "NumberOfStudyRelatedInstances") == 2
    series = bed.service.archive.search(HoldingsQuery(level=Level.SERIES, matching={}, limit=10, offset=0))
    assert SERIES not in {dicom_json.text(one, "SeriesInstanceUID") for one in series}


def test_results_that_a_person_dropped_were_not_delivered(bed: TestBed) -> None:
    run_to_completed(bed)
    deliver(bed, Outcome.SERIOUS_FAILURE)
    pass_days(bed, 400)
    assert list(retention(bed).plans()) == []


def _number(content: DicomJson, keyword: str) -> int:
    found = dicom_json.first(content, keyword)
    assert isinstance(found, int)
    return found


def _receiving(bed: TestBed) -> None:
    delivered(bed)
    assert isinstance(bed.receive(ct(3)), Accepted)
    pass_days(bed, 400)


def _claimed(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    bed.service.worklist.change_state(workitem(bed).uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    pass_days(bed, 400)


def _undelivered(bed: TestBed) -> None:
    run_to_completed(bed)
    pass_days(bed, 400)


def _locked(bed: TestBed) -> None:
    delivered(bed)
    with bed.database.write() as connection:
        put_state(connection, workitem(bed).uid, "WATCHER", SubscriptionState.WITH_LOCK)
    pass_days(bed, 400)


def _kept(bed: TestBed) -> None:
    delivered(bed)
    with bed.database.write() as connection:
        wanted.keep_study(connection, STUDY, owner="fetch:1", reason="prior of another study")
    pass_days(bed, 400)


def _state(state: StudyState) -> Callable[[TestBed], None]:
    def prepare(bed: TestBed) -> None:
        delivered(bed)
        with bed.database.write() as connection:
            connection.execute(text("UPDATE study SET state = :state"), {"state": state.value})
        pass_days(bed, 400)

    return prepare


def _fetched(bed: TestBed) -> None:
    delivered(bed)
    with bed.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO study_fetch (fetch_key, study_instance_uid, accession_number, patient_id, "
                "archive, purpose, state, parent_key, round, source, expected, refused, error, asked_by, "
                "asked_at, changed_at) VALUES ('k', :study, '', '', '', 'asked', 'RUNNING', '', 1, '', 0, 0, "
                "'', '', '2026-03-01T12:00:00.000000Z', '2026-03-01T12:00:00.000000Z')"
            ),
            {"study": STUDY},
        )
    pass_days(bed, 400)


def _attention(bed: TestBed) -> None:
    delivered(bed)
    with bed.database.write() as connection:
        connection.execute(text("UPDATE workitem SET attention = 'tries'"))
    pass_days(bed, 400)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        pytest.param(_receiving, Wanted.ARRIVING, id="late-images"),
        pytest.param(_claimed, Wanted.WORKITEM, id="work-in-progress"),
        pytest.param(_undelivered, Wanted.JOB, id="delivery-waits"),
        pytest.param(_locked, Wanted.LOCK, id="deletion-lock"),
        pytest.param(_kept, Wanted.KEEP, id="somebody-keeps-it"),
        pytest.param(_attention, Wanted.PERSON, id="waits-for-a-person"),
        pytest.param(_state(StudyState.HELD), Wanted.PERSON, id="a-person-holds-the-study"),
        pytest.param(_fetched, Wanted.FETCH, id="being-fetched"),
    ],
)
def test_what_is_wanted_stays(bed: TestBed, prepare: Callable[[TestBed], None], reason: Wanted) -> None:
    prepare(bed)
    before = files(bed)
    own = retention(bed, ObjectPolicy(name="old", objects=ObjectKind.ALL, after=MONTH, delivered=False))
    assert reason in why(bed, own)
    assert own.run_once() == (0, 0)
    assert files(bed) == before


@pytest.mark.parametrize("state", [StudyState.KEPT, StudyState.DISCARDED])
def test_what_nobody_works_on_is_no_reason(bed: TestBed, state: StudyState) -> None:
    _state(state)(bed)
    assert retention(bed).run_once()[0] == 2


def test_what_commitment_is_owed_for_stays(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 40)
    own = retention(bed, owed=frozenset({f"{STUDY}.1.2"}))
    assert why(bed, own) == {Wanted.COMMITMENT}


def test_what_another_studys_work_names_as_input_stays(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 40)
    other = "1.2.3.777"
    for number in (1, 2):
        bed.receive(ct(number, study=other, PatientID="P2", AccessionNumber="A2"))
    complete(bed)
    with bed.database.write() as connection:
        connection.execute(
            text("UPDATE workitem_content SET attributes = replace(attributes, :other, :study)"),
            {"other": other, "study": STUDY},
        )
    assert why(bed, retention(bed)) == {Wanted.INPUT}


def test_what_becomes_wanted_after_the_plan_stays(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 40)
    own = retention(bed)
    (plan,) = own.plans()
    with bed.database.write() as connection:
        wanted.keep_study(connection, STUDY, owner="person", reason="asked")
    assert own.remove(plan) == []
    with bed.database.write() as connection:
        assert wanted.release_studies(connection, owner="person") == 1
    assert len(own.remove(plan)) == 2


def test_what_another_study_needs_while_others_are_removed_stays(bed: TestBed) -> None:
    """Removing what came first took a minute; by then a commitment was asked for of what comes next."""
    for study in ("1.2.3.1", "1.2.3.2"):
        bed.receive(ct(1, study=study))
        bed.clock.pass_(1)
    with bed.database.write() as connection:
        connection.execute(text("UPDATE study SET state = 'COMPLETE'"))
    pass_days(bed, 40)
    owed: set[str] = set()
    policy = ObjectPolicy(name="old", objects=ObjectKind.ALL, after=MONTH, delivered=False)
    plans = ObjectRetention(
        bed.database, bed.objects, (policy,), committing=lambda: frozenset(owed), clock=bed.clock
    ).plans()
    assert next(plans).wanted == frozenset()
    owed.add("1.2.3.2.1.1")
    bed.clock.pass_(60)
    (second,) = plans
    assert (second.facts.study_instance_uid, second.wanted) == ("1.2.3.2", {Wanted.COMMITMENT})


def test_a_keep_ends_with_its_time(bed: TestBed) -> None:
    delivered(bed)
    with bed.database.write() as connection:
        wanted.keep_study(connection, STUDY, owner="x", reason="r", until=bed.clock.now + timedelta(days=35))
    pass_days(bed, 34)
    assert why(bed, retention(bed)) == {Wanted.KEEP}
    pass_days(bed, 2)
    assert why(bed, retention(bed)) == frozenset()


def test_the_same_instance_again_is_held_again_and_starts_nothing(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    own = retention(bed)
    own.run_once()
    again = bed.receive(ct(1))
    assert again == Accepted(uid=f"{STUDY}.1.1", warnings=(WarningCode.RESTORED,))
    assert f"{STUDY}.1.1" in held(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.study.state is StudyState.COMPLETE, "no new evidence, no new revision"
    assert len(story.workitems) == 1
    assert [one.number for one in story.removed] == [1]
    bed.clock.pass_(GRACE.total_seconds() + 1)
    own.run_once()
    for instance in bed.service.archive.find_instances(study_instance_uid=STUDY):
        assert bed.service.archive.open_path(instance).is_file(), "what came again survives the old removal"
    repeated = bed.receive(ct(1))
    assert isinstance(repeated, Accepted)
    assert repeated.warnings == (WarningCode.DUPLICATE,)


def test_the_same_instance_again_after_its_file_went(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    own = retention(bed)
    own.run_once()
    bed.clock.pass_(GRACE.total_seconds() + 1)
    own.run_once()
    again = bed.receive(ct(2))
    assert isinstance(again, Accepted)
    assert again.warnings == (WarningCode.RESTORED,)
    own.run_once()
    assert f"{STUDY}.1.2.dcm" in files(bed)
    pass_days(bed, 31)
    assert own.run_once()[0] == 1, "its time begins anew"


def test_other_bytes_under_a_removed_uid_are_kept_apart(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed).run_once()
    other = bed.receive(ct(1, RescaleSlope="2"))
    assert isinstance(other, Accepted)
    assert other.warnings == (WarningCode.KEPT_APART,)
    with bed.database.read() as connection:
        rows = connection.execute(
            text("SELECT copy_number, path FROM instance WHERE sop_instance_uid = :uid ORDER BY copy_number"),
            {"uid": f"{STUDY}.1.1"},
        ).all()
    assert rows[0].path.startswith(REMOVED)
    assert not rows[1].path.startswith(REMOVED)


def test_a_crash_between_record_and_file_is_finished_later(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed).run_once()
    bed.clock.pass_(GRACE.total_seconds() + 1)
    (first, _) = sorted((bed.folder / "store" / "objects").rglob(f"{STUDY}.1.*.dcm"))
    first.unlink()  # unlinked, and killed before that was written down
    retention(bed).run_once()
    assert files(bed) == [f"{STUDY}.8.1.dcm", f"{STUDY}.9.1.dcm"]
    with bed.database.read() as connection:
        assert removals.removals_to_finish(connection, bed.clock.now, limit=10) == []


def test_a_file_that_may_not_be_unlinked_holds_up_no_other(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    own = retention(bed)
    own.run_once()
    path = next((bed.folder / "store" / "objects").rglob(f"{STUDY}.1.1.dcm"))
    aside = path.rename(bed.folder / "aside.dcm")
    path.symlink_to(aside)  # by a person who needed room; nothing outside the store is ever touched
    bed.clock.pass_(GRACE.total_seconds() + 1)
    assert own.run_once() == (0, 0)
    assert f"{STUDY}.1.2.dcm" not in files(bed)
    assert aside.exists()
    path.unlink()
    assert own.run_once() == (0, 0)
    with bed.database.read() as connection:
        assert removals.removals_to_finish(connection, bed.clock.now, limit=10) == []


def test_what_came_again_leaves_no_orphan_while_its_former_file_waits(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)
    retention(bed).run_once()
    assert bed.receive(ct(1)) == Accepted(uid=f"{STUDY}.1.1", warnings=(WarningCode.RESTORED,))
    folder = next((bed.folder / "store" / "objects").rglob(f"{STUDY}.1.1.dcm")).parent
    later = datetime.now(UTC) + timedelta(hours=2)
    assert find_orphans(bed.database, bed.objects, folder, later) == []


def test_what_cannot_be_read_stays(bed: TestBed) -> None:
    """Removed unsummed, it would not be known again; and somebody should see that it is gone."""
    delivered(bed)
    pass_days(bed, 30)
    next((bed.folder / "store" / "objects").rglob(f"{STUDY}.1.1.dcm")).unlink()
    assert retention(bed).run_once()[0] == 1
    assert f"{STUDY}.1.1" in held(bed)


def test_policies_by_rule(bed: TestBed) -> None:
    delivered(bed)
    pass_days(bed, 30)

    def of(rule: str) -> ObjectPolicy:
        return ObjectPolicy(name="p", objects=ObjectKind.ALL, after=MONTH, rules=frozenset({rule}))

    assert list(retention(bed, of("another")).plans()) == []
    assert len(list(retention(bed, of("every-ct")).plans())) == 1
    with bed.database.write() as connection:  # as after the retention of workitems: explanations outlast them
        connection.execute(text("UPDATE workitem SET rule = ''"))
    assert len(list(retention(bed, of("every-ct")).plans())) == 1


def test_work_that_is_performed_may_store_its_results_where_images_are_refused(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    with bed.database.read() as connection:
        assert not wanted.finishes_work(connection, STUDY)
    bed.service.worklist.change_state(workitem(bed).uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    with bed.database.read() as connection:
        assert wanted.finishes_work(connection, STUDY)
        assert not wanted.finishes_work(connection, "1.2.3.404")
    assert len(sr_and_seg()) == 2
