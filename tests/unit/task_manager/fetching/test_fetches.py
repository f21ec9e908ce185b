# SPDX-License-Identifier: Apache-2.0
"""Fetches from asking to done: what is missing only, again after a kill, from the next archive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from task_manager.actor import Actor
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.fetching.model import FetchPurpose, FetchState, FetchStatus
from task_manager.fetching.performing import FetchLimits
from task_manager.outbox import JobState, fetch_lane
from task_manager.outcome import Accepted, Refused, WarningCode
from task_manager.store import studies
from task_manager.study.model import Study, StudyState
from tests.instances import STUDY, ct, data_set_bytes
from tests.service import Clock, TestBed, make_service
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive, next_job, work

FILES = [ct(number) for number in range(1, 5)]
ANOTHER = "1.2.826.0.1.3680043.8.498.8"
LIMITS = FetchLimits(most_tries=2, give_up=timedelta(hours=1), most_studies=3, most_instances=50)
DOWN = RetryableDeliveryError("no answer")


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def pacs() -> MemoryArchive:
    return MemoryArchive(files=list(FILES))


@pytest.fixture
def vna() -> MemoryArchive:
    return MemoryArchive(name="vna")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(
    request: pytest.FixtureRequest, tmp_path: Path, pacs: MemoryArchive, vna: MemoryArchive
) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url, study_archives=[pacs, vna], fetching=LIMITS)
    yield made
    made.database.close()


def ask(bed: TestBed, **target: str) -> str:
    asked = bed.service.fetches.request(**target)  # type: ignore[arg-type]
    assert isinstance(asked, Accepted)
    return asked.uid


def status(bed: TestBed, key: str) -> FetchStatus:
    found = bed.service.fetches.status(key)
    assert found is not None
    return found


def study(bed: TestBed, uid: str = STUDY) -> Study | None:
    with bed.database.read() as connection:
        return studies.whole_study(connection, uid)


def several_series(number: int) -> bytes:
    return ct(number, SeriesInstanceUID=f"{STUDY}.{number}")


def kept(bed: TestBed, uid: str = STUDY) -> list[bytes]:
    found = bed.service.archive.find_instances(study_instance_uid=uid)
    return [data_set_bytes(bed.service.archive.open_path(one).read_bytes()) for one in found]


def test_a_study_is_fetched_whole_and_looked_at_once(bed: TestBed, pacs: MemoryArchive) -> None:
    key = ask(bed, study_instance_uid=STUDY)
    assert status(bed, key).fetch.state is FetchState.WAITING
    work(bed)
    done = status(bed, key)
    assert (done.fetch.state, done.fetch.source, done.fetch.expected, done.held) == (
        FetchState.DONE,
        "pacs",
        4,
        4,
    )
    assert kept(bed) == [data_set_bytes(content) for content in FILES]
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.COMPLETE, 1)


def test_what_is_asked_twice_is_fetched_once(bed: TestBed, pacs: MemoryArchive) -> None:
    first = bed.service.fetches.request(study_instance_uid=STUDY)
    again = bed.service.fetches.request(study_instance_uid=STUDY)
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert (again.uid, again.warnings) == (first.uid, (WarningCode.DUPLICATE,))
    work(bed)
    assert len(pacs.sent) == 4
    assert ask(bed, study_instance_uid=STUDY) == first.uid
    work(bed)
    assert (len(pacs.sent), status(bed, first.uid).fetch.round) == (4, 2)


def test_what_is_here_is_not_fetched_again(bed: TestBed, pacs: MemoryArchive) -> None:
    for content in FILES[:3]:
        assert isinstance(bed.receive(content), Accepted)
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE
    assert pacs.sent == [f"{STUDY}.1.4"]


def test_a_fetch_goes_on_where_a_kill_ended_it(bed: TestBed, pacs: MemoryArchive) -> None:
    def kill(uid: str) -> None:
        if uid.endswith(".3"):
            raise KilledError

    key = ask(bed, study_instance_uid=STUDY)
    pacs.hook = kill
    job = next_job(bed, fetch_lane("pacs"))
    assert job is not None
    with pytest.raises(KilledError):
        bed.service.fetching.perform(job, lambda: False)
    assert (status(bed, key).fetch.state, status(bed, key).held) == (FetchState.RUNNING, 2)
    found = study(bed)
    assert found is not None
    assert found.state is StudyState.KEPT
    pacs.hook = lambda uid: None
    bed.service.release_claims("test")  # as the next start does
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE
    assert pacs.sent == [f"{STUDY}.1.{number}" for number in (1, 2, 3, 4)]


def test_the_next_archive_is_asked_when_one_has_not_got_it(bed: TestBed, vna: MemoryArchive) -> None:
    vna.files = [ct(1, study=ANOTHER)]
    key = ask(bed, study_instance_uid=ANOTHER)
    work(bed)
    assert (status(bed, key).fetch.state, status(bed, key).fetch.source) == (FetchState.DONE, "vna")


def test_an_archive_that_is_down_holds_up_no_other(
    bed: TestBed, pacs: MemoryArchive, vna: MemoryArchive
) -> None:
    pacs.down = DOWN
    vna.files = [ct(1, study=ANOTHER)]
    key = ask(bed, study_instance_uid=ANOTHER)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE
    bed.clock.pass_(3600)
    pacs.down = None
    assert work(bed) == 0


def test_nobody_has_it(bed: TestBed) -> None:
    key = ask(bed, study_instance_uid=ANOTHER)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.NOT_FOUND
    assert study(bed, ANOTHER) is None


def test_who_does_not_answer_may_have_it(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.down = DOWN
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert (status(bed, key).fetch.state, status(bed, key).fetch.error) == (
        FetchState.WAITING,
        "no answer",
    )
    pacs.down = None
    bed.clock.pass_(5)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE


@pytest.mark.parametrize(
    ("error", "passed_s"),
    [(DOWN, 3600), (FinalDeliveryError("refused"), 0)],
    ids=["down for too long", "refused for good"],
)
def test_what_cannot_be_asked_waits_for_a_person(
    bed: TestBed, pacs: MemoryArchive, error: Exception, passed_s: int
) -> None:
    pacs.down = error  # type: ignore[assignment]
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    bed.clock.pass_(passed_s)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.HELD
    waiting = bed.service.attention.everything()
    assert [job.lane for job in waiting.jobs] == ["fetch/pacs"]
    pacs.down = None
    assert isinstance(bed.service.fetches.retry(key), Accepted)
    work(bed)
    assert status(bed, key).fetch.state is FetchState.DONE
    assert bed.service.attention.everything().jobs == ()


def test_instances_that_never_come_are_told_and_may_be_done_without(
    bed: TestBed, pacs: MemoryArchive
) -> None:
    pacs.hidden = frozenset((f"{STUDY}.1.2",))
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    work(bed)
    waiting = status(bed, key)
    assert (waiting.fetch.state, waiting.held) == (FetchState.WAITING, 3)
    for _ in range(3):
        bed.clock.pass_(120)
        work(bed)
    held = status(bed, key)
    assert (held.fetch.state, held.fetch.error) == (FetchState.HELD, "1 of 4 instances have not come")
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.KEPT, 0)
    assert isinstance(bed.service.fetches.accept(key), Accepted)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.COMPLETE, 1)
    assert bed.service.attention.everything().jobs == ()


def test_instances_that_were_not_asked_for_are_refused(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.extra = [ct(1, study=ANOTHER), ct(77), b"no DICOM at all"]
    key = ask(bed, study_instance_uid=STUDY)
    work(bed)
    assert (status(bed, key).fetch.state, status(bed, key).fetch.refused) == (FetchState.DONE, 3)
    assert len(kept(bed)) == 4
    assert study(bed, ANOTHER) is None
    assert list((bed.folder / "store" / "incoming").iterdir()) == []


def test_an_archive_that_names_too_much_is_not_believed(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.files = [ct(number) for number in range(1, 60)]
    key = ask(bed, study_instance_uid=STUDY, archive="pacs")
    work(bed)
    assert (status(bed, key).fetch.state, pacs.sent) == (FetchState.WAITING, [])


def test_all_studies_of_an_accession_number_are_fetched(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.files = [ct(1), ct(1, study=ANOTHER), ct(1, study="1.2.3.4", AccessionNumber="A2")]
    key = ask(bed, accession_number="A1")
    work(bed)
    done = status(bed, key)
    assert (done.fetch.state, done.held) == (FetchState.DONE, 2)
    assert sorted(one.fetch.target.study_instance_uid for one in done.studies) == [STUDY, ANOTHER]
    assert study(bed, "1.2.3.4") is None


def test_an_accession_number_of_two_patients_waits_for_a_person(bed: TestBed, pacs: MemoryArchive) -> None:
    pacs.files = [ct(1), ct(1, study=ANOTHER, PatientID="P2")]
    key = ask(bed, accession_number="A1", archive="pacs")
    work(bed)
    assert status(bed, key).fetch.state is FetchState.HELD
    assert pacs.sent == []
    named = ask(bed, accession_number="A1", archive="pacs", patient_id="P2")
    work(bed)
    assert (status(bed, named).fetch.state, pacs.sent) == (FetchState.DONE, [f"{ANOTHER}.1.1"])


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"study_instance_uid": STUDY, "accession_number": "A1"},
        {"study_instance_uid": "not a uid"},
        {"accession_number": "A*"},
        {"accession_number": "A\\B"},
        {"accession_number": "x" * 17},
        {"accession_number": "A1", "patient_id": "P?"},
        {"study_instance_uid": STUDY, "archive": "elsewhere"},
    ],
    ids=[
        "nothing",
        "both",
        "no UID",
        "wildcard",
        "two values",
        "too long",
        "wild patient",
        "no such archive",
    ],
)
def test_what_cannot_be_asked_for(bed: TestBed, target: dict[str, str]) -> None:
    assert isinstance(bed.service.fetches.request(**target), Refused)  # type: ignore[arg-type]
    assert bed.service.fetches.newest() == ()


def test_without_archives_nothing_can_be_asked_for(tmp_path: Path) -> None:
    made = make_service(tmp_path, clock=Clock())
    asked = made.service.fetches.request(study_instance_uid=STUDY)
    made.database.close()
    assert isinstance(asked, Refused)
    assert asked.faults[0].path == "fetch.archives"


def test_a_prior_begins_nothing_and_reopens_nothing(bed: TestBed, pacs: MemoryArchive) -> None:
    asked = bed.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR)
    assert isinstance(asked, Accepted)
    work(bed)
    bed.clock.pass_(3600)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.KEPT, 0)
    pacs.files.append(ct(5))
    assert isinstance(bed.service.fetches.request(study_instance_uid=STUDY), Accepted)
    work(bed)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.COMPLETE, 1)
    pacs.files.append(ct(6))
    assert isinstance(
        bed.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR), Accepted
    )
    work(bed)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision, len(kept(bed))) == (StudyState.COMPLETE, 1, 6)


def test_images_of_a_kept_study_that_come_by_themselves_begin_it(bed: TestBed) -> None:
    assert isinstance(
        bed.service.fetches.request(study_instance_uid=STUDY, purpose=FetchPurpose.PRIOR), Accepted
    )
    work(bed)
    bed.clock.pass_(3600)
    assert isinstance(bed.receive(ct(9), Actor(door="dicom", name="CT1")), Accepted)
    bed.clock.pass_(60)
    work(bed)
    found = study(bed)
    assert found is not None
    assert (found.state, found.revision) == (StudyState.COMPLETE, 1)


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


def test_jobs_of_a_fetch_end_with_it(bed: TestBed) -> None:
    ask(bed, study_instance_uid=STUDY)
    work(bed)
    _, counted = bed.service.counts()
    assert {state for (lane, state) in counted if lane.startswith("fetch/")} == {JobState.DONE.value}
