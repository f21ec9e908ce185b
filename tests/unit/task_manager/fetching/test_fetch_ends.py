# SPDX-License-Identifier: Apache-2.0
"""How fetches end: whatever fails, nothing stays open for ever and nothing that others sent is kept back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from task_manager.actor import Actor
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.fetching.model import FetchPurpose, FetchState
from task_manager.outbox import fetch_lane
from task_manager.outcome import Accepted
from task_manager.store import studies
from task_manager.store.tables import METADATA
from task_manager.study.model import StudyState
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service
from tests.unit.task_manager.fetching.asking import ANOTHER, DOWN, FILES, LIMITS, ask, status, study
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive, next_job, work


@pytest.fixture
def bed(plain: TestBed) -> TestBed:
    return plain


def several_series(number: int) -> bytes:
    return ct(number, SeriesInstanceUID=f"{STUDY}.{number}")


def test_images_that_come_while_no_archive_answers_are_looked_at(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.down = DOWN
    ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert isinstance(bed.receive(ct(1), Actor(door="dicom", name="CT1")), Accepted)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.COMPLETE, 1)


@pytest.mark.parametrize("sender", ["CT1", "PACS"])
def test_what_others_sent_during_a_fetch_that_is_held_is_looked_at(
    bed: TestBed, pacs: MemoryArchive, sender: str
) -> None:
    pacs.hidden = frozenset(f"{STUDY}.1.{number}" for number in (1, 2, 3, 4))
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    work(bed)
    assert isinstance(bed.receive(ct(9), Actor(door="dicom", name=sender, called="AIRWAY")), Accepted)
    found = study(bed)
    assert found is not None
    assert found.state is StudyState.KEPT
    for _ in range(3):
        bed.clock.pass_(120)
        work(bed)
    assert status(bed, key).fetch.state is FetchState.HELD
    found = study(bed)
    assert found is not None
    assert found.state is (StudyState.COMPLETE if sender == "CT1" else StudyState.KEPT)


def test_what_is_only_kept_is_looked_at_when_a_person_asks_and_no_archive_has_it(
    bed: TestBed, pacs: MemoryArchive
) -> None:
    asked = bed.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR)
    assert isinstance(asked, Accepted)
    work(bed)
    pacs.files.clear()
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.NOT_FOUND
    found = study(bed)
    assert found is not None
    assert found.state is StudyState.COMPLETE


def test_images_that_come_by_themselves_soon_after_a_fetch_begin_their_study(bed: TestBed) -> None:
    asked = bed.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR)
    assert isinstance(asked, Accepted)
    work(bed)
    assert isinstance(bed.receive(ct(9), Actor(door="dicom", name="CT1")), Accepted)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert found.state is StudyState.COMPLETE


def test_a_fetch_that_every_archive_failed_waits_for_a_person(
    bed: TestBed, pacs: MemoryArchive, vna: MemoryArchive
) -> None:
    pacs.down = FinalDeliveryError("no entry")
    vna.down = FinalDeliveryError("no entry here either")
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert (status(bed, key).fetch.state, status(bed, key).fetch.error) == (
        FetchState.HELD,
        "no entry here either",
    )
    vna.down = None
    vna.files = list(FILES)
    assert isinstance(bed.service.fetches.retry(key), Accepted)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE


def test_a_first_archive_that_has_not_got_it_after_the_second_refused_ends_a_fetch(
    bed: TestBed, pacs: MemoryArchive, vna: MemoryArchive
) -> None:
    pacs.down = DOWN
    vna.down = FinalDeliveryError("no entry")
    key = ask(bed, study_instance_uid=ANOTHER)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.WAITING
    pacs.down = None
    bed.clock.pass_(60)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.HELD


@pytest.mark.parametrize(
    "error",
    [RetryableDeliveryError("cannot send it"), FinalDeliveryError("never sends it")],
    ids=["fails", "refused for good"],
)
def test_series_that_never_come_hold_up_no_others(
    bed: TestBed, pacs: MemoryArchive, error: Exception
) -> None:
    pacs.files = [several_series(number) for number in range(1, 6)]

    def hook(uid: str) -> None:
        if uid in (f"{STUDY}.1.1", f"{STUDY}.1.2"):
            raise error

    pacs.hook = hook
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    for _ in range(6):
        work(bed)
        bed.clock.pass_(60)
    assert status(bed, key).held == 3
    pacs.hook = lambda uid: None
    bed.clock.pass_(600)
    if status(bed, key).fetch.state is FetchState.HELD:
        bed.service.fetches.retry(key)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE


def test_a_series_about_which_an_archive_is_silent_ends_with_a_person(
    bed: TestBed, pacs: MemoryArchive
) -> None:
    pacs.files = [several_series(number) for number in range(1, 4)]

    def hook(uid: str) -> None:
        if uid == f"{STUDY}.1.1":
            bed.clock.pass_(301)
            raise RetryableDeliveryError("the archive is silent")

    pacs.hook = hook
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    for _ in range(8):
        work(bed)
        bed.clock.pass_(60)
    held = status(bed, key)
    assert (held.fetch.state, held.held) == (FetchState.HELD, 2)
    assert held.fetch.error == "1 of 3 instances have not come; the archive is silent"


def test_a_study_is_fetched_again_after_its_fetch_was_forgotten(bed: TestBed, pacs: MemoryArchive) -> None:
    ask(bed, study_instance_uid=STUDY)
    work(bed)
    bed.clock.pass_(40 * 86_400)
    pacs.files.append(ct(1, study=ANOTHER))
    ask(bed, study_instance_uid=ANOTHER)
    work(bed)
    pacs.files.append(ct(7))
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert (status(bed, key).fetch.round, status(bed, key).fetch.state) == (1, FetchState.DONE)
    assert status(bed, key).held == 5


def test_what_came_of_an_accession_number_is_taken_with_all_its_studies(
    bed: TestBed, pacs: MemoryArchive
) -> None:
    pacs.files = [ct(1), ct(2), ct(1, study=ANOTHER), ct(2, study=ANOTHER)]
    pacs.hidden = frozenset((f"{STUDY}.1.2", f"{ANOTHER}.1.2"))
    key = ask(bed, accession_number="A1", archive="pacs")
    for _ in range(4):
        work(bed)
        bed.clock.pass_(120)
    one, other = status(bed, key).studies
    assert status(bed, key).fetch.state is FetchState.HELD
    assert isinstance(bed.service.fetches.accept(one.fetch.key), Accepted)
    assert status(bed, key).fetch.state is FetchState.HELD
    assert isinstance(bed.service.fetches.accept(key), Accepted)
    work(bed)
    assert (status(bed, key).fetch.state, status(bed, other.fetch.key).fetch.state) == (
        FetchState.DONE,
        FetchState.DONE,
    )
    assert bed.service.attention.everything().jobs == ()
    assert {found.state for uid in (STUDY, ANOTHER) if (found := study(bed, uid))} == {StudyState.COMPLETE}


def test_the_last_study_that_is_taken_ends_its_accession_number(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.files = [ct(1), ct(2)]
    pacs.hidden = frozenset((f"{STUDY}.1.2",))
    key = ask(bed, accession_number="A1", archive="pacs")
    for _ in range(4):
        work(bed)
        bed.clock.pass_(120)
    (one,) = status(bed, key).studies
    assert isinstance(bed.service.fetches.accept(one.fetch.key), Accepted)
    assert status(bed, key).fetch.state is FetchState.DONE


def test_what_breaks_off_unexpectedly_waits_for_a_person_in_the_end(bed: TestBed) -> None:
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    for _ in range(LIMITS.most_tries):
        assert status(bed, key).fetch.state is FetchState.WAITING
        bed.clock.pass_(60)
        job = next_job(bed, fetch_lane("pacs"))
        assert job is not None
        bed.service.fetching.failed(job, "unexpected Something")
    assert status(bed, key).fetch.state is FetchState.HELD


def test_a_fetch_whose_archive_was_taken_away_can_be_asked_for_anew(
    tmp_path: Path, pacs: MemoryArchive, vna: MemoryArchive
) -> None:
    pacs.down = DOWN
    bed = make_service(tmp_path, study_archives=[pacs], fetching=LIMITS)
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    bed.database.close()
    vna.files = list(FILES)
    without = make_service(tmp_path, study_archives=[vna], fetching=LIMITS)
    again = without.service.fetches.request(study_instance_uid=STUDY)
    work(without)
    state = status(without, key).fetch.state
    without.database.close()
    assert again == Accepted(uid=key)
    assert state is FetchState.DONE


@pytest.mark.peers
def test_what_is_being_recorded_when_a_fetch_ends_is_seen(
    tmp_path: Path, postgresql_dsn: str, pacs: MemoryArchive
) -> None:
    made = make_service(tmp_path, postgresql_dsn, study_archives=[pacs], fetching=LIMITS)
    for _ in range(2):
        asked = made.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR)
        job = next_job(made, fetch_lane("pacs"))
        assert job is not None
        ending = threading.Thread(target=made.service.fetching.perform, args=(job, lambda: False))
        if study(made) is None:
            ending.run()
    instance = METADATA.tables["instance"]
    with made.database.write() as connection:  # as an arrival: the study is locked, then the instance written
        studies.locked_study(connection, STUDY)
        row = connection.execute(select(instance)).mappings().first()
        assert row is not None
        ending.start()
        ending.join(1)
        values = {**row, "sop_instance_uid": f"{STUDY}.1.99", "source": "dicom:CT1"}
        connection.execute(insert(instance).values(values))
    ending.join(20)
    work(made)
    assert isinstance(asked, Accepted)
    state, found = status(made, asked.uid).fetch.state, study(made)
    made.database.close()
    assert state is FetchState.DONE
    assert found is not None
    assert found.state is StudyState.COMPLETE
