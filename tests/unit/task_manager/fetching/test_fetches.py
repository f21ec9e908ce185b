# SPDX-License-Identifier: Apache-2.0
"""Fetches from asking to done: what is missing only, again after a kill, from the next archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from task_manager.actor import Actor
from task_manager.errors import FinalDeliveryError
from task_manager.fetching.model import FetchPurpose, FetchState
from task_manager.outbox import JobState, fetch_lane
from task_manager.outcome import Accepted, Refused, WarningCode
from task_manager.study.model import StudyState
from tests.instances import STUDY, ct, data_set_bytes
from tests.service import Clock, TestBed, make_service
from tests.unit.task_manager.fetching.asking import ANOTHER, DOWN, FILES, ask, status, study
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive, next_job, work


class KilledError(BaseException):
    """The process ends here."""


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
def test_what_cannot_be_asked_for(plain: TestBed, target: dict[str, str]) -> None:
    assert isinstance(plain.service.fetches.request(**target), Refused)  # type: ignore[arg-type]
    assert plain.service.fetches.newest() == ()


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


def test_jobs_of_a_fetch_end_with_it(bed: TestBed) -> None:
    ask(bed, study_instance_uid=STUDY)
    work(bed)
    _, counted = bed.service.counts()
    assert {state for (lane, state) in counted if lane.startswith("fetch/")} == {JobState.DONE.value}
