# SPDX-License-Identifier: Apache-2.0
"""Rules that name priors: fetched, waited for, given as inputs; or run without, or left to a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiles.dicom_json import DicomJson, items, text
from profiles.order import MessageKey
from profiles.patient import IdentityChange, IdentityKind, PatientIdentity
from profiles.ups.states import ProcedureStepState
from task_manager.errors import RetryableDeliveryError
from task_manager.outcome import Accepted
from task_manager.rules.explain import RuleExplanation, RuleVerdict, render
from task_manager.store import workitems
from task_manager.study_decisions import StudyAction
from tests.instances import STUDY, ct
from tests.service import SCANNER, TestBed, make_service
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive, work

RULE = """
rules:
  - name: compare
    app: lung-ct
    when: {{Modality: CT}}
    series:
      - {{name: now, parameter: current_series, where: {{Modality: CT}}}}
    priors:
      - name: before
        parameter: prior_series
        modality: same
        max_age_days: 1000
        count: 2
        required: {required}
        wait_min: 10
        where: {{Modality: CT}}
"""
DOWN = RetryableDeliveryError("no answer")
OLD, OLDER, OLDEST, FOREIGN, MR = (f"1.2.826.0.1.3680043.8.498.{number}" for number in range(21, 26))


def prior(uid: str, date: str, **changes: object) -> bytes:
    return ct(1, study=uid, StudyDate=date, AccessionNumber="", **changes)


@pytest.fixture
def pacs() -> MemoryArchive:
    return MemoryArchive(
        files=[
            prior(OLD, "20251001"),
            prior(OLDER, "20250101"),
            prior(OLDEST, "20240601"),
            prior(MR, "20260101", Modality="MR"),
            prior(FOREIGN, "20260101", PatientID="P2"),
        ]
    )


@pytest.fixture(
    params=[("false", "sqlite"), pytest.param(("true", "postgresql"), marks=pytest.mark.peers)],
    ids=["may be missing", "required, on PostgreSQL"],
)
def bed(request: pytest.FixtureRequest, tmp_path: Path, pacs: MemoryArchive) -> Iterator[TestBed]:
    needed, database = request.param
    url = request.getfixturevalue("postgresql_dsn") if database == "postgresql" else ""
    made = make_service(tmp_path, url, rules=RULE.format(required=needed), study_archives=[pacs])
    yield made
    made.database.close()


@pytest.fixture
def optional(tmp_path: Path, pacs: MemoryArchive) -> Iterator[TestBed]:
    made = make_service(tmp_path, rules=RULE.format(required="false"), study_archives=[pacs])
    yield made
    made.database.close()


@pytest.fixture
def required(tmp_path: Path, pacs: MemoryArchive) -> Iterator[TestBed]:
    made = make_service(tmp_path, rules=RULE.format(required="true"), study_archives=[pacs])
    yield made
    made.database.close()


def complete(bed: TestBed) -> None:
    """A study comes and its quiet period passes."""
    assert isinstance(bed.receive(ct(1), SCANNER), Accepted)
    bed.clock.pass_(31)
    bed.service.scheduler.complete_due_studies()


def explanation(bed: TestBed) -> RuleExplanation:
    story = bed.service.story(STUDY)
    assert story is not None
    return story.explanations[-1][2]


def made(bed: TestBed) -> list[DicomJson]:
    """Attributes of the workitems that may run."""
    with bed.database.read() as connection:
        found = [one for one, _ in workitems.workitems_of_study(connection, STUDY)]
    return [one.attributes for one in found if one.state is not ProcedureStepState.CANCELED]


def inputs(workitem: DicomJson) -> list[str]:
    return [text(item, "StudyInstanceUID") for item in items(workitem, "InputInformationSequence")]


def parameters(workitem: DicomJson) -> dict[str, str]:
    return {
        text(items(one, "ConceptNameCodeSequence")[0], "CodeMeaning"): text(one, "TextValue")
        for one in items(workitem, "ScheduledProcessingParametersSequence")
    }


def test_priors_are_fetched_and_become_a_named_input(bed: TestBed, pacs: MemoryArchive) -> None:
    complete(bed)
    waiting = explanation(bed)
    assert waiting.verdict is RuleVerdict.WAITING
    assert waiting.note == "waits for earlier studies until 2026-03-01 12:10:31Z at most"
    assert made(bed) == []
    work(bed)
    (workitem,) = made(bed)
    assert inputs(workitem) == [STUDY, OLD, OLDER]
    assert parameters(workitem)["prior_series"] == f"{OLD}.1 {OLDER}.1"
    assert parameters(workitem)["current_series"] == f"{STUDY}.1"
    assert sorted(pacs.sent) == sorted((f"{OLD}.1.1", f"{OLDER}.1.1"))
    found = explanation(bed)
    assert found.verdict is RuleVerdict.MATCHED
    assert {one.study_instance_uid: one.reason for one in found.priors[0].candidates} == {
        OLD: "selected: place 1 of 3, the newest first",
        OLDER: "selected: place 2 of 3, the newest first",
        OLDEST: "not selected: place 3 of 3, 2 wanted",
        MR: "not selected: a condition is not met",
    }
    assert "✓ prior before: 2 earlier studies, 2 series" in render([found])


def test_fetched_priors_do_not_run_the_rule_themselves(bed: TestBed) -> None:
    complete(bed)
    work(bed)
    bed.clock.pass_(3600)
    work(bed)
    story = bed.service.story(OLD)
    assert story is not None
    assert (story.explanations, story.workitems) == ((), ())


def test_what_is_here_is_not_fetched(bed: TestBed, pacs: MemoryArchive) -> None:
    for content in pacs.files[:2]:
        assert isinstance(bed.receive(content), Accepted)
    complete(bed)
    work(bed)
    (workitem,) = [one for one in made(bed) if text(one, "StudyInstanceUID") == STUDY]
    assert inputs(workitem) == [STUDY, OLD, OLDER]
    assert pacs.sent == [f"{OLDEST}.1.1"]  # for those that came: each had a prior of its own


def test_without_priors_an_app_that_can_runs_alone(optional: TestBed, pacs: MemoryArchive) -> None:
    pacs.files.clear()
    complete(optional)
    work(optional)
    (workitem,) = made(optional)
    assert inputs(workitem) == [STUDY]
    assert "prior_series" not in parameters(workitem)
    assert explanation(optional).verdict is RuleVerdict.MATCHED


def test_without_priors_that_it_needs_a_person_decides(required: TestBed, pacs: MemoryArchive) -> None:
    pacs.files.clear()
    complete(required)
    work(required)
    assert made(required) == []
    found = explanation(required)
    assert (found.verdict, found.note) == (RuleVerdict.REVIEW, "prior before: no earlier study fits")
    (job,) = required.service.attention.everything().jobs
    assert job.lane == "review"
    required.service.dead_letters.retry(job.key, actor=SCANNER)
    required.service.scheduler.complete_due_studies()
    (workitem,) = made(required)
    assert inputs(workitem) == [STUDY]


def test_an_archive_that_does_not_answer_is_waited_for_to_the_bound(
    optional: TestBed, pacs: MemoryArchive
) -> None:
    pacs.down = DOWN
    complete(optional)
    work(optional)
    assert explanation(optional).verdict is RuleVerdict.WAITING
    optional.clock.pass_(300)
    work(optional)
    assert made(optional) == []
    optional.clock.pass_(301)
    work(optional)
    (workitem,) = made(optional)
    assert inputs(workitem) == [STUDY]
    assert explanation(optional).priors[0].notes == ("pacs does not answer: no answer",)


def test_an_archive_that_answers_in_time_is_used(optional: TestBed, pacs: MemoryArchive) -> None:
    pacs.down = DOWN
    complete(optional)
    work(optional)
    pacs.down = None
    optional.clock.pass_(60)
    work(optional)
    (workitem,) = made(optional)
    assert inputs(workitem) == [STUDY, OLD, OLDER]


def test_a_prior_that_does_not_come_in_time_is_left_out(optional: TestBed, pacs: MemoryArchive) -> None:
    pacs.hidden = frozenset((f"{OLD}.1.1",))
    complete(optional)
    for _ in range(12):
        work(optional)
        optional.clock.pass_(60)
    work(optional)
    (workitem,) = made(optional)
    assert inputs(workitem) == [STUDY, OLDER]
    (note,) = explanation(optional).priors[0].notes
    assert note == f"study {OLD} did not come: 1 of 1 instances have not come"


@pytest.mark.parametrize("action", [StudyAction.HOLD, StudyAction.DISCARD])
def test_a_study_that_a_person_stopped_runs_nothing_when_priors_come(
    optional: TestBed, action: StudyAction
) -> None:
    complete(optional)
    optional.service.studies.decide(STUDY, action, actor=SCANNER)
    work(optional)
    assert made(optional) == []

    optional.service.studies.decide(STUDY, StudyAction.RELEASE, actor=SCANNER)
    work(optional)
    assert [inputs(one) for one in made(optional)] == [[STUDY, OLD, OLDER]]


def test_late_images_wait_anew_and_are_not_asked_for_twice(optional: TestBed, pacs: MemoryArchive) -> None:
    complete(optional)
    work(optional)
    assert isinstance(optional.receive(ct(2), SCANNER), Accepted)
    optional.clock.pass_(31)
    work(optional)
    assert [inputs(one) for one in made(optional)] == [[STUDY, OLD, OLDER]]
    assert len(pacs.sent) == 2


def test_studies_under_a_merged_id_are_priors_and_another_issuers_are_not(
    optional: TestBed, pacs: MemoryArchive
) -> None:
    pacs.files = [
        prior(OLD, "20251001", PatientID="FORMER", IssuerOfPatientID="HOSPITAL"),
        prior(OLDER, "20250101", IssuerOfPatientID="ELSEWHERE"),
    ]
    change = IdentityChange(
        kind=IdentityKind.MERGED,
        patient=PatientIdentity(patient_id="P1", issuer="HOSPITAL"),
        former_id="FORMER",
        former_issuer="HOSPITAL",
    )
    key = MessageKey(sending_application="ADT", sending_facility="H", control_id="1")
    merged = optional.service.intake.receive_identities([change], key=key, raw=b"ADT", actor=SCANNER)
    assert isinstance(merged, Accepted)
    assert isinstance(optional.receive(ct(1, IssuerOfPatientID="HOSPITAL"), SCANNER), Accepted)
    optional.clock.pass_(31)
    optional.service.scheduler.complete_due_studies()
    work(optional)
    (workitem,) = made(optional)
    assert inputs(workitem) == [STUDY, OLD]
    assert {one.patient_id for one in pacs.asked} == {"P1", "FORMER"}
    assert [one.study_instance_uid for one in explanation(optional).priors[0].candidates] == [OLD]


def test_archives_are_not_asked_for_a_patient_id_that_stands_for_many(
    optional: TestBed, pacs: MemoryArchive
) -> None:
    assert isinstance(optional.receive(ct(1, PatientID="P*"), SCANNER), Accepted)
    optional.clock.pass_(31)
    work(optional)
    assert [inputs(one) for one in made(optional)] == [[STUDY]]
    assert pacs.asked == []


def test_an_archive_that_lets_one_rule_wait_holds_up_no_others(
    optional: TestBed, pacs: MemoryArchive
) -> None:
    questions: list[int] = []

    def black_hole() -> None:
        questions.append(1)
        optional.clock.pass_(30)
        raise DOWN

    pacs.before_answer = black_hole
    for uid in (STUDY, OLD, OLDER):
        assert isinstance(optional.receive(ct(1, study=uid), SCANNER), Accepted)
    optional.clock.pass_(31)
    work(optional)
    assert len(questions) == 1
    optional.clock.pass_(600)
    work(optional)
    assert len(questions) == 1  # their time was over: nothing is looked for any more
    for uid in (STUDY, OLD, OLDER):
        story = optional.service.story(uid)
        assert story is not None
        assert [one.verdict for _, _, one in story.explanations[-1:]] == [RuleVerdict.MATCHED]
