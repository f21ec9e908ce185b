# SPDX-License-Identifier: Apache-2.0
"""Archives are asked by durable jobs, and complete a study when one says the same twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from task_manager.outbox import Job, JobState, question_lane
from task_manager.study.completeness import CompletenessPolicy
from task_manager.study.model import Evidence, StudyState
from task_manager.study.sources import Policies
from tests.instances import STUDY, ct
from tests.service import QUIET, TestBed, make_service
from tests.unit.task_manager.test_completion import look

LANE = question_lane("PACS")
POLICY = CompletenessPolicy(evidence=(Evidence.ARCHIVE,), quiet=10 * QUIET, ask_every=timedelta(seconds=20))


class Archive:
    """An archive that has some images, or fails."""

    name = "PACS"
    url = ""
    ae_title = "PACS"

    def __init__(self) -> None:
        self.instances: set[str] = set()
        self.error: DeliveryError | None = None
        self.asked: list[str] = []

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        self.asked.append(study_instance_uid)
        if self.error is not None:
            raise self.error
        return frozenset(self.instances)


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def asking(request: pytest.FixtureRequest, tmp_path: Path, archive: Archive) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url, completeness=Policies(usual=POLICY), archives=[archive])
    for number in (1, 2):
        made.receive(ct(number))
    yield made
    made.database.close()


def claim(bed: TestBed) -> Job | None:
    return bed.service.claim_job(LANE, worker="w", lease=timedelta(minutes=1))


def answer(bed: TestBed) -> None:
    job = claim(bed)
    assert job is not None
    bed.service.questions.answer(job)


def test_a_study_is_complete_when_the_archive_says_the_same_twice(asking: TestBed, archive: Archive) -> None:
    archive.instances = {f"{STUDY}.1.1", f"{STUDY}.1.2"}
    waiting = look(asking, 2)
    assert archive.asked == []
    assert waiting.completeness.waiting[0].what.startswith("the answer of an archive")
    answer(asking)
    assert look(asking).study.state is StudyState.RECEIVING
    assert claim(asking) is None
    asking.clock.pass_(20)
    answer(asking)

    story = look(asking)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.ARCHIVE)
    assert archive.asked == [STUDY, STUDY]


def test_an_archive_with_more_images_keeps_a_study_open(asking: TestBed, archive: Archive) -> None:
    archive.instances = {f"{STUDY}.1.{number}" for number in (1, 2, 3)}
    for _ in range(3):
        look(asking, 20)
        answer(asking)

    story = look(asking, 300)

    assert story.study.state is StudyState.RECEIVING
    assert "1 of 3 images listed by an archive" in story.completeness.waiting[0].what


@pytest.mark.parametrize(
    ("error", "state"),
    [
        pytest.param(RetryableDeliveryError("no answer"), JobState.WAITING, id="away"),
        pytest.param(FinalDeliveryError("refused"), JobState.HELD, id="refuses"),
    ],
)
def test_an_archive_that_fails_delays_no_study_beyond_the_quiet_period(
    asking: TestBed, archive: Archive, error: DeliveryError, state: JobState
) -> None:
    archive.error = error
    look(asking, 2)
    answer(asking)
    _, by_lane = asking.service.counts()
    assert by_lane[LANE, state] == 1

    story = look(asking, 300)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.QUIET_PERIOD)


def test_nobody_is_asked_about_a_study_that_waits_no_longer(asking: TestBed, archive: Archive) -> None:
    look(asking, 2)
    look(asking, 300)
    answer(asking)

    assert archive.asked == []


def test_no_lane_is_worked_on_where_no_policy_asks(tmp_path: Path, archive: Archive) -> None:
    bed = make_service(tmp_path, archives=[archive])

    assert bed.service.questions.lanes == ()
    bed.database.close()
